package redisstore

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

// What a hub has no use for is left out before it waits, for that subscription alone.
func TestSubscribeFiltered(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := brokerOver(t, server.Client())
	all := listen(t, s, "room/a")
	filtered := &sink{}
	unsubscribe, err := s.SubscribeFiltered(t.Context(), "room/a", func(p string) bool { return strings.HasPrefix(p, "own") }, filtered.deliver)
	require.NoError(t, err)
	t.Cleanup(unsubscribe)
	for _, p := range []string{"own 1", "2", "", "own 3", "4"} {
		require.NoError(t, s.Publish(t.Context(), "room/a", []byte(p)))
	}
	eventually(t, "all to arrive", func() bool { return all.has("4") && filtered.has("4") })
	require.Equal(t, 5, all.total())
	require.Equal(t, 3, filtered.total())
	require.False(t, filtered.has("own 1") || filtered.has("own 3"))
	require.Zero(t, filtered.lost(), "an empty payload is no loss")
}
