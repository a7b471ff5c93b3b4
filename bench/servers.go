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

// sender is a benchServer whose application can send to a room. Send returns
// when the message is stored.
type sender interface {
	Send(ctx context.Context, room string, content []byte) error
}

// kind is a sort of server. Another peer is one more entry in kinds, as long
// as it speaks the fixed shapes of docs/protocol.md that the load uses:
// connected, broadcast and, with rooms, join, history and message. Or it has a dialect.
type kind struct {
	name    string
	rooms   bool
	redis   bool   // one of several nodes on a Redis; only for the scenarios of that sort
	dialect string // a key of dialects
	new     func(redis string) (benchServer, error)
}

// Of those that run in the same scenario the first one is what the others are compared with.
var kinds = []kind{
	{name: "bare", new: newBareServer},
	{name: "parley", rooms: true, new: newParleyServer},
	{name: "centrifuge-redis", rooms: true, redis: true, dialect: "centrifuge", new: newCentrifugeNode},
	{name: "parley-redis", rooms: true, redis: true, new: newParleyNode},
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
	API     string // of a sender
}

// serve is the main function of a server process. It ends when stdin does,
// so that a parent that dies takes its servers with it.
func serve(name, redis string, stdin io.Reader, stdout io.Writer) error {
	k, err := findKind(name)
	if err != nil {
		return err
	}
	s, err := k.new(redis)
	if err != nil {
		return err
	}
	ready, stop, err := listenAll(s)
	if err != nil {
		return err
	}
	defer stop()
	if err := json.NewEncoder(stdout).Encode(ready); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	return err
}

// listenAll serves all that a server process does, until stop is called.
func listenAll(s benchServer) (ready addresses, stop func(), err error) {
	var listeners []net.Listener
	stop = func() {
		for _, l := range listeners {
			l.Close()
		}
	}
	handlers := []struct {
		address *string
		handler http.Handler
	}{{&ready.Server, s}, {&ready.Control, controlHandler(s)}}
	for _, h := range handlers {
		l, err := listen(h.handler)
		if err != nil {
			stop()
			return ready, nil, err
		}
		listeners = append(listeners, l)
		*h.address = l.Addr().String()
	}
	if s, ok := s.(sender); ok {
		l, err := listenAPI(s)
		if err != nil {
			stop()
			return ready, nil, err
		}
		listeners = append(listeners, l)
		ready.API = l.Addr().String()
	}
	return ready, stop, nil
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
