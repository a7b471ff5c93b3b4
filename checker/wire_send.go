package checker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

func unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// Join implements client.
func (c *wireClient) Join(room string, from bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused || c.stopping {
		return
	}
	r := c.room(room)
	if r == nil {
		r = &wireRoom{name: room}
		c.rooms = append(c.rooms, r)
	}
	again := r.want && r.state == roomIn
	r.want = true
	if again && r.place != nil {
		c.join(r) // a joined room again, from where the client stands
		return
	}
	if !from && r.state == roomOut && (c.conn == nil || !c.conn.greeted) {
		r.place = nil
	}
	c.step(r)
}

// Leave implements client.
func (c *wireClient) Leave(room string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.room(room); r != nil && r.want {
		r.want = false
		c.step(r)
		if c.conn != nil && c.conn.greeted {
			c.getReady(c.conn) // it may have waited for this room only
		}
		c.flush()
	}
}

// step does what is to be done next to get into a room or out of it.
func (c *wireClient) step(r *wireRoom) {
	connected := c.conn != nil && c.conn.greeted
	switch {
	case r.want && r.state == roomOut && connected:
		c.join(r)
	case !r.want && r.state == roomIn && connected:
		c.leave(r)
	case !r.want && r.state == roomOut:
		c.rooms = slices.DeleteFunc(c.rooms, func(other *wireRoom) bool { return other == r })
		c.recordTopic(nil, Event{Kind: Dropped, Topic: roomPrefix + r.name})
	}
}

func (c *wireClient) leave(r *wireRoom) {
	r.state = roomLeaving
	q := c.request("leave", roomPrefix+r.name, map[string]any{"type": "leave", "room": r.name})
	q.room = r
	c.recordTopic(c.conn, Event{Kind: Leave, Topic: q.topic})
	c.submit(q)
}

func (c *wireClient) join(r *wireRoom) {
	r.state, r.fresh, r.offered = roomJoining, !r.live, r.place
	m := map[string]any{"type": "join", "room": r.name}
	if r.place != nil {
		m["epoch"], m["offset"] = r.place.Epoch, r.place.Offset
	}
	q := c.request("join", roomPrefix+r.name, m)
	q.room = r
	c.recordTopic(c.conn, Event{Kind: Join, Topic: q.topic, Offered: r.offered})
	c.submit(q)
}

// request makes a request with an id of its own.
func (c *wireClient) request(kind, topic string, m map[string]any) *request {
	c.asked++
	id := fmt.Sprintf("%s-%d-%d", kind, c.number, c.asked)
	m["id"] = id
	return &request{id: id, kind: kind, topic: topic, frame: encode(m), done: make(chan struct{})}
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return data
}

// submit sends a request now, whatever else waits.
func (c *wireClient) submit(q *request) {
	c.pending = append(c.pending, q)
	c.env.Add(Event{Kind: Ask, Client: c.number, Conn: c.conn.number, ID: q.id})
	q.written = c.conn.number
	c.conn.put(q.frame)
}

// Send implements client.
func (c *wireClient) Send(s sending) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.userID == "" || c.refused || c.stopping {
		return nil
	}
	body := payload{ID: s.ID, Pad: strings.Repeat("x", s.Size)}
	m := map[string]any{"type": s.Kind, "id": s.ID}
	switch s.Kind {
	case "message":
		m["room"], m["content"] = s.Target, body
	case "broadcast":
		m["message"] = body
	case "private":
		m["targetId"], m["message"] = s.Target, body
	case "signal":
		m["room"], m["name"], m["data"] = s.Target, "s"+s.ID, body
	}
	q := &request{id: s.ID, kind: s.Kind, topic: s.Topic, frame: encode(m), done: make(chan struct{})}
	c.env.Add(Event{Kind: Send, Client: c.number, Topic: s.Topic, ID: s.ID, User: c.userID, ClientID: c.clientID, Code: s.Kind})
	c.pending = append(c.pending, q)
	c.flush()
	return q.done
}

// flush sends what has not been sent yet and may be. What is sent to a room
// that is being joined waits for the answer: it would be refused if the join is.
func (c *wireClient) flush() {
	if c.conn == nil || !c.conn.ready {
		return
	}
	for _, q := range c.pending {
		name, _ := strings.CutPrefix(q.topic, roomPrefix)
		r := c.room(name)
		if q.written == 0 && (r == nil || !r.want || r.state == roomIn || r.live) {
			c.transmit(c.conn, q)
		}
	}
}

// transmit writes a message. It may have been written before, on another connection.
func (c *wireClient) transmit(w *wireConn, q *request) {
	if q.written == 0 {
		q.first = time.Now()
	} else {
		q.errored = true // an error now says nothing about the first time
	}
	q.written = w.number
	c.env.Add(Event{Kind: Ask, Client: c.number, Conn: w.number, ID: q.id})
	w.put(q.frame)
}

// getReady sends what waits once all rooms are joined again: a message must
// not be refused because the join before it was.
func (c *wireClient) getReady(w *wireConn) {
	for _, r := range c.rooms {
		if r.want && r.state != roomIn {
			return
		}
	}
	if w.ready {
		return
	}
	w.ready = true
	pending := c.pending
	c.pending = nil
	for _, q := range pending {
		switch {
		case q.written == w.number:
		case q.written != 0 && time.Since(q.first) > resendWindow:
			c.giveUp(q, "too old to be sent again")
			continue
		default:
			c.transmit(w, q)
		}
		c.pending = append(c.pending, q)
	}
}

// Ask implements client.
func (c *wireClient) Ask(question, room string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil || !c.conn.ready {
		return
	}
	m := map[string]any{"type": question}
	topic := roomPrefix + room
	switch question {
	case "inbox":
		if c.user == "" {
			return
		}
		m["type"], m["topic"], topic = "history", "inbox", userPrefix+c.userID
	case "call":
		m["method"], m["data"] = echoMethod, room
	case "history", "presence":
		if r := c.room(room); r == nil || r.state != roomIn {
			return
		}
		m["room"] = room
	}
	c.submit(c.request("ask", topic, m))
}

// answered takes an answer to a request.
func (c *wireClient) answered(w *wireConn, m *wireMessage) error {
	c.env.Add(Event{Kind: Answered, Client: c.number, Conn: w.number, ID: m.ID, Code: m.code()})
	i := slices.IndexFunc(c.pending, func(q *request) bool { return q.id == m.ID })
	if i < 0 {
		return nil // the judge will see whether it was asked
	}
	q := c.pending[i]
	c.pending = slices.Delete(c.pending, i, i+1)
	defer close(q.done)
	failed := m.Type == "error"
	switch q.kind {
	case "join":
		c.joined(w, q.room, failed)
	case "leave":
		q.room.state, q.room.live = roomOut, false
		kind := Left
		if failed {
			kind = Dropped
		}
		c.recordTopic(w, Event{Kind: kind, Topic: q.topic})
		c.step(q.room)
		c.getReady(w)
		c.flush()
	case "ask":
		return c.asking(w, m, q)
	case "mark":
		c.markAnswered(m, q)
	default:
		c.sent(m, q)
	}
	return nil
}

// joinRetry is the wait after a join that failed.
const joinRetry = 300 * time.Millisecond

// retry joins again, unless the connection is another one, or the room was left and perhaps joined again since.
func (c *wireClient) retry(w *wireConn, r *wireRoom) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == w && r.state == roomOut && c.room(r.name) == r {
		c.step(r)
		c.getReady(w)
	}
}

// sent takes the answer to a message.
func (c *wireClient) sent(m *wireMessage, q *request) {
	e := Event{Kind: Sent, Client: c.number, Topic: q.topic, ID: q.id, Place: m.place()}
	if m.Type == "error" {
		e = Event{Kind: Refused, Client: c.number, Topic: q.topic, ID: q.id, Code: m.code()}
		if q.errored || e.Code == "unavailable" || e.Code == "closing" || e.Code == "internal" {
			e.Kind = Lost
		}
	} else if q.kind == "broadcast" && c.all != nil && c.all.Epoch == m.Epoch && c.all.Offset < m.Offset {
		place := m.place()
		c.all = &place // its own broadcasts are not sent to it (P4.12)
	}
	c.env.Add(e)
}

// asking takes what else is an answer.
func (c *wireClient) asking(w *wireConn, m *wireMessage, q *request) error {
	switch m.Type {
	case "presence":
		c.presence(w, m)
	case "history", "inbox":
		e, err := c.base(m, q.topic, nil, false)
		if err != nil {
			return err
		}
		e.Kind = Page
		if m.Type == "inbox" {
			e.Count, e.Inbox = m.count(), m.standing()
		}
		c.recordTopic(w, e)
	}
	return nil
}
