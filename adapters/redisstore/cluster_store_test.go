package redisstore_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

func TestStoreOnCluster(t *testing.T) {
	t.Parallel()
	var backends []backend
	for range 3 {
		cluster := redistest.StartCluster(t, 3)
		var addrs []string
		for _, server := range cluster.Servers {
			addrs = append(addrs, server.Addr)
		}
		backends = append(backends, backend{addrs, func() {
			for _, server := range cluster.Servers {
				server.Wipe()
			}
		}})
	}
	runStore(t, backends)
}

// Topics are spread over the nodes, and one batch goes to all of them.
func TestClusterSpreadsTopics(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	s := newStore(t, cluster.Client())
	var topics []string
	for i := range 300 {
		topics = append(topics, fmt.Sprint("room/{same}", i)) // braces of users do not bring topics together
		_, err := s.Append(t.Context(), topics[i], parley.Retention{Messages: 5}, []parley.Entry{{Data: []byte(`{}`)}})
		require.NoError(t, err)
	}
	heads, err := s.Heads(t.Context(), topics)
	require.NoError(t, err)
	for i, head := range heads {
		require.EqualValuesf(t, 1, head.Top, "topic %d", i)
	}
	for i, server := range cluster.Servers {
		size, err := server.Client().DBSize(t.Context()).Result()
		require.NoError(t, err)
		require.Greaterf(t, size, int64(150), "keys on node %d of 3, of 300 topics with 3 keys each", i)
	}
}

// A script may publish in a Cluster, too, to those who subscribe on another node.
func TestAppendPublishOnCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	here, there := newStore(t, cluster.Client()), newStore(t, cluster.Client())
	for i := range 20 {
		topic, got := fmt.Sprint("room/{", i), make(chan string, 1)
		unsubscribe, err := there.Subscribe(t.Context(), topic, func(payload []byte) {
			if payload != nil {
				got <- string(payload)
			}
		})
		require.NoError(t, err)
		log, err := here.AppendPublish(t.Context(), topic, parley.Retention{Messages: 5}, []parley.Entry{{Data: []byte(`{}`)}}, []byte("x"))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("0 1 1 %s\nx", log.Epoch), <-got)
		unsubscribe()
	}
}

// F16: the replica of a killed master takes its place. What is written goes there as soon as the Cluster has agreed, not
// when the client happens to look by itself, which is a minute later, and here an hour.
func TestAppendAfterClusterFailoverF16(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, "--cluster-require-full-coverage", "no")
	replica := cluster.AddReplica(1)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{cluster.Servers[0].Addr}, ClusterStateReloadInterval: time.Hour})
	t.Cleanup(func() { _ = client.Close() })
	s := newStore(t, client)
	var topics []string // of the master that is killed
	for i := 0; len(topics) < 5; i++ {
		topic := fmt.Sprint("room/", i)
		master, err := client.MasterForKey(t.Context(), "parley:{t/"+topic+"}:log")
		require.NoError(t, err)
		if master.Options().Addr == cluster.Servers[1].Addr {
			topics = append(topics, topic)
			_, err = appendTo(s, topic, 1)
			require.NoError(t, err)
		}
	}
	cluster.Servers[1].Kill()
	require.Eventually(t, func() bool {
		return strings.Contains(replica.Client().Info(context.Background(), "replication").Val(), "role:master")
	}, patience, 10*time.Millisecond)
	for _, topic := range topics {
		require.Eventually(t, func() bool {
			_, err := appendTo(s, topic, 2)
			return err == nil
		}, patience, 10*time.Millisecond, "%s: the client has not looked who has the place of the dead master", topic)
	}
}

// A client for one server may have a Cluster of one node before it, which wants each script to be about one slot.
func TestClientOfOneServerOnCluster(t *testing.T) {
	t.Parallel()
	s := newStore(t, redistest.StartCluster(t, 1).Servers[0].Client())
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			entries, err := appendTo(s, fmt.Sprint("room/", i), i)
			if err != nil || entries[0].Offset != 1 {
				t.Error(i, entries[0].Offset, err)
			}
		})
	}
	wg.Wait()
}
