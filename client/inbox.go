package client

import (
	"slices"

	"github.com/parley-go/parley"
)

// Mark is the read state of an entry of the inbox. Empty: it is in no inbox.
type Mark string

// The read states of an entry.
const (
	MarkUnread   Mark = "unread"   // it counts in ReadState.Unread
	MarkRead     Mark = "read"     // on some device of the user
	MarkArchived Mark = "archived" // read, and put away
)

// ReadState says how many entries of the inbox are unread. Of two, the one with the higher
// Version is the newer, as long as the log is the same (Position.Epoch).
type ReadState struct {
	Unread  int
	Version int64
}

// InboxState says how all of the inbox stands. It replaces what was known before.
type InboxState struct {
	ReadState
	// Position is that of the newest entry.
	Position Position
	// Truncated is the offset of the newest entry that the server removed while it was unread, to keep the inbox
	// within its limits; 0 if there is none. It is 0 again when everything up to there was marked as read or archived.
	Truncated int64
	// Read and Archived are the offsets that are marked so among everything that is kept, in ascending
	// order. What is in neither is unread.
	Read, Archived []parley.Span
}

// Mark returns the state of the entry at this offset, if it is kept.
func (s InboxState) Mark(offset int64) Mark {
	switch {
	case within(s.Archived, offset):
		return MarkArchived
	case within(s.Read, offset):
		return MarkRead
	default:
		return MarkUnread
	}
}

func within(spans []parley.Span, offset int64) bool {
	return slices.ContainsFunc(spans, func(s parley.Span) bool { return s.From <= offset && offset <= s.To })
}

// Inbox is the newest kept private messages and notifications, oldest first, up to Position,
// and how the inbox stands.
type Inbox struct {
	Items []InboxItem
	InboxState
}

// InboxPage is a part of the inbox, oldest first, and how all of it stands.
type InboxPage struct {
	Items []InboxItem
	InboxState
	More bool // older ones are kept
	// Oldest is the offset of the oldest entry of the page, also if that has expired and is not in Items; 0 if the page is empty.
	Oldest int64
}

// InboxItem is one of the two; the other is nil.
type InboxItem struct {
	Private      *Private
	Notification *Notification
}

// Position returns that of the message.
func (i InboxItem) Position() Position {
	if i.Private != nil {
		return i.Private.Position
	}
	return i.Notification.Position
}

// Mark returns that of the message.
func (i InboxItem) Mark() Mark {
	if i.Private != nil {
		return i.Private.Mark
	}
	return i.Notification.Mark
}

// Marked says that a device of the user, this one too, or the application has changed the state of entries. All of it is
// news: who applies Inbox, InboxState and Marked in the order in which they are told ends up right. Only
// next to an InboxPage the Version counts: one that is not higher than the page's is in the page already.
type Marked struct {
	// ReadState is that of the change. On its way it may be overtaken by a newer one: see Options.OnUnread.
	ReadState
	As    Mark
	Epoch string
	// Offsets are the entries, in ascending order, without those of which a newer change was told already. Some may be of
	// messages that are still to come: these then have the Mark.
	Offsets []parley.Span
}

// inboxState reads what is said of the inbox as a whole.
func (m *inbound) inboxState() InboxState {
	return InboxState{m.count.ReadState, m.at, m.truncated, m.read, m.archived}
}

// oldest returns the offset of the first entry of a page; 0 if there is none.
func (m *inbound) oldest() int64 {
	for _, e := range m.messages {
		if e.at.Offset > 0 {
			return e.at.Offset
		}
	}
	return 0
}

// itemsOf returns the entries of an inbox.
func (m *inbound) itemsOf() []InboxItem {
	items := make([]InboxItem, 0, len(m.messages))
	for _, e := range m.messages {
		switch e.typ {
		case "private":
			items = append(items, InboxItem{Private: new(e.private())})
		case "notification":
			items = append(items, InboxItem{Notification: new(e.notification())})
		}
	}
	return items
}

// setMarks gives the entries of an inbox their state.
func (m *inbound) setMarks() {
	state := m.inboxState()
	for i, e := range m.messages {
		m.messages[i].mark = state.Mark(e.at.Offset)
	}
}
