package redisstore

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"
)

// pace is how fast the receiver notices trouble and how it gets over it.
type pace struct {
	ping       time.Duration // between two pings, and how long an answer may take
	connect    time.Duration // how long making a connection may take
	backoff    time.Duration // before the second attempt; it doubles up to backoffMax
	backoffMax time.Duration
	calm       time.Duration // a connection that lived this long forgets the attempts before it
}

var defaultPace = pace{ping: 3 * time.Second, connect: 5 * time.Second, backoff: 50 * time.Millisecond, backoffMax: 2 * time.Second, calm: 10 * time.Second}

// receiver keeps the subscriptions and the connections that receive. Nothing
// runs before the first subscription.
//
// What the application wants, the subscriptions, and what the servers have confirmed are kept apart for each
// channel, and brought together by one command at a time. So the last action wins, however fast
// they follow each other.
type receiver struct {
	client redis.UniversalClient
	logger *slog.Logger
	pace   pace
	mode   shardMode
	limits queueLimits

	ctx    context.Context // ends at close
	cancel context.CancelFunc
	wg     sync.WaitGroup // lanes

	idle   chan *subscription // to goroutines that wait for something to deliver
	idlers atomic.Int64       // how many wait, or are about to

	received, dropped, losses, reconnects atomic.Uint64
	waiting                               atomic.Int64 // bytes in all queues

	mu       sync.Mutex // guards all below, and the fields of channels and lanes; held for moments
	closed   bool
	channels map[string]*channel
	lanes    map[string]*lane // by the address of the node; "" where there is but one
	count    int              // of subscriptions
}

func newReceiver(client redis.UniversalClient, logger *slog.Logger) *receiver {
	r := &receiver{
		client: client, logger: logger, pace: defaultPace, limits: defaultQueueLimits,
		channels: map[string]*channel{}, lanes: map[string]*lane{}, idle: make(chan *subscription),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// close ends all connections and subscriptions. No deliver starts after it; it does not wait for one that
// runs, so it may be called from there.
func (r *receiver) close() {
	r.cancel()
	r.mu.Lock()
	r.closed = true
	for _, ch := range r.channels {
		for _, sub := range ch.subs {
			sub.end()
		}
	}
	r.channels, r.count = map[string]*channel{}, 0
	r.mu.Unlock()
	r.wg.Wait()
}

// reset makes every lane connect anew.
func (r *receiver) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lanes {
		wake(l.resets)
	}
}

// subscribe adds a subscription to a channel, and waits until the server has confirmed it.
func (r *receiver) subscribe(ctx context.Context, name string, skip func(string) bool, deliver func([]byte)) (unsubscribe func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("redisstore: subscribe: %w", err)
	}
	if r.ctx.Err() != nil {
		return nil, ErrClosed
	}
	node, err := r.nodeOf(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("redisstore: subscribe: %w", err)
	}
	sub := &subscription{receiver: r, skip: skip, deliver: deliver}
	ch, confirmed, err := r.add(name, sub, node)
	if err != nil {
		return nil, err
	}
	unsubscribe = sync.OnceFunc(func() { r.remove(ch, sub) })
	select {
	case <-confirmed:
		return unsubscribe, nil
	case <-r.ctx.Done():
		err = ErrClosed
	case <-ctx.Done():
		err = fmt.Errorf("redisstore: subscribe: not confirmed: %w%s", ctx.Err(), r.trouble(ch))
	}
	unsubscribe()
	return nil, err
}

// add makes sub one of the channel name, which goes to node if it is new. confirmed is closed when the server sends what is published there.
func (r *receiver) add(name string, sub *subscription, node node) (ch *channel, confirmed <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, ErrClosed
	}
	ch = r.channels[name]
	if ch == nil {
		ch = &channel{name: name, confirmed: make(chan struct{})}
		r.channels[name] = ch
		r.laneOf(node).take(ch)
	}
	ch.subs = append(slices.Clip(ch.subs), sub)
	r.count++
	ch.reconcile()
	return ch, ch.confirmed, nil
}

// remove ends sub.
func (r *receiver) remove(ch *channel, sub *subscription) {
	sub.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(ch.subs, sub)
	if r.closed || i < 0 {
		return
	}
	ch.subs = slices.Concat(ch.subs[:i], ch.subs[i+1:]) // receive may be reading the old slice
	r.count--
	ch.reconcile()
}

// trouble tells what kept the channel from being confirmed.
func (r *receiver) trouble(ch *channel) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ch.lane == nil || ch.lane.lastErr == nil {
		return ""
	}
	return fmt.Sprintf(" (the connection that receives: %v)", ch.lane.lastErr)
}

// receive hands a payload to the subscriptions of a channel. It never waits for them.
func (r *receiver) receive(name, payload string) {
	r.mu.Lock()
	var subs []*subscription
	if ch := r.channels[name]; ch != nil {
		subs = ch.subs
	}
	r.mu.Unlock()
	if len(subs) == 0 {
		return // unsubscribed meanwhile
	}
	r.received.Add(1)
	var data []byte
	for _, sub := range subs {
		if sub.skip != nil && sub.skip(payload) {
			continue
		}
		if data == nil {
			data = bytesOf(payload)
		}
		sub.add(data)
	}
}

// bytesOf returns what is in a string that the client has made for us, and that nobody else keeps. It is never nil.
func bytesOf(s string) []byte {
	if s == "" {
		return []byte{}
	}
	return unsafe.Slice(unsafe.StringData(s), len(s))
}

// laneOf returns the lane of a node. It is called with mu held.
func (r *receiver) laneOf(n node) *lane {
	l := r.lanes[n.addr]
	if l == nil {
		l = newLane(r, n)
		r.lanes[n.addr] = l
		r.wg.Go(l.run)
	}
	return l
}

// names returns the channels of a lane, in order.
func (r *receiver) names(l *lane) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(l.channels))
}

// wake puts a token into a channel for one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one already
	}
}
