package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A transaction that had to give way to another one is repeated after clashPause, which doubles up to clashSlowest.
const clashPause, clashSlowest = 2 * time.Millisecond, 100 * time.Millisecond

// commitLoop carries out the requests, one transaction after the other. Those that
// come meanwhile are the next batch.
func (s *Store) commitLoop() {
	defer s.queue.end()
	for {
		select {
		case <-s.closing.Done():
			return
		case <-s.queue.wake:
		}
		if s.closing.Err() != nil {
			return // both may have been ready
		}
		if batch := s.queue.take(s.opts.BatchRows, s.opts.BatchBytes); len(batch) > 0 {
			s.commit(batch, time.Now().Add(s.opts.Timeout))
		}
	}
}

// commit carries out a batch. If the database refuses it, it is cut in two, until
// only those fail that are at fault. That ends at a time: a database that
// refuses everything, and takes long to say so, holds nobody up for longer.
func (s *Store) commit(batch []*request, until time.Time) {
	err := s.attempt(batch)
	if err != nil && len(batch) > 1 && refused(err) && s.closing.Err() == nil && time.Now().Before(until) {
		half := len(batch) / 2
		s.commit(batch[:half], until)
		s.commit(batch[half:], until)
		return
	}
	if err != nil {
		err = fmt.Errorf("sqlstore: %w", err)
	}
	for _, r := range batch {
		r.done <- err
	}
}

// attempt carries out a batch in one transaction, which is repeated if others were in its way.
func (s *Store) attempt(batch []*request) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.Timeout) // not ended by Close
	defer cancel()
	if s.clock.stale() {
		_ = s.clock.sync(ctx, s.db) // what is wrong with the database the transaction will tell
	}
	err := s.again(ctx, func() error {
		for {
			err := s.transaction(ctx, func(tx *sql.Tx) error { return s.carryOut(ctx, tx, batch) })
			var absent absentError
			if !errors.As(err, &absent) {
				return err
			}
			if err := s.create(ctx, absent.names); err != nil {
				return err
			}
		}
	})
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w after %v (Options.Timeout): %w", ctx.Err(), s.opts.Timeout, err)
	}
	return err
}

// again calls f until it is not for the sake of another transaction that it fails.
func (s *Store) again(ctx context.Context, f func() error) error {
	for pause := clashPause; ; pause = min(2*pause, clashSlowest) {
		err := f()
		if err == nil || ctx.Err() != nil || !clash(err) {
			return err
		}
		select {
		case <-s.closing.Done():
			return err
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// carryOut writes a batch within a transaction. Locks are taken in the same order by
// everybody: topics by name, then members, then audiences, then users.
func (s *Store) carryOut(ctx context.Context, tx *sql.Tx, batch []*request) error {
	if batch[0].alone != nil {
		return batch[0].alone(tx)
	}
	var appends, marks []*request
	var sets []change
	var connections []connection
	names := map[string]bool{} // whether it is to be created
	for _, r := range batch {
		switch {
		case r.append != nil:
			appends, names[r.topic] = append(appends, r), true
		case r.mark != nil:
			marks, names[r.topic] = append(marks, r), false
		default:
			sets, connections = append(sets, r.sets...), append(connections, r.connections...)
		}
	}
	if len(names) > 0 {
		topics, err := s.lock(ctx, tx, names)
		if err != nil {
			return err
		}
		now := s.clock.now()
		if err := s.carryOutAppends(ctx, tx, now, topics, appends); err != nil {
			return err
		}
		if err := s.carryOutMarks(ctx, tx, now, topics, marks); err != nil {
			return err
		}
		if err := s.update(ctx, tx, topics); err != nil {
			return err
		}
	}
	if err := s.carryOutChanges(ctx, tx, sets); err != nil {
		return err
	}
	return s.carryOutConnections(ctx, tx, connections)
}

// topic is a row of {p}topics.
type topic struct {
	id                                          int64
	name, epoch                                 string
	top, first, age, version, truncated, counts int64
	lastAt, total, floor                        int64
	changed                                     bool
}

// cut is the time at or before which entries are too old.
func (t *topic) cut(now int64) int64 {
	if t.age == 0 {
		return -1 << 62
	}
	return now - t.age
}

// absentError says that topics have to be created first.
type absentError struct{ names []string }

func (e absentError) Error() string { return fmt.Sprintf("%d topics are not there", len(e.names)) }

const lockTopics = `WITH w(name) AS ({w})
SELECT t.id, t.name, t.epoch, t.top, t.first, t.age, t.version, t.truncated, t.counts, t.last_at, t.total, t.floor
FROM w JOIN {p}topics t ON t.name = w.name ORDER BY t.name {for update}`

// lock reads topics and locks their rows, in the order of their names. Of those
// that are missing it fails with absentError if they are to be created.
func (s *Store) lock(ctx context.Context, tx *sql.Tx, names map[string]bool) (map[string]*topic, error) {
	var rows [][]any
	for _, name := range slices.Sorted(maps.Keys(names)) {
		rows = append(rows, []any{[]byte(name)})
	}
	topics := make(map[string]*topic, len(names))
	err := s.queryEach(ctx, tx, lockTopics, "b", rows, func(r *sql.Rows) error {
		var t topic
		err := r.Scan(&t.id, &t.name, &t.epoch, &t.top, &t.first, &t.age, &t.version, &t.truncated, &t.counts, &t.lastAt, &t.total, &t.floor)
		topics[t.name] = &t
		return err
	})
	if err != nil || len(topics) == len(names) {
		return topics, err
	}
	var absent absentError
	for name, create := range names {
		if create && topics[name] == nil {
			absent.names = append(absent.names, name)
		}
	}
	if len(absent.names) > 0 {
		return nil, absent
	}
	return topics, nil
}

const createTopics = `WITH w(name, check_at) AS ({w})
INSERT INTO {p}topics (name, epoch, top, first, age, version, truncated, counts, last_at, total, floor, check_at)
SELECT w.name, m.epoch, 0, 1, 0, 0, 0, 0, 0, 0, 0, w.check_at FROM w, {p}meta m WHERE m.id = 1 AND w.name IS NOT NULL ORDER BY w.name
ON CONFLICT DO NOTHING`

// firstCheck is how long after its creation a topic is cleaned up for the first time, in milliseconds.
const firstCheck = 10 * 60 * 1000

// create makes topics that are not there. It does so in a transaction of its own,
// in which it waits for nobody who could be waiting for it: two nodes that create
// the same topics do it in the same order, with no other topics locked.
//
// The epoch is read under a lock that whoever drops topics takes, too, before it replaces
// the epoch. So no topic is created with an epoch that was replaced (F66).
func (s *Store) create(ctx context.Context, names []string) error {
	slices.Sort(names)
	var rows [][]any
	for _, name := range names {
		rows = append(rows, []any{[]byte(name), s.clock.now() + firstCheck})
	}
	return s.transaction(ctx, func(tx *sql.Tx) error {
		if s.opts.Dialect == PostgreSQL {
			// Need not be durable: what is appended next is committed after it, and makes it so.
			for _, statement := range []string{`SET LOCAL synchronous_commit = off`, s.text(`SELECT id FROM {p}meta WHERE id = 1 FOR SHARE`)} {
				if _, err := tx.ExecContext(ctx, statement); err != nil {
					return err
				}
			}
		}
		return s.execEach(ctx, tx, createTopics, "bi", rows)
	})
}

const updateTopics = `WITH w(id, top, first, age, version, truncated, counts, last_at, total, floor) AS ({w})
UPDATE {p}topics SET top = w.top, first = w.first, age = w.age, version = w.version, truncated = w.truncated,
  counts = w.counts, last_at = w.last_at, total = w.total, floor = w.floor
FROM w WHERE {p}topics.id = w.id`

// update writes the topics that were changed.
func (s *Store) update(ctx context.Context, tx *sql.Tx, topics map[string]*topic) error {
	var rows [][]any
	for _, t := range topics {
		if t.changed {
			rows = append(rows, []any{t.id, t.top, t.first, t.age, t.version, t.truncated, t.counts, t.lastAt, t.total, t.floor})
		}
	}
	return s.execEach(ctx, tx, updateTopics, "iiiiiiiiii", rows)
}
