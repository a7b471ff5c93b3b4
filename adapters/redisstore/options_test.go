package redisstore

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// What cannot work is refused, what may not is told.
func TestOptionsOfStoreAndClient(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	for _, opts := range []Options{{Timeout: -1}, {Prefix: "a b"}, {Prefix: "{a}"}} {
		_, err := New(client, opts)
		require.Error(t, err, "%+v", opts)
	}
	_, err := New(nil, Options{})
	require.ErrorContains(t, err, "needs a client")
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	defer ring.Close()
	_, err = New(ring, Options{})
	require.ErrorContains(t, err, "Cluster or Sentinel")

	warned := func(client redis.UniversalClient) bool {
		var log bytes.Buffer
		s, err := New(client, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		require.NoError(t, s.Close())
		require.NoError(t, client.Close())
		return bytes.Contains(log.Bytes(), []byte("ReadTimeout"))
	}
	for wait, want := range map[time.Duration]bool{0: false, time.Second: false, -1: true, -2: true} {
		require.Equal(t, want, warned(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", ReadTimeout: wait})), "%v", wait)
		require.Equal(t, want, warned(redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ReadTimeout: wait})), "%v", wait)
	}
	require.False(t, warned(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", ReadTimeout: -1, ContextTimeoutEnabled: true})))
}
