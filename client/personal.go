package client

// personalLocked takes a live private message or notification, or what has become of one (P8.7).
func (c *Client) personalLocked(k *conn, m inbound) {
	switch {
	case c.behind:
	case c.inbox.place(m.at) == hole:
		// The inbox is sent once a connection: only the next one brings what is missing.
		k.cut(errHole)
	case c.inbox.place(m.at) == next:
		if !m.at.IsZero() {
			m.mark = k.marks.of(m.at.Offset)
		}
		if c.offerPersonalLocked(m) {
			c.countLocked(m.count)
		}
	}
}

func (c *Client) offerPersonalLocked(m inbound) bool {
	var e event // expired, or of an unknown type: only the position moves
	switch m.typ {
	case "private":
		e = tell(c.opts.OnPrivate, c, m.private())
	case "notification":
		e = tell(c.opts.OnNotification, c, m.notification())
	}
	e.size = m.size
	if !m.at.IsZero() {
		e.topic, e.at = c.inbox, m.at
	}
	return c.offerLocked(e)
}

// inboxLocked takes the inbox: the first, what was missed, or the news that the
// log was lost (P4.10, P4.11).
func (c *Client) inboxLocked(k *conn, h inbound) {
	h.setMarks()
	t := c.inbox
	missed, whole := t.missed(&h)
	if whole {
		for _, m := range missed {
			if !c.offerPersonalLocked(m) {
				return
			}
		}
		state := tell(c.opts.OnInboxState, c, h.inboxState())
		state.then = tell(c.opts.OnInboxRecovered, c, Recovered{len(missed), h.at}).call
		c.offerLocked(state)
	} else {
		inbox := tell(c.opts.OnInbox, c, Inbox{h.itemsOf(), h.inboxState()})
		gap := tell(c.opts.OnInboxGap, c, t.gap(&h))
		if t.read.IsZero() {
			gap.call = nil
		}
		gap.then, gap.topic, gap.at, gap.size = inbox.call, t, h.at, h.size
		c.offerLocked(gap)
	}
	if !c.behind {
		c.inboxTakenLocked(k, h)
	}
}

// inboxTakenLocked goes on from an inbox: everything known of marks is in it, but for
// those of a higher version.
func (c *Client) inboxTakenLocked(k *conn, h inbound) {
	early := k.early
	k.log, k.received, k.early, k.marks = h.at.Epoch, 0, nil, marksOf(&h)
	if h.code == CodeAhead || h.count.epoch != c.unread.epoch {
		c.unread = unreadCount{} // the log is another, or has lost its newest versions
	}
	c.countLocked(h.count)
	for _, m := range early {
		if m.count.epoch == k.log && m.count.Version > h.count.Version {
			c.markedLocked(k, m)
		}
	}
	c.receiptLocked()
}

// forgetInboxLocked starts with the inbox of another user, whose positions and numbers say
// nothing about the old ones.
func (c *Client) forgetInboxLocked() {
	c.inbox = new(topic)
	c.unread = unreadCount{}
	if c.told > 0 {
		c.setCountLocked(unreadCount{})
	}
}
