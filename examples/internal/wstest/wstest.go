// Package wstest is a WebSocket client for the tests of the examples. It knows
// the protocol only as JSON, so it sees what any client would see.
package wstest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// patience is for a server that hangs; nothing waits that long otherwise.
const patience = 20 * time.Second

// Message is a message of the protocol.
type Message map[string]any

// Client is one connection.
type Client struct {
	t  *testing.T
	ws *websocket.Conn
	// Hello is the message "connected".
	Hello Message
}

// Option changes how a client connects.
type Option func(*websocket.DialOptions)

// V1 makes it a client of protocol version 1, with a token if that is not empty.
func V1(token string) Option {
	return func(o *websocket.DialOptions) {
		o.Subprotocols = []string{"parley.v1"}
		if token != "" {
			o.Subprotocols = append(o.Subprotocols, "parley.token."+base64.RawURLEncoding.EncodeToString([]byte(token)))
		}
	}
}

// Over makes it connect with an HTTP client of its own, such as one with cookies.
func Over(client *http.Client) Option {
	return func(o *websocket.DialOptions) { o.HTTPClient = client }
}

// Header adds a header to the request.
func Header(name, value string) Option {
	return func(o *websocket.DialOptions) {
		if o.HTTPHeader == nil {
			o.HTTPHeader = http.Header{}
		}
		o.HTTPHeader.Set(name, value)
	}
}

// Dial connects to an http URL and reads "connected".
func Dial(t *testing.T, url string, opts ...Option) *Client {
	t.Helper()
	ws, _, err := dial(t, url, opts)
	require.NoError(t, err)
	ws.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = ws.CloseNow() })
	c := &Client{t: t, ws: ws}
	c.Hello = c.Read()
	require.Equal(t, "connected", c.Hello["type"], "the first message")
	return c
}

// Refused connects and returns the HTTP status of the refusal.
func Refused(t *testing.T, url string, opts ...Option) int {
	t.Helper()
	ws, response, err := dial(t, url, opts)
	if err == nil {
		_ = ws.CloseNow()
	}
	require.Error(t, err, "the connection was let in")
	require.NotNil(t, response, err)
	return response.StatusCode
}

func dial(t *testing.T, url string, opts []Option) (*websocket.Conn, *http.Response, error) {
	var options websocket.DialOptions
	for _, opt := range opts {
		opt(&options)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return websocket.Dial(ctx, "ws"+strings.TrimPrefix(url, "http"), &options)
}

// Send sends a message.
func (c *Client) Send(m Message) {
	c.t.Helper()
	data, err := json.Marshal(m)
	require.NoError(c.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(c.t, c.ws.Write(ctx, websocket.MessageText, data))
}

// Read returns the next message.
func (c *Client) Read() Message {
	c.t.Helper()
	m, err := c.read(patience)
	require.NoError(c.t, err)
	return m
}

func (c *Client) read(limit time.Duration) (Message, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, data, err := c.ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	var m Message
	return m, json.Unmarshal(data, &m)
}

// Next returns the next message of a type and passes over the others.
func (c *Client) Next(kind string) Message {
	c.t.Helper()
	for {
		if m := c.Read(); m["type"] == kind {
			return m
		}
	}
}

// Settle returns when the server has begun to read from the connection. From
// then on it gets all that is sent to everybody and to its user. What came
// before is passed over.
func (c *Client) Settle() *Client {
	c.t.Helper()
	c.Send(Message{"type": "ping", "id": "settle"})
	c.Next("pong")
	return c
}

// Ended reads until the connection ends and returns its close code.
func (c *Client) Ended() int { return c.EndedWithin(patience) }

// EndedWithin is Ended for tests in a synctest bubble in which much time passes.
func (c *Client) EndedWithin(limit time.Duration) int {
	c.t.Helper()
	for {
		if _, err := c.read(limit); err != nil {
			return int(websocket.CloseStatus(err))
		}
	}
}

// Close ends the connection in order.
func (c *Client) Close() { _ = c.ws.Close(websocket.StatusNormalClosure, "") }

// Serve serves h in memory, for tests in a synctest bubble: waiting for a
// socket of the operating system would stop the bubble's clock. It returns an HTTP
// client for any URL that starts with "http://memory".
func Serve(t *testing.T, h http.Handler) *http.Client {
	ln := &memory{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: h}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(ln) })
	transport := &http.Transport{DialContext: ln.dial}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		served.Wait()
	})
	return &http.Client{Transport: transport}
}

// memory is a net.Listener for connections within the process.
type memory struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case m.conns <- server:
		return client, nil
	case <-m.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.done) })
	return nil
}

func (m *memory) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }
