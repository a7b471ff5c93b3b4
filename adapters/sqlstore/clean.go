package sqlstore

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// cleanGrace is how long at least the bounds of a log outlive its last entry, in milliseconds.
	cleanGrace = 60 * 60 * 1000
	// cleanLatest is after how long every topic is looked at again, in milliseconds.
	cleanLatest = 24 * 60 * 60 * 1000
	// cleanTopics is how many topics one transaction cleans up.
	cleanTopics = 50
	// hintAfter is how many entries are trimmed from a topic before it is cleaned up out of turn,
	// and hintTopics how many such topics are remembered.
	hintAfter, hintTopics = 200, 10_000
)

// hints are the topics that this node has trimmed a lot since they were cleaned up.
type hints struct {
	mu      sync.Mutex // guards trimmed
	trimmed map[int64]int64
}

// note adds up what was trimmed. Too many topics are forgotten: then they are cleaned up in turn.
func (h *hints) note(id, trimmed int64) {
	if trimmed <= 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.trimmed == nil || len(h.trimmed) >= hintTopics {
		h.trimmed = map[int64]int64{}
	}
	h.trimmed[id] += trimmed
}

// take removes and returns the topics with enough to delete.
func (h *hints) take() (ids []int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, n := range h.trimmed {
		if n >= hintAfter {
			ids = append(ids, id)
			delete(h.trimmed, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// cleanLoop deletes what is no longer kept, every now and then.
func (s *Store) cleanLoop() {
	for {
		pause := time.Duration(float64(s.opts.CleanInterval) * (0.75 + rand.Float64()/2)) // nodes that started together drift apart
		select {
		case <-s.closing.Done():
			return
		case <-time.After(pause):
		}
		if err := protect(func() error { return s.clean(s.closing) }); err != nil && s.closing.Err() == nil {
			s.opts.Logger.Warn("parley: cleaning up the database", "error", err)
		}
	}
}

// clean deletes all that is no longer kept, a bounded number of rows in each
// transaction. These take their turn with the writes of the hub. Several nodes may do it at once.
func (s *Store) clean(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if s.clock.stale() {
		if err := s.clock.sync(ctx, s.db); err != nil {
			return err
		}
	}
	var firstErr error
	var empty []int64
	hinted := s.hints.take()
	for _, step := range []func(tx *sql.Tx) (bool, error){
		func(tx *sql.Tx) (bool, error) { return s.cleanMembers(ctx, tx) },
		func(tx *sql.Tx) (bool, error) { return s.cleanConnected(ctx, tx) },
		func(tx *sql.Tx) (bool, error) { return s.cleanUsers(ctx, tx) },
		func(tx *sql.Tx) (bool, error) { return s.cleanExpired(ctx, tx) },
		func(tx *sql.Tx) (more bool, err error) {
			if len(hinted) == 0 {
				return false, nil
			}
			n := min(len(hinted), cleanTopics)
			more, err = s.cleanTopics(ctx, tx, hinted[:n], &empty)
			if err == nil && !more {
				hinted = hinted[n:]
			}
			return more || len(hinted) > 0, err
		},
		func(tx *sql.Tx) (bool, error) { return s.cleanTopics(ctx, tx, nil, &empty) },
		func(tx *sql.Tx) (bool, error) {
			n := min(len(empty), s.opts.CleanRows)
			err := s.dropTopics(ctx, tx, empty[:n])
			if err == nil {
				empty = empty[n:]
			}
			return len(empty) > 0, err
		},
	} {
		if err := s.repeat(ctx, step); err != nil && firstErr == nil {
			firstErr = err
		}
	}
	return firstErr
}

// repeat runs a step until nothing is left for it, with pauses as long as its transactions.
func (s *Store) repeat(ctx context.Context, step func(tx *sql.Tx) (more bool, err error)) error {
	for more := true; more; {
		start := time.Now()
		err := s.do(ctx, &request{alone: func(tx *sql.Tx) (err error) {
			more, err = step(tx)
			return err
		}})
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(time.Since(start), time.Second)):
		}
	}
	return nil
}

// deleteSome runs a statement that changes at most CleanRows rows, and reports whether it changed as many.
func (s *Store) deleteSome(ctx context.Context, tx *sql.Tx, statement string, args ...any) (bool, error) {
	result, err := tx.ExecContext(ctx, s.text(statement), append(args, int64(s.opts.CleanRows))...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n >= int64(s.opts.CleanRows), err
}

const (
	deleteMembers = `DELETE FROM {p}members WHERE (room, user_id, node) IN (
  SELECT room, user_id, node FROM {p}members WHERE ends_at <= ? ORDER BY ends_at LIMIT ? {skip locked})`
	freeExpired = `UPDATE {p}entries SET data = NULL, due_at = NULL WHERE (topic_id, pos) IN (
  SELECT topic_id, pos FROM {p}entries WHERE expires_at IS NOT NULL AND data IS NOT NULL AND expires_at <= ? ORDER BY expires_at LIMIT ? {skip locked})`
)

// cleanMembers deletes the leases that have run out.
func (s *Store) cleanMembers(ctx context.Context, tx *sql.Tx) (bool, error) {
	return s.deleteSome(ctx, tx, deleteMembers, s.clock.now())
}

// cleanExpired frees the data of entries whose time to live is over. The rows stay, so that there is no hole.
func (s *Store) cleanExpired(ctx context.Context, tx *sql.Tx) (bool, error) {
	return s.deleteSome(ctx, tx, freeExpired, s.clock.now())
}
