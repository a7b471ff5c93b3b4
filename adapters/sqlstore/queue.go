package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"

	"github.com/parley-go/parley"
)

// request is a write that waits for its transaction. One of its kinds is set.
// It holds copies: the caller may be gone before it is carried out.
type request struct {
	ctx   context.Context
	topic string // of append and mark

	append *appendRequest
	mark   *markRequest
	sets   []change // of presence and audiences
	// Users who come and go.
	connections []connection
	alone       func(tx *sql.Tx) error // goes into a transaction of its own

	rows, bytes int
	done        chan error // gets the outcome; has room for it
	state       waitState  // guarded by queue.mu
}

// waitState is where a request is.
type waitState int

const (
	queued waitState = iota
	taken            // for a transaction
	left             // by its caller, before it was taken
)

// queue holds the requests that wait, in the order in which they came.
type queue struct {
	mu      sync.Mutex // guards the fields below
	waiting []*request
	left    int // how many of waiting nobody waits for any more
	closed  bool

	wake chan struct{} // has a value if waiting is not empty
}

// do has a request carried out, and returns its outcome. If ctx ends before that
// is known, it returns at once, and the request may still be carried out.
func (s *Store) do(ctx context.Context, r *request) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	r.ctx, r.done = ctx, make(chan error, 1)
	s.queue.mu.Lock()
	if s.queue.closed {
		s.queue.mu.Unlock()
		return ErrClosed
	}
	s.queue.waiting = append(s.queue.waiting, r)
	s.queue.mu.Unlock()
	s.queue.poke()
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if s.queue.leave(r) {
			return fmt.Errorf("sqlstore: not written: %w", ctx.Err())
		}
		return fmt.Errorf("sqlstore: the write may still take place: %w", ctx.Err())
	}
}

// leaveAtLeast is how many requests have to be left before the queue is rid of them.
const leaveAtLeast = 64

// leave takes back a request that waits, and reports whether it still did. So however long the
// database hangs, the queue holds no more than the callers that wait.
func (q *queue) leave(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.state != queued {
		return false
	}
	r.state = left
	r.append, r.mark, r.sets, r.connections, r.alone = nil, nil, nil, nil, nil // their memory goes now
	if q.left++; q.left >= leaveAtLeast && q.left > len(q.waiting)/2 {
		q.waiting = slices.DeleteFunc(q.waiting, func(r *request) bool { return r.state == left })
		q.left = 0
	}
	return true
}

func (q *queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take removes the requests for the next transaction. In one transaction a topic is
// either marked once or appended to with the same Retention: so each
// request can be told how the log stood right after it.
func (q *queue) take(rows, bytes int) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch []*request
	rest := q.waiting[:0:0]
	topics := map[string]*request{} // nil: whatever is waiting for it has to wait
	full := false
	for i, r := range q.waiting {
		if full { // so a long queue costs no more than a short one
			rest = append(rest, q.waiting[i:]...)
			break
		}
		if r.state == left {
			q.left--
			continue
		}
		if err := r.ctx.Err(); err != nil {
			r.state = taken
			r.done <- fmt.Errorf("sqlstore: not written: %w", err)
			continue
		}
		wait := len(batch) > 0 && (r.alone != nil || batch[0].alone != nil || r.rows > rows || r.bytes > bytes)
		if r.topic != "" || r.append != nil || r.mark != nil {
			if before, ok := topics[r.topic]; ok && !goesWith(before, r) {
				wait = true
			}
			if topics[r.topic] = r; wait {
				topics[r.topic] = nil
			}
		}
		if wait {
			rest = append(rest, r)
			full = r.topic == "" || r.rows > rows || r.bytes > bytes // these wait for no particular topic
			continue
		}
		r.state = taken
		batch = append(batch, r)
		rows, bytes = rows-r.rows, bytes-r.bytes
	}
	q.waiting = rest
	if len(rest) > 0 {
		q.poke()
	}
	return batch
}

// goesWith reports whether two writes to a topic may be in one transaction.
func goesWith(a, b *request) bool {
	return a != nil && a.append != nil && b.append != nil && a.append.keep == b.append.keep
}

// end fails what waits, and all that comes.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, r := range q.waiting {
		r.state = taken
		r.done <- ErrClosed
	}
	q.waiting, q.left = nil, 0
}

// appendRequest is an Append. The results are valid after done.
type appendRequest struct {
	keep    parley.Retention
	entries []parley.Entry
	log     parley.Log
}

// markRequest is a Mark. The result is valid after done.
type markRequest struct {
	mark   parley.Mark
	result parley.Marked
}
