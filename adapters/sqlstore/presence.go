package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"slices"
	"time"

	"github.com/parley-go/parley"
)

// change puts a user into a set, or takes the user out: a room on a node, or an
// audience. Of several changes of the same place the last one counts.
type change struct {
	place
	out   bool
	name  string // of members: the user's
	lease int64  // of members
}

type place struct {
	audience        bool // else a room
	set, user, node string
}

// Enter implements [parley.Store].
func (s *Store) Enter(ctx context.Context, topic, node string, members []parley.Member, lease time.Duration) error {
	if lease <= 0 {
		members = nil
	}
	changes := make([]change, len(members))
	for i, m := range members {
		changes[i] = change{place: place{set: topic, user: m.UserID, node: node}, name: m.Name, lease: millis(lease)}
	}
	return s.change(ctx, changes)
}

// Leave implements [parley.Store].
func (s *Store) Leave(ctx context.Context, topic, node string, userIDs []string) error {
	return s.changeUsers(ctx, place{set: topic, node: node}, userIDs, true)
}

// AddUsers implements [parley.Store].
func (s *Store) AddUsers(ctx context.Context, audience string, userIDs []string) error {
	return s.changeUsers(ctx, place{audience: true, set: audience}, userIDs, false)
}

// RemoveUsers implements [parley.Store].
func (s *Store) RemoveUsers(ctx context.Context, audience string, userIDs []string) error {
	return s.changeUsers(ctx, place{audience: true, set: audience}, userIDs, true)
}

func (s *Store) changeUsers(ctx context.Context, p place, userIDs []string, out bool) error {
	changes := make([]change, len(userIDs))
	for i, id := range userIDs {
		p.user = id
		changes[i] = change{place: p, out: out}
	}
	return s.change(ctx, changes)
}

func (s *Store) change(ctx context.Context, changes []change) error {
	if len(changes) == 0 {
		return s.ready(ctx)
	}
	for part := range slices.Chunk(changes, s.opts.BatchRows) { // many users hold nobody up, and take as long as they take
		if err := s.do(ctx, &request{sets: part, rows: len(part)}); err != nil {
			return err
		}
	}
	return nil
}

const (
	// The lock on the epoch of absent topics keeps out whoever drops topics, for which nobody may be in the room.
	enterRooms = `WITH w(room, user_id, node, name, at, ends) AS ({w})
INSERT INTO {p}members (room, user_id, node, name, entered_at, ends_at)
SELECT w.room, w.user_id, w.node, w.name, w.at, w.ends FROM w, (SELECT id FROM {p}meta WHERE id = 1 {key share}) m WHERE w.room IS NOT NULL
ON CONFLICT (room, user_id, node) DO UPDATE SET name = excluded.name, entered_at = excluded.entered_at, ends_at = excluded.ends_at`
	leaveRooms = `WITH w(room, user_id, node) AS ({w})
DELETE FROM {p}members WHERE (room, user_id, node) IN (SELECT room, user_id, node FROM w)`
	addUsers = `WITH w(audience, user_id) AS ({w})
INSERT INTO {p}audiences (audience, user_id) SELECT audience, user_id FROM w WHERE audience IS NOT NULL ON CONFLICT DO NOTHING`
	removeUsers = `WITH w(audience, user_id) AS ({w})
DELETE FROM {p}audiences WHERE (audience, user_id) IN (SELECT audience, user_id FROM w)`
)

// carryOutChanges writes changes, in the same order on every node.
func (s *Store) carryOutChanges(ctx context.Context, tx *sql.Tx, changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	last := make(map[place]change, len(changes))
	for _, c := range changes {
		last[c.place] = c
	}
	now := s.clock.now()
	var enter, leave, add, remove [][]any
	for _, p := range slices.SortedFunc(maps.Keys(last), byPlace) {
		c, set, user := last[p], []byte(p.set), []byte(p.user)
		switch {
		case p.audience && c.out:
			remove = append(remove, []any{set, user})
		case p.audience:
			add = append(add, []any{set, user})
		case c.out:
			leave = append(leave, []any{set, user, []byte(p.node)})
		default:
			enter = append(enter, []any{set, user, []byte(p.node), []byte(c.name), now, now + c.lease})
		}
	}
	if err := s.execEach(ctx, tx, enterRooms, "bbbbii", enter); err != nil {
		return err
	}
	if err := s.execEach(ctx, tx, leaveRooms, "bbb", leave); err != nil {
		return err
	}
	if err := s.execEach(ctx, tx, addUsers, "bb", add); err != nil {
		return err
	}
	return s.execEach(ctx, tx, removeUsers, "bb", remove)
}

func byPlace(a, b place) int {
	return cmp.Or(cmp.Compare(a.set, b.set), cmp.Compare(a.user, b.user), cmp.Compare(a.node, b.node))
}

// The last row of a user is that of the newest Enter.
const members = `WITH p(room, now, n) AS (VALUES (CAST(? AS {blob}), CAST(? AS {int}), CAST(? AS {int})))
SELECT 0 AS part, (SELECT count(DISTINCT user_id) FROM {p}members WHERE room = p.room AND ends_at > p.now) AS n,
  CAST(NULL AS {blob}) AS user_id, CAST(NULL AS {blob}) AS name, 0 AS at FROM p
UNION ALL SELECT 1, 0, m.user_id, m.name, m.entered_at FROM p JOIN {p}members m ON m.room = p.room
WHERE m.ends_at > p.now AND m.user_id IN (
  SELECT DISTINCT x.user_id FROM {p}members x WHERE x.room = (SELECT room FROM p) AND x.ends_at > (SELECT now FROM p)
  ORDER BY x.user_id LIMIT (SELECT n FROM p))
ORDER BY part, user_id, at`

// Members implements [parley.Store].
func (s *Store) Members(ctx context.Context, topic string, limit int) (list []parley.Member, count int, err error) {
	if err := s.ready(ctx); err != nil {
		return nil, 0, err
	}
	args := []any{[]byte(topic), s.clock.now(), int64(max(limit, 0))}
	err = query(ctx, s.db, s.text(members), args, func(r *sql.Rows) error {
		var part, n int
		var at int64
		var id, name []byte
		if err := r.Scan(&part, &n, &id, &name, &at); err != nil {
			return err
		}
		m := parley.Member{UserID: string(id), Name: string(name)}
		switch {
		case part == 0:
			count = n
		case len(list) > 0 && list[len(list)-1].UserID == m.UserID:
			list[len(list)-1] = m
		default:
			list = append(list, m)
		}
		return nil
	})
	if err != nil {
		return nil, 0, wrap(ctx, err)
	}
	return list, count, nil
}

const users = `SELECT user_id FROM {p}audiences WHERE audience = ? AND user_id > ? ORDER BY user_id LIMIT ?`

// Users implements [parley.Store].
func (s *Store) Users(ctx context.Context, audience, after string, limit int) ([]string, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	var list []string
	args := []any{[]byte(audience), []byte(after), int64(limit)}
	err := query(ctx, s.db, s.text(users), args, func(r *sql.Rows) error {
		var id string
		err := r.Scan(&id)
		list = append(list, id)
		return err
	})
	if err != nil {
		return nil, wrap(ctx, err)
	}
	return list, nil
}
