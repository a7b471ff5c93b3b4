package parley

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// memoryAppender is an AppendPublisher of a MemoryStore and a faultyBroker.
type memoryAppender struct {
	*MemoryStore
	*faultyBroker
	mu      sync.Mutex // held from Append to Publish: the order of the channel is that of the log
	steps   atomic.Int32
	doubled atomic.Int32 // messages with a position in other publishes
}

func (a *memoryAppender) AppendPublish(ctx context.Context, topic string, keep Retention, entries []Entry, payload []byte) (Log, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	log, err := a.MemoryStore.Append(ctx, topic, keep, entries)
	if err != nil {
		return log, err
	}
	a.steps.Add(1)
	offsets := make([]string, len(entries))
	fresh := false
	for i, e := range entries {
		offsets[i] = "0"
		if !e.Duplicate {
			offsets[i], fresh = fmt.Sprint(e.Offset), true
		}
	}
	if fresh {
		head := fmt.Sprintf("%d %d %s %s\n", log.Unread, log.Version, strings.Join(offsets, ","), log.Epoch)
		_ = a.faultyBroker.Publish(ctx, topic, append([]byte(head), payload...))
	}
	return log, nil
}

func (a *memoryAppender) Publish(ctx context.Context, topic string, payload []byte) error {
	if bytes.Contains(payload, []byte(`"offset"`)) {
		a.doubled.Add(1)
	}
	return a.faultyBroker.Publish(ctx, topic, payload)
}

// What is stored goes to the other nodes with the append, once, with its position and, in an inbox, its counts.
func TestAppendPublish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		both := &memoryAppender{MemoryStore: NewMemoryStore(), faultyBroker: newFaultyBroker()}
		opts := Options{Store: both, Broker: both, ClientBroadcast: true}
		a, b := serve(t, opts), serve(t, opts)
		kim, lee := teaMember(t, a, "kim"), teaMember(t, b, "lee")
		time.Sleep(time.Second)
		kim.drain()
		before := both.steps.Load()
		for n := int64(1); n <= 5; n++ {
			say(t, a, n)
		}
		expectOffsets(t, kim, 1, 5)
		expectOffsets(t, lee, 1, 5)
		require.EqualValues(t, 5, both.steps.Load()-before)
		for range 2 {
			_, err := b.Room("tea").Send(t.Context(), "6", WithID("six"))
			require.NoError(t, err)
		}
		expectOffsets(t, kim, 6, 6)
		expectOffsets(t, lee, 6, 6)

		ada := b.connect(dialOptions{user: "ada", v1: true})
		ada.expect("inbox")
		for n := range 3 {
			_, err := a.Notify(t.Context(), "ada", n)
			require.NoError(t, err)
			m := ada.expect("notification")
			require.EqualValues(t, n+1, m.num("unread"))
			require.EqualValues(t, n+1, m.num("version"))
		}
		kim.send(`{"type":"broadcast","message":"not stored"}`)
		lee.expect("broadcast")
		require.Zero(t, both.doubled.Load())
		require.Zero(t, a.Stats().BrokerGarbage+b.Stats().BrokerGarbage)
	})
}

// F28: concurrent publishers on two nodes and one room: the same order everywhere, and hardly a read of the Store.
func TestAppendPublishFromTwoNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		both := &memoryAppender{MemoryStore: NewMemoryStore(), faultyBroker: newFaultyBroker()}
		opts := Options{Store: both, Broker: both}
		a, b := serve(t, opts), serve(t, opts)
		kim, lee := teaMember(t, a, "kim"), teaMember(t, b, "lee")
		time.Sleep(time.Second)
		kim.drain()
		lee.drain()
		var senders sync.WaitGroup
		for _, s := range []*server{a, b} {
			for range 5 {
				senders.Go(func() {
					for n := range 40 {
						_, err := s.Room("tea").Send(t.Context(), n)
						require.NoError(t, err)
					}
				})
			}
		}
		senders.Wait()
		synctest.Wait()
		for offset := int64(1); offset <= 400; offset++ {
			one, two := kim.expect("message"), lee.expect("message")
			require.Equal(t, offset, one.num("offset"))
			require.Equal(t, one["content"], two["content"])
		}
	})
}

// Store and Broker that are two values are used as such, and values that cannot be compared are no reason to panic.
func TestAppenderOf(t *testing.T) {
	one, two := &memoryAppender{}, &memoryAppender{}
	require.NotNil(t, appenderOf(Options{Store: one, Broker: one}, nil))
	require.Nil(t, appenderOf(Options{Store: one, Broker: two}, nil))
	require.Nil(t, appenderOf(Options{Store: one, Broker: NewMemoryBroker()}, nil))
	odd := oddAppender{memoryAppender: one}
	require.Nil(t, appenderOf(Options{Store: odd, Broker: odd}, nil))
}

type oddAppender struct {
	*memoryAppender
	_ []int
}

// Nodes spend much of their time on packets.
func BenchmarkPacket(b *testing.B) {
	data := []byte(`{"type":"message","room":"tea","userId":"kim","username":"kim","content":"` + strings.Repeat("x", 128) + `","timestamp":1763870000000}`)
	p := packet{Node: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Messages: []packetMessage{{Data: data}}}
	payload := append([]byte("0 57 57 0123456789abcdef\n"), p.encode()...)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = p.encode()
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodePacket(payload); err != nil {
				b.Fatal(err)
			}
		}
	})
}
