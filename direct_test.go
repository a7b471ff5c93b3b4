package parley

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Tests of topics that need thousands of connections, or a look at exactly
// what was written, use connections without HTTP and without a WebSocket
// reader: the test calls Conn.handle itself, and reads the frames off a wire.

// wire is the socket of a direct connection. It takes every write at once,
// pings too, which counts as a sign of life.
type wire struct {
	net.Conn // nil: what is not overridden is not called

	alive *atomic.Bool

	mu      sync.Mutex
	discard bool
	written []byte // not yet taken by messages
	closing CloseCode
	closed  bool
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, net.ErrClosed
	}
	w.alive.Store(true)
	if !w.discard {
		w.written = append(w.written, p...)
	}
	return len(p), nil
}

func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return nil
}

func (w *wire) SetDeadline(time.Time) error     { return nil }
func (w *wire) SetReadDeadline(time.Time) error { return nil }

// cutFrame takes the first frame off a stream that a server wrote.
func cutFrame(p []byte) (op byte, payload, rest []byte) {
	op, n, head := p[0]&0x0f, int(p[1]), 2
	switch n {
	case 126:
		n, head = int(binary.BigEndian.Uint16(p[2:])), 4
	case 127:
		n, head = int(binary.BigEndian.Uint64(p[2:])), 10
	}
	return op, p[head : head+n], p[head+n:]
}

// messages returns what was written since the last call. It is for use in a
// bubble, where everything underway can be waited for.
func (w *wire) messages(t testing.TB) []message {
	t.Helper()
	synctest.Wait()
	return w.take(t)
}

// take is messages without waiting.
func (w *wire) take(t testing.TB) []message {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []message
	for p := w.written; len(p) > 0; {
		var op byte
		var payload []byte
		op, payload, p = cutFrame(p)
		require.Zero(t, w.closing, "frame after a close frame")
		switch op {
		case opText:
			var m message
			require.NoError(t, json.Unmarshal(payload, &m), "%s", payload)
			all = append(all, m)
		case opClose:
			w.closing = CloseCode(binary.BigEndian.Uint16(payload))
		}
	}
	w.written = nil
	return all
}

// direct is a connection that exists on the side of the hub only.
type direct struct {
	*Conn
	wire  *wire
	hello []message // what came at connecting
}

type directOptions struct {
	user, name string
	v1         bool
	discard    bool // keep nothing of what is written
}

// newHub returns a hub without a server in front; it is shut down at the end.
func newHub(t testing.TB, opts Options) *Hub {
	t.Helper()
	if opts.Authenticator == nil {
		opts.Authenticator = AllowAnonymous
	}
	if opts.Logger == nil {
		opts.Logger = quiet()
	}
	h, err := New(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Shutdown(context.Background())) })
	return h
}

// attach makes a direct connection, as accept and serve make one for a request.
func attach(t testing.TB, h *Hub, o directOptions) *direct {
	t.Helper()
	w := &wire{discard: o.discard}
	c := &Conn{hub: h, v1: o.v1}
	w.alive = &c.sock.alive
	c.sock = socket{Conn: w, out: &c.out, assemblyTimeout: h.opts.AssemblyTimeout, closeTimeout: h.opts.CloseTimeout}
	c.out.init(w, h.opts.QueueSize, false, &h.stats)
	require.Nil(t, h.slots.takeAddress("", 0, 0))
	require.Nil(t, h.slots.takeUser(o.user, 0))
	c.init(&arrival{identity: Identity{ID: o.user, Name: o.name}})
	require.True(t, h.register(c, nil))
	go func() { // the reader of a connection from which nothing comes
		<-c.ctx.Done()
		_ = c.sock.Close()
		c.part()
	}()
	require.True(t, c.start())
	d := &direct{Conn: c, wire: w}
	d.settle()
	d.hello = w.take(t)
	return d
}

// say handles a message as if the client had sent it, and returns all that
// was written to the client since the last call.
func (d *direct) say(t testing.TB, v any) []message {
	t.Helper()
	d.do(t, v)
	return d.wire.messages(t)
}

// do handles a message as if the client had sent it, and waits for the answer.
func (d *direct) do(t testing.TB, v any) {
	t.Helper()
	p, isText := v.(string)
	if !isText {
		data, err := json.Marshal(v)
		require.NoError(t, err)
		p = string(data)
	}
	require.True(t, d.handle([]byte(p)))
	d.flights.settle(d.ctx)
}

// settle waits until everything queued is written.
func (d *direct) settle() {
	for {
		if _, draining := d.out.progress(); !draining {
			return
		}
		runtime.Gosched()
	}
}

// ofType picks the messages of one type.
func ofType(all []message, typ string) []message {
	var some []message
	for _, m := range all {
		if m.str("type") == typ {
			some = append(some, m)
		}
	}
	return some
}

// entries returns the messages of a history or an inbox.
func (m message) entries() []message {
	list, _ := m["messages"].([]any)
	all := make([]message, len(list))
	for i, e := range list {
		all[i] = e.(map[string]any)
	}
	return all
}

// contents returns the payloads of room messages.
func contents(all []message) []any {
	list := make([]any, 0, len(all))
	for _, m := range all {
		list = append(list, m["content"])
	}
	return list
}

// elapse lets fake time go by, and everything happen that is due.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// random returns a source that gives the same numbers in each run, unless
// PARLEY_SEED chooses others. The seed is logged.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(1)
	if s := os.Getenv("PARLEY_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("PARLEY_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
