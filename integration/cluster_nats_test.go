package integration

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/natsstore"
	"github.com/parley-go/parley/adapters/natsstore/natstest"
)

// F20: the NATS server is started again, several times, during 800 messages. None is lost, and no send fails.
func TestNATSRestarts(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	store := inSQLite(t)
	var nodes []*node
	for _, name := range []string{"a", "b"} {
		nodes = append(nodes, startNode(t, name, store, overNATS(t, server.URL, natsstore.Options{})))
	}
	watchers := watchAll(nodes)
	speakers := []*speaker{speak(nodes[0], "a", 4*time.Millisecond), speak(nodes[1], "b", 4*time.Millisecond)}
	for range 4 {
		speakers[0].more(80)
		server.Restart()
	}
	for _, s := range speakers {
		await(t, func() bool { return s.acked() >= 400 }, "400 messages of %s", s.name)
		s.end()
		require.Zero(t, s.failed(), "the Store was well")
	}
	epoch, log := logOf(t, store)
	kept(t, epoch, log, speakers...)
	for _, w := range watchers {
		w.sawAll(log)
		w.stays()
	}
	for _, n := range nodes {
		n.ready()
	}
}

// F20: NATS is away for longer. Sends are stored, come from the Store, and a node says that something is wrong.
func TestNATSIsAway(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	store := inSQLite(t)
	var nodes []*node
	for _, name := range []string{"a", "b"} {
		nodes = append(nodes, startNode(t, name, store, overNATS(t, server.URL, natsstore.Options{})))
	}
	watchers := watchAll(nodes)
	s := speak(nodes[0], "a", 20*time.Millisecond)
	s.more(10)
	server.Shutdown()
	for _, n := range nodes {
		n.red()
	}
	s.more(10)
	last := s.all()[s.acked()-1].at
	watchers[1].knows(last) // while NATS is away
	server.Restart()
	for _, n := range nodes {
		n.ready()
	}
	s.more(10)
	s.end()
	require.Zero(t, s.failed())
	_, log := logOf(t, store)
	for _, w := range watchers {
		w.sawAll(log)
		w.stays()
	}
}

// slowBroker keeps what comes waiting while slow is held.
type slowBroker struct {
	*natsstore.Broker
	slow sync.RWMutex
}

func (b *slowBroker) Subscribe(ctx context.Context, topic string, deliver func(payload []byte)) (func(), error) {
	return b.Broker.Subscribe(ctx, topic, func(payload []byte) {
		b.slow.RLock()
		defer b.slow.RUnlock()
		deliver(payload)
	})
}

// F21: the limits for what may wait are tiny, and there is a flood that a node is too slow for. What NATS drops comes from the Store.
func TestNATSSlowConsumer(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	store := inSQLite(t)
	slow := &slowBroker{Broker: overNATS(t, server.URL, natsstore.Options{PendingMessages: 1, PendingBytes: 2000})}
	a := startNode(t, "a", store, slow)
	b := startNode(t, "b", store, overNATS(t, server.URL, natsstore.Options{}))
	lee := watch(a, "lee")
	slow.slow.Lock()
	flood(t, b, 32, 60, 100)
	slow.slow.Unlock()
	b.say("the end")
	_, log := logOf(t, store)
	require.Len(t, log, 32*60+1)
	lee.sawAll(log)
	lee.stays()
	require.Positive(t, slow.Stats().Overflows, "nothing was dropped")
	a.ready()
}
