// Package chatd is a chat server to be killed: rooms, inboxes and broadcasts in
// a file that survives it, a page that notes everything it is told, and
// endpoints for a test to send and to look.
package chatd

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/integration/filestore"
)

//go:embed web
var web embed.FS

// kept is more than any test sends to a topic.
const kept = 10_000

// Config says how to serve. Every field but Store has a default.
type Config struct {
	// Store is the path of the file that holds the logs.
	Store string
	// Port to listen at on 127.0.0.1. Default: a free one.
	Port string
}

// Run serves until SIGTERM, then stops as an application does at a deploy. It
// writes the URL to out when it listens.
func Run(out io.Writer, cfg Config) error {
	store, err := filestore.Open(cfg.Store)
	if err != nil {
		return err
	}
	defer store.Close()
	hub, err := NewHub(store)
	if err != nil {
		return err
	}
	ln, err := listen(cfg.Port)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: handler(hub, store), ReadHeaderTimeout: 5 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	served := make(chan error, 1) // room for the result, so that the goroutine ends even if nobody looks
	go func() { served <- srv.Serve(ln) }()
	fmt.Fprintf(out, "http://%s/\n", ln.Addr())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	budget, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err = hub.Shutdown(budget)
	_ = srv.Close() // a browser keeps connections open that it does not use
	return err
}

// NewHub returns a hub that keeps everything, and whose sessions are good after a restart.
func NewHub(store parley.Store) (*parley.Hub, error) {
	key := sha256.Sum256([]byte("known to everybody: for tests only"))
	all := parley.Retention{Messages: kept}
	return parley.New(parley.Options{
		Authenticator:    parley.AuthenticatorFunc(authenticate),
		Store:            store,
		SessionKey:       key[:],
		Room:             func(string) parley.RoomConfig { return parley.RoomConfig{History: all} },
		Inbox:            all,
		BroadcastHistory: all,
		ClientBroadcast:  true,
		RetryWindow:      time.Second, // short: tests wait for it
		Logger:           slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
}

// authenticate takes the word of a cookie. Without one, the client is anonymous.
func authenticate(r *http.Request) (parley.Identity, error) {
	cookie, err := r.Cookie("user")
	if err != nil {
		return parley.Identity{}, nil
	}
	return parley.Identity{ID: cookie.Value}, nil
}

// listen waits for a port that is not free yet: that of a process that was
// killed a moment ago.
func listen(port string) (net.Listener, error) {
	for deadline := time.Now().Add(10 * time.Second); ; {
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return ln, err
		}
		<-time.After(20 * time.Millisecond)
	}
}
