package redisstore

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// lane is one connection that receives, and its successors: one for all
// channels, or one for each node of a Cluster with sharded pub/sub. One goroutine connects and
// writes, another one reads.
type lane struct {
	receiver *receiver
	work     chan struct{} // there is something in the queue
	moved    chan struct{} // the server has ended subscriptions
	resets   chan struct{}
	answers  atomic.Uint64 // anything that came from the server

	// Of the goroutine that runs it.
	connected int // connections so far

	// Guarded by receiver.mu.
	node     node
	channels map[string]*channel
	queue    []*channel // to be subscribed or unsubscribed
	underway int        // channels whose answer has not come yet
	lastErr  error      // why the connection before this one ended; nil when this one works
	down     bool       // trouble was logged
}

var (
	errReset  = errors.New("the connection was reset by request")
	errSilent = errors.New("the server did not answer a PING in time")
)

// noReconnect is a context that has ended. PubSub uses contexts for dialing only: so it
// does not connect again by itself, which it would do without telling, and in one command for all channels.
var noReconnect = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func newLane(r *receiver, n node) *lane {
	one := func() chan struct{} { return make(chan struct{}, 1) }
	return &lane{receiver: r, node: n, work: one(), moved: one(), resets: one(), channels: map[string]*channel{}}
}

// run keeps the lane connected until the receiver is closed, or no channel is left for a node of a Cluster.
func (l *lane) run() {
	r := l.receiver
	for attempt := 0; l.pause(attempt); attempt++ {
		if l.route(attempt > 0); l.leave() {
			return
		}
		start := time.Now()
		err := l.serve()
		if l.lose(err) {
			r.logger.Warn("redisstore: receives nothing until it is connected again", "server", cmp.Or(l.node.addr, "any"), "error", err)
		}
		if errors.Is(err, errReset) {
			attempt = -1
		} else if time.Since(start) > r.pace.calm {
			attempt = 0
		}
	}
}

// pause waits before an attempt to connect. It reports whether there is to be one.
func (l *lane) pause(attempt int) bool {
	r := l.receiver
	if attempt > 0 {
		most := min(r.pace.backoff<<min(attempt-1, 16), r.pace.backoffMax)
		timer := time.NewTimer(rand.N(most) + 1) // all nodes lose a server at the same time
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.resets:
		case <-r.ctx.Done():
		}
	}
	return r.ctx.Err() == nil
}

// open returns a PubSub that is not connected yet.
func (l *lane) open() *redis.PubSub {
	r := l.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	return l.node.client.Subscribe(r.ctx)
}

// serve connects, and works until something is wrong.
func (l *lane) serve() error {
	r := l.receiver
	ps := l.open()
	ctx, cancel := context.WithTimeout(r.ctx, r.pace.connect)
	_, err := bounded(ctx, func() (any, error) { return nil, ps.Ping(ctx) }) // connects, which may take longer than ctx
	cancel()
	if err != nil {
		go ps.Close() // it waits for Ping
		return err
	}
	if l.connected++; l.connected > 1 {
		r.reconnects.Add(1)
	}
	failed, heard := make(chan error, 1), l.answers.Load()
	go func() { failed <- l.read(ps) }()
	err = l.write(ps, failed, heard)
	_ = ps.Close() // ends read
	if err == nil {
		return <-failed
	}
	<-failed // nothing of this connection comes later
	return err
}

// write sends what there is to send, and sees to it that the server answers more than it had, heard times, before
// this connection. It returns nil when read has failed, and its error is back in failed.
func (l *lane) write(ps *redis.PubSub, failed chan error, heard uint64) error {
	r := l.receiver
	wake(l.work) // for what is in the queue already
	ticker := time.NewTicker(r.pace.ping)
	defer ticker.Stop()
	last := time.Now()
	var settle <-chan time.Time
	for {
		var err error
		select {
		case <-r.ctx.Done():
			return ErrClosed
		case <-l.resets:
			return errReset
		case err := <-failed:
			failed <- err
			return nil
		case <-l.work:
			err = l.send(ps)
		case <-l.moved:
			r.reload()
			settle = time.After(moveDelay)
		case <-settle:
			settle = nil
			l.route(true)
		case <-ticker.C:
			// If this process stood still, the answer waits to be read.
			late := time.Since(last) > r.pace.ping*3/2
			if l.answers.Load() == heard && !late {
				return errSilent
			}
			last, heard = time.Now(), l.answers.Load()
			err = ps.Ping(noReconnect)
		}
		if err != nil {
			return err
		}
	}
}

// send writes the commands of the queue.
func (l *lane) send(ps *redis.PubSub) error {
	subscribe, unsubscribe := l.next()
	if l.node.sharded { // the channels of a command would have to be in one slot
		for _, name := range unsubscribe {
			if err := ps.SUnsubscribe(noReconnect, name); err != nil {
				return err
			}
		}
		for _, name := range subscribe {
			if err := ps.SSubscribe(noReconnect, name); err != nil {
				return err
			}
		}
		return nil
	}
	if len(unsubscribe) > 0 {
		if err := ps.Unsubscribe(noReconnect, unsubscribe...); err != nil {
			return err
		}
	}
	if len(subscribe) > 0 {
		return ps.Subscribe(noReconnect, subscribe...)
	}
	return nil
}

// read takes what the server sends until the connection ends.
func (l *lane) read(ps *redis.PubSub) error {
	for {
		msg, err := ps.Receive(noReconnect)
		if err != nil {
			return err
		}
		l.answers.Add(1)
		switch msg := msg.(type) {
		case *redis.Message:
			l.receiver.receive(msg.Channel, msg.Payload)
		case *redis.Subscription:
			switch msg.Kind {
			case "subscribe", "ssubscribe":
				if l.subscribed(msg.Channel) {
					l.receiver.logger.Info("redisstore: receives again", "server", cmp.Or(l.node.addr, "any"))
				}
			case "unsubscribe", "sunsubscribe":
				l.unsubscribed(msg.Channel)
			}
		}
	}
}
