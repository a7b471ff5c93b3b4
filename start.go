package parley

import "errors"

// start makes the connection a member of its topics, greets the client and
// tells the application. It reports whether there is anything to read.
//
// The connection enters its topics before the greeting, and holds what comes
// meanwhile: once a client has read "connected", it gets everything.
func (c *Conn) start() bool {
	if !c.enterTopics() {
		return false
	}
	c.hub.all.attach(c.ctx)
	if c.inbox != nil {
		c.inbox.topic.attach(c.ctx)
	}
	c.greet()
	if c.inbox != nil {
		c.openInbox()
	}
	return c.connected()
}

// enterTopics makes the connection a member of the broadcast and, if it is
// identified, of its user's inbox; both hold what comes.
func (c *Conn) enterTopics() bool {
	var inbox *membership
	if c.identity.ID != "" {
		inbox = &membership{topic: c.hub.acquire(userPrefix + c.userID)}
		inbox.conn, inbox.replaying = c, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		if inbox != nil {
			inbox.topic.release()
		}
		return false
	}
	c.inAll.conn, c.inAll.replaying = c, true
	c.hub.all.roster.add(&c.inAll)
	if inbox != nil {
		inbox.topic.roster.add(&inbox.sub)
		c.inbox = inbox
	}
	c.connect = connectRunning
	return true
}

// greet sends "connected" and then what was broadcast since the position in it.
func (c *Conn) greet() {
	h := c.hub
	generation := c.inAll.startReplay()
	m := connectedMessage{
		ClientID: c.id, UserID: c.userID,
		MaxMessageSize: h.opts.MaxMessageSize, PingInterval: h.opts.PingInterval.Milliseconds(),
	}
	if c.identity.ID != "" {
		m.Username = c.name
	}
	// Without the position, after an error, the client cannot know what it
	// missed when it comes back: it is told of a gap then.
	var page Page
	err := h.all.begin(c.ctx)
	if err == nil {
		page, err = h.all.read(c.ctx, Query{})
	}
	if err == nil {
		m.Epoch, m.Offset = page.Epoch, page.Top
	}
	c.out.greet(newFrame(appendConnected(newBuffer(192), m)))
	c.inAll.endReplay(generation, nil, &page)
}

// openInbox sends a v1 client what is in its user's inbox, and then what comes live.
func (c *Conn) openInbox() {
	m := c.inbox
	if !c.v1 {
		m.endReplay(m.startReplay(), nil, nil)
		return
	}
	r, err := m.topic.subscribe(c.ctx, &m.sub, nil, func(r replay) []*frame {
		return []*frame{historyFrame("inbox", "", r)}
	})
	if err != nil {
		// Live messages still come; the client learns that older ones are missing.
		_ = c.push(newFrame(appendError(newBuffer(128), "", CodeUnavailable,
			"the inbox could not be read: reconnect later for older notifications")))
		m.endReplay(r.generation, nil, nil)
	}
}

// connected runs the Connect hook.
func (c *Conn) connected() bool {
	var err error
	if hook := c.hub.opts.Hooks.Connect; hook != nil {
		c.guard("Connect hook", func() { err = hook(c.ctx, c) })
	}
	if err != nil {
		reason := "refused"
		if e, ok := errors.AsType[*Error](err); ok {
			reason = e.Message
		}
		c.end(CloseRefused, reason)
	}
	c.mu.Lock()
	c.connect = connectDone
	owed := c.farewells
	c.mu.Unlock()
	if owed {
		c.disconnected()
	}
	return !c.ended.Load()
}

func (c *Conn) disconnected() {
	if hook := c.hub.opts.Hooks.Disconnect; hook != nil {
		c.guard("Disconnect hook", func() { hook(c, CloseCode(c.code.Load())) })
	}
}
