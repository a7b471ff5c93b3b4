package checker

import (
	"fmt"
	"strings"
	"time"
)

// take carries out one message of the server. An error ends the connection.
func (c *wireClient) take(w *wireConn, m *wireMessage) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.stray {
		if s, err := m.seen(""); err == nil {
			c.record(w, Event{Kind: Stray, ID: s.ID})
		}
		return nil
	}
	if !w.greeted {
		return c.greeted(w, m)
	}
	if m.Type == "error" && m.ID == "" {
		c.unasked(w, m)
		return nil
	}
	if m.answers() {
		return c.answered(w, m)
	}
	switch m.Type {
	case "message", "broadcast", "private", "notification", "expired":
		return c.live(w, m)
	case "marked":
		c.marked(w, m)
	case "history":
		if m.Room == "" {
			return c.broadcastBase(w, m)
		}
		return c.roomBase(w, m)
	case "inbox":
		return c.inboxBase(w, m)
	case "left":
		c.ousted(w, m)
	case "presence":
		c.presence(w, m)
	case "system":
		c.system(w, m)
	case "signal":
		var p payload
		if err := unmarshal(m.Data, &p); err != nil {
			return err
		}
		c.recordTopic(w, Event{Kind: Signal, Topic: c.topicOf(m), ID: p.ID, User: m.SenderID})
	case "bye":
	default:
		return fmt.Errorf("an unknown type: %q", m.Type)
	}
	return nil
}

// greeted takes "connected".
func (c *wireClient) greeted(w *wireConn, m *wireMessage) error {
	if m.Type != "connected" {
		return fmt.Errorf("the first message is a %q", m.Type)
	}
	w.greeted, w.receipts = true, m.Receipts
	w.patience = time.Duration(m.PingInterval)*time.Millisecond + c.env.silence
	w.alive.Reset(w.patience)
	for _, old := range c.old {
		// A hub that resumes the session of one of its own connections ends that itself.
		if answer(m.Resumed) != Yes || old.node != w.node {
			_ = old.ws.CloseNow()
		}
	}
	other := c.userID != "" && c.userID != m.UserID
	c.session, c.clientID, c.userID = m.Session, m.ClientID, m.UserID
	c.record(w, Event{Kind: Connected, ClientID: m.ClientID, Node: w.node, Recovered: answer(m.Resumed)})
	if other {
		for _, r := range c.pending {
			c.giveUp(r, "the client is another user now")
		}
		c.pending = nil
	}
	switch {
	case w.offeredAll == nil && m.Epoch != "":
		place := m.place()
		c.all, w.bound = &place, true
		c.recordTopic(w, Event{Kind: Base, Topic: topicAll, Place: place, Asked: true})
	case w.offeredAll == nil:
		// Nothing is kept, or the Store could not be read: then the first broadcast tells where it stands.
		w.bound = true
		c.recordTopic(w, Event{Kind: Base, Topic: topicAll})
	}
	// Who offered a position gets a history, now or when the Store is well again (P5.4).
	for _, r := range c.rooms {
		c.step(r)
	}
	c.getReady(w)
	return nil
}

// unasked takes an error that answers nothing.
func (c *wireClient) unasked(w *wireConn, m *wireMessage) {
	switch {
	case m.code() == "bad_session":
	case m.code() == "unavailable" && (!w.bound || !w.based && c.user != ""): // it follows when it can be read
	default:
		c.record(w, Event{Kind: Fault, Code: "error of the server: " + m.code() + " " + string(m.Message)})
	}
}

// topicOf names the topic of a message that is none of a log.
func (c *wireClient) topicOf(m *wireMessage) string {
	if m.Room != "" {
		return roomPrefix + m.Room
	}
	return userPrefix + c.userID
}

// live takes a message of a topic.
func (c *wireClient) live(w *wireConn, m *wireMessage) error {
	s, err := m.seen(c.clientID)
	if err != nil {
		return err
	}
	e := Event{Kind: Deliver, ID: s.ID, User: s.User, Place: s.Place, Own: s.Own, Label: s.Label, Expired: s.Expired}
	switch m.Type {
	case "message":
		e.Topic = roomPrefix + m.Room
		if r := c.room(m.Room); r != nil && m.Epoch != "" {
			r.place = &s.Place
		}
	case "broadcast":
		e.Topic = topicAll
		if m.Epoch != "" {
			c.all = &s.Place
		}
	default:
		e.Topic = userPrefix + c.userID
		e.Count = m.count()
		if m.Epoch != "" {
			c.inbox = &s.Place
			c.receiptDue(w)
		}
		if m.ID != "" {
			c.known(m.ID)
		}
	}
	c.recordTopic(w, e)
	return nil
}

// base makes the event of a history.
func (c *wireClient) base(m *wireMessage, topic string, offered *Place, asked bool) (Event, error) {
	entries, err := m.entries(c.clientID)
	return Event{
		Kind: Base, Topic: topic, Place: m.place(), Recovered: m.recovered(), Code: m.code(),
		Entries: entries, Offered: offered, Asked: asked,
	}, err
}

func (c *wireClient) roomBase(w *wireConn, m *wireMessage) error {
	r := c.room(m.Room)
	if r == nil {
		r = &wireRoom{name: m.Room} // the judge will see what that is worth
	}
	joining := r.state == roomJoining
	// What answers a join with a position says what became of that. Without one it may answer the join or not: the judge knows. In a
	// room that the client was made a member of meanwhile, a gap may have come by itself.
	given := m.recovered() == Unsaid && !(joining && r.offered == nil) || m.recovered() == No && joining && r.given
	var offered *Place
	if joining && !given {
		offered = r.offered
	}
	// A gap in a room that was joined before may come by itself.
	asked := joining && !given && (r.fresh || m.recovered() != No)
	e, err := c.base(m, roomPrefix+m.Room, offered, asked)
	if err != nil {
		return err
	}
	e.Given = given
	c.recordTopic(w, e)
	if m.Epoch != "" {
		r.place = &e.Place
	}
	if given {
		c.given(w, r)
		return nil
	}
	r.live, r.fresh = true, false
	return nil
}

func (c *wireClient) inboxBase(w *wireConn, m *wireMessage) error {
	offered := w.offeredInbox
	if w.based {
		offered = nil
	}
	e, err := c.base(m, userPrefix+c.userID, offered, !w.based)
	if err != nil {
		return err
	}
	w.based = true
	e.Count, e.Inbox = m.count(), m.standing()
	c.recordTopic(w, e)
	c.inbox = &e.Place
	for i := range m.Messages {
		if id := m.Messages[i].ID; id != "" {
			c.known(id)
		}
	}
	c.receiptDue(w)
	return nil
}

func (c *wireClient) broadcastBase(w *wireConn, m *wireMessage) error {
	offered := w.offeredAll
	if w.bound {
		offered = nil
	}
	e, err := c.base(m, topicAll, offered, !w.bound)
	if err != nil {
		return err
	}
	w.bound = true
	c.recordTopic(w, e)
	c.all = &e.Place
	return nil
}

func (c *wireClient) presence(w *wireConn, m *wireMessage) {
	topic := roomPrefix + m.Room
	if m.Members != nil {
		c.recordTopic(w, Event{Kind: Roster, Topic: topic, Users: users(m.Members)})
		return
	}
	if len(m.Left) > 0 {
		c.recordTopic(w, Event{Kind: Went, Topic: topic, Users: users(m.Left)})
	}
	if len(m.Joined) > 0 {
		c.recordTopic(w, Event{Kind: Came, Topic: topic, Users: users(m.Joined)})
	}
}

// system takes "u1 joined". Only identified users have a name that is their id.
func (c *wireClient) system(w *wireConn, m *wireMessage) {
	var text string
	if err := unmarshal(m.Content, &text); err != nil {
		return
	}
	if name, what, ok := strings.Cut(text, " "); ok && strings.HasPrefix(name, "u") {
		c.recordTopic(w, Event{Kind: Told, Topic: roomPrefix + m.Room, User: name, Code: what})
	}
}

func (c *wireClient) room(name string) *wireRoom {
	for _, r := range c.rooms {
		if r.name == name {
			return r
		}
	}
	return nil
}
