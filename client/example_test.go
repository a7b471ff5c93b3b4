package client_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"time"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/client"
)

// A service joins a room, sends, and gets what is sent there.
func Example() {
	hub, err := parley.New(parley.Options{Authenticator: parley.AllowAnonymous})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(hub)
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	defer func() { _ = hub.Shutdown(ctx) }()

	c, err := client.Connect(ctx, server.URL, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	received := make(chan struct{})
	room, err := c.Join(ctx, "general", client.JoinOptions{
		Username: "kim",
		OnMessage: func(_ context.Context, r *client.Room, m client.Message) {
			var text string
			if err := m.Decode(&text); err != nil {
				log.Print(err)
			}
			fmt.Printf("%s in %s: %s (%d)\n", m.Username, r.Name(), text, m.Position.Offset)
			close(received)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ack, err := room.Send(ctx, "hello")
	if err != nil {
		log.Fatal(err)
	}
	<-received
	fmt.Println("stored at", ack.Position.Offset)
	// Output:
	// kim in general: hello (1)
	// stored at 1
}

type order struct {
	ID int `json:"id"`
}

// A typed call of a handler that the server registered with parley.On.
func ExampleCall() {
	hub, err := parley.New(parley.Options{Authenticator: parley.AllowAnonymous})
	if err != nil {
		log.Fatal(err)
	}
	parley.On(hub, "order.cancel", func(_ context.Context, _ *parley.Conn, in order) (string, error) {
		if in.ID == 0 {
			return "", parley.NewError(parley.CodeInvalid, "which order?")
		}
		return fmt.Sprintf("order %d is cancelled", in.ID), nil
	})
	server := httptest.NewServer(hub)
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	defer func() { _ = hub.Shutdown(ctx) }()

	c, err := client.Connect(ctx, server.URL, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(client.Call[string](ctx, c, "order.cancel", order{ID: 7}))
	_, err = client.Call[string](ctx, c, "order.cancel", order{})
	fmt.Println(client.CodeOf(err))
	// Output:
	// order 7 is cancelled <nil>
	// invalid
}
