package natsstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/parley-go/parley"
)

// Broker is a [parley.Broker] over core NATS. It may be used by several goroutines at once.
type Broker struct {
	conn  *nats.Conn
	opts  Options
	id    uint64 // in the parts of payloads
	out   outgoing
	in    chan *nats.Msg // from all subscriptions
	wg    sync.WaitGroup
	count counters

	sent      uint64 // number of payloads sent in parts; only for write
	status    chan nats.Status
	resetting atomic.Bool
	clustered atomic.Bool   // the server is one of a cluster
	ended     chan struct{} // closed by end
	endOnce   sync.Once
	garbage   sync.Once // the log of it

	mu     sync.RWMutex
	topics map[string]*topic // by subject
}

var (
	_ parley.Broker   = (*Broker)(nil)
	_ parley.Resetter = (*Broker)(nil)
)

// topic is a subject that somebody has subscribed to, or has just left. It is one subscription of NATS, whoever
// many share it.
type topic struct {
	subject string

	// Guarded by Broker.mu.
	subs    []*subscription    // replaced, never changed
	sub     *nats.Subscription // nil: not subscribed; only write changes it
	dropped int                // by sub, as far as told
}

// settled is how long the servers of a cluster get to tell each other of a subscription. Until then, messages from nodes at
// another server may not come, which nothing tells; so subscriptions are told then that something may be lost.
const settled = 500 * time.Millisecond

// inbox is how many messages may wait for their subscriptions to be found, which no application code can hold up.
const inbox = 16 << 10

// New returns a Broker over a connection, best one that [Connect] has made for it alone: [Broker.Reset] breaks it. It
// refuses a connection that stops reconnecting or that does not get its own messages, and logs what else had better be
// different. It sets no handler of the connection.
//
// Close the Broker after the hub and before the connection. A Broker whose connection is closed fails for good.
func New(conn *nats.Conn, opts Options) (*Broker, error) {
	return newBroker(conn, opts, inbox)
}

func newBroker(conn *nats.Conn, opts Options, inbox int) (*Broker, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	warnings, err := check(conn)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		opts.Logger.Warn("natsstore: connection: " + w)
	}
	b := &Broker{
		conn: conn, opts: opts, id: rand.Uint64(), in: make(chan *nats.Msg, inbox),
		ended: make(chan struct{}), topics: map[string]*topic{},
	}
	b.out.timeout, b.out.wake.L = opts.Timeout, &b.out.mu
	b.status = conn.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	b.out.connected = conn.IsConnected()
	b.clustered.Store(conn.ConnectedClusterName() != "")
	b.wg.Go(b.watch)
	b.wg.Go(b.write)
	b.wg.Go(b.receive)
	if conn.IsClosed() { // before it was watched
		b.end()
	}
	return b, nil
}

// Close ends all subscriptions and what the Broker runs, not the connection. It does not wait for a running deliver.
// It may be called more than once.
func (b *Broker) Close() error {
	b.end()
	b.wg.Wait()
	b.mu.Lock()
	var subs []*nats.Subscription
	for _, t := range b.topics {
		for _, s := range t.subs {
			s.end()
		}
		if t.sub != nil {
			subs = append(subs, t.sub)
		}
	}
	b.topics = map[string]*topic{}
	b.mu.Unlock()
	var errs []error
	for _, sub := range subs {
		if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("natsstore: close: %w", err)
	}
	return nil
}

// end makes everything fail from here on.
func (b *Broker) end() {
	b.endOnce.Do(func() {
		close(b.ended)
		b.out.close()
	})
}

// Publish implements [parley.Broker]. It returns without an error when the server has confirmed that it has taken
// payload; several at once share a confirmation. Without a connection, and while the server is silent, it
// fails at once or within Options.Timeout.
func (b *Broker) Publish(ctx context.Context, topic string, payload []byte) error {
	err := b.publish(ctx, topic, payload)
	if err != nil {
		b.count.publishErrors.Add(1)
		return fmt.Errorf("natsstore: publish: %w", err)
	}
	b.count.published.Add(1)
	return nil
}

func (b *Broker) publish(ctx context.Context, topic string, payload []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	subject, err := subject(b.opts.Prefix, topic)
	if err != nil {
		return err
	}
	if len(payload) > maxPayload {
		return fmt.Errorf("a payload of %d bytes; at most %d are carried: lower parley.Options.QueueSize", len(payload), maxPayload)
	}
	timer := time.NewTimer(b.opts.Timeout)
	defer timer.Stop()
	p := &publication{subject: subject, payload: payload, done: make(chan error, 1)}
	for {
		full, err := b.out.add(p)
		if err != nil {
			return err
		}
		select {
		case <-full: // there may be space now; never for nil, when p is queued
		case err := <-p.done:
			return err
		case <-ctx.Done():
			b.out.abandon(p)
			return ctx.Err()
		case <-timer.C:
			b.out.abandon(p)
			return errSilent
		}
	}
}

// Subscribe implements [parley.Broker]. It returns when the server has confirmed the subscription; several at once
// share a confirmation. Without a connection it waits for one, as long as ctx allows. In a cluster the other servers hear of
// it a little later; deliver(nil) comes 0.5 s after, so that the hub asks the Store for what they have not sent.
func (b *Broker) Subscribe(ctx context.Context, topic string, deliver func(payload []byte)) (unsubscribe func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("natsstore: subscribe: %w", err)
	}
	subject, err := subject(b.opts.Prefix, topic)
	if err != nil {
		return nil, err
	}
	select {
	case <-b.ended:
		return nil, fmt.Errorf("natsstore: subscribe: %w", nats.ErrConnectionClosed)
	default:
	}
	s := &subscription{deliver: deliver, maxMessages: b.opts.PendingMessages, maxBytes: b.opts.PendingBytes}
	t := b.attach(subject, s)
	c := &change{topic: t, done: make(chan error, 1)}
	b.out.change(c)
	select {
	case err = <-c.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	unsubscribe = sync.OnceFunc(func() { b.detach(t, s) })
	if err != nil {
		unsubscribe()
		return nil, fmt.Errorf("natsstore: subscribe: %w", err)
	}
	if b.clustered.Load() {
		time.AfterFunc(settled, s.lose)
	}
	return unsubscribe, nil
}

func (b *Broker) attach(subject string, s *subscription) *topic {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[subject]
	if t == nil {
		t = &topic{subject: subject}
		b.topics[subject] = t
	}
	t.subs = append(slices.Clip(t.subs), s)
	return t
}

func (b *Broker) detach(t *topic, s *subscription) {
	s.end()
	b.mu.Lock()
	t.subs = slices.DeleteFunc(slices.Clone(t.subs), func(other *subscription) bool { return other == s })
	last := len(t.subs) == 0
	b.mu.Unlock()
	if last {
		b.out.change(&change{topic: t})
	}
}

// Reset implements [parley.Resetter]: the connection is made again, if possible to another server.
func (b *Broker) Reset() {
	if !b.resetting.CompareAndSwap(false, true) {
		return
	}
	go func() { // it may wait for a write that is stuck
		defer b.resetting.Store(false)
		if err := b.conn.ForceReconnect(); err != nil {
			b.opts.Logger.Warn("natsstore: reset failed", "error", err)
		}
	}()
}

// watch follows the state of the connection. It never waits for anything, so that no change is missed: 10 are kept for it.
func (b *Broker) watch() {
	defer b.conn.RemoveStatusListener(b.status)
	for {
		select {
		case <-b.ended:
			return
		case status := <-b.status:
			switch status {
			case nats.CLOSED:
				b.end()
			case nats.CONNECTED:
				b.count.connects.Add(1)
				b.out.status(true)
			default:
				b.out.status(false)
			}
		}
	}
}

// write tells the server what is to be told.
func (b *Broker) write() {
	var buf []byte // for all envelopes: the connection copies them
	for {
		batch, ok := b.out.take()
		if !ok {
			return
		}
		before, connection := b.conn.LastError(), b.conn.Stats().Reconnects
		batch.changes = slices.DeleteFunc(batch.changes, b.apply)
		batch.publishes = slices.DeleteFunc(batch.publishes, func(p *publication) bool {
			var err error
			if buf, err = b.send(buf, p); err != nil {
				p.done <- err
			}
			return err != nil
		})
		err := b.conn.FlushWithContext(batch.ctx)
		if err == nil && b.conn.Stats().Reconnects != connection {
			err = nats.ErrDisconnected // and made again so quickly that it is another one that has answered
		}
		if err != nil && b.conn.IsClosed() {
			b.end()
		} else if err == nil && batch.resync {
			b.resync()
		}
		b.out.finish(batch, unconfirmed(err), refusals(before, b.conn.LastError()))
	}
}

// resync tells all subscriptions, which a new connection has confirmed, that something may be lost.
func (b *Broker) resync() {
	b.clustered.Store(b.conn.ConnectedClusterName() != "")
	b.loseAll()
	if b.clustered.Load() {
		time.AfterFunc(settled, b.loseAll)
	}
}

// unconfirmed says what it means that a batch was not confirmed.
func unconfirmed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the connection was lost before the NATS server confirmed: %w", err)
}

// refusals tells by the last errors of the connection before and after a batch what the server does not allow.
func refusals(before, after error) func(subject string) error {
	if after == nil || after == before || !errors.Is(after, nats.ErrPermissionViolation) {
		return func(string) error { return nil }
	}
	return func(subject string) error {
		if strings.Contains(after.Error(), strconv.Quote(subject)) {
			return fmt.Errorf("%w: allow to publish and subscribe below the prefix", after)
		}
		return nil
	}
}

// apply makes the subscription of NATS what the topic needs, and reports whether that has failed, which it tells.
func (b *Broker) apply(c *change) (failed bool) {
	t := c.topic
	b.mu.Lock()
	wanted, sub := len(t.subs) > 0, t.sub
	if !wanted && sub == nil && b.topics[t.subject] == t {
		delete(b.topics, t.subject)
	}
	b.mu.Unlock()
	var err error
	switch {
	case wanted == (sub != nil):
		return false
	case wanted:
		sub, err = b.conn.ChanSubscribe(t.subject, b.in)
	default:
		err, sub = sub.Unsubscribe(), nil
	}
	b.mu.Lock()
	t.sub, t.dropped = sub, 0
	if sub == nil && len(t.subs) == 0 && b.topics[t.subject] == t {
		delete(b.topics, t.subject)
	}
	b.mu.Unlock()
	if err != nil && c.done != nil {
		c.done <- err
	}
	return err != nil
}

// send writes a payload to the connection, in parts if it is too large for the server.
func (b *Broker) send(buf []byte, p *publication) ([]byte, error) {
	limit := int(b.conn.MaxPayload())
	if len(p.payload)+wholeHeader <= limit {
		buf = appendWhole(buf[:0], p.payload)
		return buf, b.conn.Publish(p.subject, buf)
	}
	size := limit - partHeader
	if size < 1<<10 {
		return buf, fmt.Errorf("the NATS server takes messages of %d bytes only: raise max_payload", limit)
	}
	b.sent++
	count := (len(p.payload) + size - 1) / size
	for i := range count {
		data := p.payload[i*size : min((i+1)*size, len(p.payload))]
		buf = appendPart(buf[:0], part{b.id, b.sent, uint32(i), uint32(count)}, data)
		if err := b.conn.Publish(p.subject, buf); err != nil {
			return buf, err
		}
	}
	return buf, nil
}
