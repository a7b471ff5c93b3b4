package checker

import (
	"fmt"
	"slices"
	"strings"

	"github.com/parley-go/parley"
)

// Marking is a change of the read state of an inbox, as it is asked for and as it reaches the Store.
type Marking struct {
	As      parley.MarkAs
	Epoch   string
	UpTo    int64
	Offsets []int64
	IDs     []string // of notifications
}

var markNames = map[parley.MarkAs]string{
	parley.MarkRead: "read", parley.MarkUnread: "unread", parley.MarkArchived: "archived", parley.MarkReceived: "received",
}

func markAs(name string) parley.MarkAs {
	for as, n := range markNames {
		if n == name {
			return as
		}
	}
	return 0
}

// String is the same for two markings of the same.
func (m *Marking) String() string {
	return fmt.Sprintf("%s(%s:%d %v %v)", markNames[m.As], m.Epoch, m.UpTo, m.Offsets, m.IDs)
}

// picks reports whether an entry is meant. The epoch is that of m.
func (m *Marking) picks(offset int64, id string) bool {
	return offset <= m.UpTo || slices.Contains(m.Offsets, offset) || id != "" && slices.Contains(m.IDs, id)
}

// newest is the newest offset that is named.
func (m *Marking) newest() int64 {
	newest := m.UpTo
	for _, offset := range m.Offsets {
		newest = max(newest, offset)
	}
	return newest
}

// markingOf is what reached the Store. Keys are those of the application.
func markingOf(m parley.Mark) *Marking {
	all := &Marking{As: m.As, Epoch: m.Epoch, UpTo: m.UpTo, Offsets: slices.Clone(m.Offsets)}
	for _, key := range m.Keys {
		all.IDs = append(all.IDs, strings.TrimPrefix(key, "\x00"))
	}
	return all
}

// Count is how many entries of an inbox are unread, and the version of that number.
type Count struct {
	Unread  int
	Version int64
}

func (c *Count) String() string { return fmt.Sprintf("%d unread, version %d", c.Unread, c.Version) }

// Standing is how the whole of an inbox stands, but for the number of what is unread.
type Standing struct {
	Truncated      int64
	Read, Archived []parley.Span
}

func (s *Standing) String() string {
	return fmt.Sprintf("truncated %d, read %v, archived %v", s.Truncated, s.Read, s.Archived)
}

// state returns the state of an entry that is kept.
func (s *Standing) state(offset int64) parley.MarkAs {
	switch {
	case covers(s.Archived, offset):
		return parley.MarkArchived
	case covers(s.Read, offset):
		return parley.MarkRead
	default:
		return parley.MarkUnread
	}
}

func covers(spans []parley.Span, offset int64) bool {
	return slices.ContainsFunc(spans, func(s parley.Span) bool { return s.From <= offset && offset <= s.To })
}

func standingOf(p parley.Page) *Standing {
	return &Standing{Truncated: p.Truncated, Read: p.Read, Archived: p.Archived}
}

func countOf(l parley.Log) *Count { return &Count{l.Unread, l.Version} }

// marking is what a client is to do with its inbox. Pick chooses what it is about, out of what the client knows then.
type marking struct {
	As   parley.MarkAs
	Pick int
}

// selection chooses what to mark in an inbox that ends at a place, and in which notifications have these ids. bad says that it
// is none: it has to be refused.
func (m marking) selection(at Place, ids []string) (s *Marking, bad bool) {
	s = &Marking{As: m.As, Epoch: at.Epoch}
	back := int64(m.Pick / 16)
	switch pick := m.Pick % 16; {
	case pick < 6:
		s.UpTo = max(1, at.Offset-back%5)
	case pick < 10, pick < 13 && len(ids) == 0:
		for i := range int64(1 + pick%3) {
			if offset := at.Offset - (back+i*i*3)%(inboxKeeps+3); offset > 0 && !slices.Contains(s.Offsets, offset) {
				s.Offsets = append(s.Offsets, offset)
			}
		}
	case pick < 13:
		s.Epoch = ""
		for i := range 1 + pick%2 {
			if id := ids[(int(back)+i)%len(ids)]; !slices.Contains(s.IDs, id) {
				s.IDs = append(s.IDs, id)
			}
		}
	case pick == 13:
		s.UpTo, s.Epoch = max(1, at.Offset), "made-up"
	case pick == 14:
		s.UpTo = at.Offset + 1000
	default:
		s.UpTo, s.IDs = 1, []string{"both"}
		return s, true
	}
	if s.UpTo == 0 && s.Offsets == nil && s.IDs == nil {
		s.Offsets = []int64{1}
	}
	return s, false
}
