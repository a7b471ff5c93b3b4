package parleytest

import (
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/parley-go/parley"
)

// defaultBuffer is the size of a buffer, about that of a socket.
const defaultBuffer = 64 << 10

// Direction is one of the two ways through a [Link].
type Direction uint8

// The two directions. Methods that take directions mean both if none is given.
const (
	ToServer Direction = iota
	ToClient
)

// Link is a connection through a [Network], with faults that can be switched
// at any moment by any goroutine, also in combination. It is safe inside of a
// testing/synctest bubble, if both of its ends are used inside of it: blocked calls are
// durably blocked, and time is that of the bubble. It runs no goroutines.
//
// Without faults, what is written can be read at once.
type Link struct {
	number         int
	size           int // of a buffer
	client, server Conn
	gone           func()          // called once, with mu held, when both ends have ended
	identity       parley.Identity // who dialled, if a Server's client did

	mu      sync.Mutex // guards lanes and ends
	changed sync.Cond  // for whatever a Read or Write may wait for
	lanes   [2]lane    // by Direction
}

// NewLink returns a Link outside of any [Network]. Its buffers hold size bytes
// in each direction; 0 means 64 KiB.
func NewLink(size int) *Link {
	return newLink(1, size, 0, localhost)
}

func newLink(number, size int, seed uint64, ip net.IP) *Link {
	if size <= 0 {
		size = defaultBuffer
	}
	l := &Link{number: number, size: size}
	l.changed.L = &l.mu
	up, down := &l.lanes[ToServer], &l.lanes[ToClient]
	from := &net.TCPAddr{IP: ip, Port: 1024 + number%(1<<16-1024)}
	l.client = Conn{link: l, in: down, out: up, local: from, remote: serverAddr}
	l.server = Conn{link: l, in: up, out: down, local: serverAddr, remote: from}
	for i := range l.lanes {
		d := &l.lanes[i]
		d.link, d.from, d.to = l, &l.client, &l.server
		if Direction(i) == ToClient {
			d.from, d.to = d.to, d.from
		}
		d.random = rand.New(rand.NewPCG(seed, uint64(2*number+i)))
	}
	return l
}

// Number counts the links of a Network from 1 in the order of the dials.
func (l *Link) Number() int { return l.number }

// Client returns the end that dialled.
func (l *Link) Client() *Conn { return &l.client }

// Server returns the end that was accepted.
func (l *Link) Server() *Conn { return &l.server }

// Cut resets the connection: both ends fail at once, and what has not been
// read is lost.
func (l *Link) Cut() {
	l.change(nil, func(*lane) { l.lose(nil) })
}

// CutAfter cuts the link when exactly n more bytes have arrived in the
// direction: its receiver can still read those, and gets an error in the middle
// of whatever they are. Everything else is lost. 0 is now; a negative n calls it off.
func (l *Link) CutAfter(n int64, direction Direction) {
	l.change([]Direction{direction}, func(d *lane) {
		if d.cutting, d.left = n >= 0, n; n == 0 {
			l.lose(d)
		}
	})
}

// Stall lets nothing arrive until [Link.Resume]. Writes succeed until the
// buffer is full, then they block. The ends of the stream do not arrive either.
func (l *Link) Stall(directions ...Direction) {
	l.change(directions, func(d *lane) { d.stalled = true })
}

// Resume ends Stall, Slow and Latency: what is under way arrives at once.
// Nothing brings back what a black hole has swallowed.
func (l *Link) Resume(directions ...Direction) {
	l.change(directions, func(d *lane) {
		d.stalled, d.rate, d.latency, d.jitter = false, 0, 0, 0
		d.hurry()
	})
}

// Slow lets at most so many bytes a second arrive, in a hundred steps or
// byte by byte. 0 ends it.
func (l *Link) Slow(bytesPerSecond int, directions ...Direction) {
	l.change(directions, func(d *lane) {
		d.rate, d.gate = max(0, bytesPerSecond), time.Time{}
	})
}

// Latency delays what is sent from now on by delay and up to jitter more, drawn
// from the Network's Seed. The order is kept. Zeros end it. What is under way fills the
// buffer: more than its size for each delay does not come through.
func (l *Link) Latency(delay, jitter time.Duration, directions ...Direction) {
	l.change(directions, func(d *lane) { d.latency, d.jitter = delay, jitter })
}

// BlackHole loses everything that is under way or written from now on: all writes
// succeed, nothing arrives, the end of the stream neither. It cannot be healed, only cut.
func (l *Link) BlackHole(directions ...Direction) {
	l.change(directions, func(d *lane) { d.swallow() })
}

// VanishClient takes the client away without a word, as when its machine
// loses power: its own calls fail, and the server does not notice. The
// connection is half-open: the server's writes succeed for ever and it hears nothing more.
func (l *Link) VanishClient() { l.vanish(&l.client) }

// VanishServer does so with the server: the client does not notice.
func (l *Link) VanishServer() { l.vanish(&l.server) }

func (l *Link) vanish(c *Conn) {
	l.change(nil, func(d *lane) {
		d.swallow()
		if d.to == c {
			d.discard()
			d.eof = false
		}
		c.reset = true
	})
}

// Alive reports whether at least one end has neither been closed nor failed.
func (l *Link) Alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.client.over() || !l.server.over()
}

// open reports whether bytes come through in both directions.
func (l *Link) open() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.lanes {
		if l.lanes[i].stalled || l.lanes[i].hole {
			return false
		}
	}
	return !l.client.over() && !l.server.over()
}

func (c *Conn) over() bool { return c.closed || c.reset }

// change applies f to directions, or to both, and lets happen what follows.
func (l *Link) change(directions []Direction, f func(d *lane)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(directions) == 0 {
		directions = []Direction{ToServer, ToClient}
	}
	for _, i := range directions {
		f(&l.lanes[i])
	}
	for i := range l.lanes {
		l.lanes[i].advance()
	}
	l.settle()
}

// lose fails both ends. What has arrived in the direction of kept can still be read.
func (l *Link) lose(kept *lane) {
	for i := range l.lanes {
		d := &l.lanes[i]
		d.lose()
		if d != kept {
			d.discard()
		}
		d.eof = false
		d.to.reset = true
	}
}

// settle wakes whoever waits, and reports a link that has ended. It is called
// with mu held, after every change.
func (l *Link) settle() {
	l.changed.Broadcast()
	if !l.client.over() || !l.server.over() {
		return
	}
	for i := range l.lanes {
		l.lanes[i].lose()
		l.lanes[i].stopTimer()
	}
	if l.gone != nil {
		l.gone()
		l.gone = nil
	}
}

// hurry lifts the delays of what is under way.
func (d *lane) hurry() {
	d.gate = time.Time{}
	for i := range d.flight {
		d.flight[i].at = time.Time{}
	}
}

func (d *lane) swallow() {
	d.lose()
	d.hole = true
}
