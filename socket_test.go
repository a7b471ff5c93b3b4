package parley

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// These tests use real sockets of the loopback interface, for what pipes do
// not have: buffers, half-closed connections, and a scheduler that interferes.

// serveSockets starts a hub on a free port. Its cleanup shuts it down.
func serveSockets(t *testing.T, opts Options) (*Hub, *httptest.Server) {
	t.Helper()
	opts.Logger = quiet()
	// These run in real time, and busy machines are slow.
	opts.CloseTimeout, opts.PingInterval = time.Minute, time.Hour
	if opts.Authenticator == nil {
		opts.Authenticator = headerAuth
	}
	hub, err := New(opts)
	require.NoError(t, err)
	web := httptest.NewServer(hub)
	t.Cleanup(func() {
		require.NoError(t, hub.Shutdown(context.Background()))
		web.Close()
	})
	return hub, web
}

func dialSocket(t *testing.T, web *httptest.Server, headers ...string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", web.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, request(headers...))
	require.NoError(t, err)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	return conn.(*net.TCPConn), r
}

// F60: a client that has shut down its sending side gets what was queued, and
// a clean end without a close frame: there is no code for it (1006 is never sent).
func TestHalfClosedClient(t *testing.T) {
	ends := make(chan CloseCode, 1)
	_, web := serveSockets(t, Options{Hooks: Hooks{
		Connect: func(ctx context.Context, c *Conn) error {
			for range 100 {
				if err := c.Send(ctx, strings.Repeat("x", 1000)); err != nil {
					return err
				}
			}
			return nil
		},
		Disconnect: func(_ *Conn, code CloseCode) { ends <- code },
	}})
	conn, r := dialSocket(t, web)
	require.NoError(t, conn.CloseWrite())
	var messages int
	for {
		f, err := readRawFrame(r)
		if err != nil {
			require.Equal(t, io.EOF, err)
			break
		}
		require.EqualValues(t, bitFin|opText, f.first)
		messages++
	}
	require.LessOrEqual(t, messages, 101)
	require.NotZero(t, messages)
	require.Equal(t, CloseAbnormal, <-ends)
}

// F60 in the other order: a client that closes as it should and then shuts
// down its sending side gets the echo.
func TestCloseThenHalfClose(t *testing.T) {
	_, web := serveSockets(t, Options{})
	conn, r := dialSocket(t, web)
	_, err := conn.Write(rawClose(CloseNormal, "done"))
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	f, err := readRawFrame(r)
	require.NoError(t, err)
	require.EqualValues(t, bitFin|opText, f.first) // connected
	f, err = readRawFrame(r)
	require.NoError(t, err)
	require.EqualValues(t, bitFin|opClose, f.first)
	require.Equal(t, "\x03\xe8done", string(f.payload))
	_, err = readRawFrame(r)
	require.Equal(t, io.EOF, err)
}

// S16 on a socket with buffers: the reason arrives although the client has
// sent far more than is read.
func TestTooLargeMessageOnASocket(t *testing.T) {
	_, web := serveSockets(t, Options{MaxMessageSize: 1000})
	for range 20 {
		conn, r := dialSocket(t, web)
		_, err := conn.Write(rawText(strings.Repeat("x", 1<<20)))
		require.NoError(t, err)
		for _, want := range []string{"connected", "too_large"} {
			f, err := readRawFrame(r)
			require.NoError(t, err)
			require.Contains(t, string(f.payload), want)
		}
		f, err := readRawFrame(r)
		require.NoError(t, err)
		require.Equal(t, "\x03\xf1message is larger than 1000 bytes", string(f.payload))
		require.NoError(t, conn.Close())
	}
}

// F42, F46: connections come and go in every way while messages are sent to
// them. Nothing panics, races or stays behind.
func TestChurn(t *testing.T) {
	const workers, cycles = 16, 32
	hub, web := serveSockets(t, Options{MaxPerUser: -1, RateLimit: -1, Compression: true})
	// Each turn of a client is one of the senders' too.
	turns := make(chan int, workers)
	var senders, clients sync.WaitGroup
	for _, send := range []func(ctx context.Context, i int){
		func(ctx context.Context, i int) { _, _ = hub.Broadcast(ctx, i) },
		func(ctx context.Context, i int) { _, _ = hub.Room("tea").Send(ctx, strings.Repeat("x", i%2000)) },
		func(ctx context.Context, i int) { _, _ = hub.Notify(ctx, fmt.Sprint("user", i%5), i) },
		func(ctx context.Context, i int) {
			for _, c := range hub.User(fmt.Sprint("user", i%5)) {
				_ = c.Send(ctx, i)
				_ = hub.Room("tea").Join(ctx, c)
				if i%7 == 0 {
					c.Close(4050, "churn")
				}
			}
			_, _, _ = hub.Room("tea").Members(ctx, 10)
			hub.Stats()
		},
	} {
		senders.Go(func() {
			for i := range turns {
				for range 4 {
					send(context.Background(), i)
				}
			}
		})
	}
	for w := range workers {
		clients.Go(func() {
			for i := range cycles {
				turns <- w*cycles + i
				churn(t, web.URL, w, i)
				turns <- w*cycles + i
			}
		})
	}
	clients.Wait()
	close(turns)
	senders.Wait()
	require.NoError(t, hub.Shutdown(context.Background()))
	stats := hub.Stats()
	require.EqualValues(t, workers*cycles, stats.Accepted)
	require.Zero(t, stats.Connections)
	require.Zero(t, stats.Panics)
	require.Zero(t, stats.ProtocolViolations)
	require.Zero(t, hub.slots.total)
	require.Empty(t, hub.slots.users)
	web.Close()
	require.Empty(t, leakedGoroutines())
	require.Eventually(t, func() bool { return hub.Stats().Topics == 1 }, 10*time.Second, time.Millisecond,
		"rooms and users are left; presence may be told for a moment after the last one left")
}

// churn is one life of a client: connect, say something, and end in one of
// several ways. It may be closed by the server at any time.
func churn(t *testing.T, url string, worker, i int) {
	ctx := context.Background()
	opts := &websocket.DialOptions{
		HTTPHeader: http.Header{"X-User": {fmt.Sprint("user", worker%5)}},
		HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	if i%2 == 0 {
		opts.Subprotocols = []string{subprotocolV1}
	}
	if i%3 == 0 {
		opts.CompressionMode = websocket.CompressionNoContextTakeover
	}
	ws, _, err := websocket.Dial(ctx, url, opts)
	if err != nil {
		t.Errorf("dial: %v", err)
		return
	}
	defer func() { _ = ws.CloseNow() }()
	if _, first, err := ws.Read(ctx); err == nil && !strings.HasPrefix(string(first), `{"type":"connected"`) {
		t.Errorf("first message: %s", first)
	}
	for _, text := range []string{`{"type":"join","room":"tea"}`, `{"type":"message","content":"hi"}`, `{"type":"ping","id":"last"}`} {
		if ws.Write(ctx, websocket.MessageText, []byte(text)) != nil {
			return
		}
	}
	if i%4 == 3 {
		return // leaves without a word or a look
	}
	for {
		_, p, err := ws.Read(ctx)
		if err != nil {
			return
		}
		if strings.Contains(string(p), `"id":"last"`) {
			break
		}
	}
	if i%4 == 1 {
		_ = ws.Close(websocket.StatusNormalClosure, "")
	}
}
