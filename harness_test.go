package parley

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"
)

// The tests run hub, HTTP server and clients over in-memory pipes in a
// synctest bubble: no ports, no real time, and a deadlock fails by itself. A
// pipe has no buffer, so "the peer does not read" is exact.

// bubble runs f in a synctest bubble.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	bubbletest.Test(t, f)
}

// memoryListener accepts connections made by its dial method.
type memoryListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (l *memoryListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// server is a hub behind an HTTP server on a memoryListener.
type server struct {
	*Hub
	t        *testing.T
	listener *memoryListener
}

// quiet is a logger for tests that provoke errors on purpose.
func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// serve starts a hub; Authenticator and Logger have defaults here.
func serve(t *testing.T, opts Options) *server {
	t.Helper()
	if opts.Authenticator == nil {
		opts.Authenticator = headerAuth
	}
	if opts.Logger == nil {
		opts.Logger = quiet()
	}
	hub, err := New(opts)
	require.NoError(t, err)
	return serveHandler(t, hub, hub)
}

func serveHandler(t *testing.T, hub *Hub, handler http.Handler) *server {
	return serveLogging(t, hub, handler, quiet())
}

// serveLogging is serveHandler with a logger for what net/http has to say.
func serveLogging(t *testing.T, hub *Hub, handler http.Handler, log *slog.Logger) *server {
	httpServer := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError)}
	listener := newMemoryListener()
	return serveOn(t, hub, httpServer, listener, listener)
}

// serveOn starts an HTTP server on outer, which accepts the connections of listener.
func serveOn(t *testing.T, hub *Hub, httpServer *http.Server, listener *memoryListener, outer net.Listener) *server {
	s := &server{Hub: hub, t: t, listener: listener}
	var served sync.WaitGroup
	served.Go(func() { _ = httpServer.Serve(outer) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(t, hub.Shutdown(ctx))
		require.NoError(t, httpServer.Close())
		served.Wait()
	})
	return s
}

// headerAuth takes the user from headers, nobody as anonymous.
var headerAuth = AuthenticatorFunc(func(r *http.Request) (Identity, error) {
	if r.Header.Get("X-Refuse") != "" {
		return Identity{}, errors.New("refused by the test")
	}
	return Identity{ID: r.Header.Get("X-User"), Name: r.Header.Get("X-Name")}, nil
})

// client is a WebSocket client that knows nothing of the hub's code.
type client struct {
	t   *testing.T
	ws  *websocket.Conn
	id  string
	raw net.Conn

	hello message // "connected"
	in    chan message
	done  chan struct{} // closed when reading ended, after err is set
	err   error
}

// message is a decoded server message.
type message map[string]any

func (m message) str(key string) string { s, _ := m[key].(string); return s }
func (m message) num(key string) int64  { n, _ := m[key].(float64); return int64(n) }

type dialOptions struct {
	user, name string
	v1         bool
	header     http.Header
	origin     string
	protocols  []string
	compress   bool // offer permessage-deflate
}

// tryDial connects and does not read anything yet.
func (s *server) tryDial(o dialOptions) (*client, *http.Response, error) {
	c := &client{t: s.t, in: make(chan message, 4096), done: make(chan struct{})}
	header := o.header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	if o.user != "" {
		header.Set("X-User", o.user)
	}
	if o.name != "" {
		header.Set("X-Name", o.name)
	}
	if o.origin != "" {
		header.Set("Origin", o.origin)
	}
	protocols := o.protocols
	if o.v1 {
		protocols = append(protocols, subprotocolV1)
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := s.listener.dial(ctx)
			c.raw = conn
			return conn, err
		}}
	mode := websocket.CompressionDisabled
	if o.compress {
		mode = websocket.CompressionNoContextTakeover
	}
	ws, resp, err := websocket.Dial(context.Background(), "ws://parley.test/realtime", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, HTTPHeader: header, Subprotocols: protocols,
		CompressionMode: mode,
	})
	if err != nil {
		return nil, resp, err
	}
	ws.SetReadLimit(-1)
	c.ws = ws
	return c, resp, nil
}

// connect connects, and starts reading; it returns after "connected".
func (s *server) connect(o dialOptions) *client {
	s.t.Helper()
	c, _, err := s.tryDial(o)
	require.NoError(s.t, err)
	c.read()
	c.hello = c.expect("connected")
	c.id = c.hello.str("clientId")
	return c
}

func (s *server) plain() *client { s.t.Helper(); return s.connect(dialOptions{}) }
func (s *server) v1() *client    { s.t.Helper(); return s.connect(dialOptions{v1: true}) }

// read starts collecting messages.
func (c *client) read() {
	go func() {
		defer close(c.done)
		for {
			_, p, err := c.ws.Read(context.Background())
			if err != nil {
				c.err = err
				return
			}
			var m message
			if err := json.Unmarshal(p, &m); err != nil {
				c.err = err
				return
			}
			c.in <- m
		}
	}()
	c.t.Cleanup(func() {
		_ = c.ws.CloseNow()
		<-c.done
	})
}

// send sends v as JSON, or a string as it is.
func (c *client) send(v any) {
	c.t.Helper()
	p, isText := v.(string)
	if !isText {
		data, err := json.Marshal(v)
		require.NoError(c.t, err)
		p = string(data)
	}
	require.NoError(c.t, c.ws.Write(context.Background(), websocket.MessageText, []byte(p)))
}

// next returns the next message; nothing coming for a minute of fake time fails.
func (c *client) next() message {
	c.t.Helper()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	select {
	case m := <-c.in:
		return m
	case <-c.done:
		select {
		case m := <-c.in:
			return m
		default:
		}
		require.FailNow(c.t, "connection ended", "%v", c.err)
	case <-timeout.C:
		require.FailNow(c.t, "no message")
	}
	return nil
}

// expect returns the next message, which must be of this type.
func (c *client) expect(typ string) message {
	c.t.Helper()
	m := c.next()
	require.Equal(c.t, typ, m.str("type"), "%v", m)
	return m
}

// expectError returns the next message, which must be an error with this code.
func (c *client) expectError(code Code) message {
	c.t.Helper()
	m := c.expect("error")
	require.Equal(c.t, string(code), m.str("code"), "%v", m)
	require.NotEmpty(c.t, m.str("message"))
	return m
}

// skipTo returns the next message of this type, dropping others.
func (c *client) skipTo(typ string) message {
	c.t.Helper()
	for {
		if m := c.next(); m.str("type") == typ {
			return m
		}
	}
}

// expectNone asserts that nothing has come and nothing is underway.
func (c *client) expectNone() {
	c.t.Helper()
	synctest.Wait()
	select {
	case m := <-c.in:
		require.FailNow(c.t, "unexpected message", "%v", m)
	default:
	}
}

// drain drops what has come.
func (c *client) drain() {
	synctest.Wait()
	for {
		select {
		case <-c.in:
		default:
			return
		}
	}
}

// closeCode waits for the end and returns the code the server closed with.
func (c *client) closeCode() CloseCode {
	c.t.Helper()
	timeout := time.NewTimer(10 * time.Minute)
	defer timeout.Stop()
	select {
	case <-c.done:
	case <-timeout.C:
		require.FailNow(c.t, "connection was not closed")
	}
	if code := websocket.CloseStatus(c.err); code != -1 {
		return CloseCode(code)
	}
	return CloseAbnormal
}

// join joins a room and returns the history message.
func (c *client) join(room, username string) message {
	c.t.Helper()
	c.send(map[string]any{"type": "join", "room": room, "username": username})
	return c.expect("history")
}

func (c *client) close() {
	c.t.Helper()
	require.NoError(c.t, c.ws.Close(websocket.StatusNormalClosure, ""))
}
