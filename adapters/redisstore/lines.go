package redisstore

import (
	"context"
	"strings"
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
	attempts = 5
)

// lines collect calls of many goroutines into pipelines: what comes while one is under way goes
// with the next. A topic is always in the same line.
type lines struct {
	store *Store
	// once says that a call of which nobody knows whether it has taken place must not be
	// repeated, not even by the client.
	once   bool
	queues []chan *request
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
	for range n {
		queue := make(chan *request, lineQueue)
		l.queues = append(l.queues, queue)
		s.background.Go(func() { l.run(ctx, queue) })
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
	return l.doAll(ctx, []*request{r}, func(int) string { return tag })
}

// doAll runs requests, each in the line of its tag, and returns the first error.
func (l *lines) doAll(ctx context.Context, requests []*request, tag func(i int) string) error {
	if err := ctx.Err(); err != nil {
		return ended(err)
	}
	timer := time.NewTimer(l.store.opts.Timeout)
	defer timer.Stop()
	defer func() {
		for _, r := range requests {
			r.state.CompareAndSwap(stateWaiting, stateLeft)
		}
	}()
	for i, r := range requests {
		r.done = make(chan struct{})
		select {
		case l.queues[slot(tag(i))*len(l.queues)/slots] <- r:
		case <-ctx.Done():
			return ended(ctx.Err())
		case <-timer.C:
			return errTimeout
		case <-l.store.done:
			return ErrClosed
		}
	}
	for _, r := range requests {
		select {
		case <-r.done:
		case <-ctx.Done():
			return ended(ctx.Err())
		case <-timer.C:
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
	}
	return nil
}

// run sends what is in a queue until the Store is closed.
func (l *lines) run(ctx context.Context, queue chan *request) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-queue:
			l.send(ctx, collect(queue, r))
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
func (l *lines) send(ctx context.Context, batch []*request) {
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.store.opts.Timeout)
	defer cancel()
	jobs := l.jobs(batch)
	pending := jobs
	for attempt := range attempts {
		pipe := l.store.client.Pipeline()
		for _, c := range pending {
			_ = pipe.Process(ctx, c.cmder(l.once)) // only queues it
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		pending = refused(pending)
		if len(pending) == 0 || attempt == attempts-1 || !pause(ctx, pending, attempt) {
			break
		}
	}
	for _, c := range jobs {
		c.finish()
	}
	if jobs[0].cmd.Err() == nil {
		l.store.policy.Do(func() { l.store.background.Go(l.store.warnOfEviction) })
	}
}

// refused returns the commands that Redis has not carried out, and that may be sent again.
func refused(commands []*job) (again []*job) {
	for _, c := range commands {
		switch err := c.cmd.Err(); {
		case err == nil:
		case redis.HasErrorPrefix(err, "NOSCRIPT"):
			c.source = true
			again = append(again, c)
		case redis.IsTryAgainError(err), redis.IsLoadingError(err):
			c.late = true
			again = append(again, c)
		}
	}
	return again
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
	case <-time.After(10 * time.Millisecond << attempt):
		return true
	case <-ctx.Done():
		return false
	}
}
