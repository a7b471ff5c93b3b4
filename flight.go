package parley

import (
	"context"
	"sync"
)

// maxFlights and maxFlightBytes bound how many messages of a connection to a room are on their way to the Store. What is sent
// meanwhile waits in the socket, so that a client that sends faster than they are stored is slowed down.
const (
	maxFlights     = 32
	maxFlightBytes = 64 << 10
)

// flights are the messages of a connection that are on their way. The reading goroutine hands them to the topic without waiting for
// what becomes of them, so that those of one client go to the Store together; all that may be on their way at a time are to one topic,
// which answers them in order. Whatever else a client asks for is done when they have landed.
type flights struct {
	mu    sync.Mutex // guards the fields below; nothing is locked while it is held
	topic *topic     // of all of them
	count int
	bytes int
	until int           // wake the reading goroutine when no more than that are left
	wake  chan struct{} // nil unless it waits
}

// enter counts a message of n bytes, once there is room for it; false if ctx has ended.
func (f *flights) enter(ctx context.Context, t *topic, n int) bool {
	return f.await(ctx, func() (ok bool, until int) {
		switch {
		case f.count == 0 || f.topic == t && f.count < maxFlights && f.bytes+n <= maxFlightBytes:
			f.topic = t
			f.count++
			f.bytes += n
			return true, 0
		case f.topic != t:
			return false, 0
		}
		return false, f.count / 2 // so that several follow together
	})
}

// settle waits until all have landed; false if ctx has ended meanwhile.
func (f *flights) settle(ctx context.Context) bool {
	return f.await(ctx, func() (bool, int) { return f.count == 0, 0 })
}

// await asks again whenever no more are left than it was told.
func (f *flights) await(ctx context.Context, ready func() (ok bool, until int)) bool {
	for {
		f.mu.Lock()
		ok, until := ready()
		if ok {
			f.mu.Unlock()
			return true
		}
		wake := make(chan struct{})
		f.until, f.wake = until, wake
		f.mu.Unlock()
		if wait(ctx, wake) != nil || ctx.Err() != nil {
			return false
		}
	}
}

func (f *flights) leave(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count--
	f.bytes -= n
	if f.wake != nil && f.count <= f.until {
		close(f.wake)
		f.wake = nil
	}
}

// launch publishes p, whose answer comes when it has landed, unless nothing can make it wait.
func (c *Conn) launch(t *topic, p *publication, id string) (answer, error) {
	if t.hub.fast {
		r, err := t.publish(c.ctx, p)
		return answer{result: r}, err
	}
	if !c.flights.enter(c.ctx, t, len(p.entry.Data)) {
		return answer{}, ErrConnClosed
	}
	p.sender, p.sentAs = c, id
	if t.queue(p) {
		t.start() // a Store or Broker may block for longer than the connection lasts
	}
	return answer{done: true}, nil
}

// landed answers a message. It is called by the topic.
func (c *Conn) landed(p *publication) {
	if !c.ended.Load() {
		c.respond(p.sentAs, "message", p.result(), p.err)
	}
	c.flights.leave(len(p.entry.Data))
}
