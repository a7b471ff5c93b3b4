package redisstore_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

// The rights that doc.go and docs/guides/redis.md tell are enough for all that a Store does.
func TestRightsAreEnough(t *testing.T) {
	t.Parallel()
	grant := func(server *redistest.Server, more ...any) {
		rights := []any{"acl", "setuser", "store", "on", ">secret", "resetkeys", "resetchannels", "-@all", "~parley:*", "&parley:*",
			"+@read", "+@write", "+@pubsub", "+@scripting", "+@connection", "+time", "+info"}
		require.NoError(t, server.Client().Do(t.Context(), append(rights, more...)...).Err())
	}
	server, cluster := redistest.Start(t), redistest.StartCluster(t, 3)
	grant(server)
	var addrs []string
	for _, s := range cluster.Servers {
		grant(s, "+cluster")
		addrs = append(addrs, s.Addr)
	}
	clients := map[string]redis.UniversalClient{
		"one server": redis.NewClient(&redis.Options{Addr: server.Addr, Username: "store", Password: "secret"}),
		"cluster":    redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, Username: "store", Password: "secret"}),
	}
	for name, client := range clients {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { _ = client.Close() })
			s := newStore(t, client)
			require.NoError(t, useAll(s, "room/1"))
			got := make(chan string, 10)
			unsubscribe, err := s.Subscribe(t.Context(), "room/1", func(payload []byte) { got <- string(payload) })
			require.NoError(t, err)
			require.NoError(t, s.Publish(t.Context(), "room/1", []byte("published")))
			require.Equal(t, "published", <-got)
			_, err = s.AppendPublish(t.Context(), "room/1", keep10, []parley.Entry{{Data: []byte(`{}`), ReceiveIn: time.Millisecond}}, []byte("appended"))
			require.NoError(t, err)
			require.Contains(t, <-got, "appended")
			unsubscribe()
			heads, err := s.Heads(t.Context(), []string{"room/1"})
			require.NoError(t, err)
			require.EqualValues(t, 3, heads[0].Top)
			_, _, err = s.Members(t.Context(), "room/1", 10)
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				overdue, err := s.Overdue(t.Context(), 10, time.Hour)
				require.NoError(t, err)
				return len(overdue) > 0
			}, patience, time.Millisecond)
		})
	}
}
