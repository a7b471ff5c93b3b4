package checker

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-go/parley"
)

// brokerFault is what a Broker may do wrong.
type brokerFault uint8

const (
	brokerWell      brokerFault = iota
	brokerMixed                 // loses, doubles, delays and so reorders
	brokerSilent                // takes everything and brings nothing
	brokerFailing               // refuses everything
	brokerStuck                 // does not answer, until the fault or the context ends
	brokerPartition             // one node gets nothing, and what it publishes goes nowhere
	brokerCut                   // one node gets nothing, and is refused everything
	brokerDeaf                  // one node gets nothing until it connects anew (Reset), whatever becomes of the others
	brokerFaults
)

var errBroker = errors.New("the broker is out of order")

// broker makes the Brokers of all nodes fail on demand.
type broker struct {
	*parley.MemoryBroker // carries, if no other is given
	faults               atomic.Int64
	resets               atomic.Int64

	mu     sync.Mutex // guards the fields below
	random *rand.Rand
	fault  brokerFault
	node   int  // that the fault is about
	tells  bool // subscribers are told that something may have been lost
	until  time.Time
	turn   int           // numbers faults
	over   chan struct{} // closed when the fault has ended
	ways   []*brokerOf
}

func newBroker(random *rand.Rand) *broker {
	return &broker{MemoryBroker: parley.NewMemoryBroker(), random: random}
}

// disturb begins a fault, which ends by itself, and ends the one before.
func (b *broker) disturb(fault brokerFault, node int, tells bool, d time.Duration) {
	b.mu.Lock()
	b.turn++
	turn := b.turn
	b.mu.Unlock()
	b.ends(turn)
	b.mu.Lock()
	b.fault, b.node, b.tells, b.until, b.over = fault, node, tells, time.Now().Add(d), make(chan struct{})
	ways := slices.Clone(b.ways)
	b.mu.Unlock()
	if fault == brokerDeaf {
		for _, w := range ways {
			w.deaf.Store(w.deaf.Load() || w.node == node)
		}
	}
	if d > 0 {
		time.AfterFunc(d, func() { b.ends(turn) })
	}
}

// ends tells the subscribers of the fault before, unless it has another turn.
func (b *broker) ends(turn int) {
	b.mu.Lock()
	over := b.turn == turn && b.fault != brokerWell
	fault, node := b.fault, b.node
	if over {
		b.fault = brokerWell
		close(b.over)
	}
	tells := b.tells
	ways := slices.Clone(b.ways)
	b.mu.Unlock()
	if !over || !tells || fault == brokerDeaf {
		return
	}
	for _, w := range ways {
		if w.node == node || fault != brokerPartition && fault != brokerCut {
			w.interrupted()
		}
	}
}

// heal ends all faults, but for deafness, if hubs do something about that.
func (b *broker) heal() {
	b.disturb(brokerWell, 0, false, 0)
	if selfHealing {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.ways {
		w.deaf.Store(false)
	}
}

// now returns the fault that a node suffers from at the moment.
func (b *broker) now(node int) brokerFault {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.fault == brokerWell || time.Now().After(b.until):
		return brokerWell
	case (b.fault == brokerPartition || b.fault == brokerCut || b.fault == brokerDeaf) && node != b.node:
		return brokerWell
	}
	return b.fault
}

// fate draws how often a payload arrives at a node, and how late.
func (b *broker) fate(node int) (copies int, delay time.Duration) {
	switch b.now(node) {
	case brokerWell, brokerDeaf:
		return 1, 0
	case brokerMixed:
	default:
		b.faults.Add(1)
		return 0, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
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

// brokerOf is the way of one hub to the broker.
type brokerOf struct {
	*broker
	node  int
	given parley.Broker // used instead of the MemoryBroker of all nodes
	dead  *atomic.Bool
	deaf  atomic.Bool

	subs       sync.Mutex // guards subscribed
	subscribed map[*subscription]bool
}

var _ interface {
	parley.Broker
	parley.Resetter
} = (*brokerOf)(nil)

// via adds the way of a hub.
func (b *broker) via(node int, given parley.Broker, dead *atomic.Bool) *brokerOf {
	w := &brokerOf{broker: b, node: node, given: given, dead: dead, subscribed: make(map[*subscription]bool)}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ways = slices.DeleteFunc(b.ways, func(old *brokerOf) bool { return old.node == node })
	b.ways = append(b.ways, w)
	return w
}

func (b *brokerOf) inner() parley.Broker {
	if b.given != nil {
		return b.given
	}
	return b.MemoryBroker
}

// allows reports what becomes of a call, without an error if it is to be made.
func (b *brokerOf) allows(ctx context.Context) (fault brokerFault, err error) {
	if b.dead.Load() {
		return brokerWell, errDead
	}
	switch fault = b.now(b.node); fault {
	case brokerFailing, brokerCut:
		b.faults.Add(1)
		err = errBroker
	case brokerStuck:
		b.faults.Add(1)
		b.mu.Lock()
		over := b.over
		b.mu.Unlock()
		err = errBroker
		select {
		case <-over:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return fault, err
}

// Publish implements parley.Broker.
func (b *brokerOf) Publish(ctx context.Context, topic string, payload []byte) error {
	fault, err := b.allows(ctx)
	if err != nil || fault == brokerPartition {
		return err
	}
	return b.inner().Publish(ctx, topic, payload)
}

// Subscribe implements parley.Broker.
func (b *brokerOf) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	if b.now(b.node) == brokerStuck {
		return nil, errBroker // hubs hold a lock while they subscribe, and who waits for a lock stops the time of a bubble
	}
	if _, err := b.allows(ctx); err != nil {
		return nil, err
	}
	s := &subscription{way: b, deliver: deliver}
	end, err := b.inner().Subscribe(ctx, topic, s.arrive)
	if err != nil {
		return nil, err
	}
	b.subs.Lock()
	defer b.subs.Unlock()
	b.subscribed[s] = true
	return func() {
		s.ended.Store(true)
		end()
		b.subs.Lock()
		defer b.subs.Unlock()
		delete(b.subscribed, s)
	}, nil
}

// Reset implements parley.Resetter.
func (b *brokerOf) Reset() {
	b.resets.Add(1)
	if b.deaf.Swap(false) {
		b.interrupted()
	}
	if r, ok := b.inner().(parley.Resetter); ok {
		r.Reset()
	}
}

// interrupted tells all subscribers that something may have been lost.
func (b *brokerOf) interrupted() {
	b.subs.Lock()
	var all []*subscription
	for s := range b.subscribed {
		all = append(all, s)
	}
	b.subs.Unlock()
	for _, s := range all {
		s.hand(nil)
	}
}

// subscription is one topic of a hub.
type subscription struct {
	way     *brokerOf
	ended   atomic.Bool
	turn    sync.Mutex // calls of deliver come one at a time
	deliver func([]byte)
}

// arrive takes what was published, and hands it on as the fault of the moment wants it.
func (s *subscription) arrive(payload []byte) {
	copies, delay := s.way.fate(s.way.node)
	hand := func() {
		for range copies {
			s.hand(payload)
		}
	}
	if delay > 0 {
		time.AfterFunc(delay, hand)
	} else {
		hand()
	}
}

func (s *subscription) hand(payload []byte) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if !s.ended.Load() && !s.way.dead.Load() && !s.way.deaf.Load() {
		s.deliver(payload)
	}
}
