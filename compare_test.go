package parley

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// lost drops what a filter of faultyBroker gets.
func lost([]byte) [][]byte { return nil }

// bound is how late a message that the Broker has lost may be, see Options.SyncInterval.
const bound = 3*time.Second + 2*patience

// teaMember is a plain client of s in the room "tea".
func teaMember(t *testing.T, s *server, name string) *client {
	t.Helper()
	c := s.plain()
	c.join("tea", name)
	require.Equal(t, name+" joined", c.expect("system").str("content"))
	synctest.Wait()
	return c
}

// F13, F20: what the Broker has lost comes from the Store although nothing follows it, within the bound that SyncInterval documents.
func TestLastMessageBeforeSilenceComesFromTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, broker, _ := twoNodes(t)
		kim := teaMember(t, b, "kim")
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
		broker.set(lost)
		for n := int64(2); n <= 4; n++ {
			say(t, a, n)
		}
		kim.expectNone()
		began := time.Now()
		m := kim.expect("message")
		require.EqualValues(t, 2, m.num("offset"))
		require.LessOrEqual(t, time.Since(began), bound)
		expectOffsets(t, kim, 3, 4)
		require.EqualValues(t, 3, b.Stats().BrokerMissed)
	})
}

// F14, F18, F21: a Broker that knows of a loss says so, and then it takes no interval.
func TestBrokerTellsOfALoss(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, broker, _ := twoNodes(t)
		kim := teaMember(t, b, "kim")
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
		broker.set(func([]byte) [][]byte { return [][]byte{nil} })
		began := time.Now()
		say(t, a, 2)
		require.EqualValues(t, 2, kim.expect("message").num("offset"))
		require.LessOrEqual(t, time.Since(began), 2*patience)
		require.Zero(t, b.Stats().BrokerGarbage)
	})
}

// F26: what comes in the wrong order is put in order, without asking the Store.
func TestEarlyMessagesWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker, store := newFaultyBroker(), newHookStore()
		opts := Options{Store: store, Broker: broker}
		a, b := serve(t, opts), serve(t, opts)
		kim := teaMember(t, b, "kim")
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
		var reads atomic.Int32
		store.onRead = func(_ context.Context, _ string, _ Query, next func() (Page, error)) (Page, error) {
			reads.Add(1)
			return next()
		}
		var first []byte
		broker.set(func(p []byte) [][]byte {
			if first == nil {
				first = p
				return nil
			}
			return [][]byte{p, first}
		})
		say(t, a, 2)
		say(t, a, 3)
		expectOffsets(t, kim, 2, 3)
		require.Zero(t, reads.Load())
	})
}

// F26, F28: two nodes that publish at the same time; a message of the own node waits for one of the other that was stored before it.
func TestOwnMessageWaitsForTheOneBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, broker, _ := twoNodes(t)
		kim := teaMember(t, b, "kim")
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
		var late []byte
		broker.set(func(p []byte) [][]byte { late = p; return nil })
		say(t, a, 2)
		broker.set(nil)
		done := make(chan Result)
		go func() {
			r, err := b.Room("tea").Send(t.Context(), "3")
			require.NoError(t, err)
			done <- r
		}()
		synctest.Wait()
		kim.expectNone()
		began := time.Now()
		require.NoError(t, broker.Publish(t.Context(), roomPrefix+"tea", late))
		expectOffsets(t, kim, 2, 3)
		r := <-done
		require.Equal(t, 1, r.Delivered, "the sender is told what became of its message")
		require.Less(t, time.Since(began), patience)
	})
}

// The one before never comes: after a moment it is read from the Store, and the sender gets its answer.
func TestOwnMessageDoesNotWaitForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, broker, _ := twoNodes(t)
		kim := teaMember(t, b, "kim")
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
		broker.set(lost)
		say(t, a, 2)
		began := time.Now()
		r, err := b.Room("tea").Send(t.Context(), "3")
		require.NoError(t, err)
		require.Equal(t, 1, r.Delivered)
		require.LessOrEqual(t, time.Since(began), 2*patience)
		expectOffsets(t, kim, 2, 3)
	})
}

// A message that waits, and one of the same batch that fills the hole: nothing is sent twice.
func TestEarlyMessageInTheBatchOfTheMissingOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker, store := newFaultyBroker(), newHookStore()
		opts := Options{Store: store, Broker: broker}
		a, b := serve(t, opts), serve(t, opts)
		kim := teaMember(t, b, "kim")
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
		// While 2 is being stored by b, a stores 3, which reaches b before b knows of 2.
		stored, goOn := make(chan struct{}), make(chan struct{})
		store.onAppend = func(_ context.Context, topic string, entries []Entry, next func() (Log, error)) (Log, error) {
			log, err := next()
			if topic == roomPrefix+"tea" && entries[0].Offset == 2 {
				close(stored)
				<-goOn
			}
			return log, err
		}
		go func() { _, _ = b.Room("tea").Send(t.Context(), "2") }()
		<-stored
		say(t, a, 3)
		close(goOn)
		synctest.Wait()
		expectOffsets(t, kim, 2, 3)
		time.Sleep(bound)
		kim.expectNone()
	})
}

// F11, F14: a log that is lost is told, also if nothing is published afterwards but on another node.
func TestComparingFindsANewLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker, store := newFaultyBroker(), newHookStore()
		opts := Options{Store: store, Broker: broker}
		a, b := serve(t, opts), serve(t, opts)
		kim := teaMember(t, b, "kim")
		for n := int64(1); n <= 3; n++ {
			say(t, a, n)
		}
		expectOffsets(t, kim, 1, 3)
		broker.set(lost)
		store.wipe()
		say(t, a, 1)
		h := kim.expect("history")
		require.Equal(t, false, h["recovered"])
		require.EqualValues(t, 1, h["offset"])
		require.Len(t, h["messages"], 1)
		broker.set(nil)
		say(t, a, 2)
		expectOffsets(t, kim, 2, 2)
	})
}

// A subscription that the Broker has refused is tried again without anybody joining.
func TestSubscribingIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, broker, _ := twoNodes(t)
		broker.failWith(errors.New("down"))
		kim := teaMember(t, b, "kim")
		broker.failWith(nil)
		time.Sleep(2 * bound)
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
		require.Zero(t, b.Stats().BrokerMissed, "the Broker brought it")
	})
}

// F27, F33: a mark that the Broker has lost reaches the devices on other nodes, and counts are right there.
func TestLostMarkIsMadeUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, broker, _ := twoNodes(t)
		ada := b.connect(dialOptions{user: "ada", v1: true})
		ada.expect("inbox")
		for i := range 3 {
			_, err := a.Notify(t.Context(), "ada", i)
			require.NoError(t, err)
		}
		for range 3 {
			ada.expect("notification")
		}
		broker.set(lost)
		_, err := a.Inbox("ada").MarkRead(t.Context(), Selection{Offsets: []int64{2}})
		require.NoError(t, err)
		_, err = a.Inbox("ada").Archive(t.Context(), Selection{Offsets: []int64{3}})
		require.NoError(t, err)
		began := time.Now()
		states := map[string]any{}
		for len(states) < 3 {
			m := ada.expect("marked")
			require.EqualValues(t, 1, m.num("unread"))
			states[m.str("as")] = m["offsets"]
		}
		require.LessOrEqual(t, time.Since(began), 2*bound, "it is found at the second look")
		one := func(n float64) any { return []any{[]any{n, n}} }
		require.Equal(t, map[string]any{"read": one(2), "archived": one(3), "unread": one(1)}, states)
		time.Sleep(5 * bound)
		ada.expectNone() // it is told once
	})
}

// F8, F15: while the Store does not answer nothing is compared; when it is well again, everything is.
func TestComparingSurvivesAStoreThatIsDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker, store := newFaultyBroker(), &downStore{MemoryStore: NewMemoryStore()}
		opts := Options{Store: store, Broker: broker}
		a, b := serve(t, opts), serve(t, opts)
		kim := teaMember(t, b, "kim")
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
		broker.set(lost)
		say(t, a, 2)
		store.down.Store(true)
		time.Sleep(time.Minute)
		kim.expectNone()
		require.ErrorIs(t, b.Ready(), ErrStore)
		require.NoError(t, b.Healthy())
		_, err := a.Room("tea").Send(t.Context(), "3")
		require.ErrorIs(t, err, ErrStore)
		store.down.Store(false)
		began := time.Now()
		require.EqualValues(t, 2, kim.expect("message").num("offset"))
		require.LessOrEqual(t, time.Since(began), bound)
		time.Sleep(2 * nodeBeat)
		broker.set(nil)
		time.Sleep(3 * nodeBeat)
		require.NoError(t, b.Ready())
	})
}

// downStore fails while it is down.
type downStore struct {
	*MemoryStore
	down atomic.Bool
}

var errDown = errors.New("down")

func (s *downStore) Append(ctx context.Context, topic string, keep Retention, entries []Entry) (Log, error) {
	if s.down.Load() {
		return Log{}, errDown
	}
	return s.MemoryStore.Append(ctx, topic, keep, entries)
}

func (s *downStore) Read(ctx context.Context, topic string, q Query) (Page, error) {
	if s.down.Load() {
		return Page{}, errDown
	}
	return s.MemoryStore.Read(ctx, topic, q)
}

func (s *downStore) Heads(ctx context.Context, topics []string) ([]Head, error) {
	if s.down.Load() {
		return nil, errDown
	}
	return s.MemoryStore.Heads(ctx, topics)
}

func (s *downStore) Enter(ctx context.Context, topic, node string, members []Member, lease time.Duration) error {
	if s.down.Load() {
		return errDown
	}
	return s.MemoryStore.Enter(ctx, topic, node, members, lease)
}

func (s *downStore) Leave(ctx context.Context, topic, node string, userIDs []string) error {
	if s.down.Load() {
		return errDown
	}
	return s.MemoryStore.Leave(ctx, topic, node, userIDs)
}

func (s *downStore) Members(ctx context.Context, topic string, limit int) ([]Member, int, error) {
	if s.down.Load() {
		return nil, 0, errDown
	}
	return s.MemoryStore.Members(ctx, topic, limit)
}

// More topics than one call of Heads takes.
func TestComparingManyTopics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker, store := newFaultyBroker(), NewMemoryStore()
		opts := Options{Store: store, Broker: broker, MaxRooms: 2000, RateLimit: -1, MaxPerUser: -1}
		a, b := serve(t, opts), serve(t, opts)
		c := b.connect(dialOptions{v1: true})
		const rooms = 700
		for i := range rooms {
			_, err := a.Room(strconv.Itoa(i)).Send(t.Context(), 0)
			require.NoError(t, err)
			require.NoError(t, b.Room(strconv.Itoa(i)).Join(t.Context(), b.Conn(c.id)))
		}
		c.drain()
		broker.set(lost)
		for i := range rooms {
			_, err := a.Room(strconv.Itoa(i)).Send(t.Context(), i)
			require.NoError(t, err)
		}
		time.Sleep(bound)
		got := map[string]bool{}
		for len(c.in) > 0 {
			if m := c.next(); m.str("type") == "message" {
				require.False(t, got[m.str("room")])
				got[m.str("room")] = true
			}
		}
		require.Len(t, got, rooms)
	})
}
