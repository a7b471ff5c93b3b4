package parley

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"
)

func (s *MemoryStore) topicCount() (n int) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += len(sh.order)
		sh.mu.Unlock()
	}
	return n
}

// topic returns a topic that is there, for looking into it from one goroutine.
func (s *MemoryStore) topic(name string) *memoryTopic { return s.shard(name).topics.m[name] }

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func put(t testing.TB, s *MemoryStore, topic string, keep Retention, keys ...string) []Entry {
	t.Helper()
	entries := make([]Entry, max(1, len(keys)))
	for i := range entries {
		entries[i].Data = []byte("{}")
		if i < len(keys) {
			entries[i].Key = keys[i]
		}
	}
	_, err := s.Append(context.Background(), topic, keep, entries)
	require.NoError(t, err)
	return entries
}

// F47, S25: names that are only asked about leave no trace.
func TestMemoryStoreAbsentTopicsCostNothing(t *testing.T) {
	s, ctx := NewMemoryStore(), context.Background()
	before := heap()
	for i := range 1_000_000 {
		name := "room/" + strconv.Itoa(i)
		_, err := s.Read(ctx, name, Query{Limit: 10})
		if i%10 == 0 {
			_, _, err2 := s.Members(ctx, name, 10)
			_, err3 := s.Append(ctx, name, Retention{Messages: 1}, nil)
			err = errors.Join(err, err2, s.Leave(ctx, name, "n", []string{"u"}), err3)
		}
		if err != nil { // not by require, which takes far longer than all the rest
			t.Fatal(err)
		}
	}
	require.Zero(t, s.topicCount())
	require.Less(t, heap()-before, int64(4<<20), "bytes kept")
}

// F47: rooms that were joined and left are gone at once, and the maps shrink.
func TestMemoryStoreFreesEmptyRooms(t *testing.T) {
	s, ctx := NewMemoryStore(), context.Background()
	kim := []Member{{UserID: "kim"}}
	before := heap()
	const rooms = 50_000
	for i := range rooms {
		require.NoError(t, s.Enter(ctx, fmt.Sprint("room/", i), "n", kim, time.Hour))
	}
	require.Equal(t, rooms, s.topicCount())
	t.Logf("%d bytes for each room with one user", (heap()-before)/rooms)
	for i := range rooms {
		require.NoError(t, s.Leave(ctx, fmt.Sprint("room/", i), "n", []string{"kim"}))
	}
	require.Zero(t, s.topicCount())
	require.Less(t, heap()-before, int64(4<<20), "bytes kept")
	runtime.KeepAlive(s)
}

// F47: what has expired goes away by the use of any other topic, entries
// after Age, topics after the grace, and members with their leases.
func TestMemoryStoreFreesWhatExpired(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, ctx := NewMemoryStore(), context.Background()
		before := heap()
		const topics = 10_000
		for i := range topics {
			put(t, s, fmt.Sprint("log/", i), Retention{Messages: 10, Age: time.Minute}, "key")
			require.NoError(t, s.Enter(ctx, fmt.Sprint("room/", i), "n", []Member{{UserID: "u"}}, time.Minute))
		}
		t.Logf("%d bytes for each two topics", (heap()-before)/topics)
		use := func() {
			for range 2 * 2 * topics / memorySweep { // all of them twice
				put(t, s, "other", Retention{Messages: 1})
			}
		}
		time.Sleep(10 * time.Minute)
		use()
		require.Equal(t, topics+1, s.topicCount(), "rooms are gone, the logs keep their bounds")
		log := &s.topic("log/7").log
		require.Nil(t, log.entries.slots)
		require.Nil(t, log.keys.offsets.m)
		t.Logf("%d bytes for each log without entries", (heap()-before)/topics)

		time.Sleep(2 * time.Hour)
		use()
		require.Equal(t, 1, s.topicCount())
		require.Less(t, heap()-before, int64(1<<20), "bytes kept")
	})
}

// However fast new topics come, those waiting to be dropped are no more than those in use.
func TestMemoryStoreSweepKeepsUp(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := NewMemoryStore()
		const perMinute = 60
		life := int((time.Minute + memoryGrace) / time.Minute) // of each topic, in minutes
		most := 0
		for i := range 6 * life * perMinute {
			put(t, s, fmt.Sprint("t", i), Retention{Messages: 1, Age: time.Minute})
			time.Sleep(time.Minute / perMinute)
			most = max(most, s.topicCount())
		}
		needed := life * perMinute
		require.Less(t, float64(most), 2.2*float64(needed), "topics at most, %d of which are needed", needed)
		require.GreaterOrEqual(t, most, needed)
	})
}

// An epoch of absent topics lasts at least as long as the grace, however many topics are dropped.
func TestMemoryStoreAbsentEpochsAreStable(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := NewMemoryStore()
		epoch, since, changes := s.shards[0].epoch, time.Now(), 0
		for i := range 80_000 {
			put(t, s, fmt.Sprint("t", i), Retention{Messages: 1, Age: time.Second})
			time.Sleep(time.Second)
			if now := s.shards[0].epoch; now != epoch {
				require.GreaterOrEqual(t, time.Since(since), memoryGrace)
				epoch, since = now, time.Now()
				changes++
			}
			require.Len(t, epoch, 10)
		}
		require.Greater(t, changes, 5)
	})
}

// F24: the number of keys is bounded, but never below the length of the log.
func TestMemoryStoreKeyLimit(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		for _, keep := range []int{10, memoryKeyLimit + 5000} {
			s, limit := NewMemoryStore(), max(keep, memoryKeyLimit)
			for i := range limit + 100 {
				put(t, s, "t", Retention{Messages: keep}, fmt.Sprint("k", i))
			}
			keys := &s.topic("t").log.keys
			require.Len(t, keys.offsets.m, limit)
			require.Equal(t, limit, keys.queue.len())
			again := put(t, s, "t", Retention{Messages: keep}, "k100", fmt.Sprint("k", limit+99), "k99")
			require.True(t, again[0].Duplicate, "the oldest that is remembered")
			require.True(t, again[1].Duplicate, "the newest")
			require.False(t, again[2].Duplicate, "forgotten for want of space")
			require.EqualValues(t, limit+101, again[2].Offset)

			time.Sleep(IdempotencyWindow + 1)
			last := put(t, s, "t", Retention{Messages: keep}, "k300", "new")
			require.False(t, last[0].Duplicate, "after the window")
			require.Len(t, keys.offsets.m, 2, "the keys after the window")
		}
	})
}

// A buffer is as large as what is in it, not as what may be in it.
func TestMemoryStoreBuffersFollowTheirContents(t *testing.T) {
	s := NewMemoryStore()
	put(t, s, "t", Retention{Messages: 1_000_000})
	entries := &s.topic("t").log.entries
	require.LessOrEqual(t, len(entries.slots), 4)
	for range 1000 {
		put(t, s, "t", Retention{Messages: 1_000_000})
	}
	require.LessOrEqual(t, len(entries.slots), 2048)
	for range 1000 {
		put(t, s, "t", Retention{Messages: 700})
	}
	require.Equal(t, 700, entries.len())
	put(t, s, "t", Retention{Messages: 5})
	for range 20 {
		put(t, s, "t", Retention{Messages: 5})
	}
	require.LessOrEqual(t, len(entries.slots), 512)
	require.Equal(t, 5, entries.len())
}

// F9: a topic that is busy holds up nobody else, the sweep included.
func TestMemoryStoreTopicsDoNotBlockEachOther(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, ctx := NewMemoryStore(), context.Background()
		put(t, s, "busy", Retention{Messages: 1, Age: time.Second})
		busy := s.topic("busy")
		busy.mu.Lock()
		waiting := make(chan struct{})
		go func() {
			defer close(waiting)
			put(t, s, "busy", Retention{Messages: 1})
		}()
		for i := range 1000 {
			name := fmt.Sprint("t", i)
			put(t, s, name, Retention{Messages: 1})
			_, err := s.Read(ctx, name, Query{})
			require.NoError(t, err)
			require.NoError(t, s.Enter(ctx, name, "n", []Member{{UserID: "u"}}, time.Hour))
		}
		busy.mu.Unlock()
		<-waiting
	})
}

// A call that gets hold of a topic just when it has been dropped starts over with a new one.
func TestMemoryStoreDropWhileInUse(t *testing.T) {
	s := NewMemoryStore()
	put(t, s, "t", Retention{Messages: 1, Age: time.Second})
	sh, old := s.shard("t"), s.topic("t")
	sh.mu.Lock()
	old.mu.Lock()
	require.False(t, sh.dropIfDone(old, s.now()+10*time.Hour), "in use")
	old.mu.Unlock()
	require.True(t, sh.dropIfDone(old, s.now()+10*time.Hour))
	require.False(t, sh.dropIfDone(old, s.now()+20*time.Hour), "again")
	// The moment at which an Append has looked it up and waits for its lock.
	sh.topics.set("t", old)
	sh.mu.Unlock()

	done := make(chan []Entry)
	go func() { done <- put(t, s, "t", Retention{Messages: 1}) }()
	for range 1000 {
		runtime.Gosched()
	}
	select {
	case <-done:
		require.Fail(t, "the Append went to the topic that was dropped")
	default:
	}
	sh.mu.Lock()
	sh.topics.delete("t")
	sh.mu.Unlock()
	require.EqualValues(t, 1, (<-done)[0].Offset)
	require.NotEqual(t, old.epoch, s.topic("t").epoch)
	require.EqualValues(t, 1, old.log.top)
}

func TestMemoryRing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		var r memoryRing[int]
		var want []int
		limit := 1 + rng.IntN(100)
		for n := range 500 {
			if drop := rng.IntN(4 * limit); drop < limit/2+2 {
				r.discard(drop)
				want = want[min(drop, len(want)):]
			} else {
				if len(want) == limit {
					r.discard(1)
					want = want[1:]
				}
				r.push(n, limit)
				want = append(want, n)
			}
			got := []int{}
			for i := range r.len() {
				got = append(got, *r.at(i))
			}
			require.True(t, slices.Equal(want, got), "want %v, got %v", want, got)
			require.LessOrEqual(t, len(r.slots), max(limit, 4))
			require.LessOrEqual(t, len(r.slots), max(16, 4*r.len()+4))
		}
	}
}

func TestMemoryMap(t *testing.T) {
	var m memoryMap[int, int]
	m.delete(1)
	for i := range 1000 {
		m.set(i, i)
	}
	for i := range 995 {
		m.delete(i)
		require.LessOrEqual(t, m.peak, max(64, 4*len(m.m)+4))
	}
	for i := 995; i < 1000; i++ {
		require.Equal(t, i, m.m[i])
		m.delete(i)
	}
	require.Nil(t, m.m)
}
