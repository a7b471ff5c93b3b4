package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"

	"github.com/parley-go/parley"
)

// The states of entries, beside 0 of those that never count.
const (
	stateUnread = iota + 1
	stateRead
	stateArchived
)

// marks says for each kind of Mark which states it changes, and to which.
var marks = map[parley.MarkAs]struct {
	from []int
	to   int
}{
	parley.MarkRead:     {[]int{stateUnread}, stateRead},
	parley.MarkUnread:   {[]int{stateRead, stateArchived}, stateUnread},
	parley.MarkArchived: {[]int{stateUnread, stateRead}, stateArchived},
	parley.MarkReceived: {nil, 0},
}

// Mark implements [parley.Store].
func (s *Store) Mark(ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
	if _, ok := marks[m.As]; !ok {
		return parley.Marked{}, errors.New("sqlstore: Mark.As is none of the kinds of Mark")
	}
	m.Offsets, m.Keys = slices.Clone(m.Offsets), slices.Clone(m.Keys)
	own := &markRequest{mark: m}
	if err := s.do(ctx, &request{topic: topic, mark: own, rows: 1 + len(m.Offsets) + len(m.Keys)}); err != nil {
		return parley.Marked{}, err
	}
	return own.result, nil
}

// marking is what a transaction marks in one topic.
type marking struct {
	*topic
	*markRequest
	picked  map[int64]bool // offsets, other than by UpTo
	changed map[int64]bool
}

// carryOutMarks carries out requests, each on another one of the locked topics.
func (s *Store) carryOutMarks(ctx context.Context, tx *sql.Tx, now int64, topics map[string]*topic, requests []*request) error {
	all := map[int64]*marking{}
	epoch := ""
	for _, r := range requests {
		t := topics[r.topic]
		if t == nil {
			if epoch == "" {
				var err error
				if epoch, err = s.absentEpoch(ctx, tx); err != nil {
					return err
				}
			}
			r.mark.result = parley.Marked{Log: parley.Log{Epoch: epoch}}
			continue
		}
		m := &marking{topic: t, markRequest: r.mark, picked: map[int64]bool{}, changed: map[int64]bool{}}
		r.mark.result = parley.Marked{Top: t.top}
		all[t.id] = m
	}
	if len(all) == 0 {
		return nil
	}
	if err := s.pick(ctx, tx, now, all); err != nil {
		return err
	}
	if err := s.setReceived(ctx, tx, all); err != nil {
		return err
	}
	if err := s.setState(ctx, tx, all); err != nil {
		return err
	}
	return s.recount(ctx, tx, now, all)
}

func (s *Store) absentEpoch(ctx context.Context, x executor) (epoch string, err error) {
	err = query(ctx, x, s.text(`SELECT epoch FROM {p}meta WHERE id = 1`), nil, func(r *sql.Rows) error { return r.Scan(&epoch) })
	return epoch, err
}

// valid reports whether the positions of the mark are of this log.
func (m *marking) valid() bool {
	return (m.mark.Epoch == "" || m.mark.Epoch == m.epoch) && m.mark.UpTo <= m.top &&
		(len(m.mark.Offsets) == 0 || slices.Max(m.mark.Offsets) <= m.top)
}

const kept = ` AND e.stored_at > w.cut AND (e.expires_at IS NULL OR e.expires_at > w.now)`

const (
	// One row for each state that UpTo is to change.
	pickUpTo = `WITH w(t, a, b, state, cut, now) AS ({w})
SELECT e.topic_id, e.pos, e.state, 0 FROM w JOIN {p}entries e ON e.topic_id = w.t AND e.state = w.state AND e.pos BETWEEN w.a AND w.b
WHERE e.state > 0` + kept
	pickOffsets = `WITH w(t, a, pos, cut, now) AS ({w})
SELECT e.topic_id, e.pos, e.state, 1 FROM w JOIN {p}entries e ON e.topic_id = w.t AND e.pos = w.pos WHERE e.pos >= w.a` + kept
	pickKeys = `WITH w(t, a, k, cut, now) AS ({w})
SELECT e.topic_id, e.pos, e.state, 1 FROM w JOIN {p}entries e ON e.topic_id = w.t AND e.ikey = w.k WHERE e.pos >= w.a` + kept

	setReceived = `WITH w(t, a, b) AS ({w})
UPDATE {p}entries SET due_at = NULL FROM w WHERE topic_id = w.t AND pos BETWEEN w.a AND w.b AND due_at IS NOT NULL`
	setState = `WITH w(t, a, b, state) AS ({w})
UPDATE {p}entries SET state = w.state FROM w WHERE topic_id = w.t AND pos BETWEEN w.a AND w.b`
)

// pick finds the entries that the marks are about, and those of them that change.
func (s *Store) pick(ctx context.Context, tx *sql.Tx, now int64, all map[int64]*marking) error {
	var upTo, offsets, keys [][]any
	for id, m := range all {
		if !m.valid() {
			m.mark = parley.Mark{As: parley.MarkReceived} // of nothing
			continue
		}
		for _, state := range marks[m.mark.As].from {
			if m.mark.UpTo > 0 {
				upTo = append(upTo, []any{id, m.first, m.mark.UpTo, state, m.cut(now), now})
			}
		}
		for _, pos := range m.mark.Offsets {
			offsets = append(offsets, []any{id, m.first, pos, m.cut(now), now})
		}
		for _, key := range m.mark.Keys {
			if key != "" {
				keys = append(keys, []any{id, m.first, []byte(key), m.cut(now), now})
			}
		}
	}
	scan := func(r *sql.Rows) error {
		var id, pos int64
		var state, single int
		err := r.Scan(&id, &pos, &state, &single)
		m := all[id]
		if single == 1 {
			m.picked[pos] = true
		}
		if slices.Contains(marks[m.mark.As].from, state) {
			m.changed[pos] = true
		}
		return err
	}
	if err := s.queryEach(ctx, tx, pickUpTo, "iiiiii", upTo, scan); err != nil {
		return err
	}
	if err := s.queryEach(ctx, tx, pickOffsets, "iiiii", offsets, scan); err != nil {
		return err
	}
	return s.queryEach(ctx, tx, pickKeys, "iibii", keys, scan)
}

// setReceived sees to it that Overdue does not return what a device has.
func (s *Store) setReceived(ctx context.Context, tx *sql.Tx, all map[int64]*marking) error {
	var rows [][]any
	for id, m := range all {
		if m.mark.As == parley.MarkUnread {
			continue
		}
		if m.mark.UpTo > 0 {
			rows = append(rows, []any{id, 0, m.mark.UpTo})
		}
		for _, run := range runs(m.picked) {
			rows = append(rows, []any{id, run.From, run.To})
		}
	}
	return s.execEach(ctx, tx, setReceived, "iii", rows)
}

// setState changes the state of the entries found, and of the topics.
func (s *Store) setState(ctx context.Context, tx *sql.Tx, all map[int64]*marking) error {
	var rows [][]any
	for id, m := range all {
		m.result.Changed = runs(m.changed)
		for _, run := range m.result.Changed {
			rows = append(rows, []any{id, run.From, run.To, marks[m.mark.As].to})
		}
		puts := m.mark.As == parley.MarkRead || m.mark.As == parley.MarkArchived
		seen := puts && m.truncated > 0 && m.mark.UpTo >= m.truncated
		if seen {
			m.truncated = 0
		}
		m.topic.changed = m.topic.changed || seen || len(m.changed) > 0
		if len(m.changed) > 0 {
			m.version++
		}
	}
	return s.execEach(ctx, tx, setState, "iiii", rows)
}

// recount counts the unread entries after the marks.
func (s *Store) recount(ctx context.Context, tx *sql.Tx, now int64, all map[int64]*marking) error {
	var rows [][]any
	for id, m := range all {
		m.result.Log = parley.Log{Epoch: m.epoch, Version: m.version, Truncated: m.truncated}
		if m.counts > 0 {
			rows = append(rows, []any{id, m.first, m.top, m.cut(now), now})
		}
	}
	return s.queryEach(ctx, tx, countUnread, "iiiii", rows, func(r *sql.Rows) error {
		var id int64
		var n int
		err := r.Scan(&id, &n)
		all[id].result.Unread = n
		return err
	})
}

// runs turns a set of offsets into spans, ascending, of which none touches the next.
func runs(set map[int64]bool) []parley.Span {
	var spans []parley.Span
	for _, pos := range slices.Sorted(maps.Keys(set)) {
		if n := len(spans); n > 0 && spans[n-1].To == pos-1 {
			spans[n-1].To = pos
		} else {
			spans = append(spans, parley.Span{From: pos, To: pos})
		}
	}
	return spans
}
