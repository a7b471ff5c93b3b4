package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/parley-go/parley"
)

const (
	writeTimeout = 20 * time.Second // for one message
	probeTimeout = 5 * time.Second  // for the answer to a ping that asks whether the connection still lives
	closeTimeout = time.Second      // for the close handshake
	defaultPing  = 30 * time.Second // the ping interval of a server that does not say
	// maxSignals is how many messages may wait to be written before signals, which may be lost, are.
	maxSignals = 256
)

var (
	errSilent       = errors.New("no sign of life")
	errCloseTimeout = errors.New("the server did not answer the close frame")
)

// conn is one connection. Its messages are read by Client.run, and written by a
// goroutine that starts when "connected" came: who sends never waits for the network.
type conn struct {
	ws      *websocket.Conn
	ctx     context.Context // ends when the connection is cut, its cause says why
	cut     context.CancelCauseFunc
	welcome func()        // stops the timeout of connecting
	gone    chan struct{} // closed when all of it has ended
	writer  sync.WaitGroup
	wake    chan struct{} // tells the writer that out or closing has changed
	start   time.Time
	heard   atomic.Int64 // when the last byte came, in ns after start
	buf     bytes.Buffer // of the message being read

	// Guarded by Client.mu:
	up      bool // "connected" came
	since   time.Time
	maxSize int64
	out     []outgoing
	closing bool
	timers  map[*time.Timer]struct{}
	offered bool // the broadcast position was, and the history that answers it has not come yet

	// Of the inbox, guarded by Client.mu:
	log        string    // its epoch, as of the last "inbox"; empty before
	early      []inbound // marks that came before the inbox of their epoch
	marks      marks     // those since
	receipts   bool      // the server wants them (P8.6)
	received   int64     // the offset that it was told
	receiptDue bool      // a timer runs for the next
}

// outgoing is a message to be written.
type outgoing struct {
	text   []byte
	req    *request // nil for signals and pings
	signal string   // signals with the same key replace each other (P5.2)
}

func newConn() *conn {
	k := &conn{
		gone: make(chan struct{}), wake: make(chan struct{}, 1), start: time.Now(),
		timers: make(map[*time.Timer]struct{}),
	}
	k.ctx, k.cut = context.WithCancelCause(context.Background())
	return k
}

// alive notes a sign of life. time.Since is monotonic, whatever becomes of the clock.
func (k *conn) alive() { k.heard.Store(int64(time.Since(k.start))) }

// lifeReader counts every byte of a long message as life.
type lifeReader struct {
	io.Reader
	k *conn
}

func (r lifeReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.k.alive()
	return n, err
}

// read reads messages until the connection ends. Nothing in it waits for
// handlers or for the writer.
func (c *Client) read(k *conn) error {
	for {
		typ, r, err := k.ws.Reader(k.ctx)
		if err != nil {
			return err
		}
		if k.buf.Cap() > 1<<20 {
			k.buf = bytes.Buffer{}
		}
		k.buf.Reset()
		if _, err := k.buf.ReadFrom(lifeReader{r, k}); err != nil {
			return err
		}
		c.receive(k, typ, k.buf.Bytes())
	}
}

// end frees everything and says why the connection ended; err is that of reading.
func (k *conn) end(err error) *ConnError {
	why := abnormal(err)
	if closed, ok := errors.AsType[websocket.CloseError](err); ok {
		why = &ConnError{Code: parley.CloseCode(closed.Code), Reason: closed.Reason}
	} else if cause := context.Cause(k.ctx); cause != nil {
		why = abnormal(cause)
	}
	k.cut(nil)
	_ = k.ws.CloseNow()
	k.writer.Wait()
	return why
}

// closeConnLocked starts the close handshake.
func (c *Client) closeConnLocked(k *conn) {
	if !k.up {
		k.cut(errClosed)
		return
	}
	k.closing = true
	k.notify()
	c.afterLocked(k, closeTimeout, func() { k.cut(errCloseTimeout) })
}

// afterLocked calls f after d, with Client.mu held, unless the connection has ended.
func (c *Client) afterLocked(k *conn, d time.Duration, f func()) {
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(k.timers, timer)
		if c.conn == k {
			f()
		}
	})
	k.timers[timer] = struct{}{}
}

func (k *conn) notify() {
	select {
	case k.wake <- struct{}{}:
	default: // the writer was told already
	}
}

// pushLocked queues a message for the writer.
func (k *conn) pushLocked(o outgoing) {
	if o.signal != "" {
		same := slices.IndexFunc(k.out, func(p outgoing) bool { return p.signal == o.signal })
		switch {
		case same >= 0:
			k.out[same] = o
			return
		case len(k.out) >= maxSignals:
			return
		}
	}
	k.out = append(k.out, o)
	k.notify()
}

// nextOut takes the next message to write, and notes that it was sent.
// Requests that were given up meanwhile are not.
func (c *Client) nextOut(k *conn) (text []byte, closing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(k.out) > 0 {
		o := k.out[0]
		k.out = k.out[1:]
		if o.req == nil {
			return o.text, false
		}
		if c.pending[o.req.id] == o.req {
			o.req.written = true
			return o.text, false
		}
	}
	k.out = nil
	return nil, k.closing
}

// write writes what is queued, and asks a silent connection whether it lives,
// until the connection ends.
func (c *Client) write(k *conn, interval time.Duration) {
	life := time.NewTimer(interval)
	defer life.Stop()
	probing := false
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-k.wake:
			if !c.writeAll(k) {
				return
			}
		case <-life.C:
			silence := time.Since(k.start) - time.Duration(k.heard.Load())
			switch {
			case silence < interval:
				probing = false
				life.Reset(interval - silence)
			case probing:
				k.cut(errSilent)
				return
			default:
				probing = true
				life.Reset(probeTimeout)
				ping, _ := json.Marshal(outbound{Type: "ping"})
				k.writeOne(ping)
			}
		}
	}
}

// writeAll empties the queue; false if that was the last of the connection.
func (c *Client) writeAll(k *conn) bool {
	for {
		text, closing := c.nextOut(k)
		switch {
		case closing:
			_ = k.ws.Close(websocket.StatusNormalClosure, "")
			return false
		case text == nil:
			return true
		case !k.writeOne(text):
			return false
		}
	}
}

func (k *conn) writeOne(text []byte) bool {
	ctx, cancel := context.WithTimeout(k.ctx, writeTimeout)
	defer cancel()
	err := k.ws.Write(ctx, websocket.MessageText, text)
	if err != nil {
		k.cut(err)
	}
	return err == nil
}
