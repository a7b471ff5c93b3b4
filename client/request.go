package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/parley-go/parley"
)

// outbound is a message to the server.
type outbound struct {
	Type     string          `json:"type"`
	ID       string          `json:"id,omitempty"`
	Room     string          `json:"room,omitempty"`
	Username string          `json:"username,omitempty"`
	TargetID string          `json:"targetId,omitempty"`
	Method   string          `json:"method,omitempty"`
	Name     string          `json:"name,omitempty"`
	Epoch    string          `json:"epoch,omitempty"`
	Offset   *int64          `json:"offset,omitempty"`
	Topic    string          `json:"topic,omitempty"`
	Offsets  []int64         `json:"offsets,omitempty"`
	IDs      []string        `json:"ids,omitempty"`
	Before   int64           `json:"before,omitempty"`
	Limit    int             `json:"limit,omitempty"`
	Message  json.RawMessage `json:"message,omitempty"`
	Content  json.RawMessage `json:"content,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"`
}

// fate is what becomes of a request when the connection is lost before the answer.
type fate uint8

const (
	again fate = iota // sent again with the same id: the server does it once (P4.2)
	once              // fails if it was written, for the same reason as a call: it could be done twice
	bound             // means nothing to another connection
)

// request is a message that waits for its answer. It waits for the connection,
// and for its room, to be written.
type request struct {
	id     string
	seq    uint64 // their order
	text   []byte
	answer string // type of the message that answers it
	room   *Room
	fate   fate
	// broadcast: its ack explains a hole in what others broadcast.
	broadcast bool
	// personal: it is about the inbox, and so about nothing when the user is another.
	personal bool
	// finish is called once, with Client.mu held.
	finish func(answer inbound, err error)
	timer  *time.Timer // of Options.Timeout

	// Guarded by Client.mu:
	on       *conn // where it was queued for writing last
	written  bool  // perhaps in part, perhaps on an earlier connection
	repeated bool  // it was written on an earlier one: a refusal says nothing about that time
}

// ask sends a request and waits for its answer. ctx bounds the waiting: when it
// ends, what was not written yet never will be.
func (c *Client) ask(ctx context.Context, r *request, m outbound) (inbound, error) {
	if err := ctx.Err(); err != nil {
		return inbound{}, fmt.Errorf("client: not sent: %w", err)
	}
	type result struct {
		answer inbound
		err    error
	}
	done := make(chan result, 1)
	r.finish = func(answer inbound, err error) { done <- result{answer, err} }
	c.mu.Lock()
	err := c.submitLocked(r, m)
	c.mu.Unlock()
	if err != nil {
		return inbound{}, err
	}
	select {
	case got := <-done:
		return got.answer, got.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[r.id] != r {
		got := <-done
		return got.answer, got.err
	}
	if r.written && r.on != nil && r.on == c.conn {
		// The answer may still come, and say something about positions.
		r.fate, r.finish = bound, func(inbound, error) {}
	} else {
		c.forgetLocked(r)
	}
	if r.written {
		return inbound{}, fmt.Errorf("client: sent, outcome unknown: %w", ctx.Err())
	}
	return inbound{}, fmt.Errorf("client: not sent: %w", ctx.Err())
}

// submitLocked gives a request its id and place in the order, and sends it if it can go.
func (c *Client) submitLocked(r *request, m outbound) error {
	switch {
	case c.state.final():
		return parley.NewError(CodeClosed, c.err.Error())
	case r.room != nil && r.room.left:
		return notMember(r.room.name)
	case !c.readyLocked(r) && c.waitingLocked() >= c.opts.Queue:
		return parley.NewError(CodeQueueFull, fmt.Sprintf("%d requests wait for the connection: send less, or later", c.opts.Queue))
	}
	r.seq = c.nextSeqLocked()
	r.id = c.prefix + strconv.FormatUint(r.seq, 36)
	m.ID = r.id
	var err error
	if r.text, err = json.Marshal(m); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	r.timer = time.AfterFunc(c.opts.Timeout, func() { c.timedOut(r) })
	c.pending[r.id] = r
	if c.readyLocked(r) {
		c.sendLocked(r)
	}
	return nil
}

func (c *Client) nextSeqLocked() uint64 {
	c.lastSeq++
	return c.lastSeq
}

// readyLocked reports whether a request can be sent now.
func (c *Client) readyLocked(r *request) bool {
	return c.conn != nil && c.conn.up && (r.room == nil || r.room.up)
}

// waitingLocked counts the requests that wait for a connection, or for their
// room, up to the limit.
func (c *Client) waitingLocked() (n int) {
	for _, r := range c.pending {
		if r.on == nil || r.on != c.conn {
			n++
		}
		if n == c.opts.Queue {
			break
		}
	}
	return n
}

func (c *Client) sendLocked(r *request) {
	if limit := c.conn.maxSize; limit > 0 && int64(len(r.text)) > limit {
		c.settleLocked(r, inbound{}, tooLarge(len(r.text), limit))
		return
	}
	if mutant("client-newid") {
		c.renameLocked(r)
	}
	r.on = c.conn
	c.conn.pushLocked(outgoing{text: r.text, req: r})
}

// flushLocked sends what has waited for the connection, or for this room, in
// the order in which it was first asked for.
func (c *Client) flushLocked(room *Room) {
	var all []*request
	for _, r := range c.pending {
		if r.room == room && r.on != c.conn && c.readyLocked(r) {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *request) int { return cmp.Compare(a.seq, b.seq) })
	for _, r := range all {
		c.sendLocked(r)
	}
}

// forgetLocked ends a request without telling it.
func (c *Client) forgetLocked(r *request) {
	delete(c.pending, r.id)
	r.timer.Stop()
}

func (c *Client) settleLocked(r *request, answer inbound, err error) {
	c.forgetLocked(r)
	r.finish(answer, err)
}

func (c *Client) timedOut(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[r.id] == r {
		c.settleLocked(r, inbound{}, parley.NewError(CodeTimeout,
			fmt.Sprintf("no answer within %v: it may or may not have been carried out", c.opts.Timeout)))
	}
}

// answeredLocked settles the request that m answers, if there is one.
func (c *Client) answeredLocked(m inbound) {
	if r := c.pending[m.id]; r != nil && r.answer == m.typ {
		c.settleLocked(r, m, nil)
	}
}

// refusedLocked handles an error of the server.
func (c *Client) refusedLocked(k *conn, m inbound) {
	code := cmp.Or(m.code, "unknown")
	r := c.pending[m.id]
	switch {
	case r == nil && code == parley.CodeBadSession: // Connected.Resumed tells it
	case r == nil:
		c.offerLocked(c.errorEvent(code, m.text))
	case r.fate == again && (code == parley.CodeClosing || code == parley.CodeUnavailable ||
		r.repeated && code == parley.CodeRateLimited):
		// Perhaps stored, perhaps not: only the same id is safe to send again, on
		// this connection or the next.
		r.on = nil
		c.afterLocked(k, c.backoff(3), func() { c.flushLocked(r.room) })
	default:
		c.settleLocked(r, inbound{}, parley.NewError(code, m.text))
	}
	c.releaseLocked(k)
}

// anotherUserLocked fails what was sent as the user before: ids count per user,
// so that sending it again could do it twice (P4.13). What was to be done to the inbox of that user is not done to another.
func (c *Client) anotherUserLocked() {
	unknown := parley.NewError(CodeDisconnected, "connection lost, and the user is another now: nobody knows what became of the request")
	unsent := parley.NewError(CodeDisconnected, "the user is another now, with another inbox: the request was not sent")
	for _, r := range c.pending {
		switch {
		case r.written:
			c.settleLocked(r, inbound{}, unknown)
		case r.personal:
			c.settleLocked(r, inbound{}, unsent)
		}
	}
}
