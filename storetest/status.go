package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// user returns the id of a user whom nobody knows.
func (e *env) user() string {
	e.topics++
	return fmt.Sprintf("user-%s-%d", e.prefix, e.topics)
}

func (e *env) connect(node string, lease time.Duration, ids ...string) {
	e.Helper()
	require.NoErrorf(e, e.store.Connect(context.Background(), node, ids, lease), "Connect of %d users to %q", len(ids), node)
}

func (e *env) disconnect(node string, ids ...string) {
	e.Helper()
	require.NoErrorf(e, e.store.Disconnect(context.Background(), node, ids), "Disconnect of %d users from %q", len(ids), node)
}

// status asks both nodes and expects the same.
func (e *env) status(ids ...string) []parley.UserStatus {
	e.Helper()
	list, err := e.store.Status(context.Background(), ids)
	require.NoErrorf(e, err, "Status of %d users", len(ids))
	require.Lenf(e, list, len(ids), "Status of %d users: one for each", len(ids))
	other, err := e.peer.Status(context.Background(), ids)
	require.NoErrorf(e, err, "Status of %d users", len(ids))
	require.Equal(e, append([]parley.UserStatus{}, list...), append([]parley.UserStatus{}, other...), "both nodes say the same")
	return list
}

// online expects who is online.
func (e *env) online(ids []string, want []bool, why string) []parley.UserStatus {
	e.Helper()
	list := e.status(ids...)
	got := make([]bool, len(list))
	for i, u := range list {
		got[i] = u.Online
	}
	require.Equalf(e, want, got, "who of %d users is online: %s", len(ids), why)
	return list
}

// is expects whether one user is online.
func (e *env) is(online bool, id, why string) parley.UserStatus {
	e.Helper()
	return e.online([]string{id}, []bool{online}, why)[0]
}

// later expects b to be later than a by at least so many units, less two.
func (e *env) later(a, b int64, units float64, why string) {
	e.Helper()
	require.GreaterOrEqualf(e, b-a, e.cfg.units(units-2).Milliseconds(), "%d and %d are about %v units apart: %s", a, b, units, why)
}

var statusCases = []storeCase{
	{name: "Status/of users who are not known is nothing", run: func(e *env) {
		require.Equal(e, make([]parley.UserStatus, 2), e.status(e.user(), e.user()))
		require.Empty(e, e.status())
	}},
	{name: "Status/users are online from Connect to Disconnect", run: func(e *env) {
		a, b := e.user(), e.user()
		e.connect("n1", long, a)
		list := e.online([]string{a, b}, []bool{true, false}, "a connected")
		require.Equal(e, list[0].Since, list[0].LastSeen, "there was one Connect")
		require.Zero(e, list[1])
		e.connect("n1", long, b)
		e.online([]string{a, b}, []bool{true, true}, "b connected, too")
		e.disconnect("n1", a)
		after := e.online([]string{a, b}, []bool{false, true}, "a disconnected")
		require.GreaterOrEqual(e, after[0].LastSeen, list[0].LastSeen, "LastSeen of a")
		e.connect("n1", long, a)
		e.online([]string{a}, []bool{true}, "a came back")
	}},
	{name: "Status/is in the order of userIDs, also if some are named twice or not known", run: func(e *env) {
		var ids []string
		known := map[string]bool{}
		for i := range 20 {
			id := e.user()
			ids = append(ids, id, id)
			if known[id] = i%3 == 0; known[id] {
				e.connect("n1", long, id)
			}
		}
		e.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		for range 3 {
			want := make([]bool, len(ids))
			for i, id := range ids {
				want[i] = known[id]
			}
			e.online(ids, want, "in any order")
			slices.Sort(ids)
			slices.Reverse(ids)
		}
	}},
	{name: "Status/of 500 users who come and go together, some named twice", run: func(e *env) {
		var ids []string
		for range 500 {
			ids = append(ids, e.user())
		}
		e.connect("n1", long, append(ids[:500:500], ids[7], ids[7])...)
		e.connect("n2", long, ids[300:]...)
		e.connect("n1", long, ids...)
		all := slices.Repeat([]bool{true}, 500)
		before := e.online(ids, all, "all connected")
		e.disconnect("n1", append(ids[:500:500], ids[9])...)
		after := e.online(ids, append(make([]bool, 300), all[300:]...), "all disconnected from one of two nodes")
		for i := 300; i < 500; i++ {
			require.Equalf(e, before[i].Since, after[i].Since, "Since of user %d", i)
		}
	}},
	{name: "Status/Connect and Disconnect of nobody are no error", run: func(e *env) {
		e.connect("n1", long)
		e.disconnect("n1")
	}},
	{name: "Status/Disconnect of users who are not connected is no error, and not a sign of them", run: func(e *env) {
		a, b, c := e.user(), e.user(), e.user()
		e.disconnect("n1", a)
		require.Zero(e, e.is(false, a, "nobody has seen a"))
		e.connect("n1", long, b)
		before := e.is(true, b, "b connected")
		e.disconnect("n2", a, b, c)
		require.Equal(e, before, e.is(true, b, "b is on another node"))
		e.disconnect("n1", a, b, b, c)
		after := e.is(false, b, "b disconnected, beside others who were not there")
		e.sleep(3)
		e.disconnect("n1", b)
		require.Equal(e, after, e.is(false, b, "disconnected again"))
	}},
	// F32: several devices, on several nodes.
	{name: "Status/a user on several nodes is online until the last Disconnect, with one Since (F32)", run: func(e *env) {
		a := e.user()
		e.connect("n1", long, a)
		since := e.is(true, a, "on n1").Since
		for i, step := range []func(){
			func() { e.connect("n2", long, a) },
			func() { e.connect("n1", long, a) },
			func() { e.disconnect("n1", a) },
			func() { e.connect("n3", long, a) },
			func() { e.disconnect("n2", a) },
			func() { e.connect("n3", long, a) },
		} {
			e.sleep(1)
			step()
			require.Equalf(e, since, e.is(true, a, "always on some node").Since, "Since after step %d", i)
		}
		e.disconnect("n3", a)
		e.is(false, a, "left on all nodes")
	}},
	{name: "Status/LastSeen is the time of the last Connect or Disconnect", run: func(e *env) {
		a := e.user()
		seen := int64(0)
		for i, step := range []func(){
			func() { e.connect("n1", long, a) },
			func() { e.connect("n1", long, a) },
			func() { e.connect("n2", long, a) },
			func() { e.disconnect("n1", a) },
			func() { e.disconnect("n2", a) },
		} {
			step()
			u := e.status(a)[0]
			if i > 0 {
				e.later(seen, u.LastSeen, 3, fmt.Sprintf("LastSeen before and after step %d", i))
			}
			seen = u.LastSeen
			e.sleep(3)
			require.Equalf(e, seen, e.status(a)[0].LastSeen, "LastSeen some time after step %d", i)
		}
	}},
	{name: "Status/who comes back is online anew", run: func(e *env) {
		a := e.user()
		e.connect("n1", long, a)
		first := e.is(true, a, "connected")
		e.sleep(3)
		e.disconnect("n1", a)
		gone := e.is(false, a, "disconnected")
		e.sleep(3)
		e.connect("n2", long, a)
		back := e.is(true, a, "connected to another node")
		e.later(first.Since, back.Since, 6, "Since before and after a pause")
		e.later(gone.LastSeen, back.Since, 3, "LastSeen before the pause, and Since")
	}},
	{name: "Status/users and nodes have opaque names and do not mix (S38)", run: func(e *env) {
		var ids []string
		for _, odd := range oddNames() {
			ids = append(ids, e.prefix+odd)
			e.connect(odd, long, e.prefix+odd, e.prefix+"everywhere")
		}
		ids = append(ids, e.prefix+strings300("x"), e.prefix+strings300("y"))
		online := append(slices.Repeat([]bool{true}, len(oddNames())), false, false)
		e.online(ids, online, "users with odd ids on nodes with odd names")
		for i, odd := range oddNames() {
			e.disconnect(odd, e.prefix+odd, e.prefix+"everywhere")
			online[i] = false
			e.online(ids, online, fmt.Sprintf("user %.50q disconnected from the node of the same name", odd))
			e.is(i < len(oddNames())-1, e.prefix+"everywhere", "on all nodes that are left")
		}
	}},
	{name: "Status/being in a room and being online do not touch each other", run: func(e *env) {
		a, room := e.user(), e.topic()
		e.enter(room, "n1", long, users(a)...)
		require.Zero(e, e.is(false, a, "in a room, but not connected"))
		e.connect("n1", long, a)
		e.leave(room, "n1", a)
		e.is(true, a, "not in the room any more")
		e.enter(room, "n1", long, users(a)...)
		e.disconnect("n1", a)
		e.expect(room, users(a), "not connected any more")
	}},
	// F30: the last call counts, whatever others do meanwhile.
	{name: "Status/ends up as the last Connect and Disconnect of each user say (F30)", run: func(e *env) {
		const own = 5
		var ids [writers][own]string
		var here [writers][own]bool
		for w := range writers {
			for u := range own {
				ids[w][u] = e.user()
			}
		}
		e.together(func(w int, s parley.Store) {
			rng := rand.New(rand.NewPCG(30, uint64(w)))
			for range 40 {
				u := rng.IntN(own)
				here[w][u] = !here[w][u]
				id := []string{ids[w][u]}
				var err error
				if here[w][u] {
					err = s.Connect(context.Background(), fmt.Sprint("n", w%3), id, long)
				} else {
					err = s.Disconnect(context.Background(), fmt.Sprint("n", w%3), id)
				}
				if err == nil {
					_, err = s.Status(context.Background(), ids[w][:])
				}
				if err != nil {
					e.Errorf("writer %d: %v", w, err)
				}
			}
		})
		for w := range writers {
			e.online(ids[w][:], here[w][:], fmt.Sprintf("after 40 random steps of writer %d", w))
		}
	}},
	{name: "Status/Since is that of the first node, also if several come at once", run: func(e *env) {
		var ids []string
		for range 40 {
			ids = append(ids, e.user())
		}
		e.together(func(w int, s parley.Store) {
			if err := s.Connect(context.Background(), fmt.Sprint("n", w), ids, long); err != nil {
				e.Errorf("writer %d: %v", w, err)
			}
		})
		first := e.online(ids, slices.Repeat([]bool{true}, len(ids)), "on 8 nodes")
		for w := range writers - 1 {
			for n := range writers { // so that each node is the last one of some users
				var leave []string
				for i := (5*w + n) % writers; i < len(ids); i += writers {
					leave = append(leave, ids[i])
				}
				e.disconnect(fmt.Sprint("n", n), leave...)
			}
			for i, u := range e.status(ids...) {
				require.Equalf(e, first[i].Since, u.Since, "Since of user %d when %d of 8 nodes are left", i, writers-1-w)
			}
		}
	}},
}

// strings300 is a name that is longer than most.
func strings300(s string) string {
	for len(s) < 290 {
		s += s[:1]
	}
	return s
}
