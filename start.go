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
	c.hub.all.attachSoon(c.ctx)
	if c.inbox != nil {
		c.inbox.topic.attachSoon(c.ctx)
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
		if c.hub.statuses != nil {
			c.hub.statuses.enter(c.userID)
		}
	}
	c.connect = connectRunning
	return true
}

// greet sends "connected" and then what was broadcast since the position in it.
func (c *Conn) greet() {
	h := c.hub
	m := connectedMessage{
		ClientID: c.id, UserID: c.userID,
		MaxMessageSize: h.opts.MaxMessageSize, PingInterval: h.opts.PingInterval.Milliseconds(),
	}
	if c.identity.ID != "" {
		m.Username = c.name
		m.Receipts = c.v1 && h.watchesReceipts()
	}
	var pos *position
	if c.offer != nil {
		pos = c.offer.broadcast
	}
	var r replay
	generation, had := c.inAll.startReplay()
	err := h.all.begin(c.ctx)
	if err == nil {
		r, err = h.all.catchUp(c.ctx, pos, had)
	}
	if err == nil {
		m.Epoch, m.Offset = r.page.Epoch, r.page.Top
	}
	if c.v1 {
		m.Session = h.sessions.issue(c.id, c.identity.ID, c.generation)
		if c.offer.session != "" {
			m.Resumed = &c.resumed
		}
	}
	c.out.greet(newFrame(appendConnected(newBuffer(256), m)))
	c.tellOffer()
	if err != nil && pos != nil {
		c.later("what was missed of the broadcast", func() error { return c.readBroadcast(pos) })
		return
	}
	// After an error a client without a position starts wherever the first broadcast is.
	c.inAll.endReplay(generation, c.missedBroadcasts(r), &r.page)
}

func (c *Conn) missedBroadcasts(r replay) []*frame {
	if r.recovered == nil {
		return nil
	}
	return []*frame{c.hub.all.historyFrame(r)}
}

// readBroadcast sends what was missed since pos. After an error the
// connection still holds what comes live.
func (c *Conn) readBroadcast(pos *position) error {
	_, err := c.hub.all.subscribe(c.ctx, &c.inAll, pos, c.missedBroadcasts)
	return err
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
		// What is stored from now on comes live, whoever comes meanwhile. After an
		// error what is being stored just now may not.
		_ = m.topic.begin(c.ctx)
		generation, _ := m.startReplay()
		m.endReplay(generation, nil, nil)
		return
	}
	if mutant("noinbox") {
		c.offer.inbox = nil
	}
	pos := c.offer.inbox
	if c.readInbox(pos) != nil {
		c.later("the inbox", func() error { return c.readInbox(pos) })
	}
}

// readInbox sends what is in the inbox, or what was missed since pos. After an
// error the connection still holds what comes live.
func (c *Conn) readInbox(pos *position) error {
	t := c.inbox.topic
	if err := c.out.awaitRoom(c.ctx); err != nil { // what was missed of the broadcast may be long
		return err
	}
	_, err := t.subscribe(c.ctx, &c.inbox.sub, pos, func(r replay) []*frame {
		return []*frame{t.historyFrame(r)}
	})
	return err
}

const (
	rereadMin = time.Second
	rereadMax = 30 * time.Second
)

// later tells the client what cannot be read right now (P5.4), and reads it when the Store is
// well again. Nothing is lost meanwhile: what comes live is held.
func (c *Conn) later(what string, read func() error) {
	c.refuse("", NewError(CodeUnavailable, what+" cannot be read right now: it follows as soon as it can"))
	go func() { // ends when it was read, or with the connection
		defer c.recovered("reading " + what)
		for wait := rereadMin; ; wait = min(2*wait, rereadMax) {
			select {
			case <-time.After(wait/2 + rand.N(wait/2)): // not everybody at once
			case <-c.ctx.Done():
				return
			}
			if read() == nil {
				return
			}
		}
	}()
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
