package checker

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-go/parley/parleytest"
)

// wireConn is one connection of a wireClient.
type wireConn struct {
	client         *wireClient
	number         int
	node           int
	link           *parleytest.Link
	ws             *websocket.Conn
	alive          *time.Timer // closes a connection on which nothing comes
	patience       time.Duration
	done           chan struct{} // closed when reading has ended
	offeredSession string
	offeredInbox   *Place
	offeredAll     *Place

	// Guarded by client.mu:
	greeted bool // "connected" has come
	ready   bool // all rooms are joined again: new messages may be sent
	stray   bool // does not count any more
	based   bool // the inbox has come
	bound   bool // the position of the broadcast is known
	// The server wants to know what was received, a timer will tell it, and what it was told.
	receipts, receiptDue bool
	received             Place

	out      sync.Mutex // guards the fields below
	nonEmpty sync.Cond
	queue    [][]byte
	closed   bool
}

// open connects and does the handshake.
func (w *wireConn) open(ctx context.Context, user string, protocols []string) error {
	w.nonEmpty.L = &w.out
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := w.client.env.dial(ctx, w.node)
		if err != nil {
			return nil, err
		}
		w.link = conn.Link()
		return conn, nil
	}}
	header := make(http.Header)
	if user != "" {
		header.Set(userHeader, user)
	}
	w.patience = time.Minute
	ws, _, err := websocket.Dial(ctx, "ws://parley.test/", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, HTTPHeader: header, Subprotocols: protocols,
		OnPingReceived: func(context.Context, []byte) bool { w.alive.Reset(w.patience); return true },
	})
	if err != nil {
		if w.link != nil {
			w.link.Cut()
		}
		return err
	}
	ws.SetReadLimit(-1)
	w.ws = ws
	w.alive = time.AfterFunc(w.patience, func() { _ = ws.CloseNow() })
	return nil
}

// read takes what the server sends, until the connection ends.
func (w *wireConn) read() {
	defer close(w.done)
	for {
		_, data, err := w.ws.Read(context.Background())
		if err == nil {
			w.alive.Reset(w.patience)
			var m wireMessage
			if err = json.Unmarshal(data, &m); err == nil {
				err = w.client.take(w, &m)
			}
		}
		if err != nil {
			w.alive.Stop()
			_ = w.ws.CloseNow()
			w.stop()
			w.client.ended(w, err)
			return
		}
	}
}

// put queues a message for the server. It never waits.
func (w *wireConn) put(frame []byte) {
	w.out.Lock()
	defer w.out.Unlock()
	w.queue = append(w.queue, frame)
	w.nonEmpty.Signal()
}

func (w *wireConn) stop() {
	w.out.Lock()
	defer w.out.Unlock()
	w.closed = true
	w.nonEmpty.Signal()
}

// write sends what is queued, until the connection ends.
func (w *wireConn) write() {
	for {
		w.out.Lock()
		for len(w.queue) == 0 && !w.closed {
			w.nonEmpty.Wait()
		}
		if w.closed {
			w.out.Unlock()
			return
		}
		frame := w.queue[0]
		w.queue = w.queue[1:]
		w.out.Unlock()
		if err := w.ws.Write(context.Background(), websocket.MessageText, frame); err != nil {
			_ = w.ws.CloseNow() // wakes the reader
			return
		}
	}
}
