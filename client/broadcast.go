package client

// The broadcast differs from the other topics: the sender is left out, so that
// a live one may skip offsets which only the acks of own broadcasts explain; and
// what is replayed may be the client's own (P4.12).

// maxHeld is how many broadcasts wait for an ack to explain what is missing before them.
const maxHeld = 256

// broadcastStartLocked compares positions at the start of a connection.
func (c *Client) broadcastStartLocked(k *conn, m inbound) {
	t := &c.all
	k.offered = false
	switch {
	case m.at.IsZero():
		// No history, or none that could be read: then a hole will show it, later.
	case t.read.IsZero():
		e := event{topic: t, at: m.at}
		c.offerLocked(e)
	default:
		k.offered = true // a history follows
	}
}

// broadcastHistoryLocked takes what was missed (P4.11), or the news that the log was lost.
func (c *Client) broadcastHistoryLocked(k *conn, h inbound) {
	k.offered = false
	missed, whole := c.all.missed(&h)
	if whole {
		for _, m := range missed {
			if !c.offerBroadcastLocked(m) {
				return
			}
		}
		c.offerLocked(tell(c.opts.OnBroadcastRecovered, c, Recovered{len(missed), h.at}))
		return
	}
	c.broadcastGapLocked(h)
}

// broadcastGapLocked tells a gap and goes on from the position of h.
func (c *Client) broadcastGapLocked(h inbound) {
	newest := make([]Broadcast, 0, len(h.messages))
	for _, m := range h.messages {
		if m.typ == "broadcast" && !c.ownLocked(m) {
			newest = append(newest, m.broadcast())
		}
	}
	gap := tell(c.opts.OnBroadcastGap, c, c.all.gap(&h))
	if h.typ == "history" {
		gap.then = tell(c.opts.OnBroadcastHistory, c, newest).call
	}
	gap.topic, gap.at, gap.size = &c.all, h.at, h.size
	c.offerLocked(gap)
}

func (c *Client) ownLocked(m inbound) bool {
	return m.clientID != "" && m.clientID == c.identity.ClientID && !mutant("client-own")
}

func (c *Client) offerBroadcastLocked(m inbound) bool {
	var e event // the own, or of an unknown type: only the position moves
	if m.typ == "broadcast" && !c.ownLocked(m) {
		e = tell(c.opts.OnBroadcast, c, m.broadcast())
		e.size = m.size
	}
	if !m.at.IsZero() {
		e.topic, e.at = &c.all, m.at
	}
	return c.offerLocked(e)
}

// broadcastLocked takes a live broadcast.
func (c *Client) broadcastLocked(k *conn, m inbound) {
	switch {
	case c.behind:
	case len(c.held) > 0:
		c.holdLocked(k, m)
	case m.at.IsZero() && !c.all.read.IsZero():
		c.broadcastGapLocked(inbound{}) // the server keeps no broadcasts any more
		c.offerBroadcastLocked(m)
	case c.all.place(m.at) == next:
		c.offerBroadcastLocked(m)
	case c.all.place(m.at) == hole && k.offered:
		// A server that does not replay broadcasts.
		k.offered = false
		c.broadcastGapLocked(inbound{at: Position{m.at.Epoch, m.at.Offset - 1}})
		c.offerBroadcastLocked(m)
	case c.all.place(m.at) == hole:
		c.holdLocked(k, m)
	}
}

// holdLocked keeps a broadcast with a hole before it until the acks of own
// broadcasts have come that may explain it. Else it ends the connection, to
// resume from before the hole.
func (c *Client) holdLocked(k *conn, m inbound) {
	c.held = append(c.held, m)
	c.releaseLocked(k)
}

// releaseLocked hands out what is held and follows on.
func (c *Client) releaseLocked(k *conn) {
	for len(c.held) > 0 && !c.behind {
		m := c.held[0]
		if c.all.place(m.at) == hole {
			if len(c.held) > maxHeld || !c.broadcastingLocked(k) {
				k.cut(errHole)
			}
			return
		}
		c.held = c.held[1:]
		if c.all.place(m.at) == next {
			c.offerBroadcastLocked(m)
		}
	}
	c.held = nil
}

// broadcastingLocked reports whether own broadcasts wait for their ack.
func (c *Client) broadcastingLocked(k *conn) bool {
	for _, r := range c.pending {
		if r.broadcast && r.on == k && r.written {
			return true
		}
	}
	return false
}

// ackLocked settles a request. That of a broadcast moves the position past the own message.
func (c *Client) ackLocked(k *conn, m inbound) {
	r, t := c.pending[m.id], &c.all
	if r != nil && r.broadcast && !c.behind && !m.at.IsZero() && m.at.Epoch == t.read.Epoch {
		switch t.place(m.at) {
		case next:
			c.offerLocked(event{topic: t, at: m.at})
		case hole: // what others sent before it would have come before the ack
			k.cut(errHole)
		}
	}
	c.countLocked(m.count)
	c.answeredLocked(m)
	c.releaseLocked(k)
}
