package parley

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// presenceLog is a Store that notes the calls for the presence of room r.
type presenceLog struct {
	*hookStore

	mu    sync.Mutex
	fail  error // of the next calls, if set
	calls []string
	nodes map[string]bool
}

func newPresenceLog(t *testing.T) *presenceLog {
	l := &presenceLog{hookStore: newHookStore(), nodes: make(map[string]bool)}
	l.onEnter = func(_ context.Context, topic, node string, members []Member, lease time.Duration, next func() error) error {
		require.Equal(t, presenceLease, lease)
		names := make([]string, 0, len(members))
		for _, m := range members {
			names = append(names, m.UserID+"="+m.Name)
		}
		slices.Sort(names)
		return l.note("enter", topic, node, names, next)
	}
	l.onLeave = func(_ context.Context, topic, node string, userIDs []string, next func() error) error {
		return l.note("leave", topic, node, slices.Sorted(slices.Values(userIDs)), next)
	}
	return l
}

func (l *presenceLog) note(what, topic, node string, users []string, next func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, fmt.Sprint(what, " ", topic, " ", strings.Join(users, " ")))
	l.nodes[node] = true
	if l.fail != nil {
		return l.fail
	}
	return next()
}

// failing makes the calls from now on fail, or not if err is nil.
func (l *presenceLog) failing(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

// since returns the calls since the last time.
func (l *presenceLog) since() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := l.calls
	l.calls = nil
	return calls
}

// stored returns who is in room r according to the Store.
func (l *presenceLog) stored(t *testing.T) []string {
	t.Helper()
	members, count, err := l.Members(t.Context(), roomPrefix+"r", 100)
	require.NoError(t, err)
	require.Len(t, members, count)
	ids := make([]string, 0, count)
	for _, m := range members {
		ids = append(ids, m.UserID)
	}
	return ids
}

func TestPresenceIsStored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newPresenceLog(t)
		h := newHub(t, Options{Store: store})
		kim, lee := attach(t, h, directOptions{user: "kim", name: "Kim"}), attach(t, h, directOptions{user: "lee"})
		kim.do(t, joinR)
		lee.do(t, joinR)
		require.Empty(t, store.since(), "nothing before the tick")
		elapse(presenceTick)
		require.Equal(t, []string{"enter room/r kim=Kim lee=lee"}, store.since())

		// What comes to nothing within a tick is not told to the Store.
		lee.do(t, `{"type":"leave"}`)
		lee.do(t, joinR)
		ada := attach(t, h, directOptions{user: "ada"})
		ada.do(t, joinR)
		ada.do(t, `{"type":"leave"}`)
		elapse(presenceTick)
		require.Empty(t, store.since())

		// One device more, with another name: entered anew, not left.
		device := attach(t, h, directOptions{user: "kim", name: "Kimberly"})
		device.do(t, joinR)
		lee.do(t, `{"type":"leave"}`)
		elapse(presenceTick)
		require.Equal(t, []string{"leave room/r lee", "enter room/r kim=Kimberly"}, store.since())
		device.do(t, `{"type":"leave"}`)
		elapse(presenceTick)
		require.Empty(t, store.since())
		kim.end(CloseAbnormal, "")
		elapse(presenceTick)
		require.Equal(t, []string{"leave room/r kim"}, store.since())
		require.Len(t, store.nodes, 1)
		require.Contains(t, store.nodes, h.node)
	})
}

// Leases of those who are there, and in their grace, are renewed every 20 s,
// whatever the heartbeat is; others are not.
func TestPresenceIsRenewed(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 30 * time.Second, 24 * time.Hour} {
		bubble(t, func(t *testing.T) {
			store := newPresenceLog(t)
			h := newHub(t, Options{Store: store, PingInterval: interval, LeaveGrace: 15 * time.Minute})
			kim, lee := attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{user: "lee"})
			start := time.Now()
			kim.do(t, joinR)
			lee.do(t, joinR)
			elapse(presenceTick)
			store.since()
			lee.end(CloseAbnormal, "")
			elapse(presenceTick)
			require.Equal(t, []string{"leave room/r lee"}, store.since())

			const spread = presenceLease/12 + 2*presenceTick // calls do not come all at once
			round := func(n int) {
				elapse(time.Until(start.Add(time.Duration(n) * 20 * time.Second)))
				require.Empty(t, store.since(), "round %d", n)
				elapse(spread)
				require.Equal(t, []string{"enter room/r kim=kim"}, store.since(), "round %d", n)
				require.Equal(t, []string{"kim"}, store.stored(t))
			}
			for n := 1; n < 10; n++ {
				round(n)
			}
			kim.end(CloseAbnormal, "")
			round(10)
			round(11)
			elapse(15 * time.Minute)
			calls := store.since()
			require.Equal(t, "leave room/r kim", calls[len(calls)-1])
			elapse(time.Hour)
			require.Empty(t, store.since())
			require.Zero(t, h.Stats().StoreErrors)
		})
	}
}

// What a failing Store did not take is repaired by the next renewal, or
// by the end of the lease.
func TestPresenceOfAFailingStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newPresenceLog(t)
		h := newHub(t, Options{Store: store})
		kim, lee := attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{user: "lee"})
		lee.do(t, joinR)
		elapse(presenceTick)
		store.failing(errors.New("down"))
		kim.do(t, joinR)
		lee.do(t, `{"type":"leave"}`)
		elapse(presenceTick)
		require.Equal(t, []string{"lee"}, store.stored(t))
		require.EqualValues(t, 1, h.Stats().StoreErrors)
		p := crew{room: "r"}
		p.apply(kim.wire.messages(t))
		require.Equal(t, map[string]string{"kim": "kim"}, p.names, "clients learn it all the same")

		store.failing(nil)
		elapse(presenceLease / 2)
		require.Equal(t, []string{"kim", "lee"}, store.stored(t), "renewed, and not yet expired")
		elapse(presenceLease / 2)
		require.Equal(t, []string{"kim"}, store.stored(t))
	})
}

// centrifuge#608, #590: a renewal that is under way does not bring back who
// leaves meanwhile.
func TestRenewalRacesLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, slow := newHookStore(), newBarrier()
		log := &presenceLog{hookStore: store}
		entered := 0
		store.onEnter = func(_ context.Context, _, _ string, _ []Member, _ time.Duration, next func() error) error {
			if entered++; entered > 1 {
				slow.pass() // on its way to the Store
			}
			return next()
		}
		h := newHub(t, Options{Store: store, StoreTimeout: time.Hour})
		kim := attach(t, h, directOptions{user: "kim"})
		kim.do(t, joinR)
		elapse(presenceTick)
		require.Equal(t, []string{"kim"}, log.stored(t))
		elapse(presenceLease / 2)
		require.EqualValues(t, 1, slow.hit.Load(), "the renewal")
		kim.do(t, `{"type":"leave"}`)
		elapse(4 * presenceTick)
		slow.open()
		elapse(4 * presenceTick)
		require.Empty(t, log.stored(t), "a ghost")
	})
}

// A Store that hangs in one room holds up neither the heartbeat nor the presence of another.
func TestPresenceOfAHangingStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		var entered atomic.Int32
		store.onEnter = func(ctx context.Context, topic, _ string, _ []Member, _ time.Duration, next func() error) error {
			if topic == "room/0" {
				<-ctx.Done()
				return ctx.Err()
			}
			entered.Add(1)
			return next()
		}
		h := newHub(t, Options{Store: store})
		kim := attach(t, h, directOptions{user: "kim", v1: true})
		for i := range 50 {
			kim.do(t, map[string]any{"type": "join", "room": fmt.Sprint(i)})
		}
		elapse(presenceTick)
		require.EqualValues(t, 49, entered.Load())
		elapse(20*time.Second + presenceLease/12 + 2*presenceTick)
		require.EqualValues(t, 2*49, entered.Load(), "renewed")
	})
}

// A hub that ends takes its members out of the Store, also those in their grace.
func TestPresenceAtShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newPresenceLog(t)
		h := newHub(t, Options{Store: store})
		kim, lee := attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{user: "lee", v1: true})
		kim.do(t, joinR)
		lee.do(t, joinR)
		elapse(presenceTick)
		lee.end(CloseAbnormal, "")
		elapse(presenceTick)
		require.Equal(t, []string{"kim", "lee"}, store.stored(t))
		require.NoError(t, h.Shutdown(t.Context()))
		require.Empty(t, store.stored(t))
		require.Zero(t, h.Stats().StoreErrors)
		elapse(time.Minute)
		require.Zero(t, h.Stats().StoreErrors)
		require.Equal(t, 1, h.Stats().Topics)
	})
}

// On several nodes a snapshot is made of what the Store knows, and of the one
// who joins, of whom the Store will only learn.
func TestPresenceOfTwoNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, broker := NewMemoryStore(), NewMemoryBroker()
		a, b := newHub(t, Options{Store: store, Broker: broker}), newHub(t, Options{Store: store, Broker: broker})
		names := make(map[string]string)
		crews := make(map[*direct]*crew)
		for i := range 6 {
			d := attach(t, []*Hub{a, b}[i%2], directOptions{user: fmt.Sprint("user", i), v1: true})
			names[d.UserID()] = d.Name()
			crews[d] = &crew{room: "r"}
			crews[d].apply(d.say(t, joinR))
			require.Equal(t, names, crews[d].names, "at the join of %s", d.UserID())
			require.EqualValues(t, i+1, crews[d].count)
			elapse(2 * presenceTick)
			crews[d].apply(d.say(t, `{"type":"presence","id":"1"}`))
			require.Equal(t, names, crews[d].names)
			require.Equal(t, names, roll(t, a, "r"))
			require.Equal(t, names, roll(t, b, "r"))
		}
		for d, p := range crews {
			p.apply(d.wire.messages(t))
			require.Equal(t, names, p.names)
		}
	})
}
