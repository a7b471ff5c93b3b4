package parley

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"
)

// seen lists the users that are remembered, from the one that was seen longest ago, and checks the ring.
func (st *memoryStatuses) seen(t *testing.T) (ids []string) {
	t.Helper()
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ring.next == nil {
		require.Empty(t, st.users.m)
		return nil
	}
	for u := st.ring.next; u != &st.ring; u = u.next {
		require.Same(t, u, u.next.prev)
		require.Same(t, u, st.users.m[u.id])
		ids = append(ids, u.id)
	}
	require.Len(t, ids, len(st.users.m))
	return ids
}

// F47: who was not seen for LastSeenWindow is forgotten, as others come, and nobody before.
func TestMemoryStatusForgets(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, ctx := NewMemoryStore(), t.Context()
		connect := func(lease time.Duration, ids ...string) { require.NoError(t, s.Connect(ctx, "n", ids, lease)) }
		connect(time.Minute, "lapsed", "back", "gone")
		connect(60*day, "long")
		time.Sleep(30 * time.Second)
		require.NoError(t, s.Disconnect(ctx, "n", []string{"gone", "stranger"}))
		require.Equal(t, []string{"lapsed", "back", "long", "gone"}, s.statuses.seen(t))
		time.Sleep(time.Hour)
		connect(time.Minute, "back")

		time.Sleep(LastSeenWindow - time.Hour - 30*time.Second)
		connect(time.Minute, "x")
		require.Equal(t, []string{"lapsed", "long", "gone", "back", "x"}, s.statuses.seen(t), "at the end of the window")
		time.Sleep(time.Millisecond)
		connect(time.Minute, "x")
		require.Equal(t, []string{"gone", "back", "x", "long"}, s.statuses.seen(t), "whose lease lasts is not forgotten")
		time.Sleep(time.Minute)
		connect(time.Minute, "x")
		require.Equal(t, []string{"back", "long", "x"}, s.statuses.seen(t))
		time.Sleep(2 * time.Hour)
		connect(time.Minute, "x")
		require.Equal(t, []string{"x", "long"}, s.statuses.seen(t))

		all, err := s.Status(ctx, []string{"lapsed", "long", "gone"})
		require.NoError(t, err)
		require.Equal(t, []bool{false, true, false}, []bool{all[0].Online, all[1].Online, all[2].Online})
		require.Zero(t, all[0])
		require.Zero(t, all[2])
		require.Equal(t, all[1].Since, all[1].LastSeen)
	})
}

// However many users come once, no more are remembered than were seen within the window, and what a node leaves behind is
// dropped from who stays.
func TestMemoryStatusBound(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, ctx := NewMemoryStore(), t.Context()
		for i := range 120 { // days
			ids := []string{"regular"}
			for j := range 100 {
				ids = append(ids, fmt.Sprint("user-", i, "-", j))
			}
			require.NoError(t, s.Connect(ctx, fmt.Sprint("node-", i), ids, 25*time.Hour))
			require.LessOrEqual(t, len(s.statuses.seen(t)), 31*100+1, "day %d", i)
			time.Sleep(day)
		}
		require.LessOrEqual(t, len(s.statuses.users.m["regular"].leases), 2, "leases of nodes that are no more")
		all, err := s.Status(ctx, []string{"regular"})
		require.NoError(t, err)
		require.EqualValues(t, 119*day.Milliseconds(), all[0].LastSeen-all[0].Since, "online without a pause")

		time.Sleep(2 * LastSeenWindow)
		for range 2000 {
			require.NoError(t, s.Connect(ctx, "n", []string{"last"}, time.Minute))
		}
		require.Equal(t, []string{"last"}, s.statuses.seen(t))
		require.LessOrEqual(t, s.statuses.users.peak, 64, "the map has given its memory back")
	})
}

// What MaxBytes says that a user takes.
func TestMemoryStatusSize(t *testing.T) {
	const n = 100_000
	s, ids := NewMemoryStore(), make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("user-%010d", i)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for part := range 100 {
		require.NoError(t, s.Connect(t.Context(), "node", ids[part*n/100:(part+1)*n/100], time.Hour))
	}
	each := float64(heap()-before) / n
	t.Logf("%.0f bytes a user, without the id", each)
	require.Less(t, each, 200.0)
	runtime.KeepAlive(s)
	runtime.KeepAlive(ids)
}

// The largest lease does not overflow.
func TestMemoryStatusHugeLease(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, ctx := NewMemoryStore(), t.Context()
		time.Sleep(time.Hour)
		require.NoError(t, s.Connect(ctx, "n", []string{"kim"}, math.MaxInt64))
		time.Sleep(100 * 365 * day)
		all, err := s.Status(ctx, []string{"kim"})
		require.NoError(t, err)
		require.True(t, all[0].Online)
	})
}

// What a node does every 20 s for each 500 of its users.
func BenchmarkMemoryStoreConnect(b *testing.B) {
	s, ids := NewMemoryStore(), make([]string, 500)
	for i := range ids {
		ids[i] = fmt.Sprint("user-", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Connect(context.Background(), "node", ids, time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}
