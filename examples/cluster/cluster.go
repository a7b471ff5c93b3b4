package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// cluster is what the parent runs: the nodes, each a process of its own.
type cluster struct {
	engine  *engine
	restart time.Duration
	workers []*worker
	proxy   *proxy

	cancel  context.CancelFunc
	running sync.WaitGroup // the workers
}

func newCluster(s settings, e *engine) *cluster {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	c := &cluster{engine: e, restart: s.restart}
	for i := range s.nodes {
		name := fmt.Sprintf("node-%d", i+1)
		c.workers = append(c.workers, &worker{
			name:   name,
			config: nodeConfig{Name: name, SessionKey: key, Access: e.access},
			log:    slog.With("node", name),
		})
	}
	c.proxy = newProxy(c.workers)
	return c
}

// start starts the nodes, each of which is started again whenever it dies.
func (c *cluster) start() {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	for _, w := range c.workers {
		c.running.Go(func() { w.run(ctx, c.restart) })
	}
}

// waitReady waits until all nodes are.
func (c *cluster) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for _, w := range c.workers {
		for !w.view().ready() {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%s is not ready: %w %s", w.name, ctx.Err(), w.view().Problem)
			}
		}
	}
	return nil
}

// Shutdown ends the nodes, which tell their clients when to come back. Those that need too long are killed.
func (c *cluster) Shutdown(context.Context) error {
	c.cancel()
	c.running.Wait()
	return nil
}

var (
	errNoNode  = errors.New("there is no node of this name")
	errNotHere = errors.New("the node does not run right now")
)

// kill ends a node as kill -9 does: it has no time to say a word, to its clients or to the others.
func (c *cluster) kill(name string) error {
	for _, w := range c.workers {
		if w.name == name {
			return w.kill()
		}
	}
	return errNoNode
}
