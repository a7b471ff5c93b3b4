package redisstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// moveDelay is how long the news of a slot that has moved gets to spread in
// a Cluster, before its channels are subscribed to at the new node.
const moveDelay = 300 * time.Millisecond

// node is where a lane connects to.
type node struct {
	addr    string // "" if it does not matter which node
	sharded bool
	client  interface {
		Subscribe(ctx context.Context, channels ...string) *redis.PubSub
	}
}

// router is the client of a Cluster.
type router interface {
	MasterForKey(ctx context.Context, key string) (*redis.Client, error)
	ForEachMaster(ctx context.Context, fn func(ctx context.Context, client *redis.Client) error) error
	ReloadState(ctx context.Context)
}

// shardMode is whether SPUBLISH and SSUBSCRIBE are used.
type shardMode struct {
	answer atomic.Pointer[bool] // nil until it is known

	mu     sync.Mutex
	asking chan struct{} // closed when somebody has asked the servers
	err    error         // why they did not answer
}

// nodeOf returns the node that has a channel.
func (r *receiver) nodeOf(ctx context.Context, channel string) (node, error) {
	sharded, err := r.sharded(ctx)
	if err != nil {
		return node{}, err
	}
	cluster, ok := r.client.(router)
	if !ok || !sharded {
		return node{sharded: sharded, client: r.client}, nil
	}
	// It asks the Cluster when it knows nothing, without heeding ctx.
	c, err := bounded(ctx, func() (*redis.Client, error) { return cluster.MasterForKey(ctx, channel) })
	if err != nil {
		return node{}, err
	}
	return node{addr: c.Options().Addr, sharded: true, client: c}, nil
}

// bounded calls f and does not wait for it longer than ctx.
func bounded[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case d := <-done:
		return d.value, d.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

// sharded finds out once whether all nodes of a Cluster know sharded pub/sub. Where
// there is no Cluster it would be of no use.
func (r *receiver) sharded(ctx context.Context) (bool, error) {
	m := &r.mode
	cluster, ok := r.client.(router)
	if !ok {
		return false, nil
	}
	m.mu.Lock()
	if known := m.answer.Load(); known != nil {
		defer m.mu.Unlock()
		return *known, nil
	}
	if m.asking == nil {
		asking := make(chan struct{})
		m.asking = asking
		go func() {
			sharded, err := knowSharded(r.ctx, cluster)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.err, m.asking = err, nil
			if err == nil {
				m.answer.Store(&sharded)
			}
			close(asking)
		}()
	}
	asking := m.asking
	m.mu.Unlock()
	select {
	case <-asking:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if known := m.answer.Load(); known != nil {
		return *known, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return false, m.err
}

// knowSharded asks all masters whether they know SPUBLISH.
func knowSharded(ctx context.Context, cluster router) (bool, error) {
	var mu sync.Mutex
	sharded := true
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		answer, err := c.Do(ctx, "command", "info", "spublish").Slice()
		if _, refused := err.(redis.Error); refused {
			err = nil // it may not be asked: what every server knows will do
		}
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		sharded = sharded && len(answer) > 0 && answer[0] != nil
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("asking the Cluster for sharded pub/sub: %w", err)
	}
	return sharded, nil
}

// reload makes the client of a Cluster look soon which node has which slot.
func (r *receiver) reload() {
	if cluster, ok := r.client.(router); ok {
		cluster.ReloadState(r.ctx)
	}
}

// route finds out where the channels of this lane that are not confirmed belong, hands over those of
// other nodes, and sees to the rest.
func (l *lane) route(reload bool) {
	r := l.receiver
	homes := map[string]node{}
	if l.node.addr != "" {
		if reload {
			r.reload() // for the next time
		}
		for _, name := range r.names(l) {
			n, err := r.nodeOf(r.ctx, name)
			if err != nil {
				break // where they are is as good as anywhere
			}
			homes[name] = n
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	for name, ch := range l.channels {
		if ch.on || ch.underway != none {
			continue
		}
		if home, ok := homes[name]; ok && home.addr != l.node.addr {
			delete(l.channels, name)
			ch.queued = false
			r.laneOf(home).take(ch)
		} else if ok {
			l.node.client = home.client // that of before may be closed
		}
		ch.reconcile()
	}
}

// leave gives up a lane to a node of a Cluster that has nothing to receive. It reports whether it did.
func (l *lane) leave() bool {
	r := l.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.node.addr == "" || len(l.channels) > 0 {
		return false
	}
	delete(r.lanes, l.node.addr)
	return true
}
