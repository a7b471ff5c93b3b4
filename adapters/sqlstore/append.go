package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"math"

	"github.com/parley-go/parley"
)

var errKeep = errors.New("sqlstore: Append needs keep.Messages > 0, keep.Bytes >= 0 and keep.Age >= 0")

// Append implements [parley.Store].
func (s *Store) Append(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
	if keep.Messages <= 0 || keep.Bytes < 0 || keep.Age < 0 {
		return parley.Log{}, errKeep
	}
	if len(entries) == 0 {
		page, err := s.Read(ctx, topic, parley.Query{})
		return page.Log, err
	}
	own := &appendRequest{keep: keep, entries: make([]parley.Entry, len(entries))}
	r := &request{topic: topic, append: own, rows: len(entries)}
	for i, e := range entries {
		e.Data = bytes.Clone(e.Data)
		own.entries[i] = e
		r.bytes += len(e.Data)
	}
	if err := s.do(ctx, r); err != nil {
		return parley.Log{}, err
	}
	for i, e := range own.entries {
		entries[i].Offset, entries[i].Duplicate = e.Offset, e.Duplicate
	}
	return own.log, nil
}

// appending is what a transaction appends to one topic.
type appending struct {
	*topic
	requests []*appendRequest
	known    map[string]int64 // keys within the window, and their offsets
	added    []added          // the new entries; the first one is at the former top + 1
	top0     int64            // the former top
	total0   int64            // the former total
	victims  []victim         // old entries that are removed, ascending
	unread   int              // among the old ones
}

// added is a new entry.
type added struct {
	parley.Entry
	before int64
}

// victim is an old entry that Messages or Bytes remove.
type victim struct {
	pos, before int64
	unread      bool
}

// carryOutAppends writes the entries of requests to locked topics.
func (s *Store) carryOutAppends(ctx context.Context, tx *sql.Tx, now int64, topics map[string]*topic, requests []*request) error {
	if len(requests) == 0 {
		return nil
	}
	all := make(map[int64]*appending, len(requests))
	var order []*appending
	for _, r := range requests {
		t := topics[r.topic]
		a := all[t.id]
		if a == nil {
			a = &appending{topic: t, known: map[string]int64{}, top0: t.top, total0: t.total}
			all[t.id], order = a, append(order, a)
		}
		a.requests = append(a.requests, r.append)
	}
	if err := s.findKeys(ctx, tx, now, all, order); err != nil {
		return err
	}
	for _, a := range order {
		a.place(now)
	}
	if err := s.countUnread(ctx, tx, now, all, order); err != nil {
		return err
	}
	if err := s.findVictims(ctx, tx, now, all, order); err != nil {
		return err
	}
	if err := s.insert(ctx, tx, order); err != nil {
		return err
	}
	for _, a := range order {
		before := a.first
		a.settle()
		s.hints.note(a.id, a.first-before)
	}
	return s.forgetRelayed(ctx, tx, requests)
}

const findKeys = `WITH w(t, k, cut) AS ({w})
SELECT e.topic_id, e.ikey, e.pos FROM w JOIN {p}entries e ON e.topic_id = w.t AND e.ikey = w.k WHERE e.stored_at >= w.cut`

// findKeys looks up which keys are known. That of an entry that was trimmed is found
// until the window is over, because its row stays so long.
func (s *Store) findKeys(ctx context.Context, tx *sql.Tx, now int64, all map[int64]*appending, order []*appending) error {
	var rows [][]any
	for _, a := range order {
		for _, r := range a.requests {
			for _, e := range r.entries {
				if e.Key == "" || a.top0 == 0 {
					continue
				}
				cut := now - parley.IdempotencyWindow.Milliseconds()
				if s.relays.has(a.name, e.Key) {
					cut = 0 // stored once, however much later it is relayed again
				}
				rows = append(rows, []any{a.id, []byte(e.Key), cut})
			}
		}
	}
	return s.queryEach(ctx, tx, findKeys, "ibi", rows, func(r *sql.Rows) error {
		var id, pos int64
		var key string
		err := r.Scan(&id, &key, &pos)
		if old, ok := all[id].known[key]; err == nil && (!ok || pos < old) {
			all[id].known[key] = pos
		}
		return err
	})
}

// place gives the entries their offsets.
func (a *appending) place(now int64) {
	a.changed, a.lastAt = true, max(now, a.lastAt)
	for _, r := range a.requests {
		a.age = millis(r.keep.Age)
		for i := range r.entries {
			e := &r.entries[i]
			if e.Key != "" {
				if pos, ok := a.known[e.Key]; ok {
					e.Offset, e.Duplicate = pos, true
					continue
				}
				a.known[e.Key] = a.top + 1
			}
			a.top++
			e.Offset, e.Duplicate = a.top, false
			a.added = append(a.added, added{*e, a.total})
			a.total += int64(len(e.Data))
		}
	}
}

const countUnread = `WITH w(t, a, b, cut, now) AS ({w})
SELECT w.t, (SELECT count(*) FROM {p}entries e WHERE e.topic_id = w.t AND e.state = 1 AND e.pos BETWEEN w.a AND w.b
  AND e.stored_at > w.cut AND (e.expires_at IS NULL OR e.expires_at > w.now)) FROM w WHERE w.t IS NOT NULL`

// countUnread counts the unread entries in the logs as they were.
func (s *Store) countUnread(ctx context.Context, tx *sql.Tx, now int64, all map[int64]*appending, order []*appending) error {
	var rows [][]any
	for _, a := range order {
		if a.counts > 0 {
			rows = append(rows, []any{a.id, a.first, a.top0, a.cut(now), now})
		}
	}
	return s.queryEach(ctx, tx, countUnread, "iiiii", rows, func(r *sql.Rows) error {
		var id int64
		var n int
		err := r.Scan(&id, &n)
		all[id].unread = n
		return err
	})
}

// byCount is the first offset that Messages allows at the end.
func (a *appending) byCount() int64 { return max(a.first, a.top-int64(a.requests[0].keep.Messages)+1) }

// bound is the value of before that the entries need to be kept within Bytes.
func (a *appending) bound() int64 {
	if limit := a.requests[0].keep.Bytes; limit > 0 {
		return a.total - limit
	}
	return math.MinInt64
}

const findVictims = `WITH w(t, a, b, c, bound, cut, now) AS ({w})
SELECT e.topic_id, e.pos, e.before, CASE WHEN e.state = 1 AND e.stored_at > w.cut AND (e.expires_at IS NULL OR e.expires_at > w.now) THEN 1 ELSE 0 END
FROM w JOIN {p}entries e ON e.topic_id = w.t AND e.pos >= w.a AND e.pos < w.c
UNION ALL SELECT e.topic_id, e.pos, e.before, CASE WHEN e.state = 1 AND e.stored_at > w.cut AND (e.expires_at IS NULL OR e.expires_at > w.now) THEN 1 ELSE 0 END
FROM w JOIN {p}entries e ON e.topic_id = w.t AND e.pos >= w.c AND e.pos < (
  SELECT coalesce(min(x.pos), w.b + 1) FROM (SELECT y.pos FROM {p}entries y WHERE y.topic_id = w.t AND y.pos BETWEEN w.c AND w.b AND y.before >= w.bound ORDER BY y.pos LIMIT 1) x)
UNION ALL SELECT w.t, -1, coalesce((SELECT y.before FROM {p}entries y WHERE y.topic_id = w.t AND y.pos BETWEEN w.c AND w.b AND y.before >= w.bound ORDER BY y.pos LIMIT 1), -1), 0
FROM w WHERE w.t IS NOT NULL
ORDER BY 1, 2`

// findVictims finds the old entries that have to go, where anybody needs to know: if
// they may be unread, or if their sizes decide.
func (s *Store) findVictims(ctx context.Context, tx *sql.Tx, now int64, all map[int64]*appending, order []*appending) error {
	var rows [][]any
	for _, a := range order {
		large := a.bound() > a.floor
		if c := a.byCount(); a.top0 >= a.first && (large || a.counts > 0 && c > a.first) {
			rows = append(rows, []any{a.id, a.first, a.top0, min(c, a.top0+1), a.bound(), a.cut(now), now})
		}
	}
	return s.queryEach(ctx, tx, findVictims, "iiiiiii", rows, func(r *sql.Rows) error {
		var id, unread int64
		var v victim
		err := r.Scan(&id, &v.pos, &v.before, &unread)
		v.unread = unread != 0
		switch a := all[id]; {
		case v.pos > 0:
			a.victims = append(a.victims, v)
		case v.before >= 0:
			a.floor = v.before
		case len(a.added) > 0: // all go
			a.floor = a.total0
		}
		return err
	})
}

const insertEntries = `WITH w(t, pos, k, sent, stored, expires, due, state, before, data) AS ({w})
INSERT INTO {p}entries (topic_id, pos, ikey, sent_at, stored_at, expires_at, due_at, state, before, data)
SELECT t, pos, k, sent, stored, expires, due, state, before, data FROM w WHERE w.t IS NOT NULL`

func (s *Store) insert(ctx context.Context, tx *sql.Tx, order []*appending) error {
	var rows [][]any
	for _, a := range order {
		for _, e := range a.added {
			var key, expires, due any
			state := 0
			if e.Key != "" {
				key = []byte(e.Key)
			}
			if e.TTL > 0 {
				expires = a.lastAt + millis(e.TTL)
			}
			if e.ReceiveIn > 0 {
				due = a.lastAt + millis(e.ReceiveIn)
			}
			if e.Unread {
				state = 1
			}
			data := e.Data
			if data == nil {
				data = []byte{} // nil would be NULL, which means that the data is gone
			}
			rows = append(rows, []any{a.id, e.Offset, key, e.Time, a.lastAt, expires, due, state, e.before, data})
		}
	}
	return s.execEach(ctx, tx, insertEntries, "iibiiiiiib", rows)
}

// settle trims the log request by request, and notes how it stands after each.
func (a *appending) settle() {
	top, total, next := a.top0, a.total0, 0
	for _, r := range a.requests {
		for _, e := range r.entries {
			if e.Duplicate {
				continue
			}
			a.version++
			top, total = e.Offset, total+int64(len(e.Data))
			if e.Unread {
				a.unread++
				a.counts = 1
			}
		}
		next = a.trim(r.keep, top, total, next)
		r.log = parley.Log{Epoch: a.epoch, Unread: a.unread, Version: a.version, Truncated: a.truncated}
	}
}

// trim raises first to what keep allows in a log up to top. next is the index of the first
// of the victims that is still there; trim returns it.
func (a *appending) trim(keep parley.Retention, top, total int64, next int) int {
	byCount := max(a.first, top-int64(keep.Messages)+1)
	for ; a.first <= top; a.first++ {
		old := next < len(a.victims)
		v := victim{pos: a.first, before: math.MaxInt64} // of an old entry: may stay, or was never unread
		switch i := a.first - a.top0 - 1; {
		case i >= 0:
			v.before, v.unread = a.added[i].before, a.added[i].Unread
		case old && a.victims[next].pos == a.first:
			v = a.victims[next]
		case old:
			continue // a row that was deleted for its age
		}
		if a.first >= byCount && (keep.Bytes == 0 || a.first == top || total-v.before <= keep.Bytes) {
			break
		}
		if v.unread {
			a.unread--
			a.truncated = v.pos
		}
		if old && a.first <= a.top0 {
			next++
		}
	}
	return next
}
