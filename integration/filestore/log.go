package filestore

import (
	"bytes"
	"slices"
	"time"

	"github.com/parley-go/parley"
)

// log is the log of a topic. It depends on nothing but the records applied to
// it, so that it is the same after they are replayed.
type log struct {
	top     int64 // the newest offset; the entries are those up to it
	keep    int
	age     time.Duration
	entries []stored
	keys    map[string]known // also those that have expired: a test does not last long
}

type stored struct {
	at int64 // ns since 1970
	entry
}

type known struct {
	offset, at int64
}

// place gives entries their offsets, and returns those that are new.
func (l *log) place(now int64, entries []parley.Entry) []entry {
	var added []entry
	here := map[string]int64{} // the keys of this call
	for i := range entries {
		e := &entries[i]
		if e.Key != "" {
			if k, ok := l.keys[e.Key]; ok && now-k.at <= int64(parley.IdempotencyWindow) {
				e.Offset, e.Duplicate = k.offset, true
				continue
			}
			if offset, ok := here[e.Key]; ok {
				e.Offset, e.Duplicate = offset, true
				continue
			}
		}
		added = append(added, entry{Key: e.Key, Time: e.Time, Data: bytes.Clone(e.Data)})
		e.Offset, e.Duplicate = l.top+int64(len(added)), false
		here[e.Key] = e.Offset
	}
	return added
}

// append adds the entries of a record, and trims.
func (l *log) append(rec record) {
	l.keep, l.age = rec.Keep, rec.Age
	for _, e := range rec.Entries {
		l.top++
		l.entries = append(l.entries, stored{at: rec.At, entry: e})
		if e.Key != "" {
			if l.keys == nil {
				l.keys = map[string]known{}
			}
			l.keys[e.Key] = known{offset: l.top, at: rec.At}
		}
	}
	l.entries = slices.Delete(l.entries, 0, len(l.entries)-len(l.alive(rec.At)))
}

// alive returns the entries that may be read now.
func (l *log) alive(now int64) []stored {
	entries := l.entries[max(0, len(l.entries)-l.keep):]
	if l.age == 0 {
		return entries
	}
	for len(entries) > 0 && now-entries[0].at >= int64(l.age) {
		entries = entries[1:]
	}
	return entries
}

// read returns a stretch of the log, without the epoch.
func (l *log) read(now int64, q parley.Query) parley.Page {
	entries := l.alive(now)
	first := l.top - int64(len(entries)) + 1
	page := parley.Page{First: first, Top: l.top}
	from, to := first, l.top // the offsets wanted, both included
	if q.Forward {
		from = max(from, min(q.After, l.top)+1)
	} else if q.Before > 0 {
		to = min(to, q.Before-1)
	}
	n := min(to-from+1, int64(q.Limit))
	if n <= 0 {
		return page
	}
	if !q.Forward {
		from = to - n + 1
	}
	for offset := from; offset < from+n; offset++ {
		e := entries[offset-first]
		page.Entries = append(page.Entries, parley.Entry{Offset: offset, Time: e.Time, Data: e.Data})
	}
	return page
}
