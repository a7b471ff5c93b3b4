package redisstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

// A log without states keeps all of an entry in one element; with the first state it gets a second list. Nobody sees the difference.
func TestALogIsDivided(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.Client()), server.Client()
	const topic = "room/1"
	keep := parley.Retention{Messages: 50, Bytes: 4000, Age: time.Hour}
	var want []parley.Entry
	add := func(e parley.Entry) parley.Log {
		t.Helper()
		entries := []parley.Entry{e}
		log, err := s.Append(t.Context(), topic, keep, entries)
		require.NoError(t, err)
		want = append(want, parley.Entry{Offset: entries[0].Offset, Time: e.Time, Data: e.Data})
		return log
	}
	kept := func() parley.Page {
		t.Helper()
		page, err := s.Read(t.Context(), topic, parley.Query{Limit: 100, Marks: true})
		require.NoError(t, err)
		size := 0
		for _, e := range page.Entries {
			size += len(e.Data)
		}
		require.LessOrEqual(t, size, 4000)
		require.Equal(t, want[len(want)-len(page.Entries):], page.Entries)
		return page
	}
	exists := func(part string) bool { return client.Exists(t.Context(), "parley:{t/"+topic+"}:"+part).Val() == 1 }

	for i, data := range []string{"", "\n", "a\nb", "1 2\n3", "\x00\xff", strings.Repeat("long\n", 200)} {
		add(parley.Entry{Time: int64(-i), Data: []byte(data)})
	}
	require.Len(t, kept().Entries, 6)
	require.False(t, exists("info"))
	require.True(t, exists("messages"))

	// An entry with a state comes together with one that has none.
	two := []parley.Entry{{Data: []byte("plain\n"), Time: 7}, {Key: "k 1\n", Data: []byte("stated\n"), Time: 8, Unread: true}}
	log, err := s.Append(t.Context(), topic, keep, two)
	require.NoError(t, err)
	require.Equal(t, 1, log.Unread)
	for _, e := range two {
		want = append(want, parley.Entry{Offset: e.Offset, Time: e.Time, Data: e.Data})
	}
	require.Len(t, kept().Entries, 8)
	for _, part := range []string{"messages", "info"} {
		require.EqualValues(t, 8, client.LLen(t.Context(), "parley:{t/"+topic+"}:"+part).Val())
		left := client.PTTL(t.Context(), "parley:{t/"+topic+"}:"+part).Val()
		require.Greater(t, left, time.Hour, part)
	}
	marked, err := s.Mark(t.Context(), topic, parley.Mark{As: parley.MarkRead, UpTo: 8})
	require.NoError(t, err)
	require.Equal(t, []parley.Span{{From: 8, To: 8}}, marked.Changed)
	require.Equal(t, []parley.Span{{From: 8, To: 8}}, kept().Read)

	// What is too much goes, from what was there before and from what came later.
	for i := range 60 {
		add(parley.Entry{Time: int64(100 + i), Data: fmt.Appendf(nil, "%d\n%s", i, strings.Repeat("x", i))})
	}
	require.Len(t, kept().Entries, 50)
	for range 5 {
		add(parley.Entry{Time: 1, Data: []byte(strings.Repeat("y", 1000))})
	}
	require.Len(t, kept().Entries, 4)
}

// S38: another application's key in the place of the second list is an error when that is needed, and changes nothing.
func TestForeignKeyWhereALogIsDivided(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.Client()), server.Client()
	for n := range 5 {
		appendKey(t, s, "room/1", n)
	}
	require.NoError(t, client.Set(t.Context(), "parley:{t/room/1}:info", "theirs", 0).Err())
	before := dump(t, client, "parley:{t/room/1}:*")
	for range 3 {
		_, err := s.Append(t.Context(), "room/1", keep80, []parley.Entry{{Key: "new", Data: []byte(`{}`), Unread: true}})
		require.ErrorContains(t, err, "Options.Prefix")
		require.Equal(t, before, dump(t, client, "parley:{t/room/1}:*"))
	}
	require.EqualValues(t, 6, appendKey(t, s, "room/1", 6).Offset, "without states it is not needed")
}

// S38: a log without a second list leaves alone what another application has in its place, whatever is done to it.
func TestForeignKeyBesideALog(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.Client()), server.Client()
	const info = "parley:{t/room/1}:info"
	theirs := func() time.Duration {
		t.Helper()
		require.Equal(t, "theirs", client.Get(t.Context(), info).Val())
		return client.TTL(t.Context(), info).Val()
	}
	_, err := s.Read(t.Context(), "room/1", parley.Query{Limit: 1}) // the log begins
	require.NoError(t, err)
	require.NoError(t, client.Set(t.Context(), info, "theirs", time.Hour).Err())
	_, err = s.Append(t.Context(), "room/1", keep80, []parley.Entry{{Data: []byte(`{}`)}})
	require.ErrorContains(t, err, "Options.Prefix", "a new log would remove what an old one has left there")
	require.Positive(t, theirs())
	require.NoError(t, client.Del(t.Context(), info).Err())
	for n := range 5 {
		appendKey(t, s, "room/1", n)
	}
	require.NoError(t, client.Set(t.Context(), info, "theirs", time.Hour).Err())
	require.NoError(t, client.LPop(t.Context(), "parley:{t/room/1}:messages").Err())
	appendKey(t, s, "room/1", 6)
	require.Positive(t, theirs(), "a list that was cut")
	_, err = s.Append(t.Context(), "room/1", parley.Retention{Messages: 80}, []parley.Entry{{Data: []byte(`{}`)}})
	require.NoError(t, err)
	require.Positive(t, theirs(), "a log that stays for ever")
}

// F66: without memory a log is not divided either.
func TestNoMemoryToDivide(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.Client()), server.Client()
	for n := range 5 {
		appendKey(t, s, "room/1", n)
	}
	before := dump(t, client, "parley:{t/room/1}:*")
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	for range 2 {
		_, err := s.Append(t.Context(), "room/1", keep80, []parley.Entry{{Data: []byte(`{}`), Unread: true}})
		require.ErrorContains(t, err, "maxmemory")
	}
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	require.Equal(t, before, dump(t, client, "parley:{t/room/1}:*"))
}
