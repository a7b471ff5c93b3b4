package natsstore

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/natsstore/natstest"
	"github.com/parley-go/parley/parleytest"
)

// Three hubs that share a Store, each with a connection to another server of a cluster: a room, and its messages while a server
// restarts. All come, once and in order: what NATS loses comes from the Store.
func TestHubs(t *testing.T) {
	servers := natstest.StartCluster(t, 3)
	store := parley.NewMemoryStore()
	var members []*parleytest.Client
	var brokers []*Broker
	for i, s := range servers {
		b := dial(t, s.URL, Options{})
		brokers = append(brokers, b)
		node := parleytest.NewServer(t, parley.Options{Store: store, Broker: b, NodeName: fmt.Sprint("node-", i), Logger: quiet})
		members = append(members, node.Connect(parleytest.User(fmt.Sprint("user-", i))))
	}
	for _, m := range members {
		m.Join("tea")
	}
	const n = 60
	for i := range n {
		if i == n/3 {
			servers[1].Restart()
		}
		members[i%3].Send(parleytest.Message{"type": "message", "room": "tea", "content": i})
	}
	var orders [][]any
	for _, m := range members {
		var order []any
		for len(order) < n {
			if c := m.Next(); c.Type() == "message" { // others tell who came
				order = append(order, c["content"])
			}
		}
		orders = append(orders, order)
	}
	require.Equal(t, orders[0], orders[1])
	require.Equal(t, orders[0], orders[2])
	seen := map[any]bool{}
	for _, content := range orders[0] {
		require.False(t, seen[content], "twice: %v", content)
		seen[content] = true
	}
	until(t, "the new connection", func() bool { return brokers[1].Stats().Connects > 0 })
}
