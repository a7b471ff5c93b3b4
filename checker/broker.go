package checker

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-go/parley"
)

// broker is a MemoryBroker that can be made to lose, double, delay and so
// reorder what it carries.
type broker struct {
	*parley.MemoryBroker
	faults atomic.Int64

	mu     sync.Mutex // guards the fields below
	random *rand.Rand
	until  time.Time
}

func newBroker(random *rand.Rand) *broker {
	return &broker{MemoryBroker: parley.NewMemoryBroker(), random: random}
}

// disturb makes half of the payloads go astray for a while.
func (b *broker) disturb(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = time.Now().Add(d)
}

// fate draws how often a payload arrives, and how late.
func (b *broker) fate() (copies int, delay time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Now().After(b.until) {
		return 1, 0
	}
	switch b.random.IntN(6) {
	case 0:
		copies, delay = 0, 0
	case 1:
		copies, delay = 2, 0
	case 2:
		copies, delay = 1+b.random.IntN(2), time.Duration(b.random.IntN(2000))*time.Millisecond
	default:
		return 1, 0
	}
	b.faults.Add(1)
	return copies, delay
}

// brokerOf is the way of one node to the broker.
type brokerOf struct {
	*broker
	dead atomic.Bool
}

var _ parley.Broker = (*brokerOf)(nil)

// Publish implements parley.Broker.
func (b *brokerOf) Publish(ctx context.Context, topic string, payload []byte) error {
	if b.dead.Load() {
		return errDead
	}
	copies, delay := b.fate()
	publish := func() {
		for range copies {
			_ = b.MemoryBroker.Publish(context.WithoutCancel(ctx), topic, payload) // fails only with its context
		}
	}
	if delay > 0 {
		time.AfterFunc(delay, publish)
	} else {
		publish()
	}
	return nil
}

// Subscribe implements parley.Broker.
func (b *brokerOf) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	if b.dead.Load() {
		return nil, errDead
	}
	return b.MemoryBroker.Subscribe(ctx, topic, deliver)
}
