// Package chatd is a chat server to be killed: rooms, inboxes and broadcasts in
// a database that survives it, a page that notes everything it is told, and
// endpoints for a test to send and to look.
package chatd

import (
	"context"
	"crypto/sha256"
	"database/sql"
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

	_ "modernc.org/sqlite" // the driver

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore"
)

//go:embed web
var web embed.FS

// kept is more than any test sends to a topic.
const kept = 10_000

// Config says how to serve. Every field but Store has a default.
type Config struct {
	// Store is the path of the SQLite database that holds the logs. It is made
	// if it is not there. Beside it are files whose names begin with its own.
	Store string
	// Port to listen at on 127.0.0.1. Default: a free one.
	Port string
}

// Run serves until SIGTERM, then stops as an application does at a deploy. It
// writes the URL to out when it listens.
func Run(out io.Writer, cfg Config) error {
	db, err := sql.Open("sqlite", SQLite(cfg.Store))
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.SQLite})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Migrate(context.Background()); err != nil {
		return err
	}
	hub, err := NewHub(store, os.Stderr)
	if err != nil {
		return err
	}
	ln, err := Listen(cfg.Port)
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

// SQLite is the data source name of the database at path. What was committed is
// there after kill -9 of the process: it is in the write-ahead log, and the log
// in the care of the operating system. synchronous(NORMAL) leaves out the fsync at
// every commit, which only a crash of the machine makes a difference to.
func SQLite(path string) string {
	return "file:" + path + "?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=busy_timeout(5000)"
}

// NewHub returns a hub that keeps everything, and whose sessions are good after a restart. It
// logs to log.
func NewHub(store parley.Store, log io.Writer) (*parley.Hub, error) {
	key := sha256.Sum256([]byte("known to everybody: for tests only"))
	all := parley.Retention{Messages: kept, Bytes: -1}
	return parley.New(parley.Options{
		Authenticator:    parley.AuthenticatorFunc(authenticate),
		Store:            store,
		SessionKey:       key[:],
		Room:             func(string) parley.RoomConfig { return parley.RoomConfig{History: all} },
		Inbox:            all,
		BroadcastHistory: all,
		ClientBroadcast:  true,
		RetryWindow:      time.Second, // short: tests wait for it
		Logger:           slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
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

// Listen listens at a port of 127.0.0.1. It waits for one that is not free yet: that
// of a process that was killed a moment ago.
func Listen(port string) (net.Listener, error) {
	for deadline := time.Now().Add(10 * time.Second); ; {
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return ln, err
		}
		<-time.After(20 * time.Millisecond)
	}
}
