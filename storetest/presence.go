package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// long is a lease that no subtest outlives.
const long = 24 * time.Hour

func users(ids ...string) []parley.Member {
	var list []parley.Member
	for _, id := range ids {
		list = append(list, parley.Member{UserID: id, Name: "name of " + id})
	}
	return list
}

func (e *env) enter(topic, node string, lease time.Duration, members ...parley.Member) {
	e.Helper()
	require.NoErrorf(e, e.store.Enter(context.Background(), topic, node, members, lease), "Enter %q on %q", topic, node)
}

func (e *env) leave(topic, node string, ids ...string) {
	e.Helper()
	require.NoErrorf(e, e.store.Leave(context.Background(), topic, node, ids), "Leave %q on %q", topic, node)
}

// seen reads a room on one node.
func (e *env) seen(topic string, limit int) ([]parley.Member, int) {
	e.Helper()
	list, count, err := e.store.Members(context.Background(), topic, limit)
	require.NoErrorf(e, err, "Members of %q", topic)
	return list, count
}

// members reads a room on both nodes and expects the same.
func (e *env) members(topic string, limit int) ([]parley.Member, int) {
	e.Helper()
	list, count := e.seen(topic, limit)
	other, otherCount, err := e.peer.Members(context.Background(), topic, limit)
	require.NoErrorf(e, err, "Members of %q", topic)
	require.Equal(e, append([]parley.Member{}, list...), append([]parley.Member{}, other...), "both nodes see the same members")
	require.Equal(e, count, otherCount, "both nodes see the same count")
	return list, count
}

// expect asserts who is in a room.
func (e *env) expect(topic string, want []parley.Member, why string) {
	e.Helper()
	list, count := e.members(topic, 1000)
	require.Equal(e, append([]parley.Member{}, want...), append([]parley.Member{}, list...), why)
	require.Equal(e, len(want), count, "count: %s", why)
}

var presenceCases = []storeCase{
	{name: "Presence/a room that nobody entered is empty", run: func(e *env) {
		e.expect(e.topic(), nil, "never entered")
	}},
	{name: "Presence/Enter records users until Leave", run: func(e *env) {
		room := e.topic()
		e.enter(room, "n1", long, users("a", "b", "c")...)
		e.enter(room, "n1", long, users("d")...)
		e.expect(room, users("a", "b", "c", "d"), "four users entered")
		e.leave(room, "n1", "b", "d")
		e.expect(room, users("a", "c"), "two of four left")
		e.leave(room, "n1", "a", "c")
		e.expect(room, nil, "all left")
		e.enter(room, "n1", long, users("b")...)
		e.expect(room, users("b"), "one came back")
	}},
	{name: "Presence/Leave of users that are not there is no error", run: func(e *env) {
		room := e.topic()
		e.leave(room, "n1", "a")
		e.enter(room, "n1", long, users("a")...)
		e.leave(room, "n1", "b", "c")
		e.leave(room, "n2", "a")
		e.expect(room, users("a"), "only somebody else left, or on another node")
		e.leave(room, "n1", "b", "a", "a")
		e.expect(room, nil, "left, named twice, beside one who was never there")
	}},
	// F32: three devices, one dies.
	{name: "Presence/a user on several nodes is there once, until the last Leave (F32)", run: func(e *env) {
		room := e.topic()
		for _, node := range []string{"n1", "n2", "n3"} {
			e.enter(room, node, long, users("a", node+"-only")...)
		}
		e.expect(room, users("a", "n1-only", "n2-only", "n3-only"), "a is on three nodes")
		e.leave(room, "n2", "a", "n1-only")
		e.expect(room, users("a", "n1-only", "n2-only", "n3-only"), "left on one node")
		e.leave(room, "n1", "a")
		e.leave(room, "n3", "a")
		e.expect(room, users("n1-only", "n2-only", "n3-only"), "left on all nodes")
	}},
	{name: "Presence/a repeated Enter replaces the name", run: func(e *env) {
		room := e.topic()
		e.enter(room, "n1", long, parley.Member{UserID: "a", Name: "old"}, parley.Member{UserID: "b", Name: "b"})
		e.enter(room, "n1", long, parley.Member{UserID: "a", Name: "new"})
		e.expect(room, []parley.Member{{UserID: "a", Name: "new"}, {UserID: "b", Name: "b"}}, "a has a new name")
	}},
	{name: "Presence/Members are in ascending order of user id", run: func(e *env) {
		room := e.topic()
		// In the order of their bytes, which is not that of any language.
		ids := []string{"!", "1", "10", "2", "A", "B", "Z", "_", "a", "a b", "aa", "b", "z", "~", "Ä", "é", "日", "🙂"}
		for i := range ids {
			e.enter(room, fmt.Sprint("n", i%2), long, users(ids[(7*i)%len(ids)])...)
		}
		e.expect(room, users(ids...), "byte order")
	}},
	{name: "Presence/Members returns up to limit and counts all", run: func(e *env) {
		room := e.topic()
		var ids []string
		for i := range 120 {
			ids = append(ids, fmt.Sprintf("user-%03d", i))
		}
		e.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		e.enter(room, "n1", long, users(ids[:70]...)...)
		e.enter(room, "n2", long, users(ids[50:]...)...)
		for _, limit := range []int{0, 1, 2, 59, 60, 61, 119, 120, 121, 100_000} {
			list, count := e.members(room, limit)
			require.Equalf(e, 120, count, "count with limit %d: each user once, over all nodes", limit)
			require.Lenf(e, list, min(limit, 120), "limit %d", limit)
			for i, m := range list {
				require.Equalf(e, fmt.Sprintf("user-%03d", i), m.UserID, "limit %d: the first ones in order", limit)
			}
		}
	}},
	{name: "Presence/ends with the lease", run: func(e *env) {
		room := e.topic()
		start := time.Now()
		e.enter(room, "n1", e.cfg.units(lifetime), users("a", "b")...)
		e.enter(room, "n1", long, users("c")...)
		e.sleep(4)
		_, count := e.seen(room, 9) // the lease could end between two nodes
		e.fresh(start)
		require.Equal(e, 3, count, "at 4/10 of the lease")
		e.sleep(lifetime - 2)
		e.expect(room, users("c"), "at 12/10 of the lease of a and b")
		e.enter(room, "n1", long, users("a")...)
		e.expect(room, users("a", "c"), "entered again after the lease had ended")
	}},
	{name: "Presence/a repeated Enter renews the lease", run: func(e *env) {
		room := e.topic()
		e.enter(room, "n1", e.cfg.units(lifetime), users("a", "b")...)
		e.sleep(lifetime - 3)
		start := time.Now()
		e.enter(room, "n1", e.cfg.units(lifetime), users("a")...)
		e.sleep(5)
		list, _ := e.seen(room, 9)
		e.fresh(start)
		require.Equal(e, users("a"), list, "a was renewed, b was not")
		e.sleep(lifetime)
		e.expect(room, nil, "nobody was renewed")
	}},
	{name: "Presence/a repeated Enter may shorten the lease", run: func(e *env) {
		room := e.topic()
		e.enter(room, "n1", long, users("a")...)
		e.enter(room, "n1", e.cfg.units(lifetime), users("a")...)
		e.sleep(lifetime + 2)
		e.expect(room, nil, "the lease of the last Enter counts")
	}},
	// A node that was killed leaves nothing behind but its leases.
	{name: "Presence/each node has a lease of its own (F23)", run: func(e *env) {
		room := e.topic()
		e.enter(room, "dead", e.cfg.units(lifetime), users("a", "b")...)
		e.enter(room, "alive", long, users("b", "c")...)
		e.sleep(lifetime + 2)
		e.expect(room, users("b", "c"), "the leases of one node have ended")
		e.leave(room, "alive", "b")
		e.expect(room, users("c"), "b left on the node on which the lease still held")
	}},
	{name: "Presence/rooms, nodes and users have opaque names and do not mix", run: func(e *env) {
		room := e.topic()
		for _, odd := range oddNames() {
			e.enter(room, odd, long, users(odd, "everywhere")...)
		}
		_, count := e.members(room, 0)
		require.Equal(e, len(oddNames())+1, count, "users with odd ids on nodes with odd names")
		for _, odd := range oddNames() {
			e.leave(room, odd, odd)
			_, after := e.members(room, 0)
			count--
			require.Equalf(e, count, after, "count after user %.50q left on the node of the same name", odd)
		}
		e.expect(room, users("everywhere"), "all others left")
	}},
	{name: "Presence/a log and a room do not touch each other", run: func(e *env) {
		topic := e.topic()
		before := e.all(topic)
		e.enter(topic, "n1", long, users("a")...)
		require.Equal(e, before, e.all(topic), "the log after Enter")
		epoch, _ := e.append(topic, keep(5), message(1))
		require.Equal(e, before.Epoch, epoch)
		e.expect(topic, users("a"), "after Append")
		e.leave(topic, "n1", "a")
		require.Equal(e, span(1, 1), offsets(e.all(topic).Entries), "the log after everybody left")
	}},
}
