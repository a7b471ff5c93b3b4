package parley

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// S8, F11: of a new log of commands the second is heard of first. The one before it is not lost.
func TestFirstCommandOfANewLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, broker := newHookStore(), newFaultyBroker()
		opts := Options{Store: store, Broker: broker}
		a, b := serve(t, opts), serve(t, opts)
		time.Sleep(3 * nodeBeat)
		_, err := a.DisconnectUser(t.Context(), "nobody", "")
		require.NoError(t, err)
		kim := b.connect(dialOptions{user: "kim"})
		time.Sleep(time.Second)
		store.wipe()
		broker.set(func(p []byte) [][]byte {
			if strings.Contains(string(p), `kim`) {
				return nil
			}
			return [][]byte{p}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err = a.DisconnectUser(ctx, "kim", "banned")
		require.Error(t, err, "b has not heard of it yet")
		_, _ = a.DisconnectUser(t.Context(), "lee", "banned")
		broker.set(nil)
		time.Sleep(10 * nodeBeat)
		synctest.Wait()
		select {
		case <-kim.done:
		default:
			require.Fail(t, "kim was never disconnected on b")
		}
	})
}

// membersHang has Members of the nodes hang until ctx ends.
type membersHang struct {
	*MemoryStore
	hang atomic.Bool
}

func (s *membersHang) Members(ctx context.Context, topic string, limit int) ([]Member, int, error) {
	if s.hang.Load() && topic == topicNodes {
		<-ctx.Done()
		return nil, 0, ctx.Err()
	}
	return s.MemoryStore.Members(ctx, topic, limit)
}

func (s *membersHang) Enter(ctx context.Context, topic, node string, members []Member, lease time.Duration) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.MemoryStore.Enter(ctx, topic, node, members, lease)
}

// F9: reading which nodes there are takes all the time that it may. This node stays known to the others.
func TestSlowReadDoesNotEndANode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared, broker := NewMemoryStore(), newFaultyBroker()
		bs := &membersHang{MemoryStore: shared}
		a := serve(t, Options{Store: shared, Broker: broker, NodeName: "a"})
		serve(t, Options{Store: bs, Broker: broker, NodeName: "b"})
		time.Sleep(3 * nodeBeat)
		require.Equal(t, 1, a.Stats().Nodes)
		bs.hang.Store(true)
		time.Sleep(time.Minute)
		require.Equal(t, 1, a.Stats().Nodes, "b writes well, and is alive")
	})
}

// F8: after a failed read a command says for a while that there may be more nodes, as an error of the Store.
func TestDoubtIsAnErrorOfTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := &downStore{MemoryStore: NewMemoryStore()}
		nodes, _ := threeNodes(t, Options{Store: store})
		time.Sleep(10 * nodeBeat)
		store.down.Store(true)
		time.Sleep(4 * time.Second)
		store.down.Store(false)
		time.Sleep(5 * time.Second)
		require.NoError(t, nodes[0].Ready())
		_, err := nodes[0].DisconnectUser(t.Context(), "kim", "")
		require.ErrorIs(t, err, ErrStore)
		require.ErrorContains(t, err, "ask again")
		time.Sleep(peerMemory)
		_, err = nodes[0].DisconnectUser(t.Context(), "kim", "")
		require.NoError(t, err)
	})
}

// enterHangs has Enter hang, too.
type enterHangs struct {
	*membersHang
	enter atomic.Bool
}

func (s *enterHangs) Enter(ctx context.Context, topic, node string, members []Member, lease time.Duration) error {
	if s.enter.Load() && topic == topicNodes {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.membersHang.Enter(ctx, topic, node, members, lease)
}

// F9: calls that all end with their contexts are no reason to end the process, however long they may take.
func TestHealthyWithALongTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		bs := &enterHangs{membersHang: &membersHang{MemoryStore: NewMemoryStore()}}
		b := serve(t, Options{Store: bs, Broker: newFaultyBroker(), StoreTimeout: 90 * time.Second})
		time.Sleep(3 * nodeBeat)
		bs.hang.Store(true)
		bs.enter.Store(true)
		for range 400 {
			time.Sleep(time.Second)
			require.NoError(t, b.Healthy())
		}
	})
}

// F9: a StoreTimeout of more than the lease of a node.
func TestSlowReadWithALongTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared, broker := NewMemoryStore(), newFaultyBroker()
		bs := &membersHang{MemoryStore: shared}
		a := serve(t, Options{Store: shared, Broker: broker, NodeName: "a", StoreTimeout: 30 * time.Second})
		serve(t, Options{Store: bs, Broker: broker, NodeName: "b", StoreTimeout: 30 * time.Second})
		time.Sleep(3 * nodeBeat)
		require.Equal(t, 1, a.Stats().Nodes)
		bs.hang.Store(true)
		for range 200 {
			time.Sleep(time.Second)
			require.Equal(t, 1, a.Stats().Nodes, "b writes well, and is alive")
		}
	})
}
