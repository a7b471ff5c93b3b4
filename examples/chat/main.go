// Command chat is a chat for the browser in one binary: rooms with history,
// presence, private messages, broadcasts, typing indicators and notifications.
//
//	go run ./examples/chat
//
// It keeps everything in memory. PORT (default 8080, 0 picks a free one) and
// HOST (default 127.0.0.1) choose the address; HOST=0.0.0.0 opens it to the
// network, for a phone in the same one.
package main

import (
	"fmt"
	"os"

	"github.com/parley-go/parley/examples/internal/site"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "parley chat:", err)
		os.Exit(1)
	}
}

func run() error {
	chat, err := newChat()
	if err != nil {
		return err
	}
	return site.Run(os.Stdout, "parley chat", chat.handler, chat)
}
