package client

import (
	"context"

	"github.com/parley-go/parley"
)

// event is one call of a handler.
type event struct {
	call  func(ctx context.Context) // nil: only the position moves
	then  func(ctx context.Context) // called next
	room  *Room                     // no handler of it is called any more once it was left
	topic *topic                    // moves to at when the event is handed out
	at    Position
	size  int // bytes, roughly
	state bool
}

// eventCost is what an event takes besides the message in it.
const eventCost = 256

// offerLocked queues an event for the handlers. It refuses it if they are too
// far behind, and then everything until they have caught up: the positions stay
// where they are, and the client resumes from them, see nextEvent.
func (c *Client) offerLocked(e event) bool {
	e.size += eventCost
	full := len(c.queue) >= c.opts.Buffer || c.queued+e.size > c.opts.BufferBytes
	switch {
	case c.behind:
		return false
	case e.call == nil && e.then == nil && e.topic == nil: // nobody wants to know
		return true
	case full && len(c.queue) > 0: // a single one fits in any case
		c.behind = true
		c.pushEventLocked(c.errorEvent(CodeSlow, "handlers are too slow: resuming when they have caught up"))
		return false
	}
	if e.topic != nil {
		e.topic.read = e.at
	}
	c.pushEventLocked(e)
	return true
}

// pushEventLocked queues an event whether there is space or not: one that is
// rare. Of changes of the state the newest counts, where there are too many.
func (c *Client) pushEventLocked(e event) {
	if n := len(c.queue); e.state && n >= c.opts.Buffer && c.queue[n-1].state {
		c.queue[n-1] = e
		return
	}
	c.queue = append(c.queue, e)
	c.queued += e.size
	c.arrived.Signal()
}

// deliver calls the handlers, until the client has ended.
func (c *Client) deliver() {
	defer close(c.delivered)
	defer c.handled()
	// A handler may end the goroutine (runtime.Goexit, as testing's FailNow does).
	defer c.end(StateClosed, errClosed)
	for {
		e, ok := c.nextEvent()
		if !ok {
			return
		}
		if e.call != nil && !mutantDrops(e) {
			e.call(c.handling)
		}
		if e.then != nil && !c.muted(e) {
			e.then(c.handling)
		}
	}
}

// muted reports whether the first of two handlers has closed the client, or left the room.
func (c *Client) muted(e event) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.handling.Err() != nil || e.room != nil && e.room.muted
}

// nextEvent waits for an event; false if no more will come. When it is
// called the handlers have finished with all before.
func (c *Client) nextEvent() (event, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handledLocked()
	for {
		for len(c.queue) == 0 {
			if c.state.final() {
				return event{}, false
			}
			if c.behind {
				c.behind = false
				if c.conn != nil {
					c.conn.cut(errBehind)
				}
			}
			c.arrived.Wait()
		}
		e := c.queue[0]
		c.queue[0] = event{}
		c.queue = c.queue[1:]
		c.queued -= e.size
		if e.room != nil && e.room.muted {
			continue
		}
		if e.topic != nil {
			e.topic.handed = e.at
		}
		return e, true
	}
}

func (c *Client) errorEvent(code parley.Code, text string) event {
	return tell(c.opts.OnError, c, error(parley.NewError(code, text)))
}

// tell makes an event of a handler, which may be nil, of the client or a room.
func tell[C, M any](handler func(context.Context, C, M), of C, m M) event {
	var e event
	if handler != nil {
		e.call = func(ctx context.Context) { handler(ctx, of, m) }
	}
	return e
}
