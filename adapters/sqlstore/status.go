package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/parley-go/parley"
)

// connection is a user on a node who connects, or goes. Of one who is connected there are
// two rows: in {p}connected with the lease on the node, which is all that is written as long as the user
// stays, and in {p}users with what outlives the lease.
type connection struct {
	user, node string
	gone       bool
	lease      int64
}

// Connect implements [parley.Store].
func (s *Store) Connect(ctx context.Context, node string, userIDs []string, lease time.Duration) error {
	if lease <= 0 {
		userIDs = nil
	}
	return s.connections(ctx, userIDs, connection{node: node, lease: millis(lease)})
}

// Disconnect implements [parley.Store].
func (s *Store) Disconnect(ctx context.Context, node string, userIDs []string) error {
	return s.connections(ctx, userIDs, connection{node: node, gone: true})
}

func (s *Store) connections(ctx context.Context, userIDs []string, c connection) error {
	if len(userIDs) == 0 {
		return s.ready(ctx)
	}
	list := make([]connection, len(userIDs))
	for i, id := range userIDs {
		list[i], list[i].user = c, id
	}
	for part := range slices.Chunk(list, s.opts.BatchRows) {
		if err := s.do(ctx, &request{connections: part, rows: len(part)}); err != nil {
			return err
		}
	}
	return nil
}

// rounds cuts connections, which are in the order in which they came, where somebody goes who came
// before or the other way round: in one round nobody does both, and its order does not matter.
func rounds(list []connection) (all [][]connection) {
	gone, start := map[string]bool{}, 0
	for i, c := range list {
		if was, ok := gone[c.user]; ok && was != c.gone {
			all = append(all, list[start:i])
			clear(gone)
			start = i
		}
		gone[c.user] = c.gone
	}
	return append(all, list[start:])
}

// carryOutConnections writes connections. Rows of {p}users are locked before those of {p}connected,
// and in the order of the ids.
func (s *Store) carryOutConnections(ctx context.Context, tx *sql.Tx, list []connection) error {
	for _, round := range rounds(list) {
		type place struct{ user, node string }
		last := make(map[place]connection, len(round))
		for _, c := range round {
			last[place{c.user, c.node}] = c
		}
		var come, leave []connection
		for _, c := range last {
			if c.gone {
				leave = append(leave, c)
			} else {
				come = append(come, c)
			}
		}
		if err := s.connect(ctx, tx, come); err != nil {
			return err
		}
		if err := s.disconnect(ctx, tx, leave); err != nil {
			return err
		}
	}
	return nil
}

const (
	// Who is online stays so: nothing but the lease changes.
	renewLeases = `WITH w(user_id, node, now, ends) AS ({w})
UPDATE {p}connected SET seen_at = w.now, ends_at = w.ends FROM w
WHERE {p}connected.user_id = w.user_id AND {p}connected.node = w.node AND {p}connected.ends_at > w.now RETURNING {p}connected.user_id, {p}connected.node`
	// Locks the rows, so that of two nodes that a user comes to at once the second one finds the lease of the first.
	seeUsers = `WITH w(user_id, now) AS ({w})
INSERT INTO {p}users (user_id, since, seen_at) SELECT w.user_id, w.now, w.now FROM w WHERE w.user_id IS NOT NULL
ON CONFLICT (user_id) DO UPDATE SET seen_at = CASE WHEN {p}users.seen_at > excluded.seen_at THEN {p}users.seen_at ELSE excluded.seen_at END`
	beginUsers = `WITH w(user_id, now) AS ({w})
UPDATE {p}users SET since = w.now FROM w WHERE {p}users.user_id = w.user_id
  AND NOT EXISTS (SELECT 1 FROM {p}connected l WHERE l.user_id = w.user_id AND l.ends_at > w.now)`
	addLeases = `WITH w(user_id, node, now, ends) AS ({w})
INSERT INTO {p}connected (user_id, node, seen_at, ends_at) SELECT w.user_id, w.node, w.now, w.ends FROM w WHERE w.user_id IS NOT NULL
ON CONFLICT (user_id, node) DO UPDATE SET seen_at = excluded.seen_at, ends_at = excluded.ends_at`

	lockUsers = `WITH w(user_id) AS ({w})
SELECT u.user_id FROM {p}users u WHERE u.user_id IN (SELECT user_id FROM w) ORDER BY u.user_id {for update}`
	// What is known from a lease that ends is kept: now, or what the lease says if it has ended already.
	leaveUsers = `WITH w(user_id, node, now) AS ({w}),
x AS (SELECT w.user_id, max(CASE WHEN l.ends_at > w.now THEN w.now ELSE l.seen_at END) AS at
  FROM w JOIN {p}connected l ON l.user_id = w.user_id AND l.node = w.node GROUP BY w.user_id)
UPDATE {p}users SET seen_at = x.at FROM x WHERE {p}users.user_id = x.user_id AND {p}users.seen_at < x.at`
	deleteLeases = `WITH w(user_id, node) AS ({w})
DELETE FROM {p}connected WHERE (user_id, node) IN (SELECT user_id, node FROM w)`
)

// connect writes who comes or stays.
func (s *Store) connect(ctx context.Context, tx *sql.Tx, list []connection) error {
	slices.SortFunc(list, byUser)
	now := s.clock.now()
	var leases, users [][]any
	for _, c := range list {
		leases = append(leases, []any{[]byte(c.user), []byte(c.node), now, now + c.lease})
	}
	renewed := map[[2]string]bool{}
	err := s.queryEach(ctx, tx, renewLeases, "bbii", leases, func(r *sql.Rows) error {
		var user, node string
		err := r.Scan(&user, &node)
		renewed[[2]string{user, node}] = true
		return err
	})
	if err != nil {
		return err
	}
	leases = leases[:0]
	for i, c := range list {
		if renewed[[2]string{c.user, c.node}] {
			continue
		}
		leases = append(leases, []any{[]byte(c.user), []byte(c.node), now, now + c.lease})
		if i == 0 || len(users) == 0 || list[i-1].user != c.user {
			users = append(users, []any{[]byte(c.user), now})
		}
	}
	if err := s.execEach(ctx, tx, seeUsers, "bi", users); err != nil {
		return err
	}
	if err := s.execEach(ctx, tx, beginUsers, "bi", users); err != nil {
		return err
	}
	return s.execEach(ctx, tx, addLeases, "bbii", leases)
}

// disconnect writes who goes.
func (s *Store) disconnect(ctx context.Context, tx *sql.Tx, list []connection) error {
	slices.SortFunc(list, byUser)
	now := s.clock.now()
	var users, seen, leases [][]any
	for _, c := range list {
		users = append(users, []any{[]byte(c.user)})
		seen = append(seen, []any{[]byte(c.user), []byte(c.node), now})
		leases = append(leases, []any{[]byte(c.user), []byte(c.node)})
	}
	if s.opts.Dialect == PostgreSQL {
		if err := s.queryEach(ctx, tx, lockUsers, "b", users, func(*sql.Rows) error { return nil }); err != nil {
			return err
		}
	}
	if err := s.execEach(ctx, tx, leaveUsers, "bbi", seen); err != nil {
		return err
	}
	return s.execEach(ctx, tx, deleteLeases, "bb", leases)
}

func byUser(a, b connection) int {
	if n := strings.Compare(a.user, b.user); n != 0 {
		return n
	}
	return strings.Compare(a.node, b.node)
}

const status = `WITH w(i, user_id) AS ({w})
SELECT w.i, u.since, u.seen_at, coalesce(l.seen_at, 0), coalesce(l.ends_at, 0) FROM w JOIN {p}users u ON u.user_id = w.user_id
LEFT JOIN {p}connected l ON l.user_id = w.user_id`

// Status implements [parley.Store].
func (s *Store) Status(ctx context.Context, userIDs []string) ([]parley.UserStatus, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	all, now := make([]parley.UserStatus, len(userIDs)), s.clock.now()
	rows := make([][]any, len(userIDs))
	for i, id := range userIDs {
		rows[i] = []any{i, []byte(id)}
	}
	err := s.queryEach(ctx, s.db, status, "ib", rows, func(r *sql.Rows) error {
		var i int
		var since, seen, renewed, ends int64
		err := r.Scan(&i, &since, &seen, &renewed, &ends)
		u := &all[i]
		u.LastSeen = max(u.LastSeen, seen, renewed)
		if ends > now {
			u.Online, u.Since = true, since
		}
		return err
	})
	if err != nil {
		return nil, wrap(ctx, err)
	}
	return all, nil
}

const (
	findLapsed = `SELECT DISTINCT user_id FROM (SELECT user_id FROM {p}connected WHERE ends_at <= ? ORDER BY ends_at LIMIT ?) x`
	lockLapsed = `WITH w(user_id) AS ({w})
SELECT u.user_id FROM {p}users u WHERE u.user_id IN (SELECT user_id FROM w) ORDER BY u.user_id {skip locked}`
	foldLapsed = `WITH w(user_id, now) AS ({w}),
x AS (SELECT l.user_id, max(l.seen_at) AS at FROM w JOIN {p}connected l ON l.user_id = w.user_id WHERE l.ends_at <= w.now GROUP BY l.user_id)
UPDATE {p}users SET seen_at = x.at FROM x WHERE {p}users.user_id = x.user_id AND {p}users.seen_at < x.at`
	deleteLapsed = `WITH w(user_id, now) AS ({w})
DELETE FROM {p}connected WHERE (user_id, node) IN (
  SELECT l.user_id, l.node FROM w JOIN {p}connected l ON l.user_id = w.user_id WHERE l.ends_at <= w.now)`
	deleteUsers = `DELETE FROM {p}users WHERE user_id IN (
  SELECT u.user_id FROM {p}users u WHERE u.seen_at < ? AND NOT EXISTS (SELECT 1 FROM {p}connected l WHERE l.user_id = u.user_id)
  ORDER BY u.seen_at LIMIT ? {skip locked})`
)

// cleanConnected deletes the leases that have run out, and keeps when their users were seen.
func (s *Store) cleanConnected(ctx context.Context, tx *sql.Tx) (more bool, err error) {
	now := s.clock.now()
	var lapsed, locked [][]any
	err = query(ctx, tx, s.text(findLapsed), []any{now, int64(s.opts.CleanRows)}, func(r *sql.Rows) error {
		var id []byte
		err := r.Scan(&id)
		lapsed = append(lapsed, []any{id})
		return err
	})
	if err != nil {
		return false, err
	}
	err = s.queryEach(ctx, tx, lockLapsed, "b", lapsed, func(r *sql.Rows) error {
		var id []byte
		err := r.Scan(&id)
		locked = append(locked, []any{id, now})
		return err
	})
	if err != nil {
		return false, err
	}
	if err := s.execEach(ctx, tx, foldLapsed, "bi", locked); err != nil {
		return false, err
	}
	// Those that another node works on are its business.
	more = len(lapsed) >= s.opts.CleanRows && len(locked) > 0
	return more, s.execEach(ctx, tx, deleteLapsed, "bi", locked)
}

// cleanUsers forgets who was not seen for LastSeenWindow.
func (s *Store) cleanUsers(ctx context.Context, tx *sql.Tx) (bool, error) {
	return s.deleteSome(ctx, tx, deleteUsers, s.clock.now()-parley.LastSeenWindow.Milliseconds())
}
