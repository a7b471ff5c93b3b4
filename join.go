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

	turn chan struct{} // holds a token while a join reads the history: one after the other
}

// join makes c a member of the room, or repeats the history if it is one.
func (c *Conn) join(ctx context.Context, room string, req joinRequest) (replay, error) {
	m, err := c.enter(room, req.name)
	if err != nil {
		return replay{}, err
	}
	m.topic.attachSoon(ctx)
	r, first, err := c.read(ctx, m, req.pos)
	if err != nil {
		c.failed(m)
		return r, err
	}
	if first {
		m.topic.room.arrived(c.userID)
		if hook := c.hub.opts.Hooks.Join; hook != nil {
			c.guard("Join hook", func() { hook(c.ctx, c, c.hub.Room(room)) })
		}
	}
	c.settle(m, first)
	return r, nil
}

// read sends the history to a member when its turn has come, and reports whether it is the first one of this membership.
func (c *Conn) read(ctx context.Context, m *membership, pos *position) (r replay, first bool, err error) {
	wait, cancel := context.WithTimeout(ctx, c.hub.opts.StoreTimeout)
	defer cancel()
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-c.ctx.Done():
		return r, false, ErrConnClosed
	case <-wait.Done():
		return r, false, fmt.Errorf("%w: another join of the same connection has not ended: %w", ErrStore, wait.Err())
	}
	t := m.topic
	r, err = t.subscribe(ctx, &m.sub, pos, func(r replay) []*frame {
		frames := []*frame{t.historyFrame(r)}
		if c.v1 {
			frames = append(frames, t.room.welcome(ctx, Member{UserID: c.userID, Name: m.name}))
		}
		return frames
	})
	c.mu.Lock()
	joined := m.joined
	m.joined = joined || err == nil
	c.mu.Unlock()
	if err != nil && joined {
		m.endReplay(r.generation, nil, nil) // it goes on as before
	}
	return r, err == nil && !joined, err
}

// failed ends a join that has failed, and the membership with the last one under way if none has succeeded.
func (c *Conn) failed(m *membership) {
	c.mu.Lock()
	m.joins--
	last := m.joins == 0 && !m.joined
	if last {
		if i := slices.Index(c.rooms, m); i >= 0 {
			c.rooms = slices.Delete(c.rooms, i, i+1)
			m.topic.roster.remove(&m.sub)
		}
		m.joining, m.doomed = false, true
	}
	c.mu.Unlock()
	if last {
		c.finishLeave(m, false)
	}
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
	m = &membership{topic: t, room: room, joining: true, joins: 1, turn: make(chan struct{}, 1)}
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

// settle ends a join of m that has succeeded; the first one ends its membership, too, if it was left meanwhile.
func (c *Conn) settle(m *membership, first bool) {
	c.mu.Lock()
	m.joins--
	if first {
		m.joining = false
	}
	doomed := m.doomed
	c.mu.Unlock()
	if first && doomed {
		c.finishLeave(m, true)
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
