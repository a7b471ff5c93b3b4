package parleytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing/synctest"

	"github.com/coder/websocket"

	"github.com/parley-go/parley"
)

const (
	// reportedBefore is how many messages that were taken before a failure shows.
	reportedBefore = 10
	// reportedBytes is how much of each.
	reportedBytes = 1000
)

// Next returns the next message.
func (c *Client) Next() Message {
	c.t.Helper()
	return c.next("a message")
}

// next takes the next message; what is for the failure if none comes.
func (c *Client) next(what string) (m Message) {
	c.t.Helper()
	why := c.wait(func() bool {
		if len(c.queue) == 0 {
			return false
		}
		m = c.remove(0)
		return true
	})
	if why != "" {
		c.failf("expected %s, %s", what, why)
	}
	return m
}

// Expect returns the next message, which must be of this type.
func (c *Client) Expect(typ string) Message {
	c.t.Helper()
	m := c.next("a message of type " + typ)
	if m.Type() != typ {
		c.failf("expected a message of type %s, got\n%s", typ, indent(c.lastRaw()))
	}
	return m
}

// ExpectMessage returns the next message, which must have the fields of want with
// equal values. It may have others, also in objects within.
func (c *Client) ExpectMessage(want Message) Message {
	c.t.Helper()
	normal := c.normal(want)
	m := c.next("a message with\n" + indent(normal.String()) + "\n")
	if diff := differences("", map[string]any(normal), map[string]any(m)); len(diff) > 0 {
		c.failf("expected a message with\n%s\ngot\n%s\nbecause\n%s",
			indent(normal.String()), indent(c.lastRaw()), indent(diff...))
	}
	return m
}

// WaitFor drops messages until one comes that has the fields of want, and
// returns it. Of several that wait it is the first.
func (c *Client) WaitFor(want Message) (m Message) {
	c.t.Helper()
	normal := c.normal(want)
	why := c.wait(func() bool {
		for len(c.queue) > 0 {
			m = c.remove(0)
			if len(differences("", map[string]any(normal), map[string]any(m))) == 0 {
				return true
			}
		}
		return false
	})
	if why != "" {
		c.failf("waited for a message with\n%s\n%s", indent(normal.String()), why)
	}
	return m
}

// normal turns a literal into what it would be if it had been received.
func (c *Client) normal(want Message) Message {
	c.t.Helper()
	p, err := json.Marshal(want)
	if err != nil {
		c.failf("expected message: %v", err)
	}
	m, err := parse(p)
	if err != nil {
		c.failf("expected message: %v", err)
	}
	return m
}

// ExpectNone fails the test if a message has come or is under way; see
// [Server.Settle] for what that covers.
func (c *Client) ExpectNone() {
	c.t.Helper()
	c.server.settle(c)
	c.mu.Lock()
	n := len(c.queue)
	c.mu.Unlock()
	if n > 0 {
		c.failf("expected no message")
	}
}

// Drain returns what has come and is under way, see [Server.Settle], so
// that the next message is one that is caused from now on.
func (c *Client) Drain() []Message {
	c.t.Helper()
	c.server.settle(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Message
	for len(c.queue) > 0 {
		all = append(all, c.remove(0))
	}
	return all
}

// CloseCode waits for the end of the connection and returns the code that the
// server closed it with, parley.CloseAbnormal if it just ended.
func (c *Client) CloseCode() parley.CloseCode {
	c.t.Helper()
	if why := c.wait(func() bool { return c.ended }); why != "" {
		c.failf("expected the end of the connection, %s", why)
	}
	code, _ := c.ending()
	return code
}

// ExpectClose waits for the end of the connection, which must have this code, and
// returns the reason that the server gave. Messages that came before are still to be expected.
func (c *Client) ExpectClose(code parley.CloseCode) string {
	c.t.Helper()
	if why := c.wait(func() bool { return c.ended }); why != "" {
		c.failf("expected the end of the connection with code %d, %s", code, why)
	}
	got, reason := c.ending()
	if got != code {
		c.failf("expected the end of the connection with code %d", code)
	}
	return reason
}

// ending returns how an ended connection was closed. c.done need not be closed yet.
func (c *Client) ending() (parley.CloseCode, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var closed websocket.CloseError
	if errors.As(c.err, &closed) {
		return parley.CloseCode(closed.Code), closed.Reason
	}
	return parley.CloseAbnormal, ""
}

// Settle waits until what was caused so far has come to its end:
//
// In a synctest bubble, until all goroutines wait: nothing more happens until
// time passes. Clients of any kind and goroutines of the application are covered.
//
// Elsewhere, until the hub has handled all that Clients of this Server have
// sent, and they have received all that it queued for them by then. It asks the
// hub by the protocol's ping, which is answered after what came before; pings count against the
// rate limit. Calls of the hub that have returned are covered as well; goroutines of
// the application, other clients, and a link that is stalled or a black hole are not.
//
// What the hub does by the clock comes later: presence changes are
// collected for 250 ms, a v1 client that was lost leaves its rooms after Options.LeaveGrace.
func (s *Server) Settle() {
	s.t.Helper()
	s.settle(s.everybody()...)
}

// settle is Settle, of which only receivers need to have received everything.
func (s *Server) settle(receivers ...*Client) {
	s.t.Helper()
	if s.bubble {
		s.turn <- struct{}{}
		defer func() { <-s.turn }()
		synctest.Wait()
		return
	}
	var senders []*Client
	for _, c := range s.everybody() {
		c.mu.Lock()
		if c.handled < c.sent {
			senders = append(senders, c)
		}
		c.mu.Unlock()
	}
	s.ping(senders)
	s.ping(receivers)
}

// ping asks clients for a sign that all before it has been handled, all at once.
func (s *Server) ping(clients []*Client) {
	s.t.Helper()
	ids := make([]string, len(clients))
	for i, c := range clients {
		if c.reachable() {
			ids[i] = newID()
			c.send(Message{"type": "ping", "id": ids[i]}, ids[i])
		}
	}
	for i, c := range clients {
		if ids[i] == "" {
			continue
		}
		if _, why := c.answer(ids[i]); why != "" && c.reachable() {
			c.failf("waited for the answer to a ping, %s: a handler or hook still runs, or the link has a fault", why)
		}
	}
}

// reachable reports whether a ping can be answered.
func (c *Client) reachable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ended && c.link.open()
}

// lastRaw returns the message that was taken last, as it came.
func (c *Client) lastRaw() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[len(c.seen)-1].raw
}

// failf fails the test, and shows what the client has seen.
func (c *Client) failf(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("parleytest: %s: %s\n%s", c.label, fmt.Sprintf(format, args...), c.situation())
}

// situation tells what has come, for failures.
func (c *Client) situation() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	list := func(title string, all []received) {
		if len(all) == 0 {
			return
		}
		lines := make([]string, len(all))
		for i, m := range all {
			lines[i] = m.raw
		}
		fmt.Fprintf(&b, "%s:\n%s\n", title, indent(lines...))
	}
	list("not taken yet", c.queue)
	list("taken before, newest last", c.seen)
	switch code := websocket.CloseStatus(c.err); {
	case !c.ended:
		b.WriteString("the connection is open")
	case code != -1:
		var closed websocket.CloseError
		errors.As(c.err, &closed)
		fmt.Fprintf(&b, "the connection was closed with code %d, %q", closed.Code, closed.Reason)
	default:
		fmt.Fprintf(&b, "the connection was lost: %v", c.err)
	}
	return b.String()
}

// indent puts each text on a line of its own.
func indent(texts ...string) string {
	for i, s := range texts {
		texts[i] = "\t" + shorten(s)
	}
	return strings.Join(texts, "\n")
}

func shorten(s string) string {
	if len(s) <= reportedBytes {
		return s
	}
	return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(s[:reportedBytes], ""), len(s))
}
