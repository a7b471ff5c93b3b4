package client

// personalLocked takes a live private message or notification.
func (c *Client) personalLocked(k *conn, m inbound) {
	switch {
	case c.behind:
	case c.inbox.place(m.at) == hole:
		// The inbox is sent once a connection: only the next one brings what is missing.
		k.cut(errHole)
	case c.inbox.place(m.at) == next:
		c.offerPersonalLocked(m)
	}
}

func (c *Client) offerPersonalLocked(m inbound) bool {
	var e event // of an unknown type: only the position moves
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
func (c *Client) inboxLocked(h inbound) {
	t := c.inbox
	missed, whole := t.missed(&h)
	if whole {
		for _, m := range missed {
			if !c.offerPersonalLocked(m) {
				return
			}
		}
		c.offerLocked(tell(c.opts.OnInboxRecovered, c, Recovered{len(missed), h.at}))
		return
	}
	items := make([]InboxItem, 0, len(h.messages))
	for _, m := range h.messages {
		switch m.typ {
		case "private":
			items = append(items, InboxItem{Private: new(m.private())})
		case "notification":
			items = append(items, InboxItem{Notification: new(m.notification())})
		}
	}
	inbox := tell(c.opts.OnInbox, c, Inbox{items, h.at})
	gap := tell(c.opts.OnInboxGap, c, t.gap(&h))
	if t.read.IsZero() {
		gap.call = nil
	}
	gap.then, gap.topic, gap.at, gap.size = inbox.call, t, h.at, h.size
	c.offerLocked(gap)
}
