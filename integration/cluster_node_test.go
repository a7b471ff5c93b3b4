package integration

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/natsstore"
	"github.com/parley-go/parley/adapters/redisstore"
	"github.com/parley-go/parley/adapters/sqlstore"
	"github.com/parley-go/parley/integration/chatd"
)

// lobby is the room that the tests of clusters use, and its topic.
const (
	lobby      = "lobby"
	topicLobby = "room/" + lobby
)

// node is a hub behind a real listener, one of several that share Store and Broker.
type node struct {
	t     *testing.T
	name  string
	hub   *parley.Hub
	store parley.Store
	addr  string
}

// userHeader carries who a client says to be: these nodes believe it.
const userHeader = "X-User"

var errNobody = errors.New("say who you are")

// nodeOptions are those of all nodes. They keep everything.
func nodeOptions(name string, store parley.Store, broker parley.Broker, log io.Writer) parley.Options {
	all := parley.Retention{Messages: 20_000, Bytes: -1}
	key := sha256.Sum256([]byte("known to everybody: for tests only"))
	return parley.Options{
		Authenticator: parley.AuthenticatorFunc(func(r *http.Request) (parley.Identity, error) {
			id := r.Header.Get(userHeader)
			if id == "" {
				return parley.Identity{}, errNobody
			}
			return parley.Identity{ID: id}, nil
		}),
		Store: store, Broker: broker, NodeName: name, SessionKey: key[:], TrackPresence: true,
		Room:  func(string) parley.RoomConfig { return parley.RoomConfig{History: all} },
		Inbox: all, RateLimit: -1, RetryWindow: time.Second,
		LeaveGrace: time.Minute, // who comes back slowly has not left
		Logger:     slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})).With("on", name),
	}
}

// startNode starts a node and waits until it is ready. It ends with the test, before Store and Broker do.
func startNode(t *testing.T, name string, store parley.Store, broker parley.Broker, edit ...func(*parley.Options)) *node {
	t.Helper()
	opts := nodeOptions(name, store, broker, newTail(t))
	for _, e := range edit {
		e(&opts)
	}
	hub, err := parley.New(opts)
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &node{t: t, name: name, hub: hub, store: store, addr: ln.Addr().String()}
	server := &http.Server{Handler: hub, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = hub.Shutdown(ctx) // what is broken at the end of a test may cost it its time
		_ = server.Close()
		<-served
	})
	n.ready()
	return n
}

// ready waits until the node says that it is.
func (n *node) ready() {
	n.t.Helper()
	await(n.t, func() bool { return n.hub.Ready() == nil }, "%s to be ready", n.name)
}

// red waits until the node says that it is not ready. It must be healthy all the same.
func (n *node) red() {
	n.t.Helper()
	await(n.t, func() bool { return n.hub.Ready() != nil }, "%s to notice", n.name)
	require.NoError(n.t, n.hub.Healthy(), "a fault of a server is none of the process")
}

// acquainted waits until each node knows of all others.
func acquainted(t *testing.T, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		await(t, func() bool { return n.hub.Stats().Nodes == len(nodes)-1 }, "%s to know the others", n.name)
	}
}

// await waits for a condition that comes true in a moment, or, on a machine that is busy, later.
func await(t *testing.T, ok func() bool, what string, args ...any) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNowf(t, "it did not happen", "waited for "+what, args...)
		}
	}
}

// overRedis returns a Store and Broker of a node's own over a client.
func overRedis(t *testing.T, client redis.UniversalClient) *redisstore.Store {
	t.Helper()
	store, err := redisstore.New(client, redisstore.Options{Logger: slog.New(slog.NewTextHandler(newTail(t), nil))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// quietRedis keeps the client from writing a line for every connection that it cannot make.
type quietRedis struct{}

func (quietRedis) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(quietRedis{}) }

// redisAt returns a client as an application has it.
func redisAt(t *testing.T, addr string) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// overNATS returns the Broker of a node.
func overNATS(t *testing.T, url string, opts natsstore.Options) *natsstore.Broker {
	t.Helper()
	conn, err := natsstore.Connect(url)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	opts.Logger = slog.New(slog.NewTextHandler(newTail(t), nil))
	broker, err := natsstore.New(conn, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	return broker
}

// inSQLite returns a Store that nodes of this process share.
func inSQLite(t *testing.T) parley.Store {
	t.Helper()
	db, err := sql.Open("sqlite", chatd.SQLite(filepath.Join(t.TempDir(), "store")))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	store, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.SQLite})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(t.Context()))
	return store
}

// logOf returns the whole log of the lobby.
func logOf(t *testing.T, store parley.Store) (epoch string, log []line) {
	t.Helper()
	after := int64(0)
	for {
		page, err := store.Read(t.Context(), topicLobby, parley.Query{Forward: true, After: after, Limit: 1000})
		require.NoError(t, err)
		for _, e := range page.Entries {
			log = append(log, line{e.Offset, textOf(t, e.Data)})
			after = e.Offset
		}
		if len(page.Entries) == 0 || after >= page.Top {
			return page.Epoch, log
		}
	}
}
