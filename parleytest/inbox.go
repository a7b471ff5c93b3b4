package parleytest

import "slices"

// unreadCount is how many entries of the inbox are unread, by the newest message that says it (P8.1).
type unreadCount struct {
	epoch           string
	unread, version int64
}

// count notes the number of unread entries that a message carries. c.mu is held.
func (c *Client) count(m Message) {
	if m["unread"] == nil || m["version"] == nil {
		return
	}
	n := unreadCount{m.Str("epoch"), m.Int("unread"), m.Int("version")}
	// Only an inbox that is no answer says that the log is another, or lost its newest versions.
	start := m.Type() == "inbox" && m["id"] == nil && (n.epoch != c.unread.epoch || m.Str("code") == "ahead")
	if c.unread.epoch == "" || start || n.epoch == c.unread.epoch && n.version >= c.unread.version {
		c.unread = n
	}
}

// Unread returns how many entries of the user's inbox are unread, by the newest of the messages
// that have come or are under way (see [Server.Settle]), whether they were taken or not. 0 for
// a plain client until the first that says it, and for anonymous ones.
func (c *Client) Unread() int64 {
	c.t.Helper()
	c.server.settle(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unread.unread
}

// ExpectUnread fails the test unless so many entries of the user's inbox are unread, see [Client.Unread].
func (c *Client) ExpectUnread(n int64) {
	c.t.Helper()
	if got := c.Unread(); got != n {
		c.failf("expected %d unread in the inbox, got %d", n, got)
	}
}

// ExpectNotification returns the next message, which must be a notification of this kind
// (parley.WithKind; "": without one) with this data, compared as [Client.ExpectMessage] does; nil data may be any.
// Its id (parley.WithID) is in the field "id".
func (c *Client) ExpectNotification(kind string, data any) Message {
	c.t.Helper()
	want := Message{"type": "notification"}
	if kind != "" {
		want["kind"] = kind
	}
	if data != nil {
		want["data"] = data
	}
	m := c.ExpectMessage(want)
	if kind == "" && m["kind"] != nil {
		c.failf("expected a notification without a kind, got\n%s", indent(c.lastRaw()))
	}
	return m
}

// Mark changes the read state of messages that this client or another of the user has got: action is "read",
// "unread" or "archive", as in the protocol. It returns the message "marked" that tells what has changed; nil
// if nothing has, and for a plain client. Other clients of the user still have to expect theirs. A refusal
// fails the test.
func (c *Client) Mark(action string, of ...Message) Message {
	c.t.Helper()
	offsets := offsetsOf(of)
	c.mu.Lock()
	from := len(c.queue)
	c.mu.Unlock()
	request := Message{"type": action, "offsets": offsets}
	if len(of) > 0 {
		request["epoch"] = of[0].Str("epoch")
	}
	answer := c.Request(request)
	if answer.Type() != "ack" {
		c.failf("could not mark %v as %q: %s", offsets, action, answer)
	}
	// What was changed comes before the ack, and the newest version is that of this change.
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, m := range c.queue[from:] {
		if m.Type() == "marked" && m.Int("version") == answer.Int("version") {
			return c.remove(from + i)
		}
	}
	return nil
}

// ExpectMarked returns the next message, which must say that exactly these messages are in this
// state now: "read", "unread" or "archived".
func (c *Client) ExpectMarked(as string, of ...Message) Message {
	c.t.Helper()
	m := c.ExpectMessage(Message{"type": "marked", "as": as})
	want := slices.Compact(slices.Sorted(slices.Values(offsetsOf(of))))
	if got := m.Offsets("offsets"); !slices.Equal(got, want) {
		c.failf("expected that %v are marked as %s, got %v in\n%s", want, as, got, indent(c.lastRaw()))
	}
	return m
}

func offsetsOf(messages []Message) []int64 {
	offsets := make([]int64, len(messages))
	for i, m := range messages {
		offsets[i] = m.Int("offset")
	}
	return offsets
}

// Offsets returns the offsets that the pairs of first and last in a field name, one by one, such as
// "read" and "archived" of an inbox and "offsets" of a message "marked"; nil if it is something else.
func (m Message) Offsets(field string) []int64 {
	var spans [][2]int64
	if m[field] == nil || m.Decode(field, &spans) != nil {
		return nil
	}
	var all []int64
	for _, span := range spans {
		for offset := span[0]; offset <= span[1]; offset++ {
			all = append(all, offset)
		}
	}
	return all
}

// State returns the read state that the inbox m gives an entry of it, or another message of the same inbox: "unread", "read"
// or "archived".
func (m Message) State(of Message) string {
	for _, state := range []string{"read", "archived"} {
		if slices.Contains(m.Offsets(state), of.Int("offset")) {
			return state
		}
	}
	return "unread"
}
