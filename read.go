package parley

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"unicode/utf8"

	"github.com/coder/websocket"
)

const (
	// firstRead is the buffer that most messages fit into.
	firstRead = 4 << 10
	// controlRate and controlBurst limit pings and pongs of a client. Browsers send
	// none of their own and answer ours, twice a minute.
	controlRate  = 10
	controlBurst = 20
)

var readBuffers = sync.Pool{New: func() any { b := make([]byte, firstRead); return &b }}

var errMessageTooBig = errors.New("message too big")

// readAll reads and carries out messages until the connection ends, and
// returns how it is to be closed.
func (c *Conn) readAll() (CloseCode, string) {
	for {
		// Background: deadlines are set on the socket, which costs nothing while a
		// client is idle; a context would cost a timer and a closure per read.
		typ, r, err := c.ws.Reader(context.Background())
		if err != nil {
			return c.readFailed(err)
		}
		buf := readBuffers.Get().(*[]byte)
		c.sock.assembling = true
		p, err := c.readMessage(r, buf)
		c.sock.assembled()
		switch {
		case errors.Is(err, errMessageTooBig):
			return c.tooLarge(r)
		case err != nil:
			return c.readFailed(err)
		case c.ended.Load():
			// What a client sends after its end is not carried out.
			return CloseNormal, ""
		case typ == websocket.MessageBinary:
			return CloseBinary, "binary message: send JSON as text"
		case !utf8.Valid(p):
			return CloseInvalidUTF8, "text is not UTF-8"
		}
		c.hub.stats.received(len(p))
		c.confirm()
		if mutant("parallel") {
			go c.handle(append([]byte(nil), p...))
			continue
		}
		ok := true
		c.working(func() { ok = c.handle(p) })
		if len(*buf) <= 16<<10 {
			readBuffers.Put(buf)
		}
		if !ok {
			return CloseRateLimit, "too many messages: slow down"
		}
	}
}

// readMessage reads one message into *buf, which grows up to the size limit.
func (c *Conn) readMessage(r io.Reader, buf *[]byte) ([]byte, error) {
	limit := c.hub.opts.MaxMessageSize
	n := 0
	for {
		if n == len(*buf) {
			*buf = append(*buf, make([]byte, min(len(*buf), limit+1-n))...)
		}
		m, err := r.Read((*buf)[n:])
		n += m
		if n > limit {
			return nil, errMessageTooBig
		}
		if err == io.EOF && c.sock.err == nil { // else it is not that of the message
			return (*buf)[:n], nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// landing waits for what was sent before the connection ends: it is stored, and answered where there is still somebody to be
// answered, before Disconnect.
func (c *Conn) landing() { c.working(func() { c.flights.settle(c.ctx) }) }

// tooLarge says why the connection ends, and reads the rest of the message,
// until the close timeout: else the reset of the socket would overtake what we say.
func (c *Conn) tooLarge(rest io.Reader) (CloseCode, string) {
	c.landing()
	text := fmt.Sprintf("message is larger than %d bytes", c.hub.opts.MaxMessageSize)
	c.refuse("", NewError(CodeTooLarge, text+": send smaller ones"))
	c.end(CloseTooLarge, text)
	_, _ = io.Copy(io.Discard, rest)
	return CloseTooLarge, text
}

// readFailed finds the close code for a read error. If the library has sent a
// close frame already, ours is not sent.
func (c *Conn) readFailed(err error) (CloseCode, string) {
	c.landing()
	code := CloseCode(websocket.CloseStatus(err))
	switch {
	case code == CloseCode(websocket.StatusNoStatusRcvd):
		c.finish(CloseNormal, nil)
		return CloseNormal, ""
	case code != -1:
		c.finish(code, nil)
		return code, ""
	case errors.Is(c.sock.err, os.ErrDeadlineExceeded):
		return CloseIncomplete, "message not complete in time: reconnect and resume"
	case c.sock.err != nil, isNetworkError(err):
		// A close frame would have to have a code, and there is none for this.
		c.finish(CloseAbnormal, nil)
		return CloseAbnormal, ""
	default:
		c.hub.stats.protocolErrors.Add(1)
		return CloseProtocol, "WebSocket protocol error"
	}
}

// linger reads on after we sent a close frame, until the peer closes or the
// close timeout ends: closing a socket with unread input resets it, and
// the peer would lose our close frame.
func (c *Conn) linger(code CloseCode) {
	if code == CloseProtocol || code == ClosePolicy || code == CloseIncomplete {
		// The stream cannot be parsed any more, or is in the middle of a message.
		_, _ = io.Copy(io.Discard, c.sock.Conn)
		return
	}
	for {
		_, r, err := c.ws.Reader(context.Background())
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return
		}
	}
}

// controlReceived limits pings: a flood of them costs an answer each (S21).
func (c *Conn) controlReceived(context.Context, []byte) bool {
	if c.controls.allow(controlRate, controlBurst) {
		return true
	}
	c.end(ClosePolicy, "too many control frames")
	return false
}

// pongReceived counts pongs likewise: ours are answered twice a minute.
func (c *Conn) pongReceived(ctx context.Context, p []byte) {
	c.confirm()
	c.controlReceived(ctx, p)
}

// confirm notes that the client has received what we sent first, and so its session.
func (c *Conn) confirm() {
	if !c.confirmed.Load() {
		c.confirmed.Store(true)
	}
}
