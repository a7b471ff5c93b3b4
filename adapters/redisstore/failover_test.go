package redisstore_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

// F66: a replica that takes over may lack the last entries. Their offsets are given again, so the
// epoch is another: who has seen the lost ones is told, never silently given something else for them.
func TestTakeoverHasAnotherEpoch(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.Start(t), redistest.Start(t)
	admin := replicate(t, primary, replica)
	old, promoted := newStore(t, primary.Client()), newStore(t, replica.Client())
	topics := []string{"room/heads", "room/read", "room/append", "room/mark"}
	epochs := map[string]string{}
	write := func(s parley.Store, topic string, n int) parley.Log {
		log, err := s.Append(t.Context(), topic, keep10, []parley.Entry{{Key: fmt.Sprint(n), Data: fmt.Appendf(nil, `{"n":%d}`, n), Unread: true}})
		require.NoError(t, err)
		return log
	}
	// The first replica gives the history another name; wait for that.
	require.EqualValues(t, 1, waitForReplica(t, primary))
	for _, topic := range topics {
		for n := 1; n <= 3; n++ {
			epochs[topic] = write(old, topic, n).Epoch
		}
	}
	require.EqualValues(t, 1, waitForReplica(t, primary))
	for _, topic := range topics {
		page, err := promoted.Read(t.Context(), topic, parley.Query{})
		require.NoError(t, err, "a replica can be read")
		require.Equal(t, epochs[topic], page.Epoch, "it has the same history")
	}
	require.NoError(t, admin.ReplicaOf(t.Context(), "NO", "ONE").Err())
	for _, topic := range topics {
		require.Equal(t, epochs[topic], write(old, topic, 4).Epoch) // is lost
	}
	seen := map[string]string{}
	heads, err := promoted.Heads(t.Context(), topics[:1])
	require.NoError(t, err)
	seen["room/heads"] = heads[0].Epoch
	page, err := promoted.Read(t.Context(), "room/read", parley.Query{Limit: 10})
	require.NoError(t, err)
	require.Len(t, page.Entries, 3, "what was not lost is there")
	seen["room/read"] = page.Epoch
	seen["room/append"] = write(promoted, "room/append", 5).Epoch
	marked, err := promoted.Mark(t.Context(), "room/mark", parley.Mark{As: parley.MarkRead, Epoch: epochs["room/mark"], UpTo: 3})
	require.NoError(t, err)
	require.Empty(t, marked.Changed, "the Mark is of another epoch")
	seen["room/mark"] = marked.Epoch
	for _, topic := range topics {
		require.NotEqual(t, epochs[topic], seen[topic], topic)
		page, err := promoted.Read(t.Context(), topic, parley.Query{})
		require.NoError(t, err)
		require.Equal(t, seen[topic], page.Epoch, "and it stays that, on all ways")
		require.Equal(t, seen[topic], write(promoted, topic, 6).Epoch)
	}
	entries := []parley.Entry{{Key: "3", Data: []byte(`{}`)}}
	_, err = promoted.Append(t.Context(), "room/read", keep10, entries)
	require.NoError(t, err)
	require.True(t, entries[0].Duplicate, "what was not lost is known")
}

// replicate makes a server the replica of another one, and returns a client of it.
func replicate(t *testing.T, primary, replica *redistest.Server) *redis.Client {
	t.Helper()
	host, port, err := net.SplitHostPort(primary.Addr)
	require.NoError(t, err)
	admin := replica.Client()
	require.NoError(t, admin.ReplicaOf(t.Context(), host, port).Err())
	return admin
}

// waitForReplica waits until a replica has everything, and returns how many have.
func waitForReplica(t *testing.T, server *redistest.Server) int64 {
	t.Helper()
	c := server.Client()
	require.Eventually(t, func() bool {
		n, err := c.Wait(t.Context(), 1, 0).Result()
		return err == nil && n == 1
	}, patience, 20*time.Millisecond)
	n, err := c.Wait(t.Context(), 1, 0).Result()
	require.NoError(t, err)
	return n
}
