package parleytest

import (
	"bytes"
	"math/rand/v2"
	"time"
)

// slowSteps is how many times a second a throttled direction moves bytes, at most.
const slowSteps = 100

// lane is one direction of a Link. Bytes are accepted into a bounded buffer,
// are under way for a while, without faults for no time, and are then ready to
// be read. It is guarded by Link.mu.
type lane struct {
	link     *Link
	from, to *Conn

	data    bytes.Buffer // what was accepted and not yet read
	ready   int          // how many bytes of it, from the front, have arrived
	flight  []segment    // the rest of it, and the ends of the stream
	eof     bool         // the end of the stream has arrived
	writing bool         // a Write is under way

	stalled, hole   bool
	rate            int // bytes a second; 0: no limit
	latency, jitter time.Duration
	random          *rand.Rand
	cutting         bool // the link is cut when left bytes have arrived
	left            int64
	gate            time.Time // nothing arrives before
	timer           *time.Timer
}

// segment is what was sent in one piece.
type segment struct {
	n   int // bytes
	end ending
	at  time.Time // arrives not before, nor before those ahead of it; zero: at once
}

type ending uint8

const (
	noEnd ending = iota
	streamEnd
	streamReset
)

// accept takes as much of p as the buffer has room for.
func (d *lane) accept(p []byte) int {
	n := min(len(p), max(0, d.link.size-d.data.Len()))
	if n > 0 {
		d.data.Write(p[:n])
		d.send(segment{n: n})
	}
	return n
}

func (d *lane) sendEnd() { d.send(segment{end: streamEnd}) }

// sendReset overtakes what is under way.
func (d *lane) sendReset() {
	d.lose()
	d.send(segment{end: streamReset})
}

func (d *lane) send(s segment) {
	if d.hole {
		return
	}
	if d.latency > 0 || d.jitter > 0 {
		s.at = time.Now().Add(d.latency)
		if d.jitter > 0 {
			s.at = s.at.Add(time.Duration(d.random.Int64N(int64(d.jitter))))
		}
	}
	d.flight = append(d.flight, s)
	d.advance()
}

// lose drops what is under way.
func (d *lane) lose() {
	d.data.Truncate(d.ready)
	d.flight = nil
}

// discard drops what has arrived.
func (d *lane) discard() {
	d.data.Next(d.ready)
	d.ready = 0
}

func (d *lane) read(p []byte) int {
	n := copy(p, d.data.Bytes()[:d.ready])
	d.data.Next(n)
	d.ready -= n
	return n
}

// advance lets arrive whatever may by now, and sets the timer for the rest.
func (d *lane) advance() {
	d.stopTimer()
	for len(d.flight) > 0 && !d.stalled {
		s := &d.flight[0]
		when := s.at
		if d.gate.After(when) {
			when = d.gate
		}
		if !when.IsZero() {
			if wait := time.Until(when); wait > 0 {
				d.timer = time.AfterFunc(wait, d.tick)
				return
			}
		}
		if s.end != noEnd {
			end := s.end
			d.flight = nil // nothing is sent after it
			d.ended(end)
			return
		}
		n := d.portion(s.n)
		if s.n -= n; s.n == 0 {
			d.flight = d.flight[1:]
		}
		if d.arrived(n); d.cutting && d.left == 0 {
			d.link.lose(d)
		}
	}
	if len(d.flight) == 0 {
		d.flight = nil
	}
}

// portion says how many of n bytes arrive together.
func (d *lane) portion(n int) int {
	if d.rate > 0 {
		n = min(n, max(1, d.rate/slowSteps))
		d.gate = time.Now().Add(time.Duration(n) * time.Second / time.Duration(d.rate))
	}
	if d.cutting {
		n = int(min(int64(n), d.left))
		d.left -= int64(n)
	}
	return n
}

// arrived makes n more bytes readable. A closed end answers with a reset.
func (d *lane) arrived(n int) {
	d.ready += n
	if d.to.closed {
		d.discard()
		if !d.from.reset {
			d.to.out.sendReset()
		}
	}
}

func (d *lane) ended(end ending) {
	if end == streamEnd {
		d.eof = true
	} else {
		d.to.reset = true
	}
}

func (d *lane) tick() {
	d.link.mu.Lock()
	defer d.link.mu.Unlock()
	d.advance()
	d.link.settle()
}

func (d *lane) stopTimer() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
