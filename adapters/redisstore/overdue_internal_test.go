package redisstore

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// F23: a node that dies between taking a topic out of the index and claiming what is overdue there
// delays it by a minute, no more; so does an Append that was slower than its note.
func TestTakenTopicsAreLookedAtAgain(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	now := time.UnixMilli(1_700_000_000_000)
	sleep := func(d time.Duration) {
		now = now.Add(d)
		server.SetTime(now)
		server.FastForward(d)
	}
	sleep(0)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	s, err := New(client, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	entries := []parley.Entry{{Data: []byte(`{}`), ReceiveIn: time.Minute}}
	_, err = s.Append(t.Context(), "user/1", parley.Retention{Messages: 5}, entries)
	require.NoError(t, err)
	sleep(time.Minute + time.Second)

	mine, err := s.take(t.Context(), []string{"user/1", "user/2"})
	require.NoError(t, err)
	require.Equal(t, []string{"user/1"}, mine, "and dies")
	other, err := s.take(t.Context(), []string{"user/1"})
	require.NoError(t, err)
	require.Empty(t, other, "one node has it")
	got, err := s.Overdue(t.Context(), 10, time.Hour)
	require.NoError(t, err)
	require.Empty(t, got, "nobody knows that it died")
	sleep(time.Minute + time.Second)
	got, err = s.Overdue(t.Context(), 10, time.Hour)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, "user/1", got[0].Topic)
	sleep(30 * time.Minute)
	got, err = s.Overdue(t.Context(), 10, time.Hour)
	require.NoError(t, err)
	require.Empty(t, got, "it is put off")
	sleep(31 * time.Minute)
	got, err = s.Overdue(t.Context(), 10, time.Hour)
	require.NoError(t, err)
	require.Len(t, got, 1, "after the lease")

	// When nothing waits any more, nothing is left in the index.
	_, err = s.Mark(t.Context(), "user/1", parley.Mark{As: parley.MarkReceived, UpTo: 1})
	require.NoError(t, err)
	for range 3 {
		sleep(time.Hour + time.Minute)
		got, err = s.Overdue(t.Context(), 10, time.Hour)
		require.NoError(t, err)
		require.Empty(t, got)
	}
	keys, err := client.Keys(t.Context(), "parley:{overdue/*").Result()
	require.NoError(t, err)
	require.Empty(t, keys)
}

// The slots of Redis Cluster: the check value of its specification, and a few that servers have given.
func TestSlot(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]int{"123456789": 12739, "foo": 12182, "": 0} {
		require.Equal(t, want, slot(tag), tag)
	}
	require.NotEmpty(t, (&Store{}).tag(""), "braces around nothing are no hash tag")
}
