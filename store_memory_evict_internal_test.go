package parley

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"
)

// usual is the Retention of a room without a configuration.
var usual = Retention{Messages: 100, Age: 24 * time.Hour}

func limited(maxBytes int64) *MemoryStore {
	s := NewMemoryStore()
	s.MaxBytes = maxBytes
	return s
}

func putSized(t testing.TB, s *MemoryStore, topic string, size int) {
	t.Helper()
	if _, err := s.Append(context.Background(), topic, usual, []Entry{{Data: make([]byte, size)}}); err != nil {
		t.Fatal(err)
	}
}

func readAll(t testing.TB, s *MemoryStore, topic string) Page {
	t.Helper()
	page, err := s.Read(context.Background(), topic, Query{Limit: 1000})
	require.NoError(t, err)
	return page
}

// recount adds up the bytes from what is there, not from what was noted.
func (s *MemoryStore) recount() (n int64) {
	for i := range s.shards {
		for _, t := range s.shards[i].order {
			if t.log.top == 0 {
				continue
			}
			n += memoryTopicCost + int64(len(t.name))
			for i := range t.log.entries.len() {
				n += memoryEntryCost + int64(len(t.log.entries.at(i).data))
			}
			n += t.log.marks.recount()
			for i := range t.log.keys.queue.len() {
				n += memoryKeyCost + int64(len(t.log.keys.queue.at(i).key))
			}
		}
	}
	return n
}

func (k *memoryMarks) recount() (n int64) {
	if k == nil {
		return 0
	}
	n = memoryMarksCost
	for i := range k.entries.len() {
		m := k.entries.at(i)
		n += memoryMarkCost + int64(len(m.key))
		if m.due != nil {
			n += memoryDueCost
		}
	}
	return n
}

// A client that sends to ever new rooms does not get more than the budget,
// neither by large messages nor by many topics, names or keys.
func TestMemoryStoreBudgetHolds(t *testing.T) {
	const limit = 8 << 20
	long := strings.Repeat("x", 250)
	for _, tc := range []struct {
		name          string
		rounds, size  int
		topic, key    string
		times, joined int // messages in each room; every joined-th room is not left
	}{
		{name: "large messages", rounds: 1000, size: 60_000, topic: "r", times: 1},
		{name: "large messages in rooms that stay", rounds: 500, size: 60_000, topic: "r", times: 2, joined: 1},
		{name: "small messages", rounds: 50_000, size: 10, topic: "r", times: 1},
		{name: "small messages with keys", rounds: 30_000, size: 10, topic: "r", key: "k", times: 1},
		{name: "small messages with keys and long names", rounds: 30_000, size: 10, topic: long, key: long, times: 1},
		{name: "many messages with keys", rounds: 100, size: 10, topic: "r", key: "k", times: 500, joined: 10},
		{name: "one room", rounds: 1, size: 2000, topic: "r", key: long, times: 20_000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, ctx := limited(limit), context.Background()
			before, most := heap(), int64(0)
			for i := range tc.rounds {
				topic := fmt.Sprint(tc.topic, i)
				if tc.joined > 0 && i%tc.joined == 0 {
					require.NoError(t, s.Enter(ctx, topic, "n", []Member{{UserID: "u"}}, time.Hour))
				}
				for j := range tc.times {
					entries := []Entry{{Data: make([]byte, tc.size)}}
					if tc.key != "" {
						entries[0].Key = fmt.Sprint(tc.key, j)
					}
					if _, err := s.Append(ctx, topic, Retention{Messages: 10_000, Age: 24 * time.Hour}, entries); err != nil {
						t.Fatal(err)
					}
					most = max(most, s.Bytes())
				}
			}
			require.LessOrEqual(t, most, int64(limit))
			require.Greater(t, most, int64(limit*9/10), "the space is there to be used")
			require.NotZero(t, s.Evicted())
			require.Equal(t, s.recount(), s.Bytes())
			used := heap() - before
			t.Logf("heap %.2f of the limit, %d topics", float64(used)/limit, s.topicCount())
			require.Less(t, used, int64(limit*5/4+1<<20))
			runtime.KeepAlive(s)
		})
	}
}

// Whose topic was used last keeps everything; the others lose their oldest entries first.
func TestMemoryStoreEvictsTheColdest(t *testing.T) {
	s := limited(1 << 20)
	for range 10 {
		for i := range 20 {
			putSized(t, s, fmt.Sprint("quiet", i), 1000)
		}
		for i := range 20 {
			putSized(t, s, fmt.Sprint("used", i), 1000)
		}
	}
	require.Zero(t, s.Evicted())
	for i := range 300 {
		putSized(t, s, fmt.Sprint("flood", i), 10_000)
		if i%10 == 0 {
			for j := range 20 {
				putSized(t, s, fmt.Sprint("used", j), 10)
			}
		}
	}
	for i := range 20 {
		page := readAll(t, s, fmt.Sprint("used", i))
		require.Len(t, page.Entries, 40)
		require.EqualValues(t, 1, page.First)
		require.Empty(t, readAll(t, s, fmt.Sprint("quiet", i)).Entries)
	}
	require.Len(t, readAll(t, s, "flood299").Entries, 1)

	before := readAll(t, s, "used0")
	for i := 0; readAll(t, s, "used0").First == 1; i++ {
		putSized(t, s, fmt.Sprint("more", i), 1000)
	}
	page := readAll(t, s, "used0")
	require.Equal(t, before.Epoch, page.Epoch)
	require.Equal(t, before.Top, page.Top)
	require.NotEmpty(t, page.Entries, "no more goes than has to")
	require.Equal(t, before.Entries[len(before.Entries)-len(page.Entries):], page.Entries, "the oldest go first")
}

func TestMemoryStoreEntryLargerThanBudget(t *testing.T) {
	s := limited(1000)
	for i := range 200 {
		topic := fmt.Sprint("t", i%70)
		putSized(t, s, topic, 5000)
		page := readAll(t, s, topic)
		require.Len(t, page.Entries, 1)
		require.Equal(t, page.Top, page.Entries[0].Offset)
		require.Less(t, s.Bytes(), int64(10_000))
	}
	_, err := s.Append(t.Context(), "batch", usual, []Entry{{Data: make([]byte, 9000)}, {Key: "k", Data: make([]byte, 10)}})
	require.NoError(t, err)
	page := readAll(t, s, "batch")
	require.Equal(t, [2]int64{2, 2}, [2]int64{page.First, page.Top}, "the newest one is kept")
	require.True(t, put(t, s, "batch", usual, "k")[0].Duplicate)
}

// Bounds outlive the entries, so that clients which missed nothing resume.
// They are dropped later, but while somebody is there they never are.
func TestMemoryStoreEvictionKeepsBounds(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, ctx := limited(100_000), context.Background()
		flood := func() {
			for i := range 2000 {
				put(t, s, fmt.Sprint("flood", i, s.Evicted()), usual)
			}
		}
		require.NoError(t, s.Enter(ctx, "room", "n", []Member{{UserID: "u"}}, 1000*time.Hour))
		put(t, s, "room", usual, "a", "b")
		put(t, s, "left", usual, "a", "b")
		room, left := readAll(t, s, "room").Epoch, readAll(t, s, "left").Epoch
		for i := 0; len(readAll(t, s, "left").Entries) > 0; i++ {
			put(t, s, fmt.Sprint("first", i), usual)
		}
		bounds := Page{Log: Log{Epoch: left, Version: 2}, First: 3, Top: 2}
		require.Equal(t, bounds, readAll(t, s, "left"))
		flood()
		require.NotEqual(t, left, readAll(t, s, "left").Epoch)
		bounds.Epoch = room
		for range 3 {
			require.Equal(t, bounds, readAll(t, s, "room"))
			flood()
		}
		require.EqualValues(t, 3, put(t, s, "room", usual)[0].Offset)
		require.NotEmpty(t, readAll(t, s, "room").Entries)
		flood()
		require.Empty(t, readAll(t, s, "room").Entries, "what came later is evicted as well")
		require.NoError(t, s.Leave(ctx, "room", "n", []string{"u"}))
		flood()
		require.NotEqual(t, room, readAll(t, s, "room").Epoch, "nobody is there any more")
		require.Equal(t, s.recount(), s.Bytes())
	})
}

// Rooms that are in use and have nothing left do not stand in the way, and
// come back into the list when their leases end.
func TestMemoryStoreEvictionPassesEmptyLogs(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		const rooms = 2000
		s := limited(rooms*1000 + 1<<20)
		for i := range rooms {
			room := fmt.Sprint("room", i)
			require.NoError(t, s.Enter(t.Context(), room, "n", []Member{{UserID: "u"}}, 40*time.Hour))
			put(t, s, room, usual)
		}
		time.Sleep(30 * time.Hour)
		for i := range 500 {
			putSized(t, s, fmt.Sprint("t", i), 50_000)
			require.LessOrEqual(t, s.Bytes(), s.MaxBytes)
		}
		require.Less(t, s.Evicted(), uint64(500), "what had expired was not evicted")
		time.Sleep(20 * time.Hour)
		for i := range 10 * rooms {
			put(t, s, fmt.Sprint("u", i), usual)
		}
		for i := range rooms {
			require.Nil(t, s.topic(fmt.Sprint("room", i)))
		}
	})
}

// F9: a topic that is being used is passed over, and evicted later.
func TestMemoryStoreEvictionPassesBusyTopics(t *testing.T) {
	s := limited(100_000)
	putSized(t, s, "busy", 50_000)
	busy := s.topic("busy")
	busy.mu.Lock()
	for i := range 100 {
		putSized(t, s, fmt.Sprint("t", i), 1000)
		require.LessOrEqual(t, s.Bytes(), int64(100_000))
	}
	busy.mu.Unlock()
	require.Len(t, readAll(t, s, "busy").Entries, 1)
	for i := range 100 {
		putSized(t, s, fmt.Sprint("u", i), 1000)
	}
	require.Empty(t, readAll(t, s, "busy").Entries)
}

// Whatever comes together, a topic that has something to give is in the list.
func TestMemoryStoreEvictionLosesNoTopic(t *testing.T) {
	s, ctx := limited(20_000), context.Background()
	kim := []Member{{UserID: "kim"}}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 9))
			for range 5000 {
				topic, node := fmt.Sprint("t", rng.IntN(30)), fmt.Sprint(g)
				entries := []Entry{{Data: make([]byte, rng.IntN(2000))}}
				_, err := s.Append(ctx, topic, usual, entries)
				switch rng.IntN(4) {
				case 0:
					err = errors.Join(err, s.Enter(ctx, topic, node, kim, time.Hour))
				case 1:
					err = errors.Join(err, s.Leave(ctx, topic, node, []string{"kim"}))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, s.recount(), s.Bytes())
	for i := range s.shards {
		sh, listed := &s.shards[i], map[*memoryTopic]bool{}
		var last *memoryTopic
		for m := sh.cold; m != nil; last, m = m, m.hotter {
			require.Same(t, last, m.colder)
			require.False(t, m.dropped)
			listed[m] = true
		}
		require.Same(t, last, sh.hot)
		for _, m := range sh.order {
			require.Equal(t, listed[m], m.listed.Load())
			require.True(t, listed[m] || m.log.bare(), "%s has entries and is not in the list", m.name)
		}
	}
}

// The total follows everything that happens, and comes back to nothing.
func TestMemoryStoreBytes(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, rng := limited(-1), rand.New(rand.NewPCG(3, 4))
		for i := range 5000 {
			keep := Retention{Messages: 1 + rng.IntN(10), Age: time.Duration(1+rng.IntN(100)) * time.Second}
			put(t, s, fmt.Sprint("t", rng.IntN(100)), keep, fmt.Sprint("k", rng.IntN(2000)), "", "k")
			if i%50 == 0 {
				time.Sleep(10 * time.Second)
			}
		}
		require.Equal(t, s.recount(), s.Bytes())
		require.Greater(t, s.Bytes(), int64(50*memoryTopicCost))
		time.Sleep(2 * time.Hour)
		for range 2000 {
			require.NoError(t, s.Enter(t.Context(), "room", "n", []Member{{UserID: "u"}}, time.Hour))
		}
		require.Zero(t, s.Bytes(), "a room without messages is not counted")
		require.Zero(t, s.Evicted())
		require.EqualValues(t, 256<<20, NewMemoryStore().limit())
	})
}

// An eviction between the look-up and the Append proper takes the topic out of the list.
func TestMemoryStoreAppendListsTopicAgain(t *testing.T) {
	s := limited(-1)
	require.NoError(t, s.Enter(t.Context(), "t", "n", []Member{{UserID: "u"}}, time.Hour))
	topic, sh := s.topic("t"), s.shard("t")
	topic.mu.Lock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		put(t, s, "t", usual)
	}()
	for !topic.listed.Load() {
		runtime.Gosched()
	}
	sh.mu.Lock()
	sh.unlink(topic)
	sh.mu.Unlock()
	topic.mu.Unlock()
	<-done
	require.True(t, topic.listed.Load())
	require.Same(t, topic, sh.cold)
	require.Equal(t, topic.tick, sh.oldest.Load())
}
