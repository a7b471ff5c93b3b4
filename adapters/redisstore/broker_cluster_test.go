package redisstore

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
	"github.com/parley-go/parley/storetest"
)

func TestClusterContract(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	for _, sharded := range []bool{true, false} {
		t.Run(fmt.Sprintf("sharded %v", sharded), func(t *testing.T) {
			if sharded {
				needSharded(t, brokerOver(t, cluster.Client()))
			}
			broker := func(t *testing.T) *Store {
				s := brokerOver(t, cluster.Client())
				if !sharded { // as with servers before version 7
					s.broker.receiver.mode.answer.Store(&sharded)
				}
				return s
			}
			storetest.Config{
				PeerBroker: func(t *testing.T, _ parley.Broker) parley.Broker { return broker(t) },
				Interrupt: func(t *testing.T, _ parley.Broker) {
					eventually(t, "connections to end", func() bool { return interruptAll(cluster) > 0 })
				},
			}.RunBroker(t, func(t *testing.T) parley.Broker {
				s := broker(t)
				require.Equal(t, sharded, s.sharded())
				return s
			})
		})
	}
}

// needSharded ends a test about what comes from the node that has the slot. Before Redis 7 it may come from any.
func needSharded(t *testing.T, s *Store) {
	t.Helper()
	sharded, err := s.broker.receiver.sharded(context.Background())
	require.NoError(t, err)
	if sharded {
		return
	}
	const missing = "NO SHARDED PUB/SUB: the server is older than Redis 7"
	if slices.Contains(strings.Split(os.Getenv("PARLEY_REQUIRE"), ","), "redis7") {
		t.Fatalf("%s (PARLEY_REQUIRE=%s needs one)", missing, os.Getenv("PARLEY_REQUIRE"))
	}
	t.Skip(missing)
}

// interruptAll ends all connections that receive, and returns how many. Those that take their place, on whichever server,
// live: else what comes by them could be lost, too, after the loss was told.
func interruptAll(cluster *redistest.Cluster) (killed int64) {
	ctx := context.Background()
	found := map[*redistest.Server][]string{}
	for _, s := range cluster.Servers {
		list, _ := s.Client().Do(ctx, "client", "list", "type", "pubsub").Text() // what fails finds nothing
		for line := range strings.Lines(list) {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			found[s] = append(found[s], id)
		}
	}
	for s, ids := range found {
		for _, id := range ids {
			killed += s.Client().ClientKillByFilter(ctx, "id", id).Val()
		}
	}
	return killed
}

// topicsOf returns for each server of a Cluster a topic whose channel is there.
func topicsOf(t *testing.T, cluster *redistest.Cluster, s *Store) []string {
	topics := make([]string, len(cluster.Servers))
	client := s.client.(*redis.ClusterClient)
	for i, found := 0, 0; found < len(topics); i++ {
		topic := fmt.Sprint("room/", i)
		master, err := client.MasterForKey(context.Background(), s.channel(topic))
		require.NoError(t, err)
		for j, server := range cluster.Servers {
			if master.Options().Addr == server.Addr && topics[j] == "" {
				topics[j] = topic
				found++
			}
		}
	}
	return topics
}

// In a Cluster one node ends, and comes back; the topics of the others go on as if nothing had happened.
func TestClusterNodeKilledF14(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, "--cluster-require-full-coverage", "no")
	from, to := brokerOver(t, cluster.Client()), patient(brokerOver(t, cluster.Client()))
	needSharded(t, to)
	var streams []*stream
	for _, topic := range topicsOf(t, cluster, to) {
		streams = append(streams, startStream(t, from, to, topic))
	}
	for _, s := range streams {
		s.flows()
	}
	for i := range 3 {
		cluster.Servers[1].Kill()
		streams[0].flows()
		streams[2].flows()
		cluster.Servers[1].Restart()
		eventually(t, "the loss to be told", func() bool { return streams[1].lost() > i })
		streams[1].flows()
	}
	for _, s := range streams {
		s.check()
	}
	// Not that the others lose nothing at all: on a slow machine a connection may miss its own answer to a PING.
	t.Logf("losses told: %d of the node that ended, %d of the others", streams[1].lost(), streams[0].lost()+streams[2].lost())
}

// A slot moves to another node: its channels follow, the others stay.
func TestClusterSlotMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	from, to := brokerOver(t, cluster.Client()), patient(brokerOver(t, cluster.Client()))
	needSharded(t, to)
	topics := topicsOf(t, cluster, to)
	s, stays := startStream(t, from, to, topics[0]), startStream(t, from, to, topics[1])
	slot := int(cluster.Client().ClusterKeySlot(context.Background(), to.channel(topics[0])).Val())
	for i := range 3 {
		s.flows()
		before := s.lost()
		cluster.MoveSlot(slot, (i+1)%3)
		eventually(t, "the loss to be told", func() bool { return s.lost() > before })
		s.flows()
		stays.flows()
	}
	s.check()
	stays.check()
}

// The replica of a killed master takes its place: the topics follow, and the others do not notice.
func TestClusterFailoverF16(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, "--cluster-require-full-coverage", "no")
	replica := cluster.AddReplica(1)
	from, to := brokerOver(t, cluster.Client()), patient(brokerOver(t, cluster.Client()))
	needSharded(t, to)
	topics := topicsOf(t, cluster, to)
	other, s := startStream(t, from, to, topics[0]), startStream(t, from, to, topics[1])
	idle := listen(t, to, topics[1])
	s.flows()
	cluster.Servers[1].Kill()
	eventually(t, "the loss to be told", func() bool { return s.lost() > 0 && idle.lost() > 0 })
	s.flows()
	channel := to.channel(topics[1])
	require.Positive(t, replica.Client().PubSubShardNumSub(context.Background(), channel).Val()[channel], "not at the new master")
	cluster.Servers[1].Restart() // as a replica of the other one
	s.flows()
	other.flows()
	require.Zero(t, other.lost(), "%+v", to.Stats())
	s.check()
	other.check()
	r := to.broker.receiver
	eventually(t, "the lane to the old master to end", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.lanes[cluster.Servers[1].Addr] == nil
	})
}
