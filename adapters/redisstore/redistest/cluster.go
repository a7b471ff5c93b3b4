package redistest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// slots is the number of hash slots of a Cluster.
const slots = 16384

// Cluster is a Redis Cluster of masters without replicas.
type Cluster struct {
	// Servers are its nodes; the first one has the lowest slots, and so on.
	Servers []*Server

	t testing.TB
}

// StartCluster starts a Cluster of n masters, which share the slots evenly. It returns when all of them find it in order. All end with
// the test. args are settings for the nodes, as for [Start].
func StartCluster(t testing.TB, n int, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	for i := range n {
		s := Start(t, append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000"}, args...)...)
		c.Servers = append(c.Servers, s)
		s.command("cluster", "set-config-epoch", i+1)
		add := []any{"cluster", "addslots"}
		for slot := i * slots / n; slot < (i+1)*slots/n; slot++ {
			add = append(add, slot)
		}
		s.command(add...)
		if i > 0 {
			c.Servers[0].command("cluster", "meet", "127.0.0.1", s.port)
		}
	}
	for _, s := range c.Servers {
		until(t, "the nodes to find each other", func() bool {
			info := fmt.Sprint(s.command("cluster", "info"))
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r\n", n))
		})
	}
	return c
}

// Client returns a new client of the Cluster. It is closed when the test ends.
func (c *Cluster) Client() *redis.ClusterClient {
	var addrs []string
	for _, s := range c.Servers {
		addrs = append(addrs, s.Addr)
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	c.t.Cleanup(func() { _ = client.Close() }) // the test may have closed it
	return client
}

// MoveSlot gives an empty slot to another node, by its number, as resharding does at its end.
func (c *Cluster) MoveSlot(slot, to int) {
	c.t.Helper()
	id := c.Servers[to].command("cluster", "myid")
	c.Servers[to].command("cluster", "bumpepoch")                 // so that it is believed, and not a node that does not know yet
	c.Servers[to].command("cluster", "setslot", slot, "node", id) // the new owner first
	for _, s := range c.Servers {
		s.command("cluster", "setslot", slot, "node", id)
	}
}

// AddReplica adds a replica of a master, by its number, and returns it when it has caught up and all know of it.
func (c *Cluster) AddReplica(of int) *Server {
	c.t.Helper()
	master := c.Servers[of]
	s := Start(c.t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
	id := fmt.Sprint(master.command("cluster", "myid"))
	master.command("cluster", "meet", "127.0.0.1", s.port)
	until(c.t, "the replica to know the Cluster", func() bool {
		return strings.Contains(fmt.Sprint(s.command("cluster", "info")), fmt.Sprintf("cluster_known_nodes:%d\r\n", len(c.Servers)+1))
	})
	until(c.t, "the replica to know its master", func() bool {
		return strings.Contains(fmt.Sprint(s.command("cluster", "nodes")), id)
	})
	s.command("cluster", "replicate", id)
	until(c.t, "the replica to catch up", func() bool {
		return strings.Contains(fmt.Sprint(s.command("info", "replication")), "master_link_status:up")
	})
	for _, other := range c.Servers {
		until(c.t, "the Cluster to know the replica", func() bool {
			return strings.Contains(fmt.Sprint(other.command("cluster", "nodes")), "slave "+id)
		})
	}
	return s
}
