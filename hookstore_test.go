package parley

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
)

// hookStore is a Store that lets a test act before and after each call. A nil
// hook passes the call on. It is not a *MemoryStore, so the hub takes it for
// one that may block.
type hookStore struct {
	inner atomic.Pointer[MemoryStore]

	onAppend  func(ctx context.Context, topic string, entries []Entry, next func() (Log, error)) (Log, error)
	onRead    func(ctx context.Context, topic string, q Query, next func() (Page, error)) (Page, error)
	onEnter   func(ctx context.Context, topic, node string, members []Member, lease time.Duration, next func() error) error
	onLeave   func(ctx context.Context, topic, node string, userIDs []string, next func() error) error
	onMembers func(topic string)
	onMark    func(ctx context.Context, topic string, m Mark, next func() (Marked, error)) (Marked, error)
}

func newHookStore() *hookStore {
	s := &hookStore{}
	s.wipe()
	return s
}

// wipe loses everything, as the restart of a Store without persistence does.
func (s *hookStore) wipe() { s.inner.Store(NewMemoryStore()) }

func (s *hookStore) Append(ctx context.Context, topic string, keep Retention, entries []Entry) (Log, error) {
	next := func() (Log, error) { return s.inner.Load().Append(ctx, topic, keep, entries) }
	if s.onAppend == nil {
		return next()
	}
	return s.onAppend(ctx, topic, entries, next)
}

func (s *hookStore) Read(ctx context.Context, topic string, q Query) (Page, error) {
	next := func() (Page, error) { return s.inner.Load().Read(ctx, topic, q) }
	if s.onRead == nil {
		return next()
	}
	return s.onRead(ctx, topic, q, next)
}

func (s *hookStore) Enter(ctx context.Context, topic, node string, members []Member, lease time.Duration) error {
	next := func() error { return s.inner.Load().Enter(ctx, topic, node, members, lease) }
	if s.onEnter == nil || topic == topicNodes {
		return next()
	}
	return s.onEnter(ctx, topic, node, members, lease, next)
}

func (s *hookStore) Leave(ctx context.Context, topic, node string, userIDs []string) error {
	next := func() error { return s.inner.Load().Leave(ctx, topic, node, userIDs) }
	if s.onLeave == nil || topic == topicNodes {
		return next()
	}
	return s.onLeave(ctx, topic, node, userIDs, next)
}

func (s *hookStore) Members(ctx context.Context, topic string, limit int) ([]Member, int, error) {
	if s.onMembers != nil && topic != topicNodes {
		s.onMembers(topic)
	}
	return s.inner.Load().Members(ctx, topic, limit)
}

func (s *hookStore) Mark(ctx context.Context, topic string, m Mark) (Marked, error) {
	next := func() (Marked, error) { return s.inner.Load().Mark(ctx, topic, m) }
	if s.onMark == nil {
		return next()
	}
	return s.onMark(ctx, topic, m, next)
}

func (s *hookStore) Overdue(ctx context.Context, limit int, lease time.Duration) ([]OverdueEntry, error) {
	return s.inner.Load().Overdue(ctx, limit, lease)
}

func (s *hookStore) AddUsers(ctx context.Context, audience string, userIDs []string) error {
	return s.inner.Load().AddUsers(ctx, audience, userIDs)
}

func (s *hookStore) RemoveUsers(ctx context.Context, audience string, userIDs []string) error {
	return s.inner.Load().RemoveUsers(ctx, audience, userIDs)
}

func (s *hookStore) Users(ctx context.Context, audience, after string, limit int) ([]string, error) {
	return s.inner.Load().Users(ctx, audience, after, limit)
}

// barrier stops whoever passes it until it is opened.
type barrier struct {
	once sync.Once
	gate chan struct{}
	hit  atomic.Int32 // how many have come
}

func newBarrier() *barrier { return &barrier{gate: make(chan struct{})} }

func (b *barrier) pass() {
	b.hit.Add(1)
	<-b.gate
}

// passCtx is pass for a call that ends with ctx.
func (b *barrier) passCtx(ctx context.Context) error {
	b.hit.Add(1)
	select {
	case <-b.gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *barrier) open() { b.once.Do(func() { close(b.gate) }) }

// explore runs a test body under all orders in which it can go: choose is
// called with a number of alternatives and returns the one to take. Bodies run
// in a bubble each and must be deterministic but for choose.
func explore(t *testing.T, body func(t *testing.T, choose func(n int) int)) (runs int) {
	t.Helper()
	type choice struct{ taken, of int }
	var path []choice
	for {
		depth := 0
		bubbletest.Test(t, func(t *testing.T) {
			body(t, func(n int) int {
				if depth == len(path) {
					path = append(path, choice{of: n})
				}
				if path[depth].of != n {
					t.Fatalf("not deterministic: choice %d has %d alternatives, had %d", depth, n, path[depth].of)
				}
				depth++
				return path[depth-1].taken
			})
		})
		runs++
		if t.Failed() {
			t.Logf("run %d failed, choices (taken of alternatives): %v", runs, path)
			return runs
		}
		for len(path) > 0 && path[len(path)-1].taken == path[len(path)-1].of-1 {
			path = path[:len(path)-1]
		}
		if len(path) == 0 {
			return runs
		}
		path[len(path)-1].taken++
	}
}

// turns lets goroutines go on one at a time, in an order that a test chooses.
type turns struct {
	mu      sync.Mutex
	waiting map[string]chan struct{}
}

func newTurns() *turns { return &turns{waiting: make(map[string]chan struct{})} }

// await stops the calling goroutine until it is its turn. The name is unique
// among those that wait at the same time.
func (s *turns) await(name string) {
	turn := make(chan struct{})
	s.mu.Lock()
	s.waiting[name] = turn
	s.mu.Unlock()
	<-turn
}

// next lets one of those that wait go on; false if there are none.
func (s *turns) next(choose func(n int) int) bool {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	names := sortedKeys(s.waiting)
	if len(names) == 0 {
		return false
	}
	name := names[0]
	if len(names) > 1 {
		name = names[choose(len(names))]
	}
	close(s.waiting[name])
	delete(s.waiting, name)
	return true
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (s *hookStore) Heads(ctx context.Context, topics []string) ([]Head, error) {
	return s.inner.Load().Heads(ctx, topics)
}

func (s *hookStore) Connect(ctx context.Context, node string, userIDs []string, lease time.Duration) error {
	return s.inner.Load().Connect(ctx, node, userIDs, lease)
}

func (s *hookStore) Disconnect(ctx context.Context, node string, userIDs []string) error {
	return s.inner.Load().Disconnect(ctx, node, userIDs)
}

func (s *hookStore) Status(ctx context.Context, userIDs []string) ([]UserStatus, error) {
	return s.inner.Load().Status(ctx, userIDs)
}
