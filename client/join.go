package client

import (
	"cmp"
	"maps"
	"slices"
)

// joinLocked asks to join a room, or to join it again from its position.
func (c *Client) joinLocked(r *Room) {
	k := c.conn
	_, leaving := c.leaving[r.name]
	if k == nil || !k.up || r.joining || r.left || leaving {
		return
	}
	m := outbound{Type: "join", Room: r.name, Username: r.opts.Username}
	if at := r.topic.read; !at.IsZero() {
		m.Epoch, m.Offset = at.Epoch, &at.Offset
	}
	r.joining = true
	err := c.submitLocked(&request{answer: "ack", fate: bound, finish: func(_ inbound, err error) {
		switch {
		case c.conn != k || r.left || c.state.final(): // not an answer to this membership
		case err == nil:
			r.joining = false
		case passing(err):
			r.joining = false
			c.afterLocked(k, c.backoff(3), func() { c.joinLocked(r) })
		default:
			c.refusedRoomLocked(r, err)
		}
	}}, m)
	if err != nil { // the client has ended
		r.joining = false
	}
}

// rejoinAllLocked joins all rooms again, in the order in which they were joined first.
func (c *Client) rejoinAllLocked() {
	rooms := slices.SortedFunc(maps.Values(c.rooms), func(a, b *Room) int { return cmp.Compare(a.seq, b.seq) })
	for _, r := range rooms {
		c.joinLocked(r)
	}
}

// refusedRoomLocked gives up a room that the server does not let the user join.
func (c *Client) refusedRoomLocked(r *Room, err error) {
	joined := r.joined
	c.endRoomLocked(r, err)
	if joined {
		e := tell(r.opts.OnRefused, r, err)
		e.room = r
		c.pushEventLocked(e)
	}
}

// endRoomLocked gives up a room. What was sent to it on this connection will be
// answered, other requests never can be.
func (c *Client) endRoomLocked(r *Room, err error) {
	r.giveUpLocked(err)
	for _, req := range c.pending {
		if req.room == r && (req.on == nil || req.on != c.conn) {
			c.settleLocked(req, inbound{}, err)
		}
	}
}

// givenLocked makes the room that the application has made the client a member of.
func (c *Client) givenLocked(name string) *Room {
	opts := c.opts.Joined
	opts.Position = Position{} // it is of one room
	r := c.addRoomLocked(name, opts)
	r.given = true
	return r
}

// leftLocked gives up a room because the application has ended the membership (P5.5).
func (c *Client) leftLocked(r *Room, reason string) {
	joined := r.joined
	r.up = false
	c.quitLocked(r, removed(r.name, reason)) // takes back a join that is on its way
	if joined {
		e := tell(r.opts.OnLeft, r, reason)
		e.room = r
		c.pushEventLocked(e)
	}
}

// leaveLocked leaves a room for the application: none of its handlers is called any more.
func (c *Client) leaveLocked(r *Room) <-chan struct{} {
	r.muted = true
	return c.quitLocked(r, notMember(r.name))
}

// quitLocked leaves a room; the channel is closed when the server knows. A new
// join of the same name waits for that: until then, what comes is meant for this membership.
func (c *Client) quitLocked(r *Room, why error) <-chan struct{} {
	done := make(chan struct{})
	member := !r.left && (r.up || r.joining)
	if !r.left {
		c.endRoomLocked(r, why)
	}
	if !member {
		close(done)
		return done
	}
	c.leaving[r.name] = done
	c.askLeaveLocked(c.conn, r.name, done)
	return done
}

func (c *Client) askLeaveLocked(k *conn, name string, done chan struct{}) {
	r := &request{answer: "ack", fate: bound, finish: func(_ inbound, err error) {
		switch {
		case c.leaving[name] != done: // the connection was lost
		case passing(err):
			c.afterLocked(k, c.backoff(3), func() { c.askLeaveLocked(k, name, done) })
		default:
			close(done)
			delete(c.leaving, name)
			if next := c.rooms[name]; next != nil {
				c.joinLocked(next)
			}
		}
	}}
	// Refused only if the client has ended: then the connection takes it along.
	_ = c.submitLocked(r, outbound{Type: "leave", Room: name})
}

// historyLocked takes the answer to a join, or the news that the log was lost (P4.10).
func (c *Client) historyLocked(r *Room, h inbound) {
	r.joining, r.up = false, true
	if !r.joined {
		r.joined = true
		close(r.settled)
	}
	c.flushLocked(r)
	missed, whole := r.topic.missed(&h)
	if whole {
		for _, m := range missed {
			if !c.offerMessageLocked(r, m) {
				return
			}
		}
		e := tell(r.opts.OnRecovered, r, Recovered{len(missed), h.at})
		e.room = r
		r.told = c.offerLocked(e) || r.told
		return
	}
	gap := tell(r.opts.OnGap, r, r.topic.gap(&h))
	history := tell(r.opts.OnHistory, r, History{h.messagesOf(), h.at})
	if !r.told && r.topic.read.IsZero() || mutant("client-silent") {
		gap.call = nil // it is the first that the application hears of the room
	}
	// One event, so that none of them is refused without the other.
	gap.then, gap.room, gap.topic, gap.at, gap.size = history.call, r, &r.topic, h.at, h.size
	r.told = c.offerLocked(gap) || r.told
}

// messageLocked takes a live message.
func (c *Client) messageLocked(r *Room, m inbound) {
	switch {
	case !r.up || c.behind:
	case r.topic.place(m.at) == hole:
		c.joinLocked(r) // the answer brings this one, too
	case r.topic.place(m.at) == next:
		c.offerMessageLocked(r, m)
	}
}

func (c *Client) offerMessageLocked(r *Room, m inbound) bool {
	var e event // of an unknown type: only the position moves
	if m.typ == "message" {
		e = tell(r.opts.OnMessage, r, m.message())
	}
	e.room, e.size = r, m.size
	if !m.at.IsZero() {
		e.topic, e.at = &r.topic, m.at
	}
	return c.offerLocked(e)
}

func (c *Client) presenceLocked(r *Room, m inbound) {
	if m.snapshot {
		clear(r.members)
	}
	for _, u := range m.left { // first: a new name is a leave and a join
		delete(r.members, u.UserID)
	}
	for _, u := range slices.Concat(m.members, m.joined) {
		r.members[u.UserID] = u
	}
	r.count = m.users
	e := tell(r.opts.OnPresence, r, Presence{m.snapshot, m.members, m.joined, m.left, m.users})
	e.room, e.size = r, m.size
	c.offerLocked(e)
}

func (c *Client) systemLocked(r *Room, m inbound) {
	e := tell(r.opts.OnSystem, r, m.text)
	e.room, e.size = r, m.size
	c.offerLocked(e)
}

func (c *Client) signalledLocked(r *Room, m inbound) {
	signal := Signal{m.room, m.senderID, m.username, m.name, m.payload}
	e := tell(c.opts.OnSignal, c, signal)
	if r != nil {
		e = tell(r.opts.OnSignal, r, signal)
	}
	e.room, e.size = r, m.size
	c.offerLocked(e)
}
