package client

import (
	"context"

	"github.com/parley-go/parley"
)

// maxListed is how many entries one message can name (P2.3).
const maxListed = 100

// Selection picks entries of the inbox. Exactly one of UpTo, Offsets and IDs must be
// set. What is not kept any more is passed over.
type Selection struct {
	// UpTo picks everything up to this position: that of the newest message the user has seen.
	UpTo Position
	// Offsets picks these entries, at most 100, and needs Epoch: both are in the Position of a message.
	Offsets []int64
	Epoch   string
	// IDs picks the notifications with these ids (Notification.ID), at most 100.
	IDs []string
}

func (s Selection) outbound(typ string) (outbound, error) {
	m := outbound{Type: typ, Epoch: s.Epoch, Offsets: s.Offsets, IDs: s.IDs}
	picked := min(len(s.Offsets), 1) + min(len(s.IDs), 1)
	if s.UpTo != (Position{}) {
		picked++
		m.Epoch, m.Offset = s.UpTo.Epoch, &s.UpTo.Offset
	}
	problem := ""
	switch {
	case picked != 1:
		problem = "a Selection needs exactly one of UpTo, Offsets and IDs"
	case len(s.IDs) == 0 && m.Epoch == "":
		problem = "offsets need the epoch that they are of: take both from the Position of a message"
	case len(s.Offsets) > maxListed || len(s.IDs) > maxListed:
		problem = "a Selection has at most 100 entries: use several, or UpTo"
	default:
		return m, nil
	}
	return m, parley.NewError(parley.CodeBadRequest, problem)
}

// MarkRead marks entries of the inbox as read, on all devices of the user, and returns how many
// are unread then. All devices are told by Options.OnMarked. Like a
// Send it waits for the connection and outlives its loss; to mark twice does no harm. Of marks that are
// on their way at the same time any may win: wait for one before the next of the same entries.
//
// The error is a *parley.Error with CodeReset if the position is of another epoch, CodeAhead if it lies after the newest entry: then
// nothing was changed. CodeDisconnected: the user is another now.
func (c *Client) MarkRead(ctx context.Context, s Selection) (ReadState, error) {
	return c.mark(ctx, "read", s)
}

// MarkUnread makes entries unread again, and no longer archived; see MarkRead.
func (c *Client) MarkUnread(ctx context.Context, s Selection) (ReadState, error) {
	return c.mark(ctx, "unread", s)
}

// Archive marks entries as read and puts them away; see MarkRead.
func (c *Client) Archive(ctx context.Context, s Selection) (ReadState, error) {
	return c.mark(ctx, "archive", s)
}

func (c *Client) mark(ctx context.Context, typ string, s Selection) (ReadState, error) {
	m, err := s.outbound(typ)
	if err != nil {
		return ReadState{}, err
	}
	answer, err := c.ask(ctx, &request{answer: "ack", personal: true}, m)
	return answer.count.ReadState, err
}

// InboxHistory returns at most limit entries of the inbox (0: 100, which is also the most) that are older than
// the offset before (0: the newest). What has expired takes up space in a page and is left out, so that one may be empty: for all
// that is kept go on with InboxPage.Oldest as before, while there is More. Like a Send it outlives a lost connection.
func (c *Client) InboxHistory(ctx context.Context, before int64, limit int) (InboxPage, error) {
	answer, err := c.ask(ctx, &request{answer: "inbox", personal: true},
		outbound{Type: "history", Topic: "inbox", Before: before, Limit: limit})
	if err != nil {
		return InboxPage{}, err
	}
	answer.setMarks()
	return InboxPage{answer.itemsOf(), answer.inboxState(), answer.more == yes, answer.oldest()}, nil
}

// ReadState returns how many entries of the inbox are unread: the newest that is known, which may be
// ahead of Options.OnUnread. Zero before the first inbox came, and for anonymous users.
func (c *Client) ReadState() ReadState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unread.ReadState
}

// unreadCount is how many entries of an inbox are unread, by a message of the server (P8.1).
type unreadCount struct {
	ReadState
	epoch string // "": the message has no such number
}

// countLocked takes the number of unread entries that a message carries, if it is the newest.
func (c *Client) countLocked(n unreadCount) {
	if n.epoch == "" || c.unread.epoch != "" && (n.epoch != c.unread.epoch || n.Version < c.unread.Version && !mutant("client-count")) {
		return // only an inbox says that the log is another
	}
	c.setCountLocked(n)
}

func (c *Client) setCountLocked(n unreadCount) {
	c.unread = n
	if n.Unread != c.told && c.offerLocked(tell(c.opts.OnUnread, c, n.ReadState)) {
		c.told = n.Unread
	}
}

// markedLocked takes a change of the read state. What comes before the inbox that
// it belongs to waits for it.
func (c *Client) markedLocked(k *conn, m inbound) {
	switch {
	case c.behind: // the next inbox has it
	case mutant("client-deaf"):
	case m.count.epoch != k.log:
		k.early = append(k.early, m)
		if len(k.early) > maxHeld {
			k.cut(errHole) // the next inbox has it all
		}
	case k.marks.late(m.count.Version):
		k.cut(errHole)
	default:
		if m.count.Version > k.marks.base {
			c.tellMarkedLocked(k, m)
		}
		c.countLocked(m.count)
	}
}

// tellMarkedLocked tells what is news of a mark.
func (c *Client) tellMarkedLocked(k *conn, m inbound) {
	news := k.marks.add(mark{m.count.Version, m.mark, m.offsets})
	if !k.marks.forget(c.inbox.read.Offset) {
		k.cut(errHole)
	}
	if len(news) == 0 {
		return
	}
	e := tell(c.opts.OnMarked, c, Marked{m.count.ReadState, m.mark, m.count.epoch, news})
	e.size = m.size
	c.offerLocked(e)
}
