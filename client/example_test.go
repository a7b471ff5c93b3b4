package client_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/client"
)

// serve mounts a hub, for what takes less than 10 s.
func serve(hub *parley.Hub) (ctx context.Context, url string, end func()) {
	server := httptest.NewServer(hub)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	return ctx, server.URL, func() {
		_ = hub.Shutdown(ctx)
		cancel()
		server.Close()
	}
}

// A service joins a room, sends, and gets what is sent there.
func Example() {
	hub, err := parley.New(parley.Options{Authenticator: parley.AllowAnonymous})
	if err != nil {
		log.Fatal(err)
	}
	ctx, url, end := serve(hub)
	defer end()

	c, err := client.Connect(ctx, url, client.Options{})
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
	ctx, url, end := serve(hub)
	defer end()

	c, err := client.Connect(ctx, url, client.Options{})
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

// A badge that shows how many entries of the inbox are unread, on every device of the user.
func ExampleClient_MarkRead() {
	hub, err := parley.New(parley.Options{Authenticator: parley.AuthenticatorFunc(func(*http.Request) (parley.Identity, error) {
		return parley.Identity{ID: "kim"}, nil
	})})
	if err != nil {
		log.Fatal(err)
	}
	ctx, url, end := serve(hub)
	defer end()
	for id := range 3 {
		if _, err := hub.Notify(ctx, "kim", order{ID: id}, parley.WithKind("order.shipped")); err != nil {
			log.Fatal(err)
		}
	}

	badge, inbox := make(chan int, 10), make(chan client.Inbox, 1)
	c, err := client.Connect(ctx, url, client.Options{
		OnInbox:  func(_ context.Context, _ *client.Client, m client.Inbox) { inbox <- m },
		OnUnread: func(_ context.Context, _ *client.Client, s client.ReadState) { badge <- s.Unread },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	items := (<-inbox).Items
	fmt.Println(items[0].Notification.Kind, items[0].Mark(), <-badge)
	state, err := c.MarkRead(ctx, client.Selection{UpTo: items[1].Position()})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(state.Unread, <-badge)
	// Output:
	// order.shipped unread 3
	// 1 1
}
