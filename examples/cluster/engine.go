package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/parley-go/parley/adapters/sqlstore"
)

// startTime is how long the engine, and then the nodes, may take to get ready.
const startTime = 30 * time.Second

// engine is what the nodes share: where the messages are kept, and what carries them from node to node.
type engine struct {
	name, about string
	access      access
	// stop ends it, and removes what it has kept.
	stop func() error
}

// access is what a node must know of the engine: Redis, or NATS and SQLite.
type access struct {
	Redis  string // path of the socket
	NATS   string // URL
	Token  string // for NATS
	SQLite string // path of the file
}

// redisProgram is the path of a Redis server, or "".
func redisProgram() string {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// startEngine starts the engine of this name, or, if there is no name, the best that there is.
func startEngine(ctx context.Context, name string) (*engine, error) {
	program := redisProgram()
	chosen := "as told by -engine"
	switch {
	case name == "" && program != "":
		name, chosen = "redis", "as it is installed; -engine=nats takes NATS"
	case name == "":
		name, chosen = "nats", "as redis-server is not installed"
	case name == "redis" && program == "":
		return nil, errors.New("-engine=redis: neither redis-server nor valkey-server is in PATH: install one, or take -engine=nats")
	case name != "redis" && name != "nats":
		return nil, fmt.Errorf("-engine=%s: it must be redis or nats", name)
	}
	dir, err := os.MkdirTemp("", "parley-cluster-") // for this user only
	if err != nil {
		return nil, err
	}
	k := keeper{Dir: dir}
	if name == "redis" {
		k.Program = program
	}
	stopKeeper, err := k.start()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	var e *engine
	if name == "redis" {
		e, err = startRedis(ctx, k)
	} else {
		e, err = startNATS(ctx, dir)
	}
	if err != nil {
		return nil, errors.Join(err, stopKeeper())
	}
	e.about += ", " + chosen
	stop := e.stop
	e.stop = func() error { return errors.Join(stop(), stopKeeper()) }
	return e, nil
}

// startRedis waits for the server that the keeper runs.
func startRedis(ctx context.Context, k keeper) (*engine, error) {
	client := newRedis(k.socket())
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		err := client.Ping(ctx).Err()
		if err == nil {
			break
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("redis-server does not answer: %w; its log is %s", err, k.log())
		}
	}
	return &engine{
		name: "Redis", about: "Redis keeps and carries the messages (redis-cli -s " + k.socket() + ")",
		access: access{Redis: k.socket()},
		stop:   func() error { return nil }, // the keeper does
	}, nil
}

func newRedis(socket string) *redis.Client {
	return redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
}

// startNATS runs a NATS server in this process. Core NATS keeps nothing: the Store is a file.
func startNATS(ctx context.Context, dir string) (*engine, error) {
	file := filepath.Join(dir, "chat.db")
	if err := migrate(ctx, file); err != nil {
		return nil, fmt.Errorf("SQLite: %w", err)
	}
	token := rand.Text() // other users of the machine can get to the port
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, Authorization: token,
		NoLog: true, NoSigs: true, NoSystemAccount: true,
	})
	if err != nil {
		return nil, fmt.Errorf("NATS: %w", err)
	}
	ns.Start()
	if !ns.ReadyForConnections(startTime) {
		ns.Shutdown()
		return nil, fmt.Errorf("the NATS server is not ready after %v", startTime)
	}
	return &engine{
		name: "NATS and SQLite", about: "NATS carries the messages, and SQLite keeps them (" + file + ")",
		access: access{NATS: ns.ClientURL(), Token: token, SQLite: file},
		stop: func() error {
			ns.Shutdown()
			ns.WaitForShutdown()
			return nil
		},
	}, nil
}

func openSQLite(file string) (*sql.DB, error) {
	options := url.Values{
		// Readers do not wait for the writer, and the writers of the nodes wait for each other instead of failing.
		"_pragma": {"journal_mode(WAL)", "busy_timeout(5000)", "synchronous(NORMAL)"},
		"_txlock": {"immediate"},
	}
	return sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?"+options.Encode())
}

// migrate makes the tables, once for all nodes.
func migrate(ctx context.Context, file string) error {
	db, err := openSQLite(file)
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.SQLite})
	if err != nil {
		return err
	}
	return errors.Join(store.Migrate(ctx), store.Close())
}
