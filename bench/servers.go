package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

// benchServer is one server to be measured. ServeHTTP takes WebSocket
// handshakes.
type benchServer interface {
	http.Handler
	// Connections is how many are open now.
	Connections() int
	// Shutdown ends all connections and returns when they are gone, or when
	// ctx ends.
	Shutdown(ctx context.Context) error
}

// kind is a sort of server. Another peer is one more entry in kinds, as long
// as it speaks the fixed shapes of docs/protocol.md that the load uses:
// connected, broadcast and, with rooms, join, history and message.
type kind struct {
	name  string
	rooms bool
	new   func() (benchServer, error)
}

// The first one is what the others are compared with.
var kinds = []kind{
	{name: "bare", new: newBareServer},
	{name: "parley", rooms: true, new: newParleyServer},
}

func findKind(name string) (kind, error) {
	for _, k := range kinds {
		if k.name == name {
			return k, nil
		}
	}
	return kind{}, fmt.Errorf("there is no server kind %q", name)
}

// addresses is the one line that a server process prints when it is ready.
type addresses struct {
	Server  string
	Control string
}

// serve is the main function of a server process. It ends when stdin does,
// so that a parent that dies takes its servers with it.
func serve(name string, stdin io.Reader, stdout io.Writer) error {
	k, err := findKind(name)
	if err != nil {
		return err
	}
	s, err := k.new()
	if err != nil {
		return err
	}
	server, err := listen(s)
	if err != nil {
		return err
	}
	defer server.Close()
	ctl, err := listen(controlHandler(s))
	if err != nil {
		return err
	}
	defer ctl.Close()
	ready := addresses{Server: server.Addr().String(), Control: ctl.Addr().String()}
	if err := json.NewEncoder(stdout).Encode(ready); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	return err
}

// listen serves h on a free loopback port until the listener is closed.
func listen(h http.Handler) (net.Listener, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		if err := http.Serve(l, h); !errors.Is(err, net.ErrClosed) {
			fmt.Fprintln(os.Stderr, "bench: serve:", err)
		}
	}()
	return l, nil
}
