package parley

import (
	"context"
	"fmt"
	"reflect"
	"runtime/debug"
	"time"
)

// guardedStore makes an error of a panic in a Store: it may be called in a
// goroutine of ours, where a panic would end the process.
type guardedStore struct {
	store Store
	stats *counters
}

// guardedBroker does the same for a Broker.
type guardedBroker struct {
	broker Broker
	stats  *counters
}

// panicked is deferred around a call; it makes *err of a panic.
func (s *counters) panicked(err *error) {
	if v := recover(); v != nil {
		s.panics.Add(1)
		*err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
	}
}

func (g guardedStore) Append(ctx context.Context, topic string, keep Retention, entries []Entry) (log Log, err error) {
	defer g.stats.panicked(&err)
	return g.store.Append(ctx, topic, keep, entries)
}

func (g guardedStore) Read(ctx context.Context, topic string, q Query) (page Page, err error) {
	defer g.stats.panicked(&err)
	return g.store.Read(ctx, topic, q)
}

func (g guardedStore) Enter(ctx context.Context, topic, node string, members []Member, lease time.Duration) (err error) {
	defer g.stats.panicked(&err)
	return g.store.Enter(ctx, topic, node, members, lease)
}

func (g guardedStore) Leave(ctx context.Context, topic, node string, userIDs []string) (err error) {
	defer g.stats.panicked(&err)
	return g.store.Leave(ctx, topic, node, userIDs)
}

func (g guardedStore) Members(ctx context.Context, topic string, limit int) (members []Member, count int, err error) {
	defer g.stats.panicked(&err)
	return g.store.Members(ctx, topic, limit)
}

func (g guardedStore) Mark(ctx context.Context, topic string, m Mark) (marked Marked, err error) {
	defer g.stats.panicked(&err)
	return g.store.Mark(ctx, topic, m)
}

func (g guardedStore) Overdue(ctx context.Context, limit int, lease time.Duration) (overdue []OverdueEntry, err error) {
	defer g.stats.panicked(&err)
	return g.store.Overdue(ctx, limit, lease)
}

func (g guardedStore) AddUsers(ctx context.Context, audience string, userIDs []string) (err error) {
	defer g.stats.panicked(&err)
	return g.store.AddUsers(ctx, audience, userIDs)
}

func (g guardedStore) RemoveUsers(ctx context.Context, audience string, userIDs []string) (err error) {
	defer g.stats.panicked(&err)
	return g.store.RemoveUsers(ctx, audience, userIDs)
}

func (g guardedStore) Users(ctx context.Context, audience, after string, limit int) (userIDs []string, err error) {
	defer g.stats.panicked(&err)
	return g.store.Users(ctx, audience, after, limit)
}

func (g guardedStore) Heads(ctx context.Context, topics []string) (heads []Head, err error) {
	defer g.stats.panicked(&err)
	return g.store.Heads(ctx, topics)
}

func (g guardedStore) Connect(ctx context.Context, node string, userIDs []string, lease time.Duration) (err error) {
	defer g.stats.panicked(&err)
	return g.store.Connect(ctx, node, userIDs, lease)
}

func (g guardedStore) Disconnect(ctx context.Context, node string, userIDs []string) (err error) {
	defer g.stats.panicked(&err)
	return g.store.Disconnect(ctx, node, userIDs)
}

func (g guardedStore) Status(ctx context.Context, userIDs []string) (all []UserStatus, err error) {
	defer g.stats.panicked(&err)
	return g.store.Status(ctx, userIDs)
}

// guardedAppender does the same for an AppendPublisher.
type guardedAppender struct {
	inner AppendPublisher
	stats *counters
}

// appenderOf returns the Store that is also the Broker and can append and publish in one step, or nil.
func appenderOf(opts Options, stats *counters) AppendPublisher {
	a, ok := opts.Store.(AppendPublisher)
	b, same := opts.Broker.(AppendPublisher)
	if !ok || !same || !reflect.TypeOf(a).Comparable() || a != b {
		return nil
	}
	return guardedAppender{a, stats}
}

func (g guardedAppender) AppendPublish(ctx context.Context, topic string, keep Retention, entries []Entry, payload []byte) (log Log, err error) {
	defer g.stats.panicked(&err)
	return g.inner.AppendPublish(ctx, topic, keep, entries, payload)
}

// resetter returns the Broker if it can start anew.
func (h *Hub) resetter() (Resetter, bool) {
	g, _ := h.opts.Broker.(guardedBroker)
	r, ok := g.broker.(Resetter)
	return r, ok
}

func (g guardedBroker) Publish(ctx context.Context, topic string, payload []byte) (err error) {
	defer g.stats.panicked(&err)
	return g.broker.Publish(ctx, topic, payload)
}

func (g guardedBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (unsubscribe func(), err error) {
	return g.subscribe(func() (func(), error) { return g.broker.Subscribe(ctx, topic, deliver) })
}

// SubscribeFiltered leaves nothing out if the Broker cannot.
func (g guardedBroker) SubscribeFiltered(ctx context.Context, topic string, skip func(string) bool, deliver func([]byte)) (unsubscribe func(), err error) {
	f, ok := g.broker.(FilteringBroker)
	if !ok {
		return g.Subscribe(ctx, topic, deliver)
	}
	return g.subscribe(func() (func(), error) { return f.SubscribeFiltered(ctx, topic, skip, deliver) })
}

func (g guardedBroker) subscribe(call func() (func(), error)) (unsubscribe func(), err error) {
	defer g.stats.panicked(&err)
	end, err := call()
	if err != nil {
		return nil, err
	}
	return func() {
		var ignored error
		defer g.stats.panicked(&ignored)
		end()
	}, nil
}
