package integration

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/parley-go/parley/integration/chatd"
	"github.com/parley-go/parley/integration/shop"
)

// These variables make this program one of those that tests kill: chatd, with the
// path of its store, or the shop, with its configuration as JSON. So they are
// built with the tests, the race detector included.
const (
	chatdStore = "PARLEY_TEST_CHATD"
	shopConfig = "PARLEY_TEST_SHOP"
)

func TestMain(m *testing.M) {
	var err error
	if path, config := os.Getenv(chatdStore), os.Getenv(shopConfig); path != "" {
		err = chatd.Run(os.Stdout, chatd.Config{Store: path, Port: os.Getenv("PORT")})
	} else if config != "" {
		err = runShop(config)
	} else {
		os.Exit(runTests(m))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runTests lets more tests run at a time than there are processors: they wait for servers more than they compute.
func runTests(m *testing.M) int {
	err := flag.Set("test.parallel", "8") // the command line may say otherwise
	if err == nil {
		built.dir, err = os.MkdirTemp("", "parley-integration")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(built.dir)
	return m.Run()
}

func runShop(config string) error {
	var cfg shop.Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		return err
	}
	return shop.Run(os.Stdout, cfg)
}
