package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/parley-go/parley/parleytest"
	"github.com/stretchr/testify/require"
)

// The tests run client, HTTP server and hub over a network in memory in a synctest
// bubble: no ports, no real time, and a deadlock fails by itself.

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	bubbletest.Test(t, f)
}

// network is a parleytest.Network that remembers what was dialled.
type network struct {
	*parleytest.Network

	mu    sync.Mutex // guards the fields below
	links []*parleytest.Link
	dials []time.Time
}

func newNetwork() *network { return &network{Network: parleytest.NewNetwork()} }

// dial is for Options.Dial.
func (n *network) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, time.Now())
	n.mu.Unlock()
	conn, err := n.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links = append(n.links, conn.(*parleytest.Conn).Link())
	return conn, nil
}

// last returns the newest connection.
func (n *network) last() *parleytest.Link { return n.before(0) }

// before returns the connection made so many before the newest one.
func (n *network) before(count int) *parleytest.Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[len(n.links)-1-count]
}

// cut ends the newest connection without a word.
func (n *network) cut() { n.last().Cut() }

// hang makes attempts to connect take for ever.
func (n *network) hang() {
	n.OnDial(func(ctx context.Context, _ *parleytest.Link) error {
		<-ctx.Done()
		return ctx.Err()
	})
}

func (n *network) attempts() []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dials)
}

// deafen keeps everything that comes from now on from the client.
func deafen(l *parleytest.Link) { l.BlackHole(parleytest.ToClient) }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// listen serves handler on a network until the test ends.
func listen(t *testing.T, handler http.Handler) *network {
	n := newNetwork()
	server := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(quiet().Handler(), slog.LevelError)}
	listener := n.Listen()
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		served.Wait()
	})
	return n
}

// service is a hub behind a network.
type service struct {
	*network
	t *testing.T

	mu  sync.Mutex // guards hub
	hub *parley.Hub
}

// serve starts a hub that takes the user from headers, or nobody as anonymous.
func serve(t *testing.T, opts parley.Options) *service {
	t.Helper()
	s := &service{t: t}
	s.restart(opts)
	s.network = listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.current().ServeHTTP(w, r) }))
	t.Cleanup(func() { s.shutdown() })
	return s
}

func (s *service) current() *parley.Hub {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hub
}

// restart replaces the hub by a new one, without shutting the old one down.
func (s *service) restart(opts parley.Options) {
	if opts.Authenticator == nil {
		opts.Authenticator = headerAuth
	}
	opts.Logger = quiet()
	hub, err := parley.New(opts)
	require.NoError(s.t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hub = hub
}

func (s *service) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(s.t, s.current().Shutdown(ctx))
}

var headerAuth = parley.AuthenticatorFunc(func(r *http.Request) (parley.Identity, error) {
	if parley.Token(r) == "expired" {
		return parley.Identity{}, errors.New("expired")
	}
	return parley.Identity{ID: r.Header.Get("X-User")}, nil
})

// start makes a client of a network; user "" is anonymous. It ends with the test.
func start(t *testing.T, n *network, user string, opts Options) *Client {
	t.Helper()
	opts.Dial = n.dial
	if user != "" {
		opts.Header = http.Header{"X-User": {user}}
	}
	c, err := New("ws://parley.test/realtime", opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		c.Close()
		<-c.Done()
	})
	return c
}

// connect is start that waits for the connection.
func connect(t *testing.T, n *network, user string, opts Options) *Client {
	t.Helper()
	c := start(t, n, user, opts)
	require.NoError(t, c.WaitConnected(t.Context()))
	return c
}

// journal writes down what handlers are told.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

// take waits until nothing happens any more and returns what was written since the last time.
func (j *journal) take() []string {
	synctest.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := j.lines
	j.lines = nil
	return lines
}

// expect asserts what was told since the last time.
func (j *journal) expect(t *testing.T, lines ...string) {
	t.Helper()
	require.Equal(t, strings.Join(lines, "\n"), strings.Join(j.take(), "\n"))
}

// room returns options that write down what is told of the messages of a room.
func (j *journal) room() JoinOptions {
	return JoinOptions{
		OnMessage:   func(_ context.Context, r *Room, m Message) { j.add("%s %s", r.Name(), m.Content) },
		OnHistory:   func(_ context.Context, r *Room, h History) { j.add("%s history %s", r.Name(), contents(h.Messages)) },
		OnGap:       func(_ context.Context, r *Room, g Gap) { j.add("%s gap %q after %d", r.Name(), g.Code, g.Last.Offset) },
		OnRecovered: func(_ context.Context, r *Room, c Recovered) { j.add("%s recovered %d", r.Name(), c.Missed) },
		OnRefused:   func(_ context.Context, r *Room, err error) { j.add("%s refused %s", r.Name(), CodeOf(err)) },
		OnLeft:      func(_ context.Context, r *Room, reason string) { j.add("%s left %q", r.Name(), reason) },
	}
}

func contents(messages []Message) string {
	all := make([]json.RawMessage, 0, len(messages))
	for _, m := range messages {
		all = append(all, m.Content)
	}
	text, _ := json.Marshal(all)
	return string(text)
}

// join joins a room whose messages the journal gets.
func (j *journal) join(t *testing.T, c *Client, name string) *Room {
	t.Helper()
	r, err := c.Join(t.Context(), name, j.room())
	require.NoError(t, err)
	return r
}

// states returns options that write down the states.
func (j *journal) states() Options {
	return Options{OnState: func(_ context.Context, _ *Client, s StateChange) { j.add("%s", s.State) }}
}

// lastChange keeps the newest change of the state, for Options.OnState.
type lastChange struct {
	mu     sync.Mutex
	change StateChange
}

func (l *lastChange) set(_ context.Context, _ *Client, s StateChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.change = s
}

// get waits until nothing happens any more.
func (l *lastChange) get() StateChange {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.change
}

// publish sends to a room as the application.
func (s *service) publish(room string, values ...any) {
	s.t.Helper()
	for _, v := range values {
		_, err := s.current().Room(room).Send(s.t.Context(), v)
		require.NoError(s.t, err)
	}
}

func requireCode(t *testing.T, code parley.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, CodeOf(err), "%v", err)
}

// background runs f and returns where its error will be.
func background(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}
