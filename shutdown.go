package parley

import (
	"cmp"
	"context"
)

// Shutdown ends the hub: it refuses new connections and sends, tells v1
// clients when to come back ("bye"), closes all connections with code 4000,
// and waits for them, until CloseTimeout for clients that do not answer, and
// until ctx ends for application code that does not return. Then the sockets
// that are left are cut and the error of ctx is returned. A second call waits likewise.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	first := h.closing.CompareAndSwap(false, true)
	conns := make([]*Conn, 0, len(h.conns))
	for _, c := range h.conns {
		conns = append(conns, c)
	}
	for c := range h.replaced {
		conns = append(conns, c)
	}
	if first && !h.beating {
		close(h.stopped)
	}
	if h.idle == nil && len(conns) > 0 {
		h.idle = make(chan struct{})
	}
	idle := h.idle
	h.mu.Unlock()
	if first {
		bye := []*frame{newFrame(appendBye(newBuffer(128), int(CloseShutdown), "shutting down", 0, h.opts.RetryWindow.Milliseconds()))}
		for _, c := range conns {
			if c.v1 {
				_ = c.out.put(c, bye, false) // end follows in any case
			}
			c.end(CloseShutdown, "shutting down: reconnect")
			c.sock.hurry() // if it was ending already, with more patience
		}
	}
	return h.await(ctx, idle, conns)
}

// await waits for the connections and then ends what is left of the hub.
func (h *Hub) await(ctx context.Context, idle chan struct{}, conns []*Conn) error {
	var err error
	if idle != nil {
		if err = wait(ctx, idle); err != nil {
			for _, c := range conns {
				_ = c.sock.Conn.Close()
			}
		}
	}
	if rooms := h.inUse(isRoom); len(rooms) > 0 {
		left := make(chan struct{})
		go func() { // ends with the Store calls, which h.cancel below cuts short
			defer close(left)
			leaveRooms(rooms)
		}()
		err = cmp.Or(wait(ctx, left), err)
	}
	// What was taken from clients and from the application is stored, if that can be.
	err = cmp.Or(wait(ctx, h.noRuns()), err)
	if h.statuses != nil {
		h.statuses.close(ctx)
	}
	h.cancel()
	if h.monitor != nil {
		ended := make(chan struct{})
		go func() { // ends with the calls under way, which h.cancel has cut short
			defer close(ended)
			h.monitor.running.Wait()
			h.control.detach()
			h.all.detach()
		}()
		err = cmp.Or(wait(ctx, ended), err)
	}
	if h.watched != nil {
		err = cmp.Or(wait(ctx, h.watched), err)
	}
	return cmp.Or(wait(ctx, h.stopped), err)
}

// runStarts counts a topic that runs, and may be at the Store.
func (h *Hub) runStarts() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs++
}

func (h *Hub) runEnds() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.runs--; h.runs == 0 && h.finished != nil {
		close(h.finished)
		h.finished = nil
	}
}

// noRuns returns a channel that is closed as soon as no topic runs.
func (h *Hub) noRuns() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.finished == nil {
		h.finished = make(chan struct{})
	}
	done := h.finished
	if h.runs == 0 {
		close(done)
		h.finished = nil
	}
	return done
}

// wait waits for done, or returns the error of ctx if that ends before.
func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	default:
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leaveRooms tells the Store that nobody is left on this node.
func leaveRooms(rooms []*topic) {
	eachTopic(rooms, func(t *topic) {
		defer t.release()
		t.room.close()
	})
}
