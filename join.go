package parley

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// joinRequest is what a client, or the application for it, says at a join.
type joinRequest struct {
	name string
	pos  *position
}

// membership is a connection's place in a room. Its join and its leave may
// overlap (a client joins and dies); then the join finishes first, and ends
// with the leave: "kim left" never comes before "kim joined".
type membership struct {
	sub
	topic *topic
	room  string

	// Guarded by Conn.mu:
	joining bool // until one has succeeded, and its hook has returned, or all have failed
	joins   int  // under way: of the client, and of the application for it
	joined  bool // one of them has succeeded
	doomed  bool // left while joining
	grace   time.Duration
}

// join makes c a member of the room, or repeats the history if it is one.
func (c *Conn) join(ctx context.Context, room string, req joinRequest) (replay, error) {
	m, err := c.enter(room, req.name)
	if err != nil {
		return replay{}, err
	}
	t := m.topic
	t.attachSoon(ctx)
	r, err := t.subscribe(ctx, &m.sub, req.pos, func(r replay) []*frame {
		frames := []*frame{t.historyFrame(r)}
		if c.v1 {
			frames = append(frames, t.room.welcome(ctx, Member{UserID: c.userID, Name: m.name}))
		}
		return frames
	})
	first := err == nil && c.first(m)
	if first {
		t.room.arrived(c.userID)
		if hook := c.hub.opts.Hooks.Join; hook != nil {
			c.guard("Join hook", func() { hook(c.ctx, c, c.hub.Room(room)) })
		}
	}
	if err != nil && !c.fails(m) {
		m.abandon(r.generation) // another one has succeeded, or may
	}
	c.settle(m, first)
	return r, err
}

// first notes that a join has succeeded, and reports whether it is the first one of this membership.
func (c *Conn) first(m *membership) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !m.joined
	m.joined = true
	return first
}

// fails ends the membership if the last join under way has failed, and none has succeeded.
func (c *Conn) fails(m *membership) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.rooms, m)
	if i < 0 || m.joins > 1 || m.joined {
		return false
	}
	c.rooms = slices.Delete(c.rooms, i, i+1)
	m.topic.roster.remove(&m.sub)
	m.doomed = true
	return true
}

// enter finds or makes the membership and counts it in.
func (c *Conn) enter(room, name string) (m *membership, err error) {
	t := c.hub.acquire(roomPrefix + room)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		t.release()
		return nil, ErrConnClosed
	}
	if i := c.find(room); i >= 0 {
		t.release()
		m = c.rooms[i]
		// It is the room joined last now.
		c.rooms = append(slices.Delete(c.rooms, i, i+1), m)
		m.joins++
		return m, nil
	}
	if len(c.rooms) >= c.hub.opts.MaxRooms {
		t.release()
		return nil, NewError(CodeLimit,
			fmt.Sprintf("in %d rooms already: leave one first", c.hub.opts.MaxRooms))
	}
	m = &membership{topic: t, room: room, joining: true, joins: 1}
	m.conn, m.name, m.replaying = c, name, true
	c.rooms = append(c.rooms, m)
	if c.identity.ID == "" {
		c.name = name
	}
	t.roster.add(&m.sub)
	t.room.enter(c.userID, name)
	return m, nil
}

// find returns the index of a joined room, or -1; c.mu is held.
func (c *Conn) find(room string) int {
	return slices.IndexFunc(c.rooms, func(m *membership) bool { return m.room == room })
}

// membership returns the room of this name that c is in, or for "" the one joined last.
func (c *Conn) membership(room string) *membership {
	c.mu.Lock()
	defer c.mu.Unlock()
	if room == "" && len(c.rooms) > 0 {
		return c.rooms[len(c.rooms)-1]
	}
	if i := c.find(room); i >= 0 {
		return c.rooms[i]
	}
	return nil
}

// leaveFor ends the membership in a room for the application, and tells a v1 client why (P5.5). Nothing of the room is queued for c
// any more when it returns. It reports whether there was a membership.
func (c *Conn) leaveFor(room, reason string) bool {
	m := c.membership(room)
	if m == nil {
		return false
	}
	var farewell *frame
	if c.v1 {
		farewell = newFrame(appendLeft(newBuffer(128), room, reason))
	}
	return c.drop(m, 0, farewell)
}

// drop removes a membership once, and queues what tells the client so, unless that is nil: in one step, so that
// the history of a join that follows comes after it. Whoever calls settle last finishes the leave.
func (c *Conn) drop(m *membership, grace time.Duration, farewell *frame) bool {
	c.mu.Lock()
	i := slices.Index(c.rooms, m)
	if i < 0 {
		c.mu.Unlock()
		return false
	}
	c.rooms = slices.Delete(c.rooms, i, i+1)
	if !mutant("leave") {
		m.topic.roster.remove(&m.sub)
	}
	if farewell != nil {
		_ = c.push(farewell) // if it ends, it need not know
	}
	m.doomed, m.grace = true, grace
	joining := m.joining
	c.mu.Unlock()
	if !joining {
		c.finishLeave(m, true)
	}
	return true
}

// settle ends a join of m, and its membership if it was left meanwhile: with the first one that has succeeded, or the last one that has failed.
func (c *Conn) settle(m *membership, first bool) {
	c.mu.Lock()
	m.joins--
	joined := m.joined
	decided := first || m.joins == 0 && !joined
	if decided {
		m.joining = false
	}
	doomed := m.doomed
	c.mu.Unlock()
	if decided && doomed {
		c.finishLeave(m, joined)
	}
}

// finishLeave counts the connection out of the room and tells those who remain.
func (c *Conn) finishLeave(m *membership, joined bool) {
	defer m.topic.release()
	m.topic.room.exit(c.userID, m.grace)
	if hook := c.hub.opts.Hooks.Leave; hook != nil && joined {
		c.guard("Leave hook", func() { hook(c, c.hub.Room(m.room)) })
	}
}

// system queues a message for the members of a room, unless they are too many
// (P3.5), and returns what sends it. Locks may be held for the first, not for the second.
func (t *topic) system(text string) (send func()) {
	if int(t.roster.count.Load()) > t.room.config.AnnounceLimit || t.hub.closing.Load() {
		return func() {}
	}
	p := &publication{entry: Entry{Data: appendSystem(nil, t.roomName(), text)}}
	lead := t.enqueue(p)
	return func() { _, _ = t.await(t.hub.ctx, p, lead) }
}
