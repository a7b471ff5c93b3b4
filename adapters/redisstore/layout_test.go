package redisstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

// useAll uses a name for everything that a Store keeps.
func useAll(s *redisstore.Store, name string) error {
	ctx := context.Background()
	keep := parley.Retention{Messages: 100, Age: time.Hour}
	_, err := s.Append(ctx, name, keep, []parley.Entry{
		{Key: "k1", Data: []byte(`{"n":1}`)},
		{Key: "k2", Data: []byte(`{"n":2}`), Unread: true, TTL: time.Hour, ReceiveIn: time.Millisecond},
	})
	steps := []func() error{
		func() error {
			_, err := s.Mark(ctx, name, parley.Mark{As: parley.MarkRead, Keys: []string{"k2"}})
			return err
		},
		func() error { return s.Enter(ctx, name, "n1", []parley.Member{{UserID: name, Name: "N"}}, time.Hour) },
		func() error { return s.Connect(ctx, "n1", []string{name}, time.Hour) },
		func() error { return s.AddUsers(ctx, name, []string{name}) },
	}
	for _, step := range steps {
		if err == nil {
			err = step()
		}
	}
	return err
}

// S38: names come from users. Every key is of one form, with one hash tag, and nothing stays for ever
// but audiences.
func TestKeys(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.Client()), server.Client()
	for _, name := range []string{"room/1", "", "{", "}", "{}", "{a}", "}{", "a}:b{c", "a\nb", "a\x00b", "é🙂", "%", "%00", "*", "[a]", "a b", strings.Repeat("\xff", 300)} {
		require.NoErrorf(t, useAll(s, name), "%q", name)
		_, err := s.Read(t.Context(), name+"!", parley.Query{})
		require.NoError(t, err)
	}
	keys, err := client.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	require.Greater(t, len(keys), 100)
	for _, key := range keys {
		require.Regexp(t, `^parley:\{(t|u|a|overdue)/[A-Za-z0-9_.:/@+=,~%-]*\}:[a-z]+[01]?$`, key)
		left, err := client.PTTL(t.Context(), key).Result()
		require.NoError(t, err)
		require.Equalf(t, strings.HasPrefix(key, "parley:{a/"), left < 0, "%s lives for %v", key, left)
	}
}

// What docs/guides/redis.md says about reading a room from another program.
func TestLayoutIsReadable(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.Client()), server.Client()
	for n := range 120 {
		_, err := s.Append(t.Context(), "room/lobby", parley.Retention{Messages: 100}, []parley.Entry{{Time: int64(n), Data: fmt.Appendf(nil, `{"n":%d}`, n)}})
		require.NoError(t, err)
	}
	require.NoError(t, s.Enter(t.Context(), "room/lobby", "n1", []parley.Member{{UserID: "b", Name: "Bo"}, {UserID: "a", Name: "Al"}}, time.Hour))
	last, err := client.LRange(t.Context(), "parley:{t/room/lobby}:messages", -100, -1).Result()
	require.NoError(t, err)
	require.Len(t, last, 100)
	require.Regexp(t, `^\d{13} 119\n{"n":119}$`, last[99])
	members, err := client.HGetAll(t.Context(), "parley:{t/room/lobby}:members").Result()
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "Al", "b": "Bo"}, members)
	users, err := client.ZRange(t.Context(), "parley:{t/room/lobby}:users", 0, -1).Result()
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, users)
	top, err := client.HGet(t.Context(), "parley:{t/room/lobby}:log", "top").Result()
	require.NoError(t, err)
	require.Equal(t, "120", top)
}

// Another application's key in the place of one of ours: an error, and neither it nor anything of ours changes.
func TestForeignKeys(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.Client()), server.Client()
	ctx := t.Context()
	entry := func() []parley.Entry {
		return []parley.Entry{{Key: "x", Data: []byte(`{}`), Unread: true, ReceiveIn: time.Hour}}
	}
	write := map[string]func(topic string) error{
		"append": func(topic string) error { _, err := s.Append(ctx, topic, keep10, entry()); return err },
		"enter":  func(topic string) error { return s.Enter(ctx, topic, "n1", []parley.Member{{UserID: "b"}}, time.Hour) },
		"leave":  func(topic string) error { return s.Leave(ctx, topic, "n1", []string{topic}) },
	}
	for _, used := range []bool{false, true} {
		for part, calls := range map[string][]string{
			"log": {"append", "enter"}, "messages": {"append"}, "info": {"append"}, "due": {"append"}, "keys0": {"append"}, "keys1": {"append"},
			"members": {"enter", "leave"}, "users": {"enter", "leave"}, "leases": {"enter", "leave"}, "ends": {"enter", "leave"},
		} {
			for _, call := range calls {
				topic := fmt.Sprint("room/", part, call, used)
				if used {
					require.NoError(t, useAll(s, topic))
				}
				foreign := "parley:{t/" + topic + "}:" + part
				require.NoError(t, client.Set(ctx, foreign, "theirs", 0).Err())
				before := dump(t, client, "parley:{t/"+topic+"}:*")
				require.ErrorContainsf(t, write[call](topic), "Options.Prefix", "%s, used before: %v", foreign, used)
				require.Equalf(t, before, dump(t, client, "parley:{t/"+topic+"}:*"), "%s by %s, used before: %v", foreign, call, used)
			}
		}
	}
	require.NoError(t, client.Set(ctx, "parley:{u/odd}:status", "theirs", 0).Err())
	require.ErrorContains(t, s.Connect(ctx, "n1", []string{"odd"}, time.Hour), "WRONGTYPE")
	require.NoError(t, client.Set(ctx, "parley:{a/odd}:users", "theirs", 0).Err())
	require.ErrorContains(t, s.AddUsers(ctx, "odd", []string{"a"}), "WRONGTYPE")
	// Those that are about many leave out what is foreign.
	require.NoError(t, useAll(s, "room/other"), "everything else works")
	heads, err := s.Heads(ctx, []string{"room/logappendfalse", "room/other"})
	require.NoError(t, err)
	require.Zero(t, heads[0])
	require.EqualValues(t, 2, heads[1].Top)
	status, err := s.Status(ctx, []string{"odd", "room/other"})
	require.NoError(t, err)
	require.Equal(t, []bool{false, true}, []bool{status[0].Online, status[1].Online})
	soon := []parley.Entry{{Data: []byte(`{}`), ReceiveIn: time.Millisecond}}
	_, err = s.Append(ctx, "room/due", keep10, soon)
	require.NoError(t, err)
	require.NoError(t, client.Set(ctx, "parley:{t/room/foreign}:due", "theirs", 0).Err())
	_, err = s.Append(ctx, "room/foreign", keep10, soon)
	require.ErrorContains(t, err, "WRONGTYPE")
	var got []parley.OverdueEntry
	require.Eventually(t, func() bool {
		got, err = s.Overdue(ctx, 10, time.Hour)
		return err != nil || len(got) > 0
	}, patience, time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, "room/due", got[0].Topic)
}

func dump(t *testing.T, client *redis.Client, pattern string) map[string]string {
	t.Helper()
	all := map[string]string{}
	keys, err := client.Keys(t.Context(), pattern).Result()
	require.NoError(t, err)
	for _, key := range keys {
		if all[key], err = client.Dump(t.Context(), key).Result(); err != nil {
			require.NoError(t, err)
		}
	}
	return all
}

// F66: whatever part of a log Redis evicts, no offset of an epoch ever names two messages, and nothing is invented.
func TestEvictedParts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.Client()), server.Client()
	for _, part := range []string{"log", "messages", "info", "keys0", "keys1", "due"} {
		topic := "room/" + part
		require.NoError(t, useAll(s, topic))
		before, err := s.Read(t.Context(), topic, parley.Query{Limit: 10})
		require.NoError(t, err)
		require.NoError(t, client.Del(t.Context(), "parley:{t/"+topic+"}:"+part).Err())
		page, err := s.Read(t.Context(), topic, parley.Query{Limit: 10, Marks: true})
		require.NoError(t, err)
		switch part {
		case "log":
			require.NotEqual(t, before.Epoch, page.Epoch)
			require.Zero(t, page.Top)
		case "messages", "info":
			require.Equal(t, [3]int64{3, 2, 0}, [3]int64{page.First, page.Top, int64(page.Unread)}, part)
			require.Empty(t, page.Entries)
			require.Empty(t, page.Read)
		default:
			require.Equal(t, before.Entries, page.Entries)
		}
		again := []parley.Entry{{Key: "k1", Data: []byte(`{"n":3}`), Unread: true}}
		log, err := s.Append(t.Context(), topic, parley.Retention{Messages: 100, Age: time.Hour}, again)
		require.NoError(t, err)
		require.Equal(t, page.Epoch, log.Epoch)
		after, err := s.Read(t.Context(), topic, parley.Query{Limit: 10})
		require.NoError(t, err)
		require.Equal(t, log, after.Log)
		if !again[0].Duplicate {
			require.Equal(t, page.Top+1, again[0].Offset)
			require.Equal(t, `{"n":3}`, string(after.Entries[len(after.Entries)-1].Data))
			require.Equal(t, 1, after.Unread)
		}
		if part == "log" {
			require.False(t, again[0].Duplicate, "a log that was lost has no keys")
		}
	}
}

func TestAppendPublish(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.Client()), server.Client()
	sub := client.Subscribe(t.Context(), "parley:{t/room/1}:live")
	defer sub.Close()
	_, err := sub.Receive(t.Context())
	require.NoError(t, err)
	entries := []parley.Entry{{Key: "a", Data: []byte(`{}`), Unread: true}, {Key: "a", Data: []byte(`{}`)}, {Data: []byte(`{}`), Unread: true}}
	log, err := s.AppendPublish(t.Context(), "room/1", keep10, entries, []byte("pay\x00load"))
	require.NoError(t, err)
	_, err = s.AppendPublish(t.Context(), "room/1", keep10, []parley.Entry{{Key: "a"}}, []byte("nothing is stored"))
	require.NoError(t, err)
	got, err := sub.ReceiveMessage(t.Context())
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("2 2 1,0,2 %s\npay\x00load", log.Epoch), got.Payload)
	// Many at once: each is told of its own, in order.
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			_, err := s.AppendPublish(context.Background(), "room/1", keep10, []parley.Entry{{Data: []byte(`{}`)}}, fmt.Append(nil, i))
			if err != nil {
				t.Error(err)
			}
		})
	}
	seen := map[string]bool{}
	for n := 3; n <= 202; n++ {
		got, err := sub.ReceiveMessage(t.Context())
		require.NoError(t, err)
		head, payload, _ := strings.Cut(got.Payload, "\n")
		unread := 2
		if n > 11 { // 10 are kept
			unread = 0
		} else if n == 11 {
			unread = 1
		}
		require.Equal(t, fmt.Sprintf("%d %d %d %s", unread, n, n, log.Epoch), head)
		seen[payload] = true
	}
	wg.Wait()
	require.Len(t, seen, 200)
}

func TestEvictionIsWarnedOf(t *testing.T) {
	t.Parallel()
	for policy, warned := range map[string]bool{"noeviction": false, "allkeys-lru": true, "volatile-ttl": true} {
		server := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", policy)
		var log strings.Builder
		s, err := redisstore.New(server.Client(), redisstore.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		for n := range 3 {
			_, err = appendTo(s, "room/1", n)
			require.NoError(t, err)
		}
		require.NoError(t, s.Close()) // waits for the question
		require.Equalf(t, warned, strings.Contains(log.String(), "noeviction"), "%s: %s", policy, log.String())
		require.LessOrEqual(t, strings.Count(log.String(), "\n"), 1)
	}
}
