package parley

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// faultyBroker carries payloads between hubs as its filter wants: what filter
// returns is delivered in its place.
type faultyBroker struct {
	mu     sync.Mutex
	subs   map[string][]*func([]byte)
	filter func(payload []byte) [][]byte
	fail   error
}

func newFaultyBroker() *faultyBroker { return &faultyBroker{subs: make(map[string][]*func([]byte))} }

func (b *faultyBroker) failWith(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

func (b *faultyBroker) set(filter func([]byte) [][]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.filter = filter
}

func (b *faultyBroker) Publish(_ context.Context, topic string, payload []byte) error {
	b.mu.Lock()
	if b.fail != nil {
		defer b.mu.Unlock()
		return b.fail
	}
	payloads := [][]byte{payload}
	if b.filter != nil {
		payloads = b.filter(payload)
	}
	subs := append([]*func([]byte){}, b.subs[topic]...)
	b.mu.Unlock()
	for _, p := range payloads {
		for _, deliver := range subs {
			(*deliver)(p)
		}
	}
	return nil
}

func (b *faultyBroker) Subscribe(_ context.Context, topic string, deliver func([]byte)) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return nil, b.fail
	}
	b.subs[topic] = append(b.subs[topic], &deliver)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		kept := b.subs[topic][:0]
		for _, d := range b.subs[topic] {
			if d != &deliver {
				kept = append(kept, d)
			}
		}
		b.subs[topic] = kept
	}, nil
}

func (b *faultyBroker) topics() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, subs := range b.subs {
		n += len(subs)
	}
	return n
}

// twoNodes starts two hubs on one Store and one Broker.
func twoNodes(t *testing.T) (a, b *server, broker *faultyBroker, store *MemoryStore) {
	broker, store = newFaultyBroker(), NewMemoryStore()
	opts := Options{Store: store, Broker: broker, ClientBroadcast: true}
	return serve(t, opts), serve(t, opts), broker, store
}

// expectOffsets asserts that the next messages of c have these offsets, and no more come.
func expectOffsets(t *testing.T, c *client, from, to int64) {
	t.Helper()
	for offset := from; offset <= to; offset++ {
		m := c.expect("message")
		require.Equal(t, offset, m.num("offset"))
		require.Equal(t, strconv.FormatInt(offset, 10), m["content"], "the content is the offset")
	}
	c.expectNone()
}

func say(t *testing.T, s *server, n int64) {
	t.Helper()
	_, err := s.Room("tea").Send(t.Context(), strconv.FormatInt(n, 10))
	require.NoError(t, err)
	synctest.Wait() // the Broker is told after the sender
}

func TestClusterCarriesEveryFace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, broker, _ := twoNodes(t)
		kim, lee := a.plain(), b.plain()
		kim.send(`{"type":"broadcast","message":1}`)
		require.Equal(t, kim.id, lee.expect("broadcast").str("senderId"))
		kim.expectNone()

		kim.join("tea", "kim")
		kim.expect("system")
		synctest.Wait() // until the other node knows
		lee.join("tea", "lee")
		require.Equal(t, "lee joined", lee.expect("system").str("content"))
		require.Equal(t, "lee joined", kim.expect("system").str("content"))
		kim.send(`{"type":"message","content":"1"}`)
		expectOffsets(t, kim, 1, 1)
		expectOffsets(t, lee, 1, 1)
		say(t, b, 2)
		expectOffsets(t, kim, 2, 2)
		expectOffsets(t, lee, 2, 2)

		ada := b.connect(dialOptions{user: "ada"})
		r, err := a.Notify(t.Context(), "ada", "hi")
		require.NoError(t, err)
		require.True(t, r.Stored)
		require.Zero(t, r.Delivered, "counts this node only")
		require.Equal(t, "hi", ada.expect("notification")["data"])

		kim.close()
		lee.close()
		ada.close()
		time.Sleep(2 * presenceTick) // until the last change of presence was told
		synctest.Wait()
		require.Equal(t, 6, broker.topics(), "only the broadcast, the commands and the node's own topic stay subscribed on each")
	})
}

// F13, F20, centrifugo#1189: what the Broker loses while it seems to be well comes from the Store, with the next message that gets through.
func TestClusterFillsHoles(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, broker, _ := twoNodes(t)
		kim := b.plain()
		kim.join("tea", "kim")
		kim.expect("system")
		synctest.Wait() // until the other node knows
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
		broker.set(func([]byte) [][]byte { return nil })
		for n := int64(2); n <= 5; n++ {
			say(t, a, n)
		}
		kim.expectNone()
		broker.set(nil)
		say(t, a, 6)
		expectOffsets(t, kim, 2, 6)
		broker.set(func([]byte) [][]byte { return nil })
		say(t, a, 7)
		say(t, b, 8) // a message of the own node shows the hole as well
		expectOffsets(t, kim, 7, 8)
	})
}

// F25, F26: doubled and reordered payloads.
func TestClusterDoublesAndReorders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, broker, _ := twoNodes(t)
		kim := b.plain()
		kim.join("tea", "kim")
		kim.expect("system")
		synctest.Wait() // until the other node knows
		var late [][]byte
		broker.set(func(p []byte) [][]byte {
			late = append(late, p)
			if len(late) < 4 {
				return nil
			}
			return [][]byte{late[2], late[0], late[0], late[3], late[1], late[3]}
		})
		for n := int64(1); n <= 4; n++ {
			say(t, a, n)
		}
		expectOffsets(t, kim, 1, 4)
	})
}

// F11, F66: the Store lost the log; late messages of the old one are dropped,
// members are told, and the offsets of the new one are not taken for old.
func TestClusterNewEpoch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker, store := newFaultyBroker(), &wipeableStore{MemoryStore: NewMemoryStore()}
		opts := Options{Store: store, Broker: broker}
		a, b := serve(t, opts), serve(t, opts)
		kim := b.plain()
		kim.join("tea", "kim")
		kim.expect("system")
		synctest.Wait() // until the other node knows
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
		var old []byte
		broker.set(func(p []byte) [][]byte { old = p; return nil })
		say(t, a, 2)
		broker.set(nil)
		store.wipe()
		say(t, a, 1)
		h := kim.expect("history")
		require.Equal(t, false, h["recovered"])
		require.Empty(t, h["messages"])
		expectOffsets(t, kim, 1, 1)
		require.NoError(t, broker.Publish(t.Context(), roomPrefix+"tea", old))
		kim.expectNone()
		say(t, a, 2)
		expectOffsets(t, kim, 2, 2)
	})
}

// A hole larger than what is kept cannot be filled: the members are told.
func TestClusterHoleBeyondRetention(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker, store := newFaultyBroker(), NewMemoryStore()
		opts := Options{Store: store, Broker: broker, Room: func(string) RoomConfig {
			return RoomConfig{History: Retention{Messages: 3}}
		}}
		a, b := serve(t, opts), serve(t, opts)
		kim := b.plain()
		kim.join("tea", "kim")
		kim.expect("system")
		synctest.Wait() // until the other node knows
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
		broker.set(func([]byte) [][]byte { return nil })
		for n := int64(2); n <= 9; n++ {
			say(t, a, n)
		}
		broker.set(nil)
		say(t, a, 10)
		h := kim.expect("history")
		require.Equal(t, false, h["recovered"])
		require.EqualValues(t, 9, h["offset"])
		require.Len(t, h["messages"], 2, "8 and 9; 10 follows live")
		expectOffsets(t, kim, 10, 10)
	})
}

// S38: what others put into the channel is counted and ignored.
func TestClusterGarbage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, broker, _ := twoNodes(t)
		kim := b.plain()
		kim.join("tea", "kim")
		kim.expect("system")
		synctest.Wait() // until the other node knows
		for _, garbage := range []string{
			"", "\x00\xff", "null", "[]", `{"v":99,"messages":[{"data":{}}]}`,
			`{"v":1,"node":"x","messages":[{"data":5}]}`,
			`{"v":1,"node":"x","messages":[{"epoch":"e","offset":-1,"data":{}}]}`,
			`{"v":1,"node":"x","messages":[{"offset":7,"data":{}}]}`,
		} {
			require.NoError(t, broker.Publish(t.Context(), roomPrefix+"tea", []byte(garbage)))
		}
		kim.expectNone()
		require.EqualValues(t, 8, b.Stats().BrokerGarbage)
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
	})
}

// A Broker that is down fails neither publishes nor joins.
func TestClusterBrokerDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, broker, _ := twoNodes(t)
		broker.failWith(errors.New("down"))
		kim, lee := a.plain(), b.plain()
		kim.join("tea", "kim")
		kim.expect("system")
		synctest.Wait() // until the other node knows
		lee.join("tea", "lee")
		lee.expect("system")
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
		lee.expectNone()
		require.NotZero(t, a.Stats().BrokerErrors)
		broker.failWith(nil)
		lee.join("tea", "lee") // subscribes, and brings the history
		say(t, a, 2)
		expectOffsets(t, lee, 2, 2)
	})
}

// wipeableStore can lose everything, as a Redis without persistence at a restart.
type wipeableStore struct {
	mu sync.Mutex
	*MemoryStore
}

func (s *wipeableStore) current() *MemoryStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.MemoryStore
}

func (s *wipeableStore) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.MemoryStore = NewMemoryStore()
}

func (s *wipeableStore) Append(ctx context.Context, topic string, keep Retention, entries []Entry) (Log, error) {
	return s.current().Append(ctx, topic, keep, entries)
}

func (s *wipeableStore) Read(ctx context.Context, topic string, q Query) (Page, error) {
	return s.current().Read(ctx, topic, q)
}
