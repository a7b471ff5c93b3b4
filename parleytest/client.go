package parleytest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-go/parley"
)

// Client is a client at the level of the protocol: it sends and receives
// messages and does nothing by itself. What comes is kept, however much it is, until it is asked for.
//
// What a method does not get it makes a failure of the test. So methods must be
// called by the goroutine of the test that was given to [NewServer] or [Serve].
type Client struct {
	server  *Server
	t       testing.TB
	options dialOptions
	label   string
	link    *Link
	ws      *websocket.Conn
	done    chan struct{} // closed when nothing is read any more

	connected, inbox Message

	mu       sync.Mutex // guards the fields below
	queue    []received
	seen     []received          // the last ones that were taken from the queue, for failures
	answers  map[string]Message  // by the id of a request; nil until it came
	requests map[string]sendMark // that wait for an answer
	sent     sendMark            // messages sent
	handled  sendMark            // up to which the server is known to have handled them
	unread   unreadCount
	changed  chan struct{} // closed and replaced when something came
	ended    bool
	err      error // why reading ended
}

// sendMark counts the messages that a client has sent.
type sendMark int

// received is a message with its text as it came.
type received struct {
	Message
	raw string
}

func newClient(s *Server, o dialOptions) *Client {
	return &Client{
		server: s, t: s.t, options: o, label: s.label(o.identity.ID), done: make(chan struct{}),
		answers: make(map[string]Message), requests: make(map[string]sendMark), changed: make(chan struct{}),
	}
}

func (c *Client) start(ws *websocket.Conn) {
	ws.SetReadLimit(-1)
	c.ws = ws
	go c.read() // ends with the connection, which the cleanup of the server cuts
}

func (c *Client) read() {
	defer close(c.done)
	for {
		_, p, err := c.ws.Read(context.Background())
		var m Message
		if err == nil {
			m, err = parse(p)
		}
		c.mu.Lock()
		if err != nil {
			c.ended, c.err = true, err
		} else {
			c.take(received{m, string(p)})
		}
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			_ = c.ws.CloseNow()
			return
		}
	}
}

// take keeps a message for whom it is for. c.mu is held.
func (c *Client) take(m received) {
	c.count(m.Message)
	// The id of a notification is the application's, and answers nothing.
	if mark, ok := c.requests[m.Str("id")]; ok && m.Type() != "notification" {
		c.answers[m.Str("id")] = m.Message
		c.handled = max(c.handled, mark)
		return
	}
	if !slices.Contains(c.options.ignored, m.Type()) {
		c.queue = append(c.queue, m)
	}
}

// greeted waits for the messages that every connection begins with.
func (c *Client) greeted() {
	c.t.Helper()
	c.connected = c.Expect("connected")
	if c.connected.Str("username") == "" {
		return // anonymous
	}
	if c.options.identity.ID == "" { // known by a token or the like
		c.label = c.server.label(c.UserID())
	}
	if c.options.plain {
		return
	}
	// Without an inbox, after an error or a refusal by a hook, there is something else to expect.
	c.wait(func() bool {
		for i, m := range c.queue {
			switch {
			case m.Type() == "inbox":
				c.inbox = c.remove(i)
				return true
			case m.Type() == "error" && m.Str("code") == string(parley.CodeUnavailable):
				return true
			}
		}
		return false
	})
}

// remove takes message i out of the queue. c.mu is held.
func (c *Client) remove(i int) Message {
	m := c.queue[i]
	c.queue = slices.Delete(c.queue, i, i+1)
	c.seen = append(c.seen, m)
	if extra := len(c.seen) - reportedBefore; extra > 0 {
		c.seen = slices.Delete(c.seen, 0, extra)
	}
	return m.Message
}

// ID returns the client id.
func (c *Client) ID() string { return c.connected.Str("clientId") }

// UserID returns the user id, for an anonymous client its client id.
func (c *Client) UserID() string { return c.connected.Str("userId") }

// Connected returns the message that the server greeted the client with.
func (c *Client) Connected() Message { return c.connected }

// Inbox returns the inbox message that a v1 client of an identified user gets
// after the greeting; nil for others.
func (c *Client) Inbox() Message { return c.inbox }

// Link returns the connection of the client, for faults.
func (c *Client) Link() *Link { return c.link }

// Send sends v as JSON, and a string or []byte as it is. It does not wait for an answer.
func (c *Client) Send(v any) {
	c.t.Helper()
	c.send(v, "")
}

// send sends v, which is answered with the id if it is not empty.
func (c *Client) send(v any, id string) {
	c.t.Helper()
	var p []byte
	switch v := v.(type) {
	case string:
		p = []byte(v)
	case []byte:
		p = v
	default:
		var err error
		if p, err = json.Marshal(v); err != nil {
			c.failf("cannot send %T: %v", v, err)
		}
	}
	c.mu.Lock()
	c.sent++
	if id != "" {
		c.requests[id] = c.sent
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), c.server.Timeout)
	defer cancel()
	if err := c.ws.Write(ctx, websocket.MessageText, p); err != nil {
		c.failf("cannot send %s: %v", shorten(string(p)), err)
	}
}

// Request sends m with an id, its own or a new one, and returns the answer to it: ack,
// error, reply, history, inbox, presence or pong. What came before the answer is still to be expected.
func (c *Client) Request(m Message) Message {
	c.t.Helper()
	if m.Str("id") == "" {
		with := Message{"id": newID()}
		for key, value := range m {
			with[key] = value
		}
		m = with
	}
	id := m.Str("id")
	c.send(m, id)
	answer, why := c.answer(id)
	if why != "" {
		c.failf("expected an answer to %s, %s", shorten(m.String()), why)
	}
	return answer
}

// answer waits for the answer to a request.
func (c *Client) answer(id string) (m Message, why string) {
	why = c.wait(func() bool {
		answer, ok := c.answers[id]
		if ok {
			m = answer
			delete(c.answers, id)
			delete(c.requests, id)
		}
		return ok
	})
	return m, why
}

// newID makes an id that no client of the same user has used: the server would take the message for a retry.
func newID() string { return "parleytest-" + rand.Text() }

// Call calls a method of the application (parley.On) and returns its "reply", with the result in "data",
// or the "error".
func (c *Client) Call(method string, data any) Message {
	c.t.Helper()
	return c.Request(Message{"type": "call", "method": method, "data": data})
}

// Join joins a room and returns the history message that answers it; other
// messages that the join causes are still to be expected. A refusal
// fails the test. more are further fields: a username, the position of a client that comes back.
func (c *Client) Join(room string, more ...Message) Message {
	c.t.Helper()
	m := Message{"type": "join", "room": room}
	for _, fields := range more {
		for key, value := range fields {
			m[key] = value
		}
	}
	c.mu.Lock()
	from := len(c.queue)
	c.mu.Unlock()
	if answer := c.Request(m); answer.Type() != "ack" {
		c.failf("could not join %q: %s", room, answer)
	}
	// The history comes before the ack.
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, m := range c.queue[from:] {
		if m.Type() == "history" && m.Str("room") == room {
			return c.remove(from + i)
		}
	}
	return nil // ignored
}

// Close ends the connection as a client does that is done: with code 1000. It
// returns when the server has answered.
func (c *Client) Close() {
	err := c.ws.Close(websocket.StatusNormalClosure, "") // if it is closed already, so much the better
	<-c.done
	var closed websocket.CloseError
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && !errors.As(c.err, &closed) {
		c.err = websocket.CloseError{Code: websocket.StatusNormalClosure} // Close itself has read the answer, and not the one who reads
	}
}

// Reconnect connects once more with the same options and the session of this
// client: while the session holds, the new connection has the same client id (P1.8). This
// connection is not ended, but may have been, or be cut now.
func (c *Client) Reconnect() *Client {
	c.t.Helper()
	o := c.options
	o.session = c.connected.Str("session")
	return c.server.connect(o)
}

// wait waits until ready, which is called with c.mu held, returns true. Else
// it says why not.
func (c *Client) wait(ready func() bool) (why string) {
	timeout := time.NewTimer(c.server.Timeout)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		ok, ended, changed := ready(), c.ended, c.changed
		c.mu.Unlock()
		switch {
		case ok:
			return ""
		case ended:
			return "but the connection ended"
		}
		select {
		case <-changed:
		case <-timeout.C:
			return "but nothing more came within " + c.server.Timeout.String()
		}
	}
}
