package parley

import (
	"errors"
	"math/rand/v2"
	"time"
)

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
	c.offer = nil // not needed any more
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
	var r replay
	err := h.all.begin(c.ctx)
	if err == nil {
		var pos *position
		if c.offer != nil {
			pos = c.offer.broadcast
		}
		r, err = h.all.catchUp(c.ctx, pos)
	}
	if err == nil {
		m.Epoch, m.Offset = r.page.Epoch, r.page.Top
	}
	var missed []*frame
	if r.recovered != nil {
		missed = []*frame{h.all.historyFrame(r)}
	}
	if c.v1 {
		m.Session = h.sessions.issue(c.id, c.identity.ID, c.generation)
		if c.offer.session != "" {
			m.Resumed = &c.resumed
		}
	}
	c.out.greet(newFrame(appendConnected(newBuffer(256), m)))
	c.tellOffer()
	c.inAll.endReplay(generation, missed, &r.page)
}

// tellOffer says what of a client's offer was not accepted, and counts what was.
func (c *Conn) tellOffer() {
	if c.offer == nil {
		return
	}
	if c.resumed {
		c.hub.stats.resumed.Add(1)
	} else if c.offer.session != "" {
		c.hub.stats.sessionsRefused.Add(1)
		c.refuse("", NewError(CodeBadSession, "the session was not accepted: go on as a new client"))
	}
	if c.offer.malformed {
		c.refuse("", NewError(CodeBadRequest, "a subprotocol entry could not be read: see docs/protocol.md, P1.8 to P1.11"))
	}
}

// openInbox sends a v1 client what is in its user's inbox, or what it missed of it, and then what comes live.
func (c *Conn) openInbox() {
	m := c.inbox
	if !c.v1 {
		m.endReplay(m.startReplay(), nil, nil)
		return
	}
	if mutant("noinbox") {
		c.offer.inbox = nil
	}
	if c.readInbox(c.offer.inbox) != nil {
		c.refuse("", NewError(CodeUnavailable, "the inbox cannot be read right now: it follows as soon as it can"))
		go c.retryInbox(c.offer.inbox) // ends when it was read, or with the connection
	}
}

// readInbox sends what is in the inbox, or what was missed since pos. After an
// error the connection still holds what comes live.
func (c *Conn) readInbox(pos *position) error {
	t := c.inbox.topic
	_, err := t.subscribe(c.ctx, &c.inbox.sub, pos, func(r replay) []*frame {
		return []*frame{t.historyFrame(r)}
	})
	return err
}

const (
	inboxRetryMin = time.Second
	inboxRetryMax = 30 * time.Second
)

// retryInbox reads the inbox when the Store is well again. Nothing of it is
// lost meanwhile, because nothing can be stored.
func (c *Conn) retryInbox(pos *position) {
	for wait := inboxRetryMin; ; wait = min(2*wait, inboxRetryMax) {
		select {
		case <-time.After(wait/2 + rand.N(wait/2)): // not everybody at once
		case <-c.ctx.Done():
			return
		}
		if c.readInbox(pos) == nil {
			return
		}
	}
}

// connected runs the Connect hook, after the last hook of the connection
// whose client id c has: what an application keeps by client id is in order.
func (c *Conn) connected() bool {
	var err error
	done := connectDone
	if !c.awaitTurn() {
		done = connectSkipped
	} else if hook := c.hub.opts.Hooks.Connect; hook != nil {
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
	c.connect = done
	owed := c.farewells
	c.mu.Unlock()
	if owed && done == connectDone {
		c.disconnected()
	}
	return !c.ended.Load()
}

func (c *Conn) disconnected() {
	if hook := c.hub.opts.Hooks.Disconnect; hook != nil {
		c.guard("Disconnect hook", func() { hook(c, CloseCode(c.code.Load())) })
	}
}
