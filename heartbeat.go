package parley

import (
	"context"
	"time"
)

// beatPhases spreads the shards of connections over the ping interval, so
// that pings do not come all at once.
const beatPhases = 16

var pingFrame = []*frame{controlFrame(opPing, nil)}

// background runs the heartbeat and renews presence, until the hub ends.
func (h *Hub) background() {
	defer close(h.stopped)
	tick := h.opts.PingInterval / beatPhases
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last, renewed := time.Now(), time.Now()
	for phase := 0; ; phase++ {
		select {
		case <-h.ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		// A process that stood still, or starves, has not read the pongs that
		// wait in its sockets: nobody is judged this time round.
		late := now.Sub(last) > tick+h.opts.PingInterval/2
		last = now
		for i, s := range h.all.roster.list() {
			if i%beatPhases == phase%beatPhases {
				h.beat(s, now, late)
			}
		}
		if now.Sub(renewed) >= presenceLease/3 {
			renewed = now
			h.renewPresence()
		}
	}
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
		c.lastSeen, c.stuck = writes, writing
		busy := c.busy.Load() // before alive, which is set first when the work is done
		switch alive := c.sock.alive.Swap(false); {
		case c.expired(now):
			c.end(CloseExpired, "credentials expired: reconnect with new ones")
		case late:
		case stalled:
			c.end(CloseSlow, reasonSlow)
		case !alive && !busy:
			c.end(CloseNoHeartbeat, "no sign of life")
			continue
		}
		c.pongsOwed.Add(1)
		if c.out.put(c, pingFrame, false) == pushFull {
			c.end(CloseSlow, reasonSlow)
		}
	}
}

// roomsInUse returns the rooms of this node, with a reference each.
func (h *Hub) roomsInUse() []*topic {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	var rooms []*topic
	for _, t := range h.table.topics {
		if t.room != nil {
			t.refs++
			rooms = append(rooms, t)
		}
	}
	return rooms
}

// renewPresence extends the leases of everybody in a room of this node.
func (h *Hub) renewPresence() {
	ctx, cancel := context.WithTimeout(h.ctx, h.opts.StoreTimeout)
	defer cancel()
	for _, t := range h.roomsInUse() {
		if err := t.room.renew(ctx); err != nil {
			h.stats.storeErrors.Add(1)
			h.log.Error("parley: store: presence not renewed", "error", err)
		}
		t.release()
	}
}
