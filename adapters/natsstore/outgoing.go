package natsstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// batchBytes is how much is written before the server is asked to confirm it.
	batchBytes = 1 << 20
	// queueBytes is how much may wait to be written; publishers beyond that wait.
	queueBytes = 64 << 20
	// confirmPatience is how long a batch waits for the server. The connection notices long before that the server is silent.
	confirmPatience = time.Minute
)

var (
	errDisconnected = errors.New("no connection to the NATS server; it is being made again")
	errSilent       = errors.New("the NATS server does not answer")
)

// outgoing is what waits to be told to the server, in order. One goroutine, Broker.write, takes it, because
// calls of a connection may block when its server is silent, and callers have a ctx.
type outgoing struct {
	timeout time.Duration

	mu        sync.Mutex
	wake      sync.Cond // something to take, or closed
	connected bool
	closed    bool
	publishes []*publication
	bytes     int           // in publishes
	space     chan struct{} // not nil: somebody waits for bytes to fall; closed then
	changes   []*change
	resync    bool
	begun     time.Time          // when the batch under way was taken; zero if there is none
	interrupt context.CancelFunc // of the batch under way; or nil
}

// publication is a payload for a subject. done, which has room for it, gets the outcome.
type publication struct {
	subject string
	payload []byte
	done    chan error
	gone    bool // the publisher waits no longer
}

// change says that the subscriptions of a topic are others now. done, if there is one, gets the outcome.
type change struct {
	topic *topic
	done  chan error
}

// batch is what is told to the server and confirmed in one go.
type batch struct {
	ctx       context.Context // ends when the connection is lost
	publishes []*publication
	changes   []*change
	resync    bool // all subscriptions have lost something once the server has confirmed
}

// add queues p. If there is no space it returns a channel that is closed when it is time to try again.
func (o *outgoing) add(p *publication) (full <-chan struct{}, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return nil, nats.ErrConnectionClosed
	case !o.connected:
		return nil, errDisconnected
	case !o.begun.IsZero() && time.Since(o.begun) > o.timeout:
		return nil, errSilent
	case len(o.publishes) > 0 && o.bytes+len(p.payload) > queueBytes:
		if o.space == nil {
			o.space = make(chan struct{})
		}
		return o.space, nil
	}
	o.publishes = append(o.publishes, p)
	o.bytes += len(p.payload)
	o.wake.Signal()
	return nil, nil
}

// abandon makes p not be sent, if it is not too late.
func (o *outgoing) abandon(p *publication) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p.gone = true
}

// change queues a change. Of a closed Broker nothing is subscribed any more.
func (o *outgoing) change(c *change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		if c.done != nil {
			c.done <- nats.ErrConnectionClosed
		}
		return
	}
	o.changes = append(o.changes, c)
	o.wake.Signal()
}

// status notes whether there is a connection. A new one means that something may have been lost.
func (o *outgoing) status(connected bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.connected = connected
	if connected {
		o.resync = true
		o.wake.Signal()
		return
	}
	if o.interrupt != nil {
		o.interrupt()
	}
	o.fail(errDisconnected)
}

// fail ends all publications that wait.
func (o *outgoing) fail(err error) {
	for _, p := range o.publishes {
		p.done <- err
	}
	o.publishes, o.bytes = nil, 0
	o.madeSpace()
}

func (o *outgoing) madeSpace() {
	if o.space != nil {
		close(o.space)
		o.space = nil
	}
}

// close ends all that waits, for good.
func (o *outgoing) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.connected = true, false
	if o.interrupt != nil {
		o.interrupt()
	}
	o.fail(nats.ErrConnectionClosed)
	o.failChanges(o.changes)
	o.changes = nil
	o.wake.Signal()
}

func (o *outgoing) failChanges(changes []*change) {
	for _, c := range changes {
		if c.done != nil {
			c.done <- nats.ErrConnectionClosed
		}
	}
}

// take waits for something to tell the server; not ok after close.
func (o *outgoing) take() (_ batch, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.closed && (!o.connected || len(o.publishes) == 0 && len(o.changes) == 0 && !o.resync) {
		o.wake.Wait()
	}
	if o.closed {
		return batch{}, false
	}
	b := batch{changes: o.changes, resync: o.resync}
	o.changes, o.resync = nil, false
	b.publishes = o.takePublishes()
	o.madeSpace()
	o.begun = time.Now()
	b.ctx, o.interrupt = context.WithTimeout(context.Background(), confirmPatience)
	return b, true
}

// takePublishes takes those of a batch.
func (o *outgoing) takePublishes() (list []*publication) {
	n, size := 0, 0
	for ; n < len(o.publishes); n++ {
		p := o.publishes[n]
		if len(list) > 0 && size+len(p.payload) > batchBytes {
			break
		}
		o.bytes -= len(p.payload)
		if !p.gone {
			list, size = append(list, p), size+len(p.payload)
		}
	}
	o.publishes = o.publishes[n:]
	if len(o.publishes) == 0 {
		o.publishes = nil
	}
	return list
}

// finish ends a batch: err says that it was not confirmed, refused which subject the server did not allow.
// Subscriptions that are not confirmed wait for the next connection.
func (o *outgoing) finish(b batch, err error, refused func(subject string) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.interrupt()
	o.interrupt, o.begun = nil, time.Time{}
	for _, p := range b.publishes {
		if err == nil {
			p.done <- refused(p.subject)
		} else {
			p.done <- err
		}
	}
	switch {
	case o.closed:
		o.failChanges(b.changes)
	case err != nil: // also those that a later change has overtaken: what is done twice does no harm
		o.changes, o.resync = append(b.changes, o.changes...), o.resync || b.resync
	default:
		for _, c := range b.changes {
			if c.done != nil {
				c.done <- refused(c.topic.subject)
			}
		}
	}
}
