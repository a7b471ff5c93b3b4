package main

import (
	"context"
	"encoding/json"
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

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9/logging"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/natsstore"
	"github.com/parley-go/parley/adapters/redisstore"
	"github.com/parley-go/parley/adapters/sqlstore"
	"github.com/parley-go/parley/examples/internal/guest"
	"github.com/parley-go/parley/examples/internal/site"
)

// nodeConfig is what the parent tells a node.
type nodeConfig struct {
	Name       string
	SessionKey []byte // the same for all, so that a client that comes to another node stays who it is
	Access     access
}

// node is one of the processes that run the chat: a hub, and what it is built on.
type node struct {
	hub   *parley.Hub
	close []func() error // to be called backwards
}

// runNode is the process. It says its address, and serves until it is told to end.
func runNode(in io.Reader, out io.Writer) (err error) {
	var config nodeConfig
	end, err := instructions(in, &config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() { // ends with the process
		<-end
		stop()
	}()
	// A fault of the Store must not keep the process from its end: there is nobody left who would kill it.
	context.AfterFunc(ctx, func() { time.AfterFunc(2*endTime, func() { os.Exit(1) }) })
	logging.Disable() // of go-redis: what is wrong the hub says once, and not with every attempt
	n := &node{}
	defer func() { err = errors.Join(err, n.free()) }()
	if err := n.open(config); err != nil {
		return fmt.Errorf("%s: %w", config.Name, err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, ln.Addr()); err != nil {
		return err
	}
	return site.Serve(ctx, ln, n.handler(), n.hub)
}

// open makes the hub.
func (n *node) open(c nodeConfig) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})).With("node", c.Name)
	store, broker, err := n.connect(c.Access, log)
	if err != nil {
		return err
	}
	n.hub, err = parley.New(parley.Options{
		Authenticator: parley.AuthenticatorFunc(guest.Authenticate),
		Store:         store,
		Broker:        broker,
		NodeName:      c.Name,
		SessionKey:    c.SessionKey,
		Room: func(string) parley.RoomConfig {
			return parley.RoomConfig{History: parley.Retention{Messages: 1_000}}
		},
		ClientIP: func(r *http.Request) string { return r.Header.Get("X-Forwarded-For") }, // the proxy always sets it
		Logger:   log,
	})
	if err != nil {
		return err
	}
	// The page asks where it is.
	parley.On(n.hub, "node", func(context.Context, *parley.Conn, struct{}) (string, error) { return c.Name, nil })
	return nil
}

// connect opens what the nodes share.
func (n *node) connect(a access, log *slog.Logger) (parley.Store, parley.Broker, error) {
	if a.Redis != "" {
		client := newRedis(a.Redis)
		n.close = append(n.close, client.Close)
		store, err := redisstore.New(client, redisstore.Options{Logger: log})
		if err != nil {
			return nil, nil, err
		}
		n.close = append(n.close, store.Close)
		return store, store, nil // both in one: what is stored is published in the same step
	}
	db, err := openSQLite(a.SQLite)
	if err != nil {
		return nil, nil, err
	}
	n.close = append(n.close, db.Close)
	store, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.SQLite, Logger: log})
	if err != nil {
		return nil, nil, err
	}
	n.close = append(n.close, store.Close)
	conn, err := natsstore.Connect(a.NATS, nats.Token(a.Token))
	if err != nil {
		return nil, nil, err
	}
	n.close = append(n.close, func() error {
		conn.Close()
		return nil
	})
	broker, err := natsstore.New(conn, natsstore.Options{Logger: log})
	if err != nil {
		return nil, nil, err
	}
	n.close = append(n.close, broker.Close)
	return store, broker, nil
}

func (n *node) free() (err error) {
	for i := len(n.close) - 1; i >= 0; i-- {
		err = errors.Join(err, n.close[i]())
	}
	return err
}

// report is what a node says of itself.
type report struct {
	Connections int
	Problem     string // "" if the node is ready
}

func (n *node) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /realtime", n.hub)
	// For a load balancer: whether new clients are welcome.
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		answer, status := report{Connections: n.hub.Stats().Connections}, http.StatusOK
		if err := n.hub.Ready(); err != nil {
			answer.Problem, status = err.Error(), http.StatusServiceUnavailable
		}
		writeJSON(w, status, answer)
	})
	// For whoever starts processes: whether this one had better be started again.
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := n.hub.Healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	// What the nodes say of each other.
	mux.HandleFunc("GET /nodes", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		nodes, err := n.hub.Nodes(ctx)
		answer := map[string]any{"nodes": nodes}
		if err != nil {
			answer["error"] = err.Error()
		}
		writeJSON(w, http.StatusOK, answer)
	})
	return mux
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error is that of a client that is gone
}
