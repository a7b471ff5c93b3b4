package storetest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/parley-go/parley"
)

// appended breaks the Log that Append returns; before is how the log stood.
func appended(f func(log *parley.Log, before, after parley.Page, entries []parley.Entry)) func(b *broken) {
	return func(b *broken) {
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			before, _ := s.Read(ctx, topic, parley.Query{})
			log, err := s.Append(ctx, topic, keep, entries)
			after, _ := s.Read(ctx, topic, parley.Query{})
			f(&log, before, after, entries)
			return log, err
		}
	}
}

// marking breaks what is given to Mark; page is how the log stands.
func marking(f func(m *parley.Mark, page parley.Page)) func(b *broken) {
	return func(b *broken) {
		b.mark = func(s parley.Store, ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
			page, err := s.Read(ctx, topic, standings)
			if err != nil {
				return parley.Marked{}, err
			}
			m.Offsets, m.Keys = slices.Clone(m.Offsets), slices.Clone(m.Keys)
			f(&m, page)
			return s.Mark(ctx, topic, m)
		}
	}
}

// marked breaks what Mark returns.
func marked(f func(got *parley.Marked, m parley.Mark)) func(b *broken) {
	return func(b *broken) {
		b.mark = func(s parley.Store, ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
			got, err := s.Mark(ctx, topic, m)
			f(&got, m)
			return got, err
		}
	}
}

// twice marks the same entries as something else first.
func twice(when, first parley.MarkAs) func(b *broken) {
	return func(b *broken) {
		b.mark = func(s parley.Store, ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
			if m.As == when {
				other := m
				other.As = first
				if _, err := s.Mark(ctx, topic, other); err != nil {
					return parley.Marked{}, err
				}
			}
			return s.Mark(ctx, topic, m)
		}
	}
}

// stickyTruncated never lets Truncated fall.
func stickyTruncated(b *broken) {
	highest := map[string]int64{}
	note := func(topic string, log *parley.Log) {
		highest[topic] = max(highest[topic], log.Truncated)
		log.Truncated = highest[topic]
	}
	b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
		log, err := s.Append(ctx, topic, keep, entries)
		note(topic, &log)
		return log, err
	}
	b.read = func(s parley.Store, ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
		page, err := s.Read(ctx, topic, q)
		note(topic, &page.Log)
		return page, err
	}
	b.mark = func(s parley.Store, ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
		got, err := s.Mark(ctx, topic, m)
		note(topic, &got.Log)
		return got, err
	}
}

const ttlCase = "TTL/an entry whose TTL has passed has no data and leaves no hole"

var brokenCounts = []flaw{
	{"counts every entry", "Unread/counts the entries that were appended so (F33)", given(func(_ *parley.Retention, entries []parley.Entry) {
		for i := range entries {
			entries[i].Unread = true
		}
	})},
	{"returns how the log stood before the Append", "Unread/every answer says how the log stands",
		appended(func(log *parley.Log, before, _ parley.Page, _ []parley.Entry) { *log = before.Log })},
	{"has one Version for all", "Unread/every answer says how the log stands", func(b *broken) {
		page(func(p *parley.Page, _ parley.Query) { p.Version = 1 })(b)
		appended(func(log *parley.Log, _, _ parley.Page, _ []parley.Entry) { log.Version = 1 })(b)
	}},
	{"returns what Read should leave unset", "Unread/every answer says how the log stands", page(func(p *parley.Page, _ parley.Query) {
		for i := range p.Entries {
			p.Entries[i].Unread = true
		}
	})},
	{"stores something without entries", "Unread/an Append without entries changes and creates nothing", func(b *broken) {
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			if len(entries) == 0 {
				entries = messages(1, 1)
			}
			return s.Append(ctx, topic, keep, entries)
		}
	}},
	{"makes duplicates unread again", "Unread/a duplicate does not count again (F10)", func(b *broken) {
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			log, err := s.Append(ctx, topic, keep, entries)
			for _, e := range entries {
				if e.Duplicate {
					got, _ := s.Mark(ctx, topic, parley.Mark{As: parley.MarkUnread, Offsets: []int64{e.Offset}})
					log = got.Log
				}
			}
			return log, err
		}
	}},
	{"has a count that drifts: trimming does not lower it", "Unread/falls with the entries that leave the log",
		appended(func(log *parley.Log, before, _ parley.Page, entries []parley.Entry) {
			log.Unread = before.Unread
			for _, e := range entries {
				if e.Unread && !e.Duplicate {
					log.Unread++
				}
			}
		})},
	{"counts only when something is written", "Unread/falls with the entries that grow too old", func(b *broken) {
		unread := 0
		appended(func(log *parley.Log, _, _ parley.Page, _ []parley.Entry) { unread = log.Unread })(b)
		marked(func(got *parley.Marked, _ parley.Mark) { unread = got.Unread })(b)
		page(func(p *parley.Page, _ parley.Query) { p.Unread = unread })(b)
	}},
	{"keeps Truncated of a log that was lost", "Unread/a log that was lost begins without anything (F66)", stickyTruncated},
	{"ignores Bytes", "Unread/Retention.Bytes bounds the data of all entries",
		given(func(keep *parley.Retention, _ []parley.Entry) { keep.Bytes = 0 })},
	{"keeps a byte too few", "Unread/Retention.Bytes bounds the data of all entries",
		given(func(keep *parley.Retention, _ []parley.Entry) { keep.Bytes = max(0, keep.Bytes-1) })},
	{"leaves a hole for what has expired", ttlCase, page(func(p *parley.Page, _ parley.Query) {
		p.Entries = slices.DeleteFunc(p.Entries, func(e parley.Entry) bool { return e.Data == nil })
	})},
	{"ignores TTL", ttlCase, given(func(_ *parley.Retention, entries []parley.Entry) {
		for i := range entries {
			entries[i].TTL = 0
		}
	})},
	{"counts TTL three times as fast", ttlCase, given(func(_ *parley.Retention, entries []parley.Entry) {
		for i := range entries {
			entries[i].TTL /= 3
		}
	})},
	{"has empty data for what has expired", ttlCase, page(func(p *parley.Page, _ parley.Query) {
		for i, e := range p.Entries {
			p.Entries[i].Data = append([]byte{}, e.Data...)
		}
	})},
	{"counts what has expired", ttlCase, page(func(p *parley.Page, _ parley.Query) { p.Unread = unmarked(*p) })},
	{"marks what has expired", "TTL/no mark brings back an entry whose TTL has passed",
		marked(func(got *parley.Marked, _ parley.Mark) { got.Changed = spansOf(span(1, got.Top)...) })},
	{"lets a TTL take the place of Age", "TTL/Retention.Age ends the longer TTL", given(func(keep *parley.Retention, entries []parley.Entry) {
		if entries[0].TTL > 0 {
			keep.Age = entries[0].TTL
		}
	})},
	{"takes all that leaves for unread", "TTL/an entry that has expired does not leave the log as unread",
		appended(func(log *parley.Log, _, after parley.Page, _ []parley.Entry) { log.Truncated = after.First - 1 })},
	{"takes all that leaves for unread, be it read", "Truncated/is the newest entry that was removed while it was unread (F27)",
		appended(func(log *parley.Log, _, after parley.Page, _ []parley.Entry) { log.Truncated = after.First - 1 })},
	{"forgets what did not fit of the batch itself", "Truncated/counts what Retention.Bytes removes, and a batch larger than what is kept",
		appended(func(log *parley.Log, before, _ parley.Page, _ []parley.Entry) {
			log.Truncated = min(log.Truncated, before.Top)
		})},
	{"never resets Truncated", "Truncated/ends with a Mark up to there that entries are read or archived", stickyTruncated},
	{"resets Truncated with any Mark", "Truncated/ends with a Mark up to there that entries are read or archived", func(b *broken) {
		b.mark = func(s parley.Store, ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
			page, _ := s.Read(ctx, topic, parley.Query{})
			_, _ = s.Mark(ctx, topic, parley.Mark{As: parley.MarkRead, UpTo: page.Truncated})
			return s.Mark(ctx, topic, m)
		}
	}},
}

const (
	kindsCase  = "Mark/read, unread and archived, and what each makes of the others (F33)"
	picksCase  = "Mark/UpTo, Offsets and Keys pick together, in any order and repeatedly"
	absentCase = "Mark/of a topic that nothing was appended to neither fails nor creates it"
)

var brokenMarks = []flaw{
	{"makes what is archived read", kindsCase, twice(parley.MarkRead, parley.MarkUnread)},
	{"leaves archived what is unread again", kindsCase, marking(func(m *parley.Mark, page parley.Page) {
		if m.As == parley.MarkUnread {
			archived := numbersIn(page.Archived)
			m.Offsets = append(m.Offsets, span(1, m.UpTo)...)
			m.UpTo = 0
			m.Offsets = slices.DeleteFunc(m.Offsets, func(n int64) bool { return slices.Contains(archived, n) })
		}
	})},
	{"takes archived for read", kindsCase, marking(func(m *parley.Mark, _ parley.Page) {
		if m.As == parley.MarkArchived {
			m.As = parley.MarkRead
		}
	})},
	{"returns spans that touch", kindsCase, page(func(p *parley.Page, _ parley.Query) {
		var list []parley.Span
		for _, n := range numbersIn(p.Read) {
			list = append(list, parley.Span{From: n, To: n})
		}
		p.Read = list
	})},
	{"returns only the marks of the entries asked for", kindsCase, page(func(p *parley.Page, q parley.Query) {
		if q.Limit > 0 {
			p.Read = slices.DeleteFunc(slices.Clone(p.Read), func(s parley.Span) bool { return s.From > p.Entries[0].Offset })
		}
	})},
	{"returns marks that nobody asked for", kindsCase, func(b *broken) {
		b.read = func(s parley.Store, ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
			q.Marks = true
			return s.Read(ctx, topic, q)
		}
	}},
	{"tells changes that are none", "Mark/of entries that have the state already changes none", marked(func(got *parley.Marked, m parley.Mark) {
		if m.UpTo > 0 && m.UpTo <= got.Top {
			got.Changed = spansOf(span(1, m.UpTo)...)
		}
	})},
	{"takes only the first way to pick", picksCase, marking(func(m *parley.Mark, _ parley.Page) {
		if m.UpTo > 0 {
			m.Offsets, m.Keys = nil, nil
		}
	})},
	{"ignores offsets out of order", picksCase, marking(func(m *parley.Mark, _ parley.Page) {
		if !slices.IsSorted(m.Offsets) {
			m.Offsets = m.Offsets[:1]
		}
	})},
	{"takes a mark of nothing for one of all", "Mark/that picks nothing changes nothing", marking(func(m *parley.Mark, page parley.Page) {
		if m.UpTo == 0 && len(m.Offsets)+len(m.Keys) == 0 {
			m.UpTo = page.Top
		}
	})},
	{"marks what was never counted", "Mark/an entry that was appended without Unread is never marked", func(b *broken) {
		given(func(_ *parley.Retention, entries []parley.Entry) {
			for i := range entries {
				entries[i].Unread = true
			}
		})(b)
	}},
	{"takes received for read", "Mark/received changes nothing that can be seen", marking(func(m *parley.Mark, _ parley.Page) {
		if m.As == parley.MarkReceived {
			m.As = parley.MarkRead
		}
	})},
	{"ignores the epoch of a Mark", "Mark/of another epoch changes nothing (F66)", marking(func(m *parley.Mark, _ parley.Page) { m.Epoch = "" })},
	{"ignores the epoch of a Mark when the log was lost", "Mark/of a log that was lost does not touch the new one (F66)",
		marking(func(m *parley.Mark, _ parley.Page) { m.Epoch = "" })},
	{"marks as far as it can", "Mark/ahead of the log changes nothing (F65)", marking(func(m *parley.Mark, page parley.Page) {
		m.UpTo = min(m.UpTo, page.Top)
		m.Offsets = slices.DeleteFunc(m.Offsets, func(n int64) bool { return n > page.Top })
	})},
	{"looks at UpTo only for what is ahead", "Mark/ahead of the log changes nothing (F65)", marking(func(m *parley.Mark, page parley.Page) {
		m.Offsets = slices.DeleteFunc(m.Offsets, func(n int64) bool { return n > page.Top })
	})},
	{"tells changes of what is not kept", "Mark/passes over entries that are not kept any more", marked(func(got *parley.Marked, m parley.Mark) {
		if m.UpTo > 0 {
			got.Changed = spansOf(span(1, m.UpTo)...)
		}
	})},
	{"creates what it marks", absentCase, func(b *broken) {
		b.mark = func(s parley.Store, ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
			if page, _ := s.Read(ctx, topic, parley.Query{}); page.Top == 0 {
				_, _ = s.Append(ctx, topic, keep(1), messages(1, 1))
			}
			return s.Mark(ctx, topic, m)
		}
	}},
	{"takes an absent topic for an error", absentCase, func(b *broken) {
		b.mark = func(s parley.Store, ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
			if page, _ := s.Read(ctx, topic, parley.Query{}); page.Top == 0 {
				return parley.Marked{}, fmt.Errorf("no such topic")
			}
			return s.Mark(ctx, topic, m)
		}
	}},
	{"finds keys in all topics", "Mark/is of its topic only", func(b *broken) {
		var topics []string
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			topics = append(topics, topic)
			return s.Append(ctx, topic, keep, entries)
		}
		b.mark = func(s parley.Store, ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
			for _, other := range topics {
				_, _ = s.Mark(ctx, other, parley.Mark{As: m.As, Keys: m.Keys})
			}
			return s.Mark(ctx, topic, m)
		}
	}},
	{"has the Version from before a Mark", "Mark/on one node counts on the other", marked(func(got *parley.Marked, _ parley.Mark) {
		if len(got.Changed) > 0 {
			got.Version--
		}
	})},
	{"folds the case of the keys of a Mark", "Mark/keys are opaque", marking(func(m *parley.Mark, _ parley.Page) {
		for i := range m.Keys {
			m.Keys[i] = fold(m.Keys[i])
		}
	})},
	{"sorts the offsets given", "Mark/neither keeps nor changes the slices given", func(b *broken) {
		b.mark = func(s parley.Store, ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
			slices.Sort(m.Offsets)
			return s.Mark(ctx, topic, m)
		}
	}},
	{"uses the memory of spans again", "Mark/a page that was returned never changes", func(b *broken) {
		var given []parley.Span
		page(func(p *parley.Page, q parley.Query) {
			if q.Marks {
				given = p.Read
			}
		})(b)
		marked(func(*parley.Marked, parley.Mark) {
			for i := range given {
				given[i].To++
			}
		})(b)
	}},
	{"forgets keys after the window", "Mark/finds a key as long as its entry is kept, beyond IdempotencyWindow", func(b *broken) {
		at := map[string]time.Time{}
		given(func(_ *parley.Retention, entries []parley.Entry) {
			for _, e := range entries {
				at[e.Key] = time.Now()
			}
		})(b)
		marking(func(m *parley.Mark, _ parley.Page) {
			m.Keys = slices.DeleteFunc(m.Keys, func(key string) bool { return time.Since(at[key]) > parley.IdempotencyWindow })
		})(b)
	}},
	{"finds only the last entry with a key", "Mark/picks all entries with the same key", func(b *broken) {
		last := map[string]int64{}
		appended(func(_ *parley.Log, _, _ parley.Page, entries []parley.Entry) {
			for _, e := range entries {
				last[e.Key] = e.Offset
			}
		})(b)
		marking(func(m *parley.Mark, _ parley.Page) {
			for _, key := range m.Keys {
				m.Offsets = append(m.Offsets, last[key])
			}
			m.Keys = nil
		})(b)
	}},
	{"takes 100 offsets at most", "Mark/of long logs", marking(func(m *parley.Mark, _ parley.Page) {
		m.Offsets = m.Offsets[:min(100, len(m.Offsets))]
	})},
}
