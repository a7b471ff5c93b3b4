package redisstore

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// lineQueue is how many calls wait in a line before callers wait to get in.
	lineQueue = 1024
	// batchCalls and batchBytes bound what goes in one round trip.
	batchCalls = 512
	batchBytes = 1 << 20
	// attempts is how often a batch goes to Redis altogether for calls that were not carried out.
	attempts = 6
)

// lines collect calls of many goroutines into pipelines: what comes while one is under way goes
// with the next. A topic is always in the same line.
type lines struct {
	store *Store
	// once says that a call of which nobody knows whether it has taken place must not be
	// repeated, not even by the client.
	once   bool
	queues []chan *request
	apart  atomic.Bool // the server wants a script to be about one topic
	timers sync.Pool   // *time.Timer, for callers that wait
}

// line is one of them. It belongs to one goroutine.
type line struct {
	*lines
	queue chan *request
	names map[string]*topicNames // by topic

	// See bounded.
	ctx    context.Context
	cancel context.CancelFunc
	until  time.Time
}

// request is a call that waits for its answer.
type request struct {
	script *script // nil: args are a whole command
	keys   []string
	args   []any
	merge  *appendCall // may go with others for the same topic
	size   int         // of args, roughly
	// optional: its error is no failure. apart: that another application has taken the key is none; reply is nil then.
	optional, apart bool

	state atomic.Int32 // of the states below
	reply any
	err   error
	done  chan struct{} // closed when there is reply or err
}

const (
	stateWaiting int32 = iota
	stateTaken         // by a line
	stateLeft          // by the caller: does not take place
)

func (s *Store) newLines(ctx context.Context, n int, once bool) *lines {
	l := &lines{store: s, once: once}
	_, single := s.client.(*redis.Client)
	l.apart.Store(!single)
	for range n {
		queue := make(chan *request, lineQueue)
		l.queues = append(l.queues, queue)
		s.background.Go(func() { (&line{lines: l, queue: queue, names: map[string]*topicNames{}}).run(ctx) })
	}
	return l
}

// call runs a script for a tag and returns what it returns.
func (l *lines) call(ctx context.Context, tag string, sc *script, keys []string, args ...any) (any, error) {
	r := &request{script: sc, keys: keys, args: args}
	if err := l.do(ctx, tag, r); err != nil {
		return nil, err // the answer may still come, into r
	}
	return r.reply, nil
}

// do runs one request and returns its error.
func (l *lines) do(ctx context.Context, tag string, r *request) error {
	return l.doOne(ctx, slot(tag), r)
}

// doOne runs one request in the line of a slot and returns its error.
func (l *lines) doOne(ctx context.Context, slot int, r *request) error {
	if err := ctx.Err(); err != nil {
		return ended(err)
	}
	timer := l.timer(ctx)
	defer l.giveBack(timer)
	defer r.leave()
	if err := l.enter(ctx, slot, r, timer); err != nil {
		return err
	}
	return l.wait(ctx, r, timer)
}

// doAll runs requests, each in the line of its tag, and returns the first error.
func (l *lines) doAll(ctx context.Context, requests []*request, tag func(i int) string) error {
	if err := ctx.Err(); err != nil {
		return ended(err)
	}
	timer := l.timer(ctx)
	defer l.giveBack(timer)
	defer func() {
		for _, r := range requests {
			r.leave()
		}
	}()
	for i, r := range requests {
		if err := l.enter(ctx, slot(tag(i)), r, timer); err != nil {
			return err
		}
	}
	for _, r := range requests {
		if err := l.wait(ctx, r, timer); err != nil {
			return err
		}
	}
	return nil
}

// timer returns a timer that goes off when a call has taken too long. It is to be given back. nil: ctx ends earlier.
func (l *lines) timer(ctx context.Context) *time.Timer {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= l.store.opts.Timeout {
		return nil
	}
	timer, ok := l.timers.Get().(*time.Timer)
	if !ok {
		return time.NewTimer(l.store.opts.Timeout)
	}
	timer.Reset(l.store.opts.Timeout)
	return timer
}

func (l *lines) giveBack(timer *time.Timer) {
	if timer != nil {
		timer.Stop()
		l.timers.Put(timer)
	}
}

// expiry is when a timer goes off, if there is one.
func expiry(timer *time.Timer) <-chan time.Time {
	if timer == nil {
		return nil
	}
	return timer.C
}

// leave keeps a request that no line has taken from taking place.
func (r *request) leave() { r.state.CompareAndSwap(stateWaiting, stateLeft) }

// enter puts a request into the line of a slot.
func (l *lines) enter(ctx context.Context, slot int, r *request, timer *time.Timer) error {
	r.done = make(chan struct{})
	select {
	case l.queues[slot*len(l.queues)/slots] <- r:
		return nil
	case <-ctx.Done():
		return ended(ctx.Err())
	case <-expiry(timer):
		return errTimeout
	case <-l.store.done:
		return ErrClosed
	}
}

// wait waits for the answer to a request and returns its error.
func (l *lines) wait(ctx context.Context, r *request, timer *time.Timer) error {
	select {
	case <-r.done:
	case <-ctx.Done():
		return ended(ctx.Err())
	case <-expiry(timer):
		return errTimeout
	case <-l.store.done:
		return ErrClosed
	}
	switch {
	case r.err == nil || r.optional:
	case r.apart && strings.Contains(r.err.Error(), "WRONGTYPE"):
		l.store.foreign.Do(func() { l.store.opts.Logger.Warn("redisstore: left out a key", "error", explain(r.err)) })
	default:
		return explain(r.err)
	}
	return nil
}

// run sends what is in a queue until the Store is closed.
func (l *line) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-l.queue:
			l.send(ctx, collect(l.queue, r))
		}
	}
}

// collect takes what waits in a queue besides first, as much as fits.
func collect(queue chan *request, first *request) (batch []*request) {
	size := 0
	for r := first; ; {
		if r.state.CompareAndSwap(stateWaiting, stateTaken) {
			batch = append(batch, r)
			size += r.size
		}
		if len(batch) >= batchCalls || size >= batchBytes {
			return batch
		}
		select {
		case r = <-queue:
		default:
			return batch
		}
	}
}

// send carries out a batch and hands out the answers.
func (l *line) send(ctx context.Context, batch []*request) {
	if len(batch) == 0 {
		return
	}
	ctx = l.bounded(ctx)
	pending := l.jobs(batch)
	for attempt := 1; ; attempt++ {
		if len(pending) == 1 {
			_ = l.store.client.Process(ctx, l.cmder(pending[0])) // it has the error
		} else {
			pipe := l.store.client.Pipeline()
			for _, j := range pending {
				_ = pipe.Process(ctx, l.cmder(j)) // only queues it
			}
			_, _ = pipe.Exec(ctx) // each command has its own error
		}
		last := attempt >= attempts
		pending = l.settle(pending, last)
		if len(pending) == 0 {
			return
		}
		if !pause(ctx, pending, attempt) {
			l.settle(pending, true)
			return
		}
	}
}

// bounded returns a context with the timeout of the Store, or up to an eighth less: to make one for each batch costs more than all else here.
func (l *line) bounded(ctx context.Context) context.Context {
	if now := time.Now(); now.After(l.until) {
		if l.cancel != nil {
			l.cancel() // no batch is under way
		}
		l.ctx, l.cancel = context.WithTimeout(ctx, l.store.opts.Timeout)
		l.until = now.Add(l.store.opts.Timeout / 8)
	}
	return l.ctx
}

// settle hands out the answers of the jobs that are done, all if that was the last attempt, and returns what is to be sent again
// because Redis has not carried it out.
func (l *line) settle(jobs []*job, last bool) (again []*job) {
	for _, j := range jobs {
		err := j.cmd.Err()
		l.suspect(err)
		switch {
		case last || err == nil:
		case redis.HasErrorPrefix(err, "NOSCRIPT"):
			j.source = true
			again = append(again, j)
			continue
		case redis.HasErrorPrefix(err, "CROSSSLOT") && len(j.parts) > 1:
			l.apart.Store(true) // a Cluster behind a client for one server
			again = append(again, j.split()...)
			continue
		case redis.IsTryAgainError(err), redis.IsLoadingError(err):
			j.late = true
			again = append(again, j)
			continue
		}
		if err == nil {
			l.store.policy.Do(func() { l.store.background.Go(l.store.warnOfEviction) })
		}
		if refused := j.finish(); refused != nil {
			again = append(again, refused)
		}
	}
	return again
}

// suspect looks at an error of a pipeline. Those that may mean that another node of a Cluster has the place of this one make the
// client ask: by itself it goes on for a minute to send pipelines to a node that is dead.
func (l *line) suspect(err error) {
	if err == nil {
		return
	}
	var answer redis.Error
	if errors.As(err, &answer) && !redis.IsClusterDownError(err) && !isMoved(err) {
		return
	}
	l.store.broker.receiver.reload()
}

func isMoved(err error) bool {
	_, moved := redis.IsMovedError(err)
	return moved
}

// pause waits a little if Redis is not ready yet. It reports whether to go on.
func pause(ctx context.Context, pending []*job, attempt int) bool {
	late := false
	for _, c := range pending {
		late = late || c.late
	}
	if !late {
		return true
	}
	select {
	case <-time.After(5 * time.Millisecond << attempt):
		return true
	case <-ctx.Done():
		return false
	}
}
