package checker

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-go/parley"
)

// errAway is why a client does not connect that is away.
var errAway = errors.New("the client is away")

const (
	// receiptPause is the time between two receipts (P8.6), lazyPause that of clients that
	// take longer to show what they get.
	receiptPause = time.Second
	lazyPause    = 15 * time.Second
	// idsKnown is how many ids of notifications a client remembers.
	idsKnown = 20
)

// Mark implements client.
func (c *wireClient) Mark(m marking) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil || !c.conn.ready || c.refused || c.stopping {
		return
	}
	at := Place{Epoch: "none"}
	switch {
	case c.user == "" && m.Pick%16 != 15: // has none, and is told so from time to time
		return
	case c.user == "":
	case c.inbox == nil:
		return
	default:
		at = *c.inbox
	}
	s, bad := m.selection(at, c.ids)
	fields := map[string]any{"type": map[parley.MarkAs]string{
		parley.MarkRead: "read", parley.MarkUnread: "unread", parley.MarkArchived: "archive",
	}[m.As]}
	if s.Epoch != "" {
		fields["epoch"] = s.Epoch
	}
	if s.UpTo > 0 {
		fields["offset"] = s.UpTo
	}
	if s.Offsets != nil {
		fields["offsets"] = s.Offsets
	}
	if s.IDs != nil {
		fields["ids"] = s.IDs
	}
	c.mark(s, fields, bad || c.user == "")
}

// mark sends a change of the read state.
func (c *wireClient) mark(s *Marking, fields map[string]any, bad bool) {
	q := c.request("mark", userPrefix+c.userID, fields)
	e := Event{Kind: Mark, Topic: q.topic, ID: q.id, Mark: s}
	if bad {
		e.Code = "bad"
	}
	c.recordTopic(c.conn, e)
	c.submit(q)
}

// markAnswered takes the answer to one.
func (c *wireClient) markAnswered(m *wireMessage, q *request) {
	e := Event{Kind: MarkDone, Client: c.number, Topic: q.topic, ID: q.id, Place: Place{Epoch: m.Epoch}, Count: m.count()}
	if m.Type == "error" {
		e = Event{Kind: MarkNo, Client: c.number, Topic: q.topic, ID: q.id, Code: m.code()}
		if e.Code == "unavailable" || e.Code == "closing" || e.Code == "internal" {
			e.Kind = MarkLost
		}
	}
	c.env.Add(e)
}

// marked takes the news of what was marked.
func (c *wireClient) marked(w *wireConn, m *wireMessage) {
	c.recordTopic(w, Event{
		Kind: News, Topic: userPrefix + c.userID, Mark: &Marking{As: markAs(m.As)},
		Spans: m.Offsets.spans(), Place: Place{Epoch: m.Epoch}, Count: m.count(),
	})
}

// known remembers the id of a notification.
func (c *wireClient) known(id string) {
	if !slices.Contains(c.ids, id) {
		c.ids = append(c.ids, id)
		c.ids = c.ids[max(0, len(c.ids)-idsKnown):]
	}
}

// receiptDue tells the server soon what this device has.
func (c *wireClient) receiptDue(w *wireConn) {
	if !w.receipts || w.receiptDue {
		return
	}
	w.receiptDue = true
	pause := receiptPause
	if c.number%3 == 1 {
		pause = lazyPause
	}
	time.AfterFunc(pause, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		w.receiptDue = false
		if c.conn != w || c.stopping || c.inbox == nil || c.inbox.Offset == 0 || w.received == *c.inbox {
			return
		}
		w.received = *c.inbox
		s := &Marking{As: parley.MarkReceived, Epoch: c.inbox.Epoch, UpTo: c.inbox.Offset}
		c.mark(s, map[string]any{"type": "received", "epoch": s.Epoch, "offset": s.UpTo}, false)
	})
}

// Away implements client.
func (c *wireClient) Away(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = time.Now().Add(d)
	if c.conn != nil && c.conn.link != nil {
		c.env.Add(Event{Kind: Fault, Client: c.number, Code: fmt.Sprint("away for ", d)})
		c.conn.link.Cut()
	}
}

// Counted implements client. What this one knows is in its events.
func (c *wireClient) Counted() *Count { return nil }
