package parleytest

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Conn is one end of a [Link], a net.Conn that behaves like a TCP connection:
// what is written goes into a bounded buffer and blocks when it is full, a
// closed end is an io.EOF to its peer after the bytes before it, and closing
// an end with unread input resets the connection. Errors are those of real
// connections: *net.OpError around net.ErrClosed, os.ErrDeadlineExceeded,
// syscall.ECONNRESET or syscall.EPIPE. All methods may be called concurrently;
// concurrent Writes do not mix.
type Conn struct {
	link          *Link
	in, out       *lane
	local, remote net.Addr

	// Guarded by link.mu.
	closed bool // by Close
	shut   bool // by CloseWrite or Close: nothing may be written any more
	reset  bool // the connection is lost, and this end knows
	rd, wd deadline
}

// Link returns the link that c is an end of.
func (c *Conn) Link() *Link { return c.link }

// LocalAddr returns the address of this end, a *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the other end, a *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// Read reads what has arrived, and waits for it if nothing has.
func (c *Conn) Read(p []byte) (int, error) {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.failed("read", net.ErrClosed)
		case len(p) == 0:
			return 0, nil
		case c.rd.expired:
			return 0, c.failed("read", os.ErrDeadlineExceeded)
		case c.in.ready > 0:
			n := c.in.read(p)
			l.changed.Broadcast() // there is room to write
			return n, nil
		case c.in.eof:
			return 0, io.EOF
		case c.reset:
			return 0, c.failed("read", syscall.ECONNRESET)
		}
		l.changed.Wait()
	}
}

// Write hands p to the network. That it returns without an error says, as
// with every connection, nothing about whether p arrives.
func (c *Conn) Write(p []byte) (n int, err error) {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for c.out.writing && !c.closed {
		l.changed.Wait()
	}
	if c.closed {
		return 0, c.failed("write", net.ErrClosed)
	}
	c.out.writing = true
	defer func() {
		c.out.writing = false
		l.changed.Broadcast()
	}()
	for {
		if err := c.writable(); err != nil {
			return n, err
		}
		if c.out.hole {
			return n + len(p), nil
		}
		k := c.out.accept(p)
		n, p = n+k, p[k:]
		if k > 0 { // else two that wait would wake each other for ever
			l.settle()
		}
		switch {
		case c.reset: // by the answer to what was written: TCP tells with the next Write
			return n, c.writable()
		case len(p) == 0:
			return n, nil
		case k == 0:
			l.changed.Wait()
		}
	}
}

// writable says why nothing can be written.
func (c *Conn) writable() error {
	switch {
	case c.closed:
		return c.failed("write", net.ErrClosed)
	case c.wd.expired:
		return c.failed("write", os.ErrDeadlineExceeded)
	case c.shut, c.reset && c.in.eof:
		return c.failed("write", syscall.EPIPE)
	case c.reset:
		return c.failed("write", syscall.ECONNRESET)
	}
	return nil
}

// Close closes the end. Blocked calls return net.ErrClosed. The other end
// still reads what was written before, unless input was left unread here:
// then the connection is reset.
func (c *Conn) Close() error {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.closed {
		return c.failed("close", net.ErrClosed)
	}
	shut := c.shut
	c.closed, c.shut = true, true
	c.rd.stop()
	c.wd.stop()
	switch {
	case c.reset:
	case c.in.ready > 0:
		c.out.sendReset()
	case !shut:
		c.out.sendEnd()
	}
	c.in.discard()
	l.settle()
	return nil
}

// CloseWrite tells the other end that nothing more will come, and goes on
// reading: a half-closed connection.
func (c *Conn) CloseWrite() error {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.closed:
		return c.failed("close", net.ErrClosed)
	case c.reset:
		return c.failed("close", syscall.ENOTCONN)
	case !c.shut:
		c.shut = true
		c.out.sendEnd()
		l.settle()
	}
	return nil
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(t, &c.rd, &c.wd) }

// SetReadDeadline makes Reads from t on fail with os.ErrDeadlineExceeded,
// also those that wait already. The zero time means never.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, &c.rd) }

// SetWriteDeadline does so for Writes. A Write that fails may have written a part.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, &c.wd) }

func (c *Conn) setDeadlines(t time.Time, ds ...*deadline) error {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.closed {
		return c.failed("set", net.ErrClosed)
	}
	for _, d := range ds {
		d.set(c.link, t)
	}
	return nil
}

// failed makes an error look like that of a TCP connection.
func (c *Conn) failed(op string, err error) error {
	if code, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, code)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// deadline is a moment from which on calls fail. It is guarded by Link.mu.
type deadline struct {
	timer   *time.Timer
	round   int // counts the changes, so that a timer that comes too late is known
	expired bool
}

func (d *deadline) stop() {
	d.round++
	d.expired = false
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (d *deadline) set(l *Link, t time.Time) {
	d.stop()
	if t.IsZero() {
		return
	}
	in := time.Until(t)
	if in <= 0 {
		d.expired = true
		l.changed.Broadcast()
		return
	}
	round := d.round
	d.timer = time.AfterFunc(in, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if d.round == round {
			d.expired = true
			l.changed.Broadcast()
		}
	})
}
