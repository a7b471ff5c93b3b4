// Command notify is an ordinary JSON service, a small shop with a session
// login, that tells its users what happens to their orders the moment it
// happens: on every device and in every window, also later if nobody is there.
//
//	go run ./examples/notify
//
// PORT (default 8080, 0 picks a free one) and HOST (default 127.0.0.1) choose
// the address.
package main

import (
	"fmt"
	"os"

	"github.com/parley-go/parley/examples/internal/site"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "parley notify:", err)
		os.Exit(1)
	}
}

func run() error {
	s, err := newShop()
	if err != nil {
		return err
	}
	return site.Run(os.Stdout, "parley notify", s.handler, s.hub)
}
