package parley_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/storetest"
)

func TestMemoryBroker(t *testing.T) {
	cfg := storetest.Config{Bubble: bubbletest.Test}
	cfg.RunBroker(t, func(*testing.T) parley.Broker { return parley.NewMemoryBroker() })
}

func subscribe(t testing.TB, b parley.Broker, topic string, deliver func([]byte)) (unsubscribe func()) {
	t.Helper()
	unsubscribe, err := b.Subscribe(context.Background(), topic, deliver)
	require.NoError(t, err)
	return unsubscribe
}

// F28: more than the contract asks for, and what examples rely on.
func TestMemoryBrokerKeepsOrder(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		b := parley.NewMemoryBroker()
		var got []string
		subscribe(t, b, "t", func(p []byte) { got = append(got, string(p)) })
		var want []string
		for i := range 5000 {
			want = append(want, strconv.Itoa(i))
			require.NoError(t, b.Publish(t.Context(), "t", []byte(want[i])))
		}
		synctest.Wait()
		require.Equal(t, want, got)
		require.Zero(t, b.Dropped())
	})
}

// S23: a subscriber that hangs costs neither memory without bound nor the others' time.
func TestMemoryBrokerDropsOldest(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		b := parley.NewMemoryBroker()
		release := make(chan struct{})
		var slow []int
		subscribe(t, b, "t", func(p []byte) {
			<-release
			n, _ := strconv.Atoi(string(p))
			slow = append(slow, n)
		})
		var quick atomic.Int32
		subscribe(t, b, "t", func([]byte) { quick.Add(1) })
		const sent = 12_000
		for i := range sent {
			require.NoError(t, b.Publish(t.Context(), "t", []byte(strconv.Itoa(i))))
			synctest.Wait()
		}
		require.EqualValues(t, sent, quick.Load(), "the other subscription")
		require.EqualValues(t, sent-10_000-1, b.Dropped(), "10,000 wait and one is being delivered")
		close(release)
		synctest.Wait()
		require.Len(t, slow, 10_001)
		require.Equal(t, 0, slow[0])
		require.Equal(t, sent-10_000, slow[1], "the oldest ones were dropped")
		require.Equal(t, sent-1, slow[10_000])
	})
}

// F46: the bubble fails the test if a goroutine is left. F45: nothing that deliver may call deadlocks.
func TestMemoryBrokerCallsFromWithinDeliver(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		b := parley.NewMemoryBroker()
		var calls atomic.Int32
		var deliver func([]byte)
		deliver = func(p []byte) {
			if n := calls.Add(1); n < 100 {
				unsubscribe, err := b.Subscribe(context.Background(), "t", deliver)
				if err == nil {
					err = b.Publish(context.Background(), fmt.Sprint("t", n%2), p)
				}
				if err == nil && n%3 == 0 {
					err = b.Publish(context.Background(), "t", p)
				}
				if err != nil {
					t.Error(err)
				}
				unsubscribe()
			}
		}
		for range 3 {
			subscribe(t, b, "t", deliver)
			subscribe(t, b, "t0", deliver)
		}
		require.NoError(t, b.Publish(t.Context(), "t", []byte("x")))
		synctest.Wait()
		require.GreaterOrEqual(t, calls.Load(), int32(3))
	})
}

// F30, F46: churn leaves no subscription, no goroutine and nothing queued.
func TestMemoryBrokerChurn(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		b := parley.NewMemoryBroker()
		var wg sync.WaitGroup
		var after atomic.Int32
		for w := range 8 {
			wg.Go(func() {
				for i := range 2000 {
					topic := strconv.Itoa((w + i) % 5)
					unsubscribe, err := b.Subscribe(context.Background(), topic, func([]byte) { after.Add(1) })
					if err == nil {
						err = b.Publish(context.Background(), topic, []byte("x"))
					}
					if err != nil {
						t.Error(err)
						return
					}
					unsubscribe()
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		before := after.Load()
		for topic := range 5 {
			require.NoError(t, b.Publish(t.Context(), strconv.Itoa(topic), []byte("x")))
		}
		synctest.Wait()
		require.Equal(t, before, after.Load(), "payloads without subscriptions")
	})
}

func BenchmarkMemoryBrokerPublish(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			broker := parley.NewMemoryBroker()
			for range nodes {
				subscribe(b, broker, "t", func([]byte) {})
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := broker.Publish(context.Background(), "t", payload128); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
