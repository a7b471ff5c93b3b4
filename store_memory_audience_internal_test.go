package parley

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func (a *memoryAudience) audit(t testing.TB) {
	t.Helper()
	all := slices.Concat(a.parts...)
	require.True(t, slices.IsSorted(all))
	require.Len(t, slices.Compact(all), len(all))
	for _, part := range a.parts {
		require.NotEmpty(t, part)
		require.LessOrEqual(t, len(part), memoryPart)
		for _, id := range part[len(part):cap(part)] {
			require.Empty(t, id, "kept from the garbage collector")
		}
	}
	require.LessOrEqual(t, len(a.parts), 1+len(all)/(memoryPart/8), "parts that are nearly empty are joined")
}

func TestMemoryAudienceRandom(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		s, ctx, rng := NewMemoryStore(), context.Background(), rand.New(rand.NewPCG(seed, 5))
		want := map[string]bool{}
		for round := range 300 {
			ids := make([]string, rng.IntN(400))
			for i := range ids {
				ids[i] = fmt.Sprint("user-", rng.IntN(20_000))
			}
			if rng.IntN(300) > round { // grows first, and then shrinks
				require.NoError(t, s.AddUsers(ctx, "a", ids))
				for _, id := range ids {
					want[id] = true
				}
			} else {
				require.NoError(t, s.RemoveUsers(ctx, "a", ids))
				for _, id := range ids {
					delete(want, id)
				}
			}
			if round%10 > 0 {
				continue
			}
			if set := s.audiences.sets.m["a"]; set != nil {
				set.audit(t)
			}
			after, limit := fmt.Sprint("user-", rng.IntN(20_000)), 1+rng.IntN(3000)
			got, err := s.Users(ctx, "a", after, limit)
			require.NoError(t, err)
			sorted := slices.Sorted(maps.Keys(want))
			sorted = slices.DeleteFunc(sorted, func(id string) bool { return id <= after })
			require.True(t, slices.Equal(sorted[:min(limit, len(sorted))], got), "%d users after %s", limit, after)
		}
		require.NoError(t, s.RemoveUsers(ctx, "a", slices.Collect(maps.Keys(want))))
		require.Nil(t, s.audiences.sets.m, "an audience without users does not exist")
	}
}

// S25, F47: users who were taken out leave nothing, and few do not take the room of many.
func TestMemoryAudienceGivesMemoryBack(t *testing.T) {
	s, ctx, users := NewMemoryStore(), context.Background(), manyUsers(200_000)
	for step := range slices.Chunk(users, 1000) {
		require.NoError(t, s.AddUsers(ctx, "all", step))
	}
	set := s.audiences.sets.m["all"]
	set.audit(t)
	slots := func() (n int) {
		for _, part := range set.parts {
			n += cap(part)
		}
		return n
	}
	require.Less(t, slots(), 3*len(users))
	require.NoError(t, s.RemoveUsers(ctx, "all", users[1000:]))
	set.audit(t)
	require.Less(t, slots(), 10*1000)
	require.Less(t, cap(set.parts), 100)
	require.NoError(t, s.RemoveUsers(ctx, "all", users))
	require.NoError(t, s.RemoveUsers(ctx, "never", users))
	require.Nil(t, s.audiences.sets.m)
}

// Users who come and go in order, the usual case of an import, leave no parts nearly empty.
func TestMemoryAudienceInOrder(t *testing.T) {
	s, ctx, users := NewMemoryStore(), context.Background(), manyUsers(100*memoryPart)
	slices.Sort(users)
	require.NoError(t, s.AddUsers(ctx, "all", users))
	set := s.audiences.sets.m["all"]
	set.audit(t)
	require.Len(t, set.parts, 100, "all of them full")
	var few []string
	for i, id := range users {
		if i%500 == 0 {
			few = append(few, id)
			continue
		}
		require.NoError(t, s.RemoveUsers(ctx, "all", users[i:i+1]))
	}
	set.audit(t)
	got, err := s.Users(ctx, "all", "", 1000)
	require.NoError(t, err)
	require.Equal(t, few, got)
}

// A change of many users gives up between steps when nobody waits for it any more.
func TestMemoryAudienceHonoursContext(t *testing.T) {
	s := NewMemoryStore()
	ctx, cancel := context.WithCancel(t.Context())
	steps := 0
	err := s.audiences.change(ctx, manyUsers(5*memoryAudienceStep), func([]string) {
		if steps++; steps == 2 {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 2, steps)
	require.ErrorIs(t, s.AddUsers(ctx, "a", nil), context.Canceled)
}

// manyUsers returns n users in no order.
func manyUsers(n int) []string {
	users := make([]string, n)
	for i := range users {
		users[i] = fmt.Sprintf("user-%07d", i)
	}
	rng := rand.New(rand.NewPCG(9, 9))
	rng.Shuffle(n, func(i, j int) { users[i], users[j] = users[j], users[i] })
	return users
}

func BenchmarkMemoryStoreAudience(b *testing.B) {
	ctx, users := context.Background(), manyUsers(1_000_000)
	b.Run("add 1,000,000 by the 1,000", func(b *testing.B) {
		for b.Loop() {
			s := NewMemoryStore()
			for step := range slices.Chunk(users, 1000) {
				if err := s.AddUsers(ctx, "all", step); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	s := NewMemoryStore()
	if err := s.AddUsers(ctx, "all", users); err != nil {
		b.Fatal(err)
	}
	b.Run("page of 1,000", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Users(ctx, "all", users[i%len(users)], 1000); err != nil {
				b.Fatal(err)
			}
		}
	})
}
