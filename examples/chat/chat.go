package main

import (
	"context"
	"net/http"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/examples/chat/web"
	"github.com/parley-go/parley/examples/internal/guest"
	"github.com/parley-go/parley/examples/internal/site"
)

// maxConnections keeps a flood from taking the memory of the machine. Idle
// connections cost some 15 KB each.
const maxConnections = 20_000

// roomHistory is how many messages a room keeps.
const roomHistory = 1_000

// chat is the whole application: a hub, the reminders and the page.
type chat struct {
	hub       *parley.Hub
	reminders *reminders
	handler   http.Handler
}

func newChat() (*chat, error) {
	hub, err := parley.New(parley.Options{
		Authenticator:   parley.AuthenticatorFunc(guest.Authenticate),
		ClientBroadcast: true, // in this chat everybody may speak to everybody
		MaxConnections:  maxConnections,
		// A join brings the newest 100; the page loads older ones when asked to.
		Room: func(string) parley.RoomConfig {
			return parley.RoomConfig{History: parley.Retention{Messages: roomHistory}}
		},
	})
	if err != nil {
		return nil, err
	}
	c := &chat{hub: hub}
	c.reminders = newReminders(func(ctx context.Context, userID string, r Reminder) error {
		_, err := hub.Notify(ctx, userID, r)
		return err
	})
	parley.On(hub, "remind", c.remind)

	mux := http.NewServeMux()
	mux.Handle("GET /realtime", hub)
	mux.Handle("GET /parley.js", parley.ClientJS())
	mux.Handle("GET /", site.Files(web.Files))
	c.handler = site.Headers(mux)
	return c, nil
}

// Shutdown says goodbye to the clients and forgets the reminders.
func (c *chat) Shutdown(ctx context.Context) error {
	err := c.hub.Shutdown(ctx)
	c.reminders.stop()
	return err
}
