package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"slices"
	"strconv"
	"strings"
)

const (
	// candidates are topics without entries and without anybody in the room. The
	// columns of the topic are looked at again when its row is locked: an Append that came between is seen by them.
	candidates = `WITH w(t, now) AS ({w})
SELECT t.id, t.top, t.epoch FROM w JOIN {p}topics t ON t.id = w.t
WHERE (t.age > 0 OR t.top = 0) AND t.last_at + t.age + CASE WHEN t.age > {grace} THEN t.age ELSE {grace} END < w.now
  AND NOT EXISTS (SELECT 1 FROM {p}entries e WHERE e.topic_id = t.id)
  AND NOT EXISTS (SELECT 1 FROM {p}members m WHERE m.room = t.name AND m.ends_at > w.now) {skip locked t}`
	dropTopics = `WITH w(t) AS ({w}) DELETE FROM {p}topics WHERE id IN (SELECT t FROM w)`
)

// dropTopics drops those of the topics that are still empty. The epoch of the
// topics that do not exist is locked first: until the end nobody creates a topic or enters a room.
//
// This is what keeps (epoch, offset) from ever naming two messages (F66). While a
// topic exists its epoch is fixed and its offsets only rise. The epochs of its
// earlier lives were all that of absent topics at some time, and each was replaced at the latest
// when that life ended. So none of them is the epoch of a later life.
func (s *Store) dropTopics(ctx context.Context, tx *sql.Tx, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	var absent string
	err := query(ctx, tx, s.text(`SELECT epoch FROM {p}meta WHERE id = 1 {for update}`), nil, func(r *sql.Rows) error { return r.Scan(&absent) })
	if err != nil {
		return err
	}
	var rows, drop [][]any
	now := s.clock.now()
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		rows = append(rows, []any{id, now})
	}
	used := false
	statement := strings.ReplaceAll(candidates, "{grace}", strconv.Itoa(cleanGrace))
	err = s.queryEach(ctx, tx, statement, "ii", rows, func(r *sql.Rows) error {
		var id, top int64
		var epoch string
		err := r.Scan(&id, &top, &epoch)
		used = used || top > 0 && epoch == absent
		drop = append(drop, []any{id})
		return err
	})
	if err != nil {
		return err
	}
	if err := s.execEach(ctx, tx, dropTopics, "i", drop); err != nil || !used {
		return err
	}
	_, err = tx.ExecContext(ctx, s.text(`UPDATE {p}meta SET epoch = ? WHERE id = 1`), newEpoch())
	return err
}

// newEpoch draws 60 bits: short, because every message carries it.
func newEpoch() string { return rand.Text()[:12] }
