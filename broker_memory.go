package parley

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// memoryQueueLimit is how many payloads may wait for one subscription of a MemoryBroker.
const memoryQueueLimit = 10_000

// MemoryBroker is a [Broker] that connects the hubs of one process: for tests
// and examples of several nodes. All of them share one MemoryBroker and, for
// the messages to have an order, one Store. It may be used by several
// goroutines at once, and there is nothing to close. The zero value is ready for use.
//
// Publish never waits for a receiver. Each subscription gets the payloads of
// all publishers, its own hub included, in the order in which they were published. If 10,000 of them
// wait for one subscription, the oldest is dropped, see Dropped; hubs fill such gaps from
// the Store.
type MemoryBroker struct {
	dropped atomic.Uint64

	mu     sync.RWMutex // guards topics; taken before the mu of a subscription
	topics memoryMap[string, []*memorySubscription]
}

var _ Broker = (*MemoryBroker)(nil)

// NewMemoryBroker returns a MemoryBroker without subscriptions.
func NewMemoryBroker() *MemoryBroker { return new(MemoryBroker) }

// Dropped returns how many payloads were dropped because a subscription had
// too many waiting.
func (b *MemoryBroker) Dropped() uint64 { return b.dropped.Load() }

// Publish implements [Broker].
func (b *MemoryBroker) Publish(ctx context.Context, topic string, payload []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, sub := range b.topics.m[topic] {
		if sub.add(payload) {
			b.dropped.Add(1)
		}
	}
	return nil
}

// Subscribe implements [Broker].
func (b *MemoryBroker) Subscribe(ctx context.Context, topic string, deliver func(payload []byte)) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sub := &memorySubscription{deliver: deliver}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.topics.set(topic, append(b.topics.m[topic], sub))
	return func() { b.unsubscribe(topic, sub) }, nil
}

func (b *MemoryBroker) unsubscribe(topic string, sub *memorySubscription) {
	b.mu.Lock() // no Publish is running: nothing is added to sub from here on
	defer b.mu.Unlock()
	sub.clear()
	subs := slices.DeleteFunc(b.topics.m[topic], func(s *memorySubscription) bool { return s == sub })
	if len(subs) > 0 {
		b.topics.set(topic, subs)
	} else {
		b.topics.delete(topic)
	}
}

type memorySubscription struct {
	deliver func(payload []byte)

	mu       sync.Mutex // guards the fields below; never held while deliver runs
	queue    memoryRing[[]byte]
	draining bool // a goroutine runs drain
}

// add queues a payload and reports whether another one was dropped for it.
func (s *memorySubscription) add(payload []byte) (dropped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.len() >= memoryQueueLimit {
		s.queue.discard(1)
		dropped = true
	}
	s.queue.push(payload, memoryQueueLimit)
	if !s.draining {
		s.draining = true
		go s.drain() // ends when the queue is empty
	}
	return dropped
}

func (s *memorySubscription) drain() {
	for {
		payload, ok := s.take()
		if !ok {
			return
		}
		s.deliver(payload)
	}
}

// take returns the oldest payload. Without one it says so, and the caller must end.
func (s *memorySubscription) take() (payload []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.len() == 0 {
		s.draining = false
		return nil, false
	}
	payload = *s.queue.at(0)
	s.queue.discard(1)
	return payload, true
}

// clear forgets what is waiting.
func (s *memorySubscription) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = memoryRing[[]byte]{}
}
