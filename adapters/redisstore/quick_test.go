package redisstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

var keep80 = parley.Retention{Messages: 80, Age: time.Hour}

// appendKey appends one entry with a key, and returns it.
func appendKey(t *testing.T, s parley.Store, topic string, n int) parley.Entry {
	t.Helper()
	entries := []parley.Entry{{Key: fmt.Sprint("k", n), Time: int64(n), Data: fmt.Appendf(nil, `{"n":%d}`, n)}}
	_, err := s.Append(t.Context(), topic, keep80, entries)
	require.NoError(t, err)
	return entries[0]
}

// requireKept asserts that exactly the newest 80 of top entries can be read, from both ends.
func requireKept(t *testing.T, s parley.Store, topic string, top int) {
	t.Helper()
	first := max(1, top-79)
	for _, q := range []parley.Query{{Limit: 1000}, {Limit: 1000, Forward: true}} {
		page, err := s.Read(t.Context(), topic, q)
		require.NoError(t, err)
		require.EqualValues(t, top, page.Top)
		require.EqualValues(t, first, page.First)
		require.Len(t, page.Entries, top-first+1)
		for i, e := range page.Entries {
			require.EqualValues(t, first+i, e.Offset)
			require.Equal(t, fmt.Sprintf(`{"n":%d}`, first+i), string(e.Data))
			require.EqualValues(t, first+i, e.Time)
		}
	}
}

// Many old entries are removed at once: what is left of them in between, nobody sees. Keys are known all the same.
func TestOldEntriesGoManyAtOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.Client()), server.Client()
	most := int64(0)
	for n := 1; n <= 300; n++ {
		require.EqualValues(t, n, appendKey(t, s, "room/1", n).Offset)
		if n > 80 {
			size, err := client.LLen(t.Context(), "parley:{t/room/1}:messages").Result()
			require.NoError(t, err)
			require.LessOrEqual(t, size, int64(90))
			most = max(most, size)
		}
		if n%7 == 0 {
			requireKept(t, s, "room/1", n)
			again := appendKey(t, s, "room/1", n-3)
			require.True(t, again.Duplicate)
			require.EqualValues(t, n-3, again.Offset)
		}
	}
	require.EqualValues(t, 90, most, "an eighth more")

	// What the lean script does not know, the other one does, and it finds the log as it is.
	require.EqualValues(t, 301, appendKey(t, s, "room/1", 301).Offset)
	entries := []parley.Entry{{Data: []byte(`{"n":302}`), Time: 302, Unread: true}}
	log, err := s.Append(t.Context(), "room/1", keep80, entries)
	require.NoError(t, err)
	require.Equal(t, 1, log.Unread)
	requireKept(t, s, "room/1", 302)
	size, err := client.LLen(t.Context(), "parley:{t/room/1}:info").Result()
	require.NoError(t, err)
	require.EqualValues(t, 80, size)
	require.EqualValues(t, 303, appendKey(t, s, "room/1", 303).Offset, "an inbox now")
	requireKept(t, s, "room/1", 303)
}

// Another limit than that with which the log was written holds at once.
func TestLessIsKept(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.Client())
	for n := 1; n <= 95; n++ {
		appendKey(t, s, "room/1", n)
	}
	entries := []parley.Entry{{Data: []byte(`{"n":96}`), Time: 96}}
	_, err := s.Append(t.Context(), "room/1", parley.Retention{Messages: 10, Age: time.Hour}, entries)
	require.NoError(t, err)
	page, err := s.Read(t.Context(), "room/1", parley.Query{Limit: 1000})
	require.NoError(t, err)
	require.Len(t, page.Entries, 10)
	require.EqualValues(t, 87, page.First)
}

// contents is all that a log has in Redis, but the fields of the log itself.
func contents(t *testing.T, client *redis.Client, topic string) map[string]any {
	t.Helper()
	all := map[string]any{}
	for _, part := range []string{"messages", "info", "keys0", "keys1"} {
		key := "parley:{t/" + topic + "}:" + part
		kind, err := client.Type(t.Context(), key).Result()
		require.NoError(t, err)
		switch kind {
		case "list":
			all[part] = client.LRange(t.Context(), key, 0, -1).Val()
		case "hash":
			all[part] = client.HGetAll(t.Context(), key).Val()
		default:
			all[part] = client.Get(t.Context(), key).Val()
		}
	}
	return all
}

// S38: also for a log in use another application's key is an error, after which everything is as before.
func TestForeignKeyOfALogInUse(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.Client()), server.Client()
	for _, part := range []string{"messages", "keys0", "keys1"} {
		topic := "room/" + part
		for n := range 5 {
			appendKey(t, s, topic, n)
		}
		require.NoError(t, client.Set(t.Context(), "parley:{t/"+topic+"}:"+part, "theirs", 0).Err())
		before := contents(t, client, topic)
		for range 3 {
			_, err := s.Append(t.Context(), topic, keep80, []parley.Entry{{Key: "new", Data: []byte(`{}`)}})
			require.ErrorContains(t, err, "Options.Prefix", part)
			require.Equal(t, before, contents(t, client, topic), part)
		}
	}
}

// F14: a server is started again while it is written to all the time. That the history is not asked for at each append hides nothing: the
// first one after it has another epoch.
func TestRestartOfALogInUseF14(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s := newStore(t, server.Client())
	epochOf := func(n int) string {
		log, err := s.Append(context.Background(), "room/1", keep80, []parley.Entry{{Data: fmt.Appendf(nil, `{"n":%d}`, n), Time: int64(n)}})
		require.NoError(t, err)
		return log.Epoch
	}
	first := epochOf(0)
	for n := range 20 { // so that the lean script is in use, and trusts what it was told
		require.Equal(t, first, epochOf(n))
	}
	server.Kill()
	server.Restart()
	var second string
	require.Eventually(t, func() bool {
		log, err := s.Append(context.Background(), "room/1", keep80, []parley.Entry{{Data: []byte(`{}`)}})
		second = log.Epoch
		return err == nil
	}, 30*time.Second, time.Millisecond)
	require.NotEqual(t, first, second, "with the first append after a restart")
}
