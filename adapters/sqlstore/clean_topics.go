package sqlstore

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-go/parley"
)

const (
	dueTopics = `SELECT id FROM {p}topics WHERE check_at <= ? ORDER BY check_at LIMIT ? {skip locked}`
	// lo is the oldest offset still kept.
	boundsOfTopics = `WITH w(t, now) AS ({w})
SELECT t.id, t.top, t.age, t.last_at, CASE WHEN t.age > 0 AND t.last_at <= w.now - t.age THEN t.top + 1
  ELSE coalesce((SELECT e.pos FROM {p}entries e WHERE e.topic_id = t.id AND e.pos >= t.first AND (t.age = 0 OR e.stored_at > w.now - t.age)
    ORDER BY e.pos LIMIT 1), t.top + 1) END
FROM w JOIN {p}topics t ON t.id = w.t ORDER BY t.name {for update}`
	// What is not kept goes, but keys are remembered until their window is over.
	deleteEntries = `WITH w(t, lo, cut) AS ({w})
DELETE FROM {p}entries WHERE (topic_id, pos) IN (
  SELECT e.topic_id, e.pos FROM w JOIN {p}entries e ON e.topic_id = w.t AND e.pos < w.lo AND (e.ikey IS NULL OR e.stored_at < w.cut) LIMIT {rows})`
	oldestEntries = `WITH w(t) AS ({w})
SELECT w.t, coalesce((SELECT e.stored_at FROM {p}entries e WHERE e.topic_id = w.t ORDER BY e.pos LIMIT 1), -1),
  coalesce((SELECT e.pos FROM {p}entries e WHERE e.topic_id = w.t ORDER BY e.pos LIMIT 1), -1) FROM w WHERE w.t IS NOT NULL`
	checkTopics = `WITH w(t, lo, check_at) AS ({w})
UPDATE {p}topics SET check_at = w.check_at, first = CASE WHEN first < w.lo THEN w.lo ELSE first END FROM w WHERE id = w.t`
)

// cleaned is a topic that is being cleaned up.
type cleaned struct {
	id, top, age, lastAt int64
	lo                   int64 // the oldest offset still kept
	oldest, oldestPos    int64 // when the oldest row was stored, and its offset; -1: there is none
}

// cleanTopics deletes entries of the topics given, or of those whose turn it is, and
// says when their next turn is. To empty it adds those that may be dropped.
func (s *Store) cleanTopics(ctx context.Context, tx *sql.Tx, ids []int64, empty *[]int64) (bool, error) {
	now := s.clock.now()
	due := ids == nil
	if due {
		err := query(ctx, tx, s.text(dueTopics), []any{now, int64(cleanTopics)}, func(r *sql.Rows) error {
			var id int64
			err := r.Scan(&id)
			ids = append(ids, id)
			return err
		})
		if err != nil {
			return false, err
		}
	}
	topics, err := s.boundsOf(ctx, tx, now, ids)
	if err != nil || len(topics) == 0 {
		return false, err
	}
	more, err := s.deleteEntries(ctx, tx, now, topics)
	if err != nil || more {
		return true, err // once more the same
	}
	rows := make([][]any, 0, len(topics))
	for id := range topics {
		rows = append(rows, []any{id})
	}
	err = s.queryEach(ctx, tx, oldestEntries, "i", rows, func(r *sql.Rows) error {
		var id, oldest, pos int64
		err := r.Scan(&id, &oldest, &pos)
		topics[id].oldest, topics[id].oldestPos = oldest, pos
		return err
	})
	if err != nil {
		return false, err
	}
	rows = rows[:0]
	for id, t := range topics {
		if t.droppable(now) {
			*empty = append(*empty, id)
		}
		rows = append(rows, []any{id, t.lo, t.next(now)})
	}
	return due && len(ids) == cleanTopics, s.execEach(ctx, tx, checkTopics, "iii", rows)
}

func (s *Store) boundsOf(ctx context.Context, tx *sql.Tx, now int64, ids []int64) (map[int64]*cleaned, error) {
	rows := make([][]any, 0, len(ids))
	for _, id := range ids {
		rows = append(rows, []any{id, now})
	}
	topics := map[int64]*cleaned{}
	return topics, s.queryEach(ctx, tx, boundsOfTopics, "ii", rows, func(r *sql.Rows) error {
		var t cleaned
		err := r.Scan(&t.id, &t.top, &t.age, &t.lastAt, &t.lo)
		topics[t.id] = &t
		return err
	})
}

func (s *Store) deleteEntries(ctx context.Context, tx *sql.Tx, now int64, topics map[int64]*cleaned) (more bool, err error) {
	var rows [][]any
	for _, id := range slices.Sorted(maps.Keys(topics)) {
		rows = append(rows, []any{id, topics[id].lo, now - parley.IdempotencyWindow.Milliseconds()})
	}
	table, args := columns("iii").table(s.opts.Dialect, rows)
	text := strings.Replace(s.text(strings.Replace(deleteEntries, "{rows}", strconv.Itoa(s.opts.CleanRows), 1)), "{w}", table, 1)
	result, err := tx.ExecContext(ctx, text, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n >= int64(s.opts.CleanRows), err
}

// next is when the topic is to be cleaned up next.
func (t *cleaned) next(now int64) int64 {
	next := now + cleanLatest
	switch {
	case t.oldest >= 0 && t.oldestPos < t.lo: // keys of trimmed entries
		next = t.oldest + parley.IdempotencyWindow.Milliseconds()
	case t.oldest >= 0 && t.age > 0:
		next = min(next, t.oldest+t.age)
	case t.oldest < 0:
		next = t.dropAt()
	}
	// Some time later, so that more than one entry is worth the visit.
	return max(next, now+min(max(t.age/10, 60*1000), cleanGrace))
}

// dropAt is when the bounds of an empty log need not be kept any more.
func (t *cleaned) dropAt() int64 { return t.lastAt + t.age + max(t.age, cleanGrace) }

// droppable reports whether the topic is like one that nothing was ever appended to.
func (t *cleaned) droppable(now int64) bool {
	return t.oldest < 0 && (t.age > 0 || t.top == 0) && now > t.dropAt()
}
