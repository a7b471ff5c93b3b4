package parley

import (
	"cmp"
	"slices"
	"time"
)

const (
	// budgetTick is how often the queues are looked at. A connection counts as
	// behind when its queue was never empty between two looks: bursts are long over by then.
	budgetTick = time.Second
	// budgetPause is how many looks are left out when the queues turned out to
	// hold the same messages: counting them takes time.
	budgetPause = 10
)

// budget keeps the memory of all queues together within Options.QueueBudget. Each
// queue has its own limit, but thousands of connections may be slow at the same time.
// It is used by the background goroutine only.
type budget struct {
	pause int    // looks to leave out
	round uint32 // of counting, see frame.round
}

// laggard is a connection that is behind.
type laggard struct {
	conn *Conn
	size int
	late int // looks it has been behind for
}

// relieve closes those connections that are behind the longest, until the
// messages that wait for the others fit into the budget. They resume when they come back.
func (h *Hub) relieve() {
	if h.budget.pause > 0 {
		h.budget.pause--
		return
	}
	behind, total := h.laggards()
	if total <= h.opts.QueueBudget {
		return
	}
	slices.SortFunc(behind, func(a, b laggard) int {
		return cmp.Or(a.late-b.late, a.size-b.size)
	})
	h.budget.round++
	room, closed := h.opts.QueueBudget, 0
	for _, l := range behind {
		if held := l.conn.out.hold(h.budget.round, room); held <= room {
			room -= held
			continue
		}
		closed++
		l.conn.end(CloseSlow, "too slow while the server is short of memory: reconnect and resume")
	}
	if closed == 0 {
		h.budget.pause = budgetPause
		return
	}
	h.stats.closedOverBudget.Add(uint64(closed))
	h.logError("parley: queues over budget", "closed", closed, "behind", len(behind))
}

// laggards finds the connections that are behind, and the bytes in their
// queues, those of shared messages once for each.
func (h *Hub) laggards() (behind []laggard, total int) {
	for _, s := range h.all.roster.list() {
		s.mu.Lock()
		for _, m := range s.subs {
			c := m.conn
			size, drain, draining := c.out.lag()
			if !draining || drain != c.drain {
				c.drain, c.late = drain, 0
				continue
			}
			c.late++
			behind = append(behind, laggard{conn: c, size: size, late: c.late})
			total += size
		}
		s.mu.Unlock()
	}
	return behind, total
}

// lag returns the bytes that wait, and the number of the drain that writes them, if one does.
func (o *outbox) lag() (size int, drain uint32, draining bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size, o.drains, o.draining
}

// hold returns the bytes that the queue holds in memory beyond what was
// counted in this round. It counts them if they are no more than room.
func (o *outbox) hold(round uint32, room int) (bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	queues := [][]*frame{o.writing, o.queue}
	for _, q := range queues {
		for _, f := range q {
			if f.round != round {
				bytes += len(f.wire)
			}
		}
	}
	if bytes > room {
		return bytes
	}
	for _, q := range queues {
		for _, f := range q {
			f.round = round
		}
	}
	return bytes
}
