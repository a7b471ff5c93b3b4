package parley

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// soon is longer than two ticks of presence.
const soon = 2*presenceTick + 10*time.Millisecond

// rollCall is what a v1 client knows of who is in a room.
type rollCall struct {
	c     *client
	users map[string]string
	count int64
}

func newRollCall(c *client) *rollCall { return &rollCall{c: c, users: map[string]string{}} }

// follow takes the messages that wait.
func (v *rollCall) follow() *rollCall {
	for len(v.c.in) > 0 {
		m := v.c.next()
		if m.str("type") != "presence" {
			continue
		}
		v.count = m.num("count")
		if members, ok := m["members"].([]any); ok {
			v.users = map[string]string{}
			v.add(members)
		}
		for _, u := range m.list("left") {
			delete(v.users, u.(map[string]any)["userId"].(string))
		}
		v.add(m.list("joined"))
	}
	return v
}

func (m message) list(key string) []any { l, _ := m[key].([]any); return l }

func (v *rollCall) add(members []any) {
	for _, u := range members {
		m := u.(map[string]any)
		v.users[m["userId"].(string)] = m["username"].(string)
	}
}

func (v *rollCall) names() (ids []string) {
	for id := range v.users {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// requireRoll asserts whom the client of v takes to be in the room.
func requireRoll(t *testing.T, v *rollCall, ids ...string) {
	t.Helper()
	v.follow()
	require.Equal(t, ids, v.names())
	require.EqualValues(t, len(ids), v.count)
}

func (s *server) viewer(user string) *rollCall {
	c := s.connect(dialOptions{user: user, v1: true})
	c.send(`{"type":"join","room":"tea"}`)
	return newRollCall(c)
}

// F32: presence over nodes: everybody sees the same users, a user on several nodes is one, and stays until the last connection is gone.
func TestPresenceOverNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, _ := threeNodes(t, Options{LeaveGrace: -1})
		ada := nodes[0].viewer("ada")
		time.Sleep(soon)
		kim := nodes[1].viewer("kim")
		time.Sleep(soon)
		requireRoll(t, ada, "ada", "kim")
		requireRoll(t, kim, "ada", "kim")
		also := nodes[2].viewer("kim")
		lee := nodes[2].viewer("lee")
		time.Sleep(soon)
		for _, v := range []*rollCall{ada, kim, also, lee} {
			requireRoll(t, v, "ada", "kim", "lee")
		}
		kim.c.cut()
		time.Sleep(soon)
		requireRoll(t, ada, "ada", "kim", "lee")
		also.c.cut()
		time.Sleep(soon)
		requireRoll(t, ada, "ada", "lee")
		requireRoll(t, lee, "ada", "lee")
	})
}

// P3.5, P3.6: joins and leaves are announced once for a user, whichever nodes the user's connections are on, and a
// reconnect to another node within the grace is neither.
func TestAnnouncementsOverNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, _ := threeNodes(t, Options{})
		ada := nodes[0].plain()
		ada.join("tea", "ada")
		require.Equal(t, "ada joined", ada.expect("system").str("content"))
		first := nodes[1].viewer("kim")
		require.Equal(t, "kim joined", ada.expect("system").str("content"))
		time.Sleep(soon)
		second := nodes[2].viewer("kim")
		time.Sleep(soon)
		first.c.cut()
		time.Sleep(time.Minute)
		second.c.cut()
		time.Sleep(5 * time.Second)
		third := nodes[0].viewer("kim")
		time.Sleep(time.Minute)
		ada.expectNone()
		third.c.cut()
		require.Equal(t, "kim left", ada.expect("system").str("content"))
		time.Sleep(time.Minute)
		ada.expectNone()
	})
}

// F13, F23: a change that the Broker has lost, and the users of a node that has died, are made up with the renewal of the leases.
func TestPresenceIsMadeUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, broker := threeNodes(t, Options{LeaveGrace: -1})
		ada := nodes[0].viewer("ada")
		time.Sleep(soon)
		broker.set(lost)
		kim := nodes[1].viewer("kim")
		time.Sleep(soon)
		requireRoll(t, ada, "ada")
		ghosts := []Member{{UserID: "ghost", Name: "of a dead node"}}
		require.NoError(t, nodes[0].opts.Store.Enter(t.Context(), roomPrefix+"tea", "dead", ghosts, presenceLease))
		time.Sleep(presenceLease/2 + soon)
		requireRoll(t, ada, "ada", "ghost", "kim")
		time.Sleep(presenceLease)
		requireRoll(t, ada, "ada", "kim")
		requireRoll(t, kim, "ada", "kim")
	})
}

// F8: while the Store is down, who is on the same node is seen, and afterwards everybody.
func TestPresenceWithoutTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := &downStore{MemoryStore: NewMemoryStore()}
		nodes, _ := threeNodes(t, Options{Store: store, LeaveGrace: -1})
		ada, kim := nodes[0].viewer("ada"), nodes[1].viewer("kim")
		other := nodes[0].viewer("lee")
		time.Sleep(soon)
		requireRoll(t, ada, "ada", "kim", "lee")
		requireRoll(t, kim, "ada", "kim", "lee")
		store.down.Store(true)
		other.c.cut()
		time.Sleep(2 * soon)
		requireRoll(t, ada, "ada", "kim")
		requireRoll(t, kim, "ada", "kim", "lee")
		time.Sleep(time.Minute)
		requireRoll(t, ada, "ada", "kim")
		store.down.Store(false)
		time.Sleep(presenceLease + soon) // until the lease of who could not be written out
		requireRoll(t, ada, "ada", "kim")
		requireRoll(t, kim, "ada", "kim")
	})
}

// S24: a large room costs reads by the second, not by the change, and above a size only counts are told.
func TestLargeRoomOverNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := &countingMembers{MemoryStore: NewMemoryStore()}
		nodes, _ := threeNodes(t, Options{Store: store, LeaveGrace: -1})
		ada := nodes[0].viewer("ada")
		var crowd []Member
		for i := range presenceDetail + 200 {
			crowd = append(crowd, Member{UserID: fmt.Sprintf("u%04d", i), Name: "u"})
		}
		require.NoError(t, store.Enter(t.Context(), roomPrefix+"tea", "crowd", crowd, time.Hour))
		time.Sleep(presenceLease)
		ada.c.drain()
		before := store.reads.Load()
		for i := range 100 {
			nodes[1].viewer(fmt.Sprintf("v%03d", i))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(soon + sharedPause)
		require.LessOrEqual(t, store.reads.Load()-before, int32(2*12+2), "10 s and two nodes")
		var last message
		for len(ada.c.in) > 0 {
			if m := ada.c.next(); m.str("type") == "presence" {
				require.Empty(t, m.list("joined"))
				last = m
			}
		}
		require.EqualValues(t, presenceDetail+200+1+100, last.num("count"))
	})
}

// countingMembers counts the reads of rooms.
type countingMembers struct {
	*MemoryStore
	reads atomic.Int32
}

func (s *countingMembers) Members(ctx context.Context, topic string, limit int) ([]Member, int, error) {
	if topic != topicNodes {
		s.reads.Add(1)
	}
	return s.MemoryStore.Members(ctx, topic, limit)
}

// A room in which only counts are told says nothing of who left, neither then nor when it has become small.
func TestLargeRoomForgetsWhoLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := NewMemoryStore()
		nodes, _ := threeNodes(t, Options{Store: store, LeaveGrace: -1, RateLimit: -1})
		ada := nodes[0].viewer("ada")
		var crowd []Member
		for i := range presenceDetail + 200 {
			crowd = append(crowd, Member{UserID: fmt.Sprintf("u%04d", i), Name: "u"})
		}
		require.NoError(t, store.Enter(t.Context(), roomPrefix+"tea", "crowd", crowd, time.Hour))
		time.Sleep(presenceLease)
		for i := range 50 {
			v := nodes[0].viewer(fmt.Sprintf("v%03d", i))
			time.Sleep(3 * time.Second)
			v.c.cut()
			time.Sleep(2 * time.Second)
		}
		ada.c.drain()
		require.Empty(t, nodes[0].leaving())
		time.Sleep(2 * time.Hour) // the crowd goes
		synctest.Wait()
		for len(ada.c.in) > 0 {
			require.Equal(t, "presence", ada.c.next().str("type"))
		}
	})
}

// A user with two names on two nodes has one of them, as with two devices on one node: the one that came last.
func TestNameOfAUserOnTwoNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, _ := threeNodes(t, Options{LeaveGrace: -1})
		ada := nodes[2].viewer("ada")
		for i, name := range []string{"Kim", "Kimberly"} {
			c := nodes[i].connect(dialOptions{user: "kim", name: name, v1: true})
			c.send(`{"type":"join","room":"tea"}`)
			time.Sleep(time.Second)
		}
		requireRoll(t, ada, "ada", "kim")
		require.Equal(t, "Kimberly", ada.users["kim"])
		time.Sleep(30 * time.Minute)
		ada.c.expectNone()
	})
}

// F8: what the Store did not take it is told again, and not only with the next renewal.
func TestFailedPresenceIsToldAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		var fails atomic.Bool
		call := func(next func() error) error {
			if fails.Swap(false) {
				return errors.New("down")
			}
			return next()
		}
		store.onEnter = func(_ context.Context, _, _ string, _ []Member, _ time.Duration, next func() error) error {
			return call(next)
		}
		store.onLeave = func(_ context.Context, _, _ string, _ []string, next func() error) error { return call(next) }
		nodes, _ := threeNodes(t, Options{Store: store, LeaveGrace: -1})
		ada := nodes[0].viewer("ada")
		time.Sleep(soon)
		fails.Store(true)
		kim := nodes[1].viewer("kim")
		time.Sleep(sharedPause + 2*soon)
		requireRoll(t, ada, "ada", "kim")
		requireRoll(t, kim, "ada", "kim")
		ada.c.drain()
		fails.Store(true)
		kim.c.cut()
		time.Sleep(sharedPause + 2*soon)
		require.Equal(t, "kim left", ada.c.expect("system").str("content"), "once")
		require.Len(t, ada.c.expect("presence").list("left"), 1)
		ada.c.expectNone()
	})
}

// A node is shut down, and its clients come back to another one when they were told to: nobody sees them leave. Who does not come back,
// or cannot resume, has left.
func TestRollingUpgrade(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, _ := threeNodes(t, Options{})
		ada := nodes[0].viewer("ada")
		nodes[1].viewer("kim")
		lee := nodes[1].viewer("lee")
		nodes[1].connect(dialOptions{user: "plain"}).send(`{"type":"join","room":"tea"}`)
		time.Sleep(5 * time.Second)
		lee.c.cut() // and is in the grace
		requireRoll(t, ada, "ada", "kim", "lee", "plain")
		require.NoError(t, nodes[1].Shutdown(t.Context()))
		time.Sleep(soon)
		requireRoll(t, ada, "ada", "kim", "lee")
		time.Sleep(3 * time.Second)
		again := nodes[2].viewer("kim")
		time.Sleep(5 * time.Second)
		ada.c.expectNone()
		time.Sleep(presenceLease / 2)
		requireRoll(t, ada, "ada", "kim")
		requireRoll(t, again, "ada", "kim")
	})
}

// After Shutdown nothing is subscribed any more, and the Store is left alone.
func TestPresenceAfterShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := &countingMembers{MemoryStore: NewMemoryStore()}
		nodes, broker := threeNodes(t, Options{Store: store, TrackPresence: true})
		for i := range 20 {
			v := nodes[i%3].viewer(fmt.Sprint("u", i))
			v.c.send(map[string]any{"type": "join", "room": fmt.Sprint("x", i)})
			if i%2 == 0 {
				time.Sleep(time.Second)
				v.c.cut()
			}
		}
		for _, n := range nodes {
			require.NoError(t, n.Shutdown(t.Context()))
		}
		synctest.Wait()
		require.Zero(t, broker.topics())
		reads := store.reads.Load()
		time.Sleep(time.Minute)
		require.Equal(t, reads, store.reads.Load())
	})
}

// Is a user online, since when, and when was the user last seen: one call, over all nodes.
func TestStatus(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, _ := threeNodes(t, Options{TrackPresence: true})
		status := func() UserStatus {
			t.Helper()
			all, err := nodes[2].Status(t.Context(), "nobody", "kim")
			require.NoError(t, err)
			require.Equal(t, UserStatus{}, all[0])
			return all[1]
		}
		require.Equal(t, UserStatus{}, status())
		first := nodes[0].connect(dialOptions{user: "kim", v1: true})
		time.Sleep(soon)
		since := status().Since
		require.InDelta(t, time.Now().Add(-soon).UnixMilli(), since, 300)
		require.True(t, status().Online)
		second := nodes[1].connect(dialOptions{user: "kim", v1: true})
		time.Sleep(5 * time.Minute)
		first.cut()
		time.Sleep(time.Minute)
		require.True(t, status().Online)
		require.Equal(t, since, status().Since)
		second.cut()
		time.Sleep(5 * time.Second)
		require.True(t, status().Online, "a client that can resume has the leave grace")
		time.Sleep(10 * time.Second)
		seen := status()
		require.False(t, seen.Online)
		require.Zero(t, seen.Since)
		require.InDelta(t, time.Now().Add(-5*time.Second).UnixMilli(), seen.LastSeen, 1000)
		nodes[0].connect(dialOptions{user: "kim"})
		time.Sleep(soon)
		require.Greater(t, status().Since, since)
		require.NoError(t, nodes[0].Shutdown(t.Context()))
		require.False(t, status().Online, "at once: a node that is shut down says so")
		_, err := nodes[1].Status(t.Context(), "")
		require.ErrorIs(t, err, ErrInvalidName)
		_, err = nodes[0].Status(t.Context(), "kim")
		require.ErrorIs(t, err, ErrClosed)
		s := serve(t, Options{})
		_, err = s.Status(t.Context(), "kim")
		require.ErrorIs(t, err, errNotTracked)
	})
}

// A private message to a user on another node does not count as one to somebody who is away.
func TestQuotaKnowsUsersOfOtherNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, _ := threeNodes(t, Options{TrackPresence: true, PrivateQuota: 2})
		kim := nodes[0].connect(dialOptions{user: "kim"})
		nodes[1].connect(dialOptions{user: "lee"})
		time.Sleep(soon)
		send := func(to string) message {
			kim.send(map[string]any{"type": "private", "id": "i", "targetId": to, "message": to})
			return kim.next()
		}
		for range 5 {
			require.Equal(t, "ack", send("lee").str("type"))
		}
		for range 2 {
			require.Equal(t, "ack", send("away").str("type"))
			time.Sleep(3 * time.Minute) // the same id again is another message
		}
		require.Equal(t, string(CodeLimit), send("away").str("code"))
	})
}
