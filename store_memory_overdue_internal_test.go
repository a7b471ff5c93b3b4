package parley

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"
)

// await appends n entries that are to be received within in.
func await(t testing.TB, s *MemoryStore, topic string, keep Retention, n int, in time.Duration) {
	t.Helper()
	entries := make([]Entry, n)
	for i := range entries {
		entries[i] = Entry{Data: []byte("{}"), Unread: true, ReceiveIn: in}
	}
	_, err := s.Append(context.Background(), topic, keep, entries)
	require.NoError(t, err)
}

func overdue(t testing.TB, s *MemoryStore, limit int, lease time.Duration) (found []string) {
	t.Helper()
	got, err := s.Overdue(context.Background(), limit, lease)
	require.NoError(t, err)
	for _, e := range got {
		found = append(found, fmt.Sprint(e.Topic, "-", e.Entry.Offset))
	}
	return found
}

// S12: however an entry stops waiting, nothing is left of it, long before its time.
func TestMemoryStoreOverdueDoesNotLeak(t *testing.T) {
	const waiting = 20_000
	long, mark := 1000*time.Hour, func(s *MemoryStore, m Mark) error {
		_, err := s.Mark(context.Background(), "t", m)
		return err
	}
	for name, stop := range map[string]func(s *MemoryStore) error{
		"received": func(s *MemoryStore) error { return mark(s, Mark{As: MarkReceived, UpTo: waiting}) },
		"read":     func(s *MemoryStore) error { return mark(s, Mark{As: MarkRead, UpTo: waiting}) },
		"archived": func(s *MemoryStore) error { return mark(s, Mark{As: MarkArchived, UpTo: waiting}) },
		"trimmed":  func(s *MemoryStore) error { putSized(t, s, "t", 1); return nil },
		"evicted": func(s *MemoryStore) error {
			s.MaxBytes = 2000
			putSized(t, s, "u", 1)
			putSized(t, s, "u", 1)
			return nil
		},
		"grown old": func(s *MemoryStore) error { time.Sleep(24 * time.Hour); putSized(t, s, "u", 1); return nil },
		"dropped":   func(s *MemoryStore) error { time.Sleep(100 * time.Hour); putSized(t, s, "u", 1); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			bubbletest.Test(t, func(t *testing.T) {
				s := NewMemoryStore()
				await(t, s, "t", Retention{Messages: waiting, Age: 24 * time.Hour}, waiting, long)
				require.Len(t, s.overdue.queue, waiting)
				require.NoError(t, stop(s))
				for range 2 * memoryShards { // writes, for the sweep to come by
					require.NoError(t, s.Enter(t.Context(), "room", "n", []Member{{UserID: "u"}}, time.Hour))
				}
				s.audit(t)
				require.LessOrEqual(t, len(s.overdue.queue), 100)
				require.LessOrEqual(t, cap(s.overdue.queue), 400)
			})
		})
	}
}

// What is overdue is found in its order over all topics, each once per lease.
func TestMemoryStoreOverdueOrder(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := NewMemoryStore()
		await(t, s, "a", usual, 2, 30*time.Second)
		await(t, s, "b", usual, 1, 10*time.Second)
		await(t, s, "c", usual, 1, 20*time.Second)
		require.Empty(t, overdue(t, s, 10, time.Minute))
		time.Sleep(30 * time.Second)
		require.Empty(t, overdue(t, s, 0, time.Minute))
		require.Equal(t, []string{"b-1", "c-1", "a-1"}, overdue(t, s, 3, time.Minute))
		require.Equal(t, []string{"a-2"}, overdue(t, s, 3, 10*time.Second))
		require.Empty(t, overdue(t, s, 3, time.Minute))
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{"a-2"}, overdue(t, s, 3, 0))
		time.Sleep(time.Nanosecond)
		require.Equal(t, []string{"a-2"}, overdue(t, s, 3, 0), "without a lease it is found by the next call, but not twice by one")
		time.Sleep(50 * time.Second)
		_, err := s.Mark(t.Context(), "c", Mark{As: MarkReceived, UpTo: 1})
		require.NoError(t, err)
		require.Equal(t, []string{"a-2", "b-1", "a-1"}, overdue(t, s, 10, time.Minute))
		s.audit(t)
	})
}

// A Mark that comes while Overdue has an entry in its hands is not lost.
func TestMemoryStoreOverdueMarkedMeanwhile(t *testing.T) {
	s := NewMemoryStore()
	await(t, s, "t", usual, 2, 1)
	first, second := s.overdue.take(memoryNever), s.overdue.take(memoryNever)
	require.Nil(t, s.overdue.take(memoryNever))
	_, err := s.Mark(t.Context(), "t", Mark{As: MarkReceived, UpTo: 1})
	require.NoError(t, err)
	_, ok := s.postpone(first, s.now(), time.Hour)
	require.False(t, ok)
	found, ok := s.postpone(second, s.now(), time.Hour)
	require.True(t, ok)
	require.EqualValues(t, 2, found.Entry.Offset)
	s.audit(t)

	taken := s.overdue.take(memoryNever)
	sh, topic := s.shard("t"), s.topic("t")
	sh.mu.Lock()
	topic.mu.Lock()
	topic.log.discard(2, false)
	sh.drop(topic)
	topic.mu.Unlock()
	sh.mu.Unlock()
	_, ok = s.postpone(taken, s.now(), time.Hour)
	require.False(t, ok, "the topic is gone")
	s.audit(t)
}

// Calls of Overdue, Mark, Append and eviction at once: no entry goes to two callers within a lease.
func TestMemoryStoreOverdueConcurrent(t *testing.T) {
	s, ctx := limited(1<<20), context.Background()
	var (
		mu   sync.Mutex
		seen = map[string]int{}
		wg   sync.WaitGroup
	)
	for g := range 4 {
		wg.Go(func() {
			topic := fmt.Sprint("t", g%2)
			for i := range 500 {
				await(t, s, topic, Retention{Messages: 300}, 3, 1)
				found, err := s.Overdue(ctx, 5, time.Hour)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				for _, e := range found {
					seen[fmt.Sprint(e.Topic, e.Epoch, e.Entry.Offset)]++
				}
				mu.Unlock()
				if i%10 == 0 {
					putSized(t, s, fmt.Sprint("flood", g, i), 20_000)
				}
				if _, err := s.Mark(ctx, topic, Mark{As: MarkRead, Offsets: []int64{int64(i), int64(2 * i)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s.audit(t)
	require.Greater(t, len(seen), 1000)
	for entry, times := range seen {
		require.Equal(t, 1, times, entry)
	}
}
