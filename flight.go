package parley

import (
	"context"
	"slices"
	"sync"
)

// maxFlights and maxFlightBytes bound how many messages of a connection to a room are on their way to the Store. What is sent
// meanwhile waits in the socket, so that a client that sends faster than they are stored is slowed down.
const (
	maxFlights     = 32
	maxFlightBytes = 64 << 10
)

// flights are the messages of a connection that are on their way. The reading goroutine hands them to the topic without waiting for
// what becomes of them, so that those of one client go to the Store together; all that are on their way at a time are to one topic.
// Whatever else a client asks for is done when they have landed.
type flights struct {
	mu    sync.Mutex // guards the fields below; nothing is locked while it is held
	topic *topic     // of all of them
	all   []*flight  // in order, without those that were answered
	bytes int
	until int           // wake the reading goroutine when no more than that are left
	wake  chan struct{} // nil unless it waits
}

// flight is one of them.
type flight struct {
	conn   *Conn
	id     string // that the client has given the message
	size   int
	p      *publication
	landed bool // the fields of p are final
}

// enter takes f in once there is room for it; false if ctx has ended.
func (a *flights) enter(ctx context.Context, t *topic, f *flight) bool {
	return a.await(ctx, func() (ok bool, until int) {
		switch {
		case len(a.all) == 0 || a.topic == t && len(a.all) < maxFlights && a.bytes+f.size <= maxFlightBytes:
			a.topic = t
			a.all = append(a.all, f)
			a.bytes += f.size
			return true, 0
		case a.topic != t:
			return false, 0
		}
		return false, len(a.all) / 2 // so that several follow together
	})
}

// settle waits until all have landed; false if ctx has ended meanwhile.
func (a *flights) settle(ctx context.Context) bool {
	return a.await(ctx, func() (bool, int) { return len(a.all) == 0, 0 })
}

// await asks again whenever no more are left than it was told. It is for the reading goroutine.
func (a *flights) await(ctx context.Context, ready func() (ok bool, until int)) bool {
	for {
		a.mu.Lock()
		ok, until := ready()
		if ok {
			a.mu.Unlock()
			return true
		}
		wake := make(chan struct{})
		a.until, a.wake = until, wake
		a.mu.Unlock()
		if wait(ctx, wake) != nil || ctx.Err() != nil {
			return false
		}
	}
}

// land notes that f has landed, and returns those that may be answered now: in a topic, one that fails can be done with before one that
// waits for what another node has sent, and clients are answered in order.
func (a *flights) land(f *flight) (ready []*flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f.landed = true
	n := 0
	for n < len(a.all) && a.all[n].landed {
		n++
	}
	return a.all[:n:n]
}

// answered takes out those that land has returned.
func (a *flights) answered(ready []*flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range ready {
		a.bytes -= f.size
	}
	if a.all = a.all[len(ready):]; len(a.all) == 0 {
		a.all, a.topic = nil, nil
	}
	if a.wake != nil && len(a.all) <= a.until {
		close(a.wake)
		a.wake = nil
	}
}

// cancel takes out one that was not handed to the topic.
func (a *flights) cancel(f *flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = slices.DeleteFunc(a.all, func(other *flight) bool { return other == f })
	a.bytes -= f.size
}

// launch publishes data in the room of m as a message of the client, whose answer comes when it has landed, unless nothing can make it wait.
func (c *Conn) launch(in *inbound, m *membership, data []byte) (answer, error) {
	t := m.topic
	p := t.publication(data, c.key(in.ID))
	if t.hub.fast {
		r, err := t.publish(c.ctx, p)
		return answer{result: r}, err
	}
	f := &flight{conn: c, id: in.ID, size: len(data), p: p}
	if !c.flights.enter(c.ctx, t, f) {
		return answer{}, ErrConnClosed
	}
	if err := c.hold(m); err != nil { // it may have waited for long
		c.flights.cancel(f)
		return answer{}, err
	}
	defer t.release()
	p.flight = f
	if t.queue(p) {
		t.start() // a Store or Broker may block for longer than the connection lasts
	}
	return answer{done: true}, nil
}

// hold adds a reference to the topic of m, if that is still a membership of c.
func (c *Conn) hold(m *membership) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch i := c.find(m.room); {
	case c.gone || c.ended.Load():
		return ErrConnClosed
	case c.hub.closing.Load():
		return ErrClosed
	case i < 0 || c.rooms[i] != m:
		return notMember(m.room)
	}
	m.topic.retain()
	return nil
}

// land answers a message, and those behind it that have waited for that. It is called by the topic.
func (f *flight) land() {
	c := f.conn
	ready := c.flights.land(f)
	defer c.flights.answered(ready)
	defer c.recovered("answer")
	for _, f := range ready {
		if !c.ended.Load() {
			c.respond(f.id, "message", f.p.result(), f.p.err)
		}
	}
}
