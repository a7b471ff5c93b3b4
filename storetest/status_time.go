package storetest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

var statusTimeCases = []storeCase{
	{name: "Status/ends with the lease (F23)", run: func(e *env) {
		a, b := e.user(), e.user()
		start := time.Now()
		e.connect("n1", e.cfg.units(lifetime), a)
		e.connect("n1", long, b)
		e.sleep(4)
		list := e.status(a, b)
		e.fresh(start)
		require.Equal(e, [2]bool{true, true}, [2]bool{list[0].Online, list[1].Online}, "at 4/10 of the lease")
		e.sleep(lifetime - 2)
		after := e.online([]string{a, b}, []bool{false, true}, "at 12/10 of the lease of a")
		require.Equal(e, list[0].LastSeen, after[0].LastSeen, "LastSeen of a is still its last Connect")
		e.connect("n1", long, a)
		back := e.is(true, a, "connected after the lease had ended")
		e.later(list[0].Since, back.Since, lifetime+2, "Since before and after the lease had ended")
	}},
	{name: "Status/a repeated Connect renews the lease, and keeps Since", run: func(e *env) {
		a, b := e.user(), e.user()
		start := time.Now()
		e.connect("n1", e.cfg.units(lifetime), a, b)
		since := e.status(a)[0].Since
		e.sleep(lifetime - 4)
		renewed := time.Now()
		e.connect("n1", e.cfg.units(lifetime), a)
		e.fresh(start)
		start = renewed
		e.sleep(6)
		list := e.status(a, b)
		e.fresh(start)
		require.True(e, list[0].Online, "a was renewed")
		require.Equal(e, since, list[0].Since)
		e.sleep(6)
		e.online([]string{a, b}, []bool{false, false}, "nobody was renewed")
	}},
	{name: "Status/a repeated Connect may shorten the lease", run: func(e *env) {
		a := e.user()
		e.connect("n1", long, a)
		e.connect("n1", e.cfg.units(lifetime), a)
		e.sleep(lifetime + 2)
		e.is(false, a, "the lease of the last Connect counts")
	}},
	// A node that was killed leaves nothing behind but its leases.
	{name: "Status/each node has a lease of its own, and Since outlives that of the first (F23)", run: func(e *env) {
		a, b := e.user(), e.user()
		start := time.Now()
		e.connect("dead", e.cfg.units(lifetime), a, b)
		before := e.status(a)[0]
		e.sleep(2)
		e.connect("alive", long, a)
		e.fresh(start)
		e.sleep(lifetime)
		after := e.online([]string{a, b}, []bool{true, false}, "the leases of one node have ended")[0]
		require.Equal(e, before.Since, after.Since, "Since is when the first of the nodes connected")
		e.connect("third", long, a)
		e.disconnect("alive", a)
		require.Equal(e, before.Since, e.is(true, a, "without a pause").Since)
		e.disconnect("third", a)
		e.is(false, a, "left on the nodes on which the lease still held")
	}},
	{name: "Status/a lease that has ended does not keep Since", run: func(e *env) {
		a := e.user()
		e.connect("n1", e.cfg.units(lifetime), a)
		before := e.status(a)[0]
		e.sleep(lifetime + 2)
		e.connect("n2", long, a)
		e.connect("n1", long, a)
		e.later(before.Since, e.is(true, a, "came back on another node").Since, lifetime+2, "Since before and after the lease had ended")
	}},
	{name: "Status/LastSeen is kept for LastSeenWindow", needs: freeTime, run: func(e *env) {
		left, lapsed, stays := e.user(), e.user(), e.user()
		e.connect("n1", e.cfg.units(lifetime), left, lapsed)
		e.connect("n1", 2*parley.LastSeenWindow, stays)
		e.disconnect("n1", left)
		before := e.status(left, lapsed, stays)
		for range 4 {
			e.sleepFor(parley.LastSeenWindow/4 - time.Hour)
			e.connect("n1", long, e.user()) // others go on
			after := e.online([]string{left, lapsed, stays}, []bool{false, false, true}, "within LastSeenWindow")
			for i := range after {
				require.Equalf(e, before[i].LastSeen, after[i].LastSeen, "LastSeen of user %d", i)
			}
		}
		require.Equal(e, before[2].Since, e.status(stays)[0].Since)
	}},
}

var statusModelCases = []storeCase{
	{name: "Model/random Connects and Disconnects agree with a simple reference (F23, F32)", run: func(e *env) {
		for round := range 4 {
			m := &statusModel{env: e, users: map[string]*onlineUser{}}
			m.Logf("seed %d (set Config.Seed to repeat), round %d", e.cfg.Seed, round)
			for range 4 {
				id := e.user()
				m.ids, m.users[id] = append(m.ids, id), &onlineUser{leases: map[string]time.Duration{}}
			}
			for range 150 {
				m.step()
			}
		}
	}},
}

// statusModel drives a Store with random Connects and Disconnects and compares it with references. Time
// passes only where it is free.
type statusModel struct {
	*env
	passed time.Duration
	ids    []string
	users  map[string]*onlineUser
	trace  []string
}

// onlineUser is a user as the contract has it.
type onlineUser struct {
	leases map[string]time.Duration // by node: when it ends
	known  bool
	since  int64         // as told first since the user is online; 0: not asked yet
	at     time.Duration // of that Connect
	seenAt time.Duration // of the last Connect or Disconnect
}

func (u *onlineUser) online(now time.Duration) bool {
	for _, end := range u.leases {
		if now < end {
			return true
		}
	}
	return false
}

func (m *statusModel) context() lately {
	return func() string {
		return fmt.Sprintf("seed %d, the last calls were:\n%s", m.cfg.Seed, strings.Join(m.trace[max(0, len(m.trace)-20):], "\n"))
	}
}

func (m *statusModel) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

func (m *statusModel) step() {
	s := []parley.Store{m.store, m.peer}[m.rng.IntN(2)]
	node := fmt.Sprint("n", m.rng.IntN(3))
	var some []string
	for _, i := range m.rng.Perm(len(m.ids))[:1+m.rng.IntN(2)] {
		some = append(some, m.ids[i])
	}
	switch n := m.rng.IntN(10); {
	case n < 5:
		length := long
		if m.cfg.free() { // half units: nothing comes to an end just when it is looked at
			length = m.cfg.units([]float64{3.5, 10.5, 40.5}[m.rng.IntN(3)])
		}
		m.note("Connect to %s for %v: %v", node, length, some)
		require.NoError(m, s.Connect(context.Background(), node, some, length), m.context())
		for _, id := range some {
			u := m.users[id]
			if !u.online(m.passed) {
				u.since, u.at = 0, m.passed
			}
			u.leases[node] = m.passed + length
			u.known, u.seenAt = true, m.passed
		}
	case n < 8:
		m.note("Disconnect from %s: %v", node, some)
		require.NoError(m, s.Disconnect(context.Background(), node, some), m.context())
		for _, id := range some {
			if u := m.users[id]; m.passed < u.leases[node] {
				u.seenAt = m.passed
				delete(u.leases, node)
			}
		}
	case m.cfg.free():
		units := float64(1 + m.rng.IntN(6))
		m.note("sleep %v units", units)
		m.sleep(units)
		m.passed += m.cfg.units(units)
	}
	m.check()
}

// check compares what both nodes say of all users.
func (m *statusModel) check() {
	list := m.status(m.ids...)
	m.note("Status %+v", list)
	var first *onlineUser
	var told parley.UserStatus
	for i, id := range m.ids {
		u, got := m.users[id], list[i]
		require.Equalf(m, u.online(m.passed), got.Online, "Online of %s\n%s", id, m.context())
		require.Equalf(m, u.known, got.LastSeen != 0, "LastSeen of %s\n%s", id, m.context())
		if got.Online && u.since == 0 {
			u.since = got.Since
		}
		if got.Online {
			require.Equalf(m, u.since, got.Since, "Since of %s\n%s", id, m.context())
		}
		if !u.known || !m.cfg.free() {
			continue
		}
		if first == nil {
			first, told = u, got
		}
		// The clocks of the Store and of this test differ by as much for all.
		m.apart(u.seenAt-first.seenAt, got.LastSeen-told.LastSeen, "LastSeen of "+id)
		if got.Online {
			m.apart(u.at-first.seenAt, got.Since-told.LastSeen, "Since of "+id)
		}
	}
}

func (m *statusModel) apart(want time.Duration, ms int64, what string) {
	m.Helper()
	require.InDeltaf(m, want.Milliseconds(), ms, float64(m.cfg.units(2).Milliseconds()), "%s\n%s", what, m.context())
}
