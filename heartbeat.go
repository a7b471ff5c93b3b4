package parley

import (
	"context"
	"math/rand/v2"
	"time"
)

// beatPhases spreads the shards of connections over the ping interval, so
// that pings do not come all at once.
const beatPhases = 16

var pingFrame = []*frame{controlFrame(opPing, nil)}

// background runs the heartbeat, renews presence and keeps the queues within
// their budget, until the hub ends.
func (h *Hub) background() {
	defer close(h.stopped)
	tick := h.opts.PingInterval / beatPhases
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	renewal := time.NewTicker(presenceLease / 3)
	defer renewal.Stop()
	relief := time.NewTicker(budgetTick)
	defer relief.Stop()
	last := time.Now()
	for phase := 0; ; {
		select {
		case <-h.ctx.Done():
			return
		case <-renewal.C:
			h.renewPresence()
			continue
		case <-relief.C:
			h.relieve()
			continue
		case <-ticker.C:
		}
		now := time.Now()
		late := h.late(now.Sub(last))
		last = now
		h.mu.Lock()
		h.sessions.forget(now)
		h.mu.Unlock()
		for i, s := range h.all.roster.list() {
			if i%beatPhases == phase%beatPhases {
				h.beat(s, now, late)
			}
		}
		phase++
	}
}

// late reports whether so much time has passed since the beat before that the
// process stood still or starves. Then it has not read the pongs that wait in its
// sockets, and nobody is judged this time round.
func (h *Hub) late(since time.Duration) bool {
	return since > h.opts.PingInterval/beatPhases+h.opts.PingInterval/2
}

// beat pings the connections of one shard, and ends those that did not
// answer the ping of the interval before. Ending takes no locks but the outbox's.
func (h *Hub) beat(s *shard, now time.Time, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.subs {
		c := m.conn
		writes, writing := c.out.progress()
		stalled := writing && c.stuck && writes == c.lastSeen
		// With a queue our ping may not have been written yet, but what is
		// written before it shows that somebody reads.
		reading := c.stuck && writes != c.lastSeen
		c.lastSeen, c.stuck = writes, writing
		busy := c.busy.Load() // before alive, which is set first when the work is done
		switch alive := c.sock.alive.Swap(false); {
		case c.expired(now):
			c.end(CloseExpired, "credentials expired: reconnect with new ones")
		case late:
		case stalled:
			c.end(CloseSlow, reasonSlow)
		case !alive && !busy && !reading:
			c.end(CloseNoHeartbeat, "no sign of life")
			continue
		}
		if c.out.put(c, pingFrame, false) == pushFull {
			c.end(CloseSlow, reasonSlow)
		}
	}
}

// renewPresence extends the leases of everybody in a room of this node. It
// does not wait: the calls of the Store are spread over some seconds.
func (h *Hub) renewPresence() {
	if h.statuses != nil {
		go func() { // ends with the Store calls, and before the next renewal
			ctx, cancel := context.WithTimeout(h.ctx, presenceLease/3)
			defer cancel()
			_ = h.statuses.tell(ctx, true)
		}()
	}
	for _, t := range h.inUse(isRoom) {
		name := t.name
		t.release()
		time.AfterFunc(rand.N(presenceLease/12), func() {
			if t := h.lookup(name); t != nil {
				t.room.renew()
				t.release()
			}
		})
	}
}
