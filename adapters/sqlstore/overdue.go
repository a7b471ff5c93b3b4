package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/parley-go/parley"
)

const (
	// Rows that another node is about to claim are passed over. The rows of topics
	// are not locked here: what a Mark has changed meanwhile, it has changed in these rows.
	findOverdue = `SELECT topic_id, pos, due_at FROM {p}entries WHERE due_at IS NOT NULL AND due_at <= ? ORDER BY due_at, topic_id, pos LIMIT ? {skip locked}`
	readOverdue = `WITH w(t, pos, now) AS ({w})
SELECT t.id, t.name, t.epoch, e.pos, e.sent_at, e.data FROM w JOIN {p}topics t ON t.id = w.t
JOIN {p}entries e ON e.topic_id = w.t AND e.pos = w.pos
WHERE e.pos >= t.first AND (t.age = 0 OR e.stored_at > w.now - t.age) AND (e.expires_at IS NULL OR e.expires_at > w.now)`
	putOff = `WITH w(t, pos, due) AS ({w})
UPDATE {p}entries SET due_at = w.due FROM w WHERE topic_id = w.t AND {p}entries.pos = w.pos`
)

type entryID struct{ topic, pos int64 }

// overdue is an entry that was claimed.
type overdue struct {
	parley.OverdueEntry
	id  entryID
	due int64 // since when
}

// Overdue implements [parley.Store].
func (s *Store) Overdue(ctx context.Context, limit int, lease time.Duration) ([]parley.OverdueEntry, error) {
	if limit <= 0 {
		return nil, s.ready(ctx)
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	var found []overdue
	now := s.clock.now() // what is put off is due after this time, and so not found again by this call
	for len(found) < limit {
		var batch []overdue
		more := false
		n := min(limit-len(found), s.opts.CleanRows)
		err := s.do(ctx, &request{alone: func(tx *sql.Tx) (err error) {
			batch, more, err = s.claimOverdue(ctx, tx, now, n, lease)
			return err
		}})
		if err != nil {
			return nil, err
		}
		found = append(found, batch...)
		if !more {
			break
		}
	}
	slices.SortStableFunc(found, func(a, b overdue) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.id.topic, b.id.topic), cmp.Compare(a.id.pos, b.id.pos))
	})
	list := make([]parley.OverdueEntry, len(found))
	for i, o := range found {
		list[i] = o.OverdueEntry
	}
	return list, nil
}

// claimOverdue puts off up to n entries and returns those of them that are still
// kept. The others are not waited for any more. more tells whether there may be others.
func (s *Store) claimOverdue(ctx context.Context, tx *sql.Tx, now int64, n int, lease time.Duration) (list []overdue, more bool, err error) {
	var rows [][]any
	since := map[entryID]int64{}
	due := map[entryID]any{} // nil: not any more
	err = query(ctx, tx, s.text(findOverdue), []any{now, int64(n)}, func(r *sql.Rows) error {
		var id entryID
		var at int64
		err := r.Scan(&id.topic, &id.pos, &at)
		rows, since[id], due[id] = append(rows, []any{id.topic, id.pos, now}), at, nil
		return err
	})
	if err != nil {
		return nil, false, err
	}
	err = s.queryEach(ctx, tx, readOverdue, "iii", rows, func(r *sql.Rows) error {
		var o overdue
		e := &o.Entry
		err := r.Scan(&o.id.topic, &o.Topic, &o.Epoch, &e.Offset, &e.Time, &e.Data)
		o.id.pos = e.Offset
		o.due = since[o.id]
		list, due[o.id] = append(list, o), now+millis(max(lease, 1))
		return err
	})
	if err != nil {
		return nil, false, err
	}
	rows = rows[:0]
	for id, at := range due {
		rows = append(rows, []any{id.topic, id.pos, at})
	}
	return list, len(rows) == n, s.execEach(ctx, tx, putOff, "iii", rows)
}
