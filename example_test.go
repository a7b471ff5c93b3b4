package parley_test

import (
	"context"
	"errors"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/parley-go/parley"
)

// An existing service gets a realtime endpoint.
func Example() {
	hub, err := parley.New(parley.Options{
		Authenticator: parley.AuthenticatorFunc(func(r *http.Request) (parley.Identity, error) {
			cookie, err := r.Cookie("session")
			if err != nil {
				return parley.Identity{}, errors.New("no session")
			}
			return userOfSession(cookie.Value)
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /realtime", hub)
	mux.Handle("GET /parley.js", parley.ClientJS())
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 5 * time.Second}

	// At the end, the hub first: http.Server does not know of WebSockets.
	server.RegisterOnShutdown(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = hub.Shutdown(ctx)
	})
}

func userOfSession(string) (parley.Identity, error) { return parley.Identity{ID: "user-42"}, nil }

type cancelOrder struct {
	ID int `json:"id"`
}

// Validate is called after decoding; its text is told to the client.
func (c cancelOrder) Validate() error {
	if c.ID <= 0 {
		return errors.New("id must be positive")
	}
	return nil
}

type cancelled struct {
	Refund int `json:"refund"`
}

// A typed handler: the browser calls it by client.call("order.cancel", {id: 7}).
func ExampleOn() {
	hub, err := parley.New(parley.Options{Authenticator: parley.AllowAnonymous})
	if err != nil {
		log.Fatal(err)
	}
	parley.On(hub, "order.cancel", func(_ context.Context, c *parley.Conn, in cancelOrder) (cancelled, error) {
		if !strings.HasPrefix(c.UserID(), "customer-") {
			return cancelled{}, parley.NewError(parley.CodeForbidden, "only customers can cancel")
		}
		return cancelled{Refund: 100}, nil
	})
}

// A notification is stored before Notify returns, and the id makes a retry harmless.
func ExampleHub_Notify() {
	hub, err := parley.New(parley.Options{Authenticator: parley.AllowAnonymous})
	if err != nil {
		log.Fatal(err)
	}
	result, err := hub.Notify(context.Background(), "user-42", map[string]any{"order": 7, "state": "shipped"},
		parley.WithID("order-7-shipped"))
	if err != nil {
		log.Print("not stored, try again: ", err)
		return
	}
	log.Printf("reached %d devices now", result.Delivered)
}
