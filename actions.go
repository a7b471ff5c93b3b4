package parley

import "fmt"

func missing(field, typ string) *Error {
	return NewError(CodeBadRequest, fmt.Sprintf("%q is missing: a %s needs it", field, typ))
}

// member returns the room a message is about, joined by the connection (P3.3).
func (c *Conn) member(in *inbound) (*membership, error) {
	m := c.membership(in.Room)
	if m != nil {
		return m, nil
	}
	if in.Room == "" {
		return nil, NewError(CodeNotMember, `not in a room: join one first, with {"type":"join","room":...}`)
	}
	return nil, notMember(in.Room)
}

func notMember(room string) *Error {
	return NewError(CodeNotMember, fmt.Sprintf("not a member of room %q: join it first", room))
}

func (c *Conn) onMessage(in *inbound) (answer, error) {
	m, err := c.member(in)
	if err != nil {
		return answer{}, err
	}
	if in.Content == nil {
		return answer{}, missing("content", "message")
	}
	if err := c.authorize(VerbSend, m.room, ""); err != nil {
		return answer{}, err
	}
	if err := c.inspect(ClientMessage{Verb: VerbSend, Room: m.room, ID: in.ID, Content: in.Content}); err != nil {
		return answer{}, err
	}
	data := appendRoomMessage(nil, m.room, c.userID, m.name, in.Content, nowMillis())
	if c.hub.closing.Load() {
		return answer{}, ErrClosed
	}
	return c.launch(in, m, data)
}

// key makes the idempotency key of a message: an id counts for its sender only.
func (c *Conn) key(id string) string {
	if id == "" || mutant("nodedupe") {
		return ""
	}
	return c.userID + "\x00" + id
}

func (c *Conn) onBroadcast(in *inbound) (answer, error) {
	if in.Message == nil {
		return answer{}, missing("message", "broadcast")
	}
	if !c.hub.opts.ClientBroadcast {
		return answer{}, NewError(CodeForbidden, "clients may not broadcast here: the server would have to set Options.ClientBroadcast")
	}
	if err := c.authorize(VerbBroadcast, "", ""); err != nil {
		return answer{}, err
	}
	if err := c.inspect(ClientMessage{Verb: VerbBroadcast, ID: in.ID, Content: in.Message}); err != nil {
		return answer{}, err
	}
	if c.hub.closing.Load() {
		return answer{}, ErrClosed
	}
	t := c.hub.all
	clientID := ""
	if t.keep.keeps() {
		clientID = c.id // what is replayed to the sender can be told by it (P4.12)
	}
	p := t.publication(appendBroadcast(nil, c.userID, clientID, in.Message), c.key(in.ID))
	if !mutant("echo") {
		p.skip = c
	}
	r, err := t.publish(c.ctx, p)
	return answer{result: r}, err
}

func (c *Conn) onPrivate(in *inbound) (answer, error) {
	switch {
	case in.TargetID == "":
		return answer{}, missing("targetId", "private message")
	case in.Message == nil:
		return answer{}, missing("message", "private message")
	}
	if err := c.authorize(VerbPrivate, "", in.TargetID); err != nil {
		return answer{}, err
	}
	err := c.inspect(ClientMessage{Verb: VerbPrivate, Target: in.TargetID, ID: in.ID, Content: in.Message})
	if err != nil {
		return answer{}, err
	}
	m := mail{outgoing: outgoing{data: in.Message, key: c.key(in.ID)}, sender: c.userID, account: c.account()}
	r, err := c.hub.private(c.ctx, in.TargetID, m)
	return answer{result: r}, err
}

func (c *Conn) onJoin(in *inbound) (answer, error) {
	if in.Room == "" {
		return answer{}, missing("room", "join")
	}
	if err := c.authorize(VerbJoin, in.Room, ""); err != nil {
		return answer{}, err
	}
	req := joinRequest{name: c.displayName(in.Username)}
	if in.HasEpoch && in.HasOffset {
		req.pos = &position{epoch: in.Epoch, offset: in.Offset}
	}
	if err := c.out.awaitRoom(c.ctx); err != nil {
		return answer{}, err
	}
	r, err := c.join(c.ctx, in.Room, req)
	return answer{result: Result{Epoch: r.page.Epoch, Offset: r.page.Top}}, err
}

func (c *Conn) onLeave(in *inbound) (answer, error) {
	m, err := c.member(in)
	if err != nil {
		return answer{}, err
	}
	var ack *frame
	if in.ID != "" {
		ack = newFrame(appendAck(newBuffer(96), in.ID, "", 0, false))
	}
	done := c.drop(m, 0, ack) // else the application was faster
	return answer{done: done}, nil
}

func (c *Conn) onHistory(in *inbound) (answer, error) {
	switch in.Topic {
	case "":
	case "inbox":
		return c.inboxHistory(in)
	default:
		return answer{}, NewError(CodeBadRequest, `"topic" must be "inbox"; for a room use "room"`)
	}
	m, err := c.member(in)
	if err != nil {
		return answer{}, err
	}
	if err := c.authorize(VerbHistory, m.room, ""); err != nil {
		return answer{}, err
	}
	if err := c.out.awaitRoom(c.ctx); err != nil {
		return answer{}, err
	}
	page, err := m.topic.read(c.ctx, Query{Before: in.Before, Limit: pageLimit(int(in.Limit))})
	if err != nil {
		return answer{}, err
	}
	page.Entries = m.topic.newestFitting(page.Entries)
	return c.sendPage(in.ID, historyMessage{Type: "history", Room: m.room}, page)
}

// sendPage sends a page that was asked for.
func (c *Conn) sendPage(id string, m historyMessage, page Page) (answer, error) {
	m.ID, m.Epoch, m.Offset = id, page.Epoch, page.Top
	m.More, m.Entries = new(moreBefore(page)), page.Entries
	f := newFrame(appendHistory(newBuffer(256), m))
	c.charge(len(f.wire) / askedBytes)
	return answer{done: true}, c.push(f)
}

func (c *Conn) onPresence(in *inbound) (answer, error) {
	m, err := c.member(in)
	if err != nil {
		return answer{}, err
	}
	if err := c.authorize(VerbPresence, m.room, ""); err != nil {
		return answer{}, err
	}
	f, err := m.topic.room.snapshot(c.ctx, in.ID, Member{UserID: c.userID, Name: m.name})
	if err != nil {
		return answer{}, err
	}
	return answer{done: true}, c.push(f)
}

func (c *Conn) onSignal(in *inbound) (answer, error) {
	if in.Name == "" {
		return answer{}, missing("name", "signal")
	}
	if in.TargetID != "" {
		if err := c.authorize(VerbSignal, "", in.TargetID); err != nil {
			return answer{}, err
		}
		c.hub.signalUser(in.TargetID, c.signal(nil, in))
		return answer{}, nil
	}
	m, err := c.member(in)
	if err != nil {
		return answer{}, err
	}
	if err := c.authorize(VerbSignal, m.room, ""); err != nil {
		return answer{}, err
	}
	r, err := m.topic.publish(c.ctx, c.signal(m, in))
	return answer{result: r}, err
}

// signal builds a signal to a room, or to a user if m is nil.
func (c *Conn) signal(m *membership, in *inbound) *publication {
	room, name := "", ""
	if m != nil {
		room, name = m.room, m.name
	}
	return &publication{
		entry: Entry{Data: appendSignal(nil, room, c.userID, name, in.Name, in.Data)},
		skip:  c, v1: true,
		// One state per sender, room and name: slow receivers get the newest (P5.2).
		key: c.userID + "\x00" + room + "\x00" + in.Name,
	}
}

func (c *Conn) onCall(in *inbound) (answer, error) {
	switch {
	case in.ID == "":
		return answer{}, missing("id", "call")
	case in.Method == "":
		return answer{}, missing("method", "call")
	}
	handler := c.hub.handlers.find(in.Method)
	if handler == nil {
		return answer{}, NewError(CodeUnknownMethod, fmt.Sprintf("no handler for method %q", in.Method))
	}
	if err := c.authorize(VerbCall, "", in.Method); err != nil {
		return answer{}, err
	}
	var data []byte
	err := error(NewError(CodeInternal, "internal error: it was logged"))
	c.guard("handler of "+in.Method, func() { data, err = handler(c.ctx, c, in.Data) })
	if err != nil {
		return answer{}, err
	}
	if limit := c.hub.opts.QueueSize / 2; len(data) > limit {
		return answer{}, fmt.Errorf("%w: reply of %q has %d bytes, the limit is %d", ErrTooLarge, in.Method, len(data), limit)
	}
	return answer{done: true}, c.push(newFrame(appendReply(newBuffer(len(data)+128), in.ID, data)))
}

func (c *Conn) onPing(in *inbound) (answer, error) {
	return answer{done: true}, c.push(newFrame(appendPong(newBuffer(96), in.ID, nowMillis())))
}

// signalUser sends a signal to the v1 connections of a user on this node, if there are any.
func (h *Hub) signalUser(id string, p *publication) {
	if c := h.Conn(id); c != nil {
		f := p.newFrame()
		if c != p.skip && c.v1 {
			_ = c.push(f)
		}
		return
	}
	t := h.lookup(userPrefix + id)
	if t == nil && h.opts.Broker != nil {
		t = h.acquire(userPrefix + id) // the user may be on another node
	}
	if t != nil {
		defer t.release()
		// A signal is not stored: publish waits at most for the Broker.
		_, _ = t.publish(h.ctx, p)
	}
}
