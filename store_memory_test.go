package parley_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/storetest"
)

func TestMemoryStore(t *testing.T) {
	cfg := storetest.Config{Bubble: bubbletest.Test, Wipe: func(t *testing.T, s parley.Store) {
		time.Sleep(3 * time.Hour) // longer than any grace in the suite
		for range 1000 {
			appendOne(t, s, "filler", parley.Retention{Messages: 1})
		}
	}}
	cfg.Run(t, func(*testing.T) parley.Store { return parley.NewMemoryStore() })
}

func appendOne(t testing.TB, s parley.Store, topic string, keep parley.Retention) (epoch string, offset int64) {
	t.Helper()
	entries := []parley.Entry{{Data: []byte(`{"a":1}`)}}
	log, err := s.Append(context.Background(), topic, keep, entries)
	require.NoError(t, err)
	return log.Epoch, entries[0].Offset
}

func read(t testing.TB, s parley.Store, topic string) parley.Page {
	t.Helper()
	page, err := s.Read(context.Background(), topic, parley.Query{Limit: 1000})
	require.NoError(t, err)
	return page
}

// busy is use of other topics, during which a MemoryStore looks after disused ones.
func busy(t testing.TB, s parley.Store) {
	for i := range 1000 {
		appendOne(t, s, fmt.Sprint("busy-", i%10), parley.Retention{Messages: 1})
	}
}

// socket.io#5282: who has seen everything resumes, also long after it has expired.
func TestMemoryStoreKeepsBoundsForGrace(t *testing.T) {
	for _, tc := range []struct{ age, grace time.Duration }{
		{time.Second, time.Hour},
		{30 * time.Minute, time.Hour},
		{7 * 24 * time.Hour, 7 * 24 * time.Hour},
	} {
		bubbletest.Test(t, func(t *testing.T) {
			s, keep := parley.NewMemoryStore(), parley.Retention{Messages: 5, Age: tc.age}
			epoch, _ := appendOne(t, s, "t", keep)
			time.Sleep(tc.age + tc.grace)
			busy(t, s)
			require.Equal(t, parley.Page{Log: parley.Log{Epoch: epoch, Version: 1}, First: 2, Top: 1}, read(t, s, "t"), "at the end of the grace")

			time.Sleep(time.Second)
			busy(t, s)
			page := read(t, s, "t")
			require.NotEqual(t, epoch, page.Epoch)
			require.Equal(t, parley.Page{Log: parley.Log{Epoch: page.Epoch}, First: 1}, page, "after the grace")
			again, offset := appendOne(t, s, "t", keep)
			require.Equal(t, page.Epoch, again)
			require.EqualValues(t, 1, offset)
		})
	}
}

// A quiet room does not lose its position while somebody is in it, whether or
// not it ever had messages: the hub would have to reset all of its members.
func TestMemoryStoreKeepsEpochOfRoomsInUse(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, keep := parley.NewMemoryStore(), parley.Retention{Messages: 5, Age: time.Minute}
		kim := []parley.Member{{UserID: "kim", Name: "Kim"}}
		epochs := map[string]string{}
		for i := range 200 {
			room := fmt.Sprint("room-", i)
			if i%2 == 0 {
				appendOne(t, s, room, keep)
			}
			require.NoError(t, s.Enter(t.Context(), room, "n", kim, 1000*time.Hour))
			epochs[room] = read(t, s, room).Epoch
			appendOne(t, s, fmt.Sprint("gone-", i), keep)
		}
		for range 5 { // the other topics are dropped, and change the epochs of absent ones
			time.Sleep(3 * time.Hour)
			busy(t, s)
			for i := range 200 {
				appendOne(t, s, fmt.Sprint("gone-", i), keep)
			}
		}
		for room, epoch := range epochs {
			require.Equal(t, epoch, read(t, s, room).Epoch, room)
			require.NoError(t, s.Leave(t.Context(), room, "n", []string{"kim"}))
		}
		busy(t, s)
		for i := 0; i < 200; i += 2 {
			room := fmt.Sprint("room-", i)
			require.NotEqual(t, epochs[room], read(t, s, room).Epoch, "everybody has left %s, and its grace is over", room)
		}
	})
}

// F66: random lives of topics, dropped again and again, in few shards and many.
func TestMemoryStorePositionsNameOneMessage(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := parley.NewMemoryStore()
		type place struct {
			topic, epoch string
			offset       int64
		}
		seen := map[place]int{}
		n, lives := 0, map[string]map[string]bool{}
		for round := range 60 {
			for i := range 300 {
				topic := fmt.Sprint("t", i)
				if (i+round)%7 > round%5 {
					continue // not in use in this round
				}
				before := read(t, s, topic)
				n++
				epoch, offset := appendOne(t, s, topic, parley.Retention{Messages: 3, Age: time.Duration(1+i%3) * time.Minute})
				require.Equal(t, before.Epoch, epoch, "an Append does not change the epoch")
				require.Equal(t, before.Top+1, offset)
				p := place{topic, epoch, offset}
				require.Zero(t, seen[p], "%+v names two messages", p)
				seen[p] = n
				if lives[topic] == nil {
					lives[topic] = map[string]bool{}
				}
				lives[topic][epoch] = true
			}
			time.Sleep(time.Duration(round%4) * 25 * time.Minute)
			busy(t, s)
		}
		most := 0
		for _, epochs := range lives {
			most = max(most, len(epochs))
		}
		require.Greater(t, most, 5, "the test should see topics dropped")
	})
}

func TestMemoryStoreRefusesBadRetention(t *testing.T) {
	s := parley.NewMemoryStore()
	for _, keep := range []parley.Retention{{}, {Messages: -1}, {Messages: 1, Age: -1}, {Messages: 1, Bytes: -1}} {
		_, err := s.Append(t.Context(), "t", keep, []parley.Entry{{}})
		require.Error(t, err, "%+v", keep)
	}
}

// The largest durations are bounds like any other: nothing overflows.
func TestMemoryStoreHugeDurations(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := parley.NewMemoryStore()
		appendOne(t, s, "t", parley.Retention{Messages: math.MaxInt, Age: math.MaxInt64})
		require.NoError(t, s.Enter(t.Context(), "t", "n", []parley.Member{{UserID: "u"}}, math.MaxInt64))
		for range 3 {
			time.Sleep(50 * 365 * 24 * time.Hour)
			busy(t, s)
			require.Len(t, read(t, s, "t").Entries, 1)
			_, count, err := s.Members(t.Context(), "t", 0)
			require.NoError(t, err)
			require.Equal(t, 1, count)
		}
		page, err := s.Read(t.Context(), "t", parley.Query{Forward: true, After: math.MaxInt64, Limit: math.MaxInt})
		require.NoError(t, err)
		require.Empty(t, page.Entries)
		page, err = s.Read(t.Context(), "t", parley.Query{Before: math.MinInt64, Limit: math.MaxInt})
		require.NoError(t, err)
		require.Empty(t, page.Entries)
	})
}

// Who appends to a slice from a page must not reach the entry next to it, or anybody else's.
func TestMemoryStoreClipsData(t *testing.T) {
	s := parley.NewMemoryStore()
	appendOne(t, s, "t", parley.Retention{Messages: 1})
	data := read(t, s, "t").Entries[0].Data
	require.Equal(t, len(data), cap(data))
}

func BenchmarkMemoryStoreAppend(b *testing.B) {
	keep := parley.Retention{Messages: 100, Age: 24 * time.Hour}
	for _, size := range []int{1, 16} {
		for _, keyed := range []bool{false, true} {
			b.Run(fmt.Sprintf("batch=%d/keys=%v", size, keyed), func(b *testing.B) {
				s, entries := parley.NewMemoryStore(), make([]parley.Entry, size)
				n := 0
				b.ReportAllocs()
				for b.Loop() {
					for i := range entries {
						entries[i] = parley.Entry{Data: payload128}
						if keyed {
							n++
							entries[i].Key = fmt.Sprint("user-", n)
						}
					}
					if _, err := s.Append(context.Background(), "room/a", keep, entries); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

var payload128 = []byte(fmt.Sprintf(`{"type":"message","content":"%0100d"}`, 0))

func BenchmarkMemoryStoreAppendParallel(b *testing.B) {
	s, keep := parley.NewMemoryStore(), parley.Retention{Messages: 100, Age: 24 * time.Hour}
	topics := make([]string, 10_000)
	for i := range topics {
		topics[i] = fmt.Sprint("room/", i)
		appendOne(b, s, topics[i], keep)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		entries := []parley.Entry{{Data: payload128}}
		for i := 0; pb.Next(); i++ {
			if _, err := s.Append(context.Background(), topics[i%len(topics)], keep, entries); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkMemoryStoreRead(b *testing.B) {
	s := parley.NewMemoryStore()
	for range 200 {
		appendOne(b, s, "t", parley.Retention{Messages: 100, Age: time.Hour})
	}
	for _, bm := range []struct {
		name, topic string
		limit       int
	}{{"newest 100", "t", 100}, {"bounds", "t", 0}, {"absent", "u", 100}} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Read(context.Background(), bm.topic, parley.Query{Limit: bm.limit}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A room of 15,000 users.
func BenchmarkMemoryStorePresence(b *testing.B) {
	s, ctx := parley.NewMemoryStore(), context.Background()
	crowd := make([]parley.Member, 15_000)
	for i := range crowd {
		crowd[i] = parley.Member{UserID: fmt.Sprintf("user-%05d", i*7919%15_000), Name: "name"}
	}
	enter := func(b *testing.B, members []parley.Member) {
		if err := s.Enter(ctx, "room", "n", members, 30*time.Second); err != nil {
			b.Fatal(err)
		}
	}
	enter(b, crowd)
	i := 0
	b.Run("enter one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			i = (i + 1) % len(crowd)
			enter(b, crowd[i:i+1])
		}
	})
	b.Run("enter all", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			enter(b, crowd)
		}
	})
	for _, limit := range []int{0, 100, 15_000} {
		b.Run(fmt.Sprintf("members/limit=%d", limit), func(b *testing.B) {
			enter(b, crowd)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := s.Members(ctx, "room", limit); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
