package integration

import (
	"fmt"
	"os"
	"testing"

	"github.com/parley-go/parley/integration/chatd"
)

// chatdStore is the variable that makes this program the server that tests
// kill: the path of its store. So the server is built with the tests, the race
// detector included.
const chatdStore = "PARLEY_TEST_CHATD"

func TestMain(m *testing.M) {
	path := os.Getenv(chatdStore)
	if path == "" {
		os.Exit(m.Run())
	}
	if err := chatd.Run(os.Stdout, chatd.Config{Store: path, Port: os.Getenv("PORT")}); err != nil {
		fmt.Fprintln(os.Stderr, "chatd:", err)
		os.Exit(1)
	}
}
