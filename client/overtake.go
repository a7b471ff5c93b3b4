package client

import (
	"slices"

	"github.com/parley-go/parley"
)

// marks are those that came on a connection since its inbox, as far as they may still be needed: for entries that they have
// overtaken, and to tell which of those that come late are news (P8.5).
type marks struct {
	base   int64 // the version of the inbox, which has all up to it
	forgot int64 // the highest version of those that are not in list any more
	list   []mark
}

// mark is what a version of the inbox has changed, or a part of that.
type mark struct {
	version int64
	as      Mark
	offsets []parley.Span // in ascending order
}

func (m mark) last() int64 { return m.offsets[len(m.offsets)-1].To }

// marksOf starts with an inbox. It may be ahead of its own position, and say what was read of entries that are still to come.
func marksOf(h *inbound) marks {
	s := marks{base: h.count.Version}
	if h.at.IsZero() {
		return s
	}
	seen := []parley.Span{{From: 0, To: h.at.Offset}}
	s.add(mark{s.base, MarkRead, without(h.read, seen)})
	s.add(mark{s.base, MarkArchived, without(h.archived, seen)})
	return s
}

// add takes a mark and returns which of its offsets are news: those that no mark of a higher version is known of.
func (s *marks) add(m mark) []parley.Span {
	at := len(s.list)
	for at > 0 && s.list[at-1].version > m.version {
		at--
		m.offsets = without(m.offsets, s.list[at].offsets)
	}
	if len(m.offsets) > 0 {
		s.list = slices.Insert(s.list, at, m)
	}
	return m.offsets
}

// of returns the state of an entry that comes live.
func (s *marks) of(offset int64) Mark {
	for _, m := range slices.Backward(s.list) {
		if m.last() >= offset && within(m.offsets, offset) {
			return m.as
		}
	}
	return MarkUnread
}

// late reports whether it can't be told any more what of a mark is news.
func (s *marks) late(version int64) bool { return s.base < version && version < s.forgot }

// forget makes room: the oldest go whose entries have all come, up to the offset top. False if there are too many others.
func (s *marks) forget(top int64) bool {
	for len(s.list) > maxHeld {
		i := slices.IndexFunc(s.list, func(m mark) bool { return m.last() <= top })
		if i < 0 {
			return false
		}
		s.forgot = max(s.forgot, s.list[i].version)
		s.list = slices.Delete(s.list, i, i+1)
	}
	return true
}

// without returns what is left of spans without those of remove; all in ascending order.
func without(spans, remove []parley.Span) (left []parley.Span) {
	for _, s := range spans {
		for len(remove) > 0 && remove[0].To < s.From {
			remove = remove[1:]
		}
		for _, r := range remove {
			if r.From > s.To {
				break
			}
			if s.From < r.From {
				left = append(left, parley.Span{From: s.From, To: r.From - 1})
			}
			s.From = r.To + 1
		}
		if s.From <= s.To {
			left = append(left, s)
		}
	}
	return left
}
