package parley

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// lateStore takes up to 300 ms for each call about who is in a room, and fails some of them, until it is calm.
type lateStore struct {
	*MemoryStore
	mu   sync.Mutex
	rnd  *rand.Rand
	fail float64
	calm atomic.Bool
}

func (s *lateStore) lag(topic string) error {
	if topic == topicNodes || s.calm.Load() {
		return nil
	}
	s.mu.Lock()
	wait, fails := time.Duration(s.rnd.IntN(300))*time.Millisecond, s.rnd.Float64() < s.fail
	s.mu.Unlock()
	time.Sleep(wait)
	if fails {
		return errors.New("down")
	}
	return nil
}

func (s *lateStore) Enter(ctx context.Context, topic, node string, members []Member, lease time.Duration) error {
	if err := s.lag(topic); err != nil {
		return err
	}
	return s.MemoryStore.Enter(ctx, topic, node, members, lease)
}

func (s *lateStore) Leave(ctx context.Context, topic, node string, userIDs []string) error {
	if err := s.lag(topic); err != nil {
		return err
	}
	return s.MemoryStore.Leave(ctx, topic, node, userIDs)
}

func (s *lateStore) Members(ctx context.Context, topic string, limit int) ([]Member, int, error) {
	if err := s.lag(topic); err != nil {
		return nil, 0, err
	}
	members, count, err := s.MemoryStore.Members(ctx, topic, limit)
	_ = s.lag(topic) // the answer, too, takes its time
	return members, count, err
}

// F32: users come and go on three nodes, over a Store that is slow and fails, and a Broker that loses hints. In the end everybody sees the same.
func TestPresenceOfALateStore(t *testing.T) {
	seeds := 200
	if testing.Short() || raceEnabled {
		seeds = 40
	}
	for seed := range seeds {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { comeAndGo(t, uint64(seed)) })
		})
		if !ok {
			return
		}
	}
}

func comeAndGo(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	store := &lateStore{MemoryStore: NewMemoryStore(), rnd: rand.New(rand.NewPCG(seed, 2))}
	opts := Options{Store: store, LeaveGrace: -1, MaxPerUser: -1}
	if seed%2 == 1 {
		store.fail = 0.2
	}
	if seed%4 < 2 {
		opts.LeaveGrace = 2 * time.Second
	}
	nodes, broker := threeNodes(t, opts)
	if seed%3 == 0 {
		broker.set(losesHints(rand.New(rand.NewPCG(seed, 3))))
	}
	views := make(map[*rollCall]string) // and their users
	var order []*rollCall
	gone := func(match func(*rollCall) bool) {
		order = slices.DeleteFunc(order, func(v *rollCall) bool {
			end := match(v)
			if end {
				delete(views, v)
			}
			return end
		})
	}
	for range 40 {
		switch k := rnd.IntN(10); {
		case k < 5 || len(order) == 0:
			user := fmt.Sprint("u", rnd.IntN(5))
			v := nodes[rnd.IntN(3)].viewer(user)
			views[v], order = user, append(order, v)
		case k < 8:
			some := order[rnd.IntN(len(order))]
			if rnd.IntN(2) == 0 {
				some.c.cut()
			} else {
				some.c.close()
			}
			gone(func(v *rollCall) bool { return v == some })
		default:
			user := views[order[rnd.IntN(len(order))]]
			_, _ = nodes[rnd.IntN(3)].DisconnectUser(t.Context(), user, "") // also if not all nodes answer in time
			gone(func(v *rollCall) bool { return views[v] == user })
		}
		time.Sleep(time.Duration(rnd.IntN(600)) * time.Millisecond)
	}
	time.Sleep(20 * time.Second)
	store.calm.Store(true)
	time.Sleep(2 * presenceLease)
	synctest.Wait()
	users := make(map[string]bool)
	for _, user := range views {
		users[user] = true
	}
	for _, v := range order {
		requireRoll(t, v, sortedKeys(users)...)
	}
	for _, n := range nodes {
		require.Empty(t, n.leaving(), "all farewells are said")
	}
}

// losesHints is a Broker that loses a third of what tells of changes of presence.
func losesHints(rnd *rand.Rand) func([]byte) [][]byte {
	var mu sync.Mutex
	return func(p []byte) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(string(p), `"presence":true`) && rnd.IntN(3) == 0 {
			return nil
		}
		return [][]byte{p}
	}
}

// leaving returns who has left the room on this node, and was not announced so far.
func (s *server) leaving() []string {
	t := s.lookup(roomPrefix + "tea")
	if t == nil {
		return nil
	}
	defer t.release()
	t.room.mu.Lock()
	defer t.room.mu.Unlock()
	return sortedKeys(t.room.shared.leaving)
}

// Changes of the flush before, which come late, do not outlast the snapshot that knows more.
func TestNoGhosts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		gate := make(chan struct{})
		var block atomic.Bool
		store.onAppend = func(_ context.Context, topic string, _ []Entry, next func() (Log, error)) (Log, error) {
			if topic == roomPrefix+"tea" && block.Load() {
				<-gate
			}
			return next()
		}
		store.onLeave = func(_ context.Context, _, _ string, _ []string, next func() error) error {
			time.Sleep(presenceTick / 2) // meanwhile u3 enters
			return next()
		}
		nodes, _ := threeNodes(t, Options{Store: store, LeaveGrace: -1})
		ada := nodes[0].viewer("ada")
		kim := nodes[1].viewer("kim")
		time.Sleep(time.Second)
		ada.c.cut()
		u3 := nodes[1].viewer("u3")
		block.Store(true)
		go func() { _, _ = nodes[0].Room("tea").Send(context.Background(), "slow") }()
		time.Sleep(soon) // the flush after ada's leave has seen u3, and waits to say so
		u3.c.cut()
		time.Sleep(soon)
		lee := nodes[0].viewer("lee")
		synctest.Wait()
		close(gate)
		time.Sleep(10 * time.Minute)
		requireRoll(t, kim, "kim", "lee")
		requireRoll(t, lee, "kim", "lee")
	})
}

// One client joins while the Store is late, the next gives up waiting: both learn all.
func TestPresenceGuessedAndRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		late := make(chan struct{})
		var next atomic.Bool
		store.onMembers = func(string) {
			if next.Swap(false) {
				<-late
			}
		}
		nodes, _ := threeNodes(t, Options{Store: store, LeaveGrace: -1})
		nodes[1].viewer("kim")
		time.Sleep(time.Second)
		next.Store(true)
		ada := nodes[0].viewer("ada")
		synctest.Wait()
		c := nodes[0].connect(dialOptions{user: "lee", v1: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, nodes[0].Room("tea").Join(ctx, nodes[0].Conn(c.id)))
		lee := newRollCall(c)
		close(late)
		time.Sleep(2 * time.Minute)
		requireRoll(t, ada, "ada", "kim", "lee")
		requireRoll(t, lee, "ada", "kim", "lee")
	})
}

// A user who leaves while a flush is at the Store, which still knows the user, is announced by the next one.
func TestLeaveDuringAFlush(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		leaves := make(chan *rollCall, 1)
		store.onMembers = func(string) {
			select {
			case v := <-leaves:
				v.c.cut()
				time.Sleep(time.Second)
			default:
			}
		}
		nodes, _ := threeNodes(t, Options{Store: store, LeaveGrace: -1})
		ada := nodes[0].plain()
		ada.join("tea", "ada")
		kim := nodes[0].viewer("kim")
		time.Sleep(time.Second)
		ada.drain()
		leaves <- kim
		nodes[0].viewer("lee")
		require.Equal(t, "lee joined", ada.expect("system").str("content"))
		require.Equal(t, "kim left", ada.expect("system").str("content"))
		time.Sleep(time.Minute)
		ada.expectNone()
		require.Empty(t, nodes[0].leaving())
	})
}
