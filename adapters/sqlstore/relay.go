package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-go/parley"
)

const (
	// relayLease is how long a node has for what it claimed, before another one may claim it.
	relayLease = 30 * time.Second
	// relayMemory is for how long a node expects the hub to store what it did not answer for.
	relayMemory = 10 * time.Minute
	// relayRows is how many notifications are claimed at a time.
	relayRows = 256
	// relayBackoff is the pause after the first failure of a notification; it doubles up to relaySlowest.
	relayBackoff, relaySlowest = time.Second, 5 * time.Minute
	// relayLook is the longest pause between two looks at a database that fails, unless RelayInterval is longer.
	relayLook = 5 * time.Second
)

// Notifier is what Relay needs of a *parley.Hub.
type Notifier interface {
	Notify(ctx context.Context, userID string, v any, opts ...parley.SendOption) (parley.Result, error)
}

// relays are the notifications that this node is relaying.
type relays struct {
	wake                    chan struct{}
	sent, retried, setAside atomic.Uint64

	mu    sync.Mutex // guards the fields below
	under map[relayed][]*waiting
	swept time.Time // when the old ones were forgotten
}

// relayed is where the notification goes in the Store: the hub's names for the inbox and for WithID.
type relayed struct{ topic, key string }

// waiting is a row of {p}outbox.
type waiting struct {
	seq      int64
	user, id string
	kind     string
	ttl      int64
	attempts int
	data     []byte
	since    time.Time   // when this node began
	seen     atomic.Bool // an Append has taken it along
}

func (w *waiting) place() relayed { return relayed{"user/" + w.user, "\x00" + w.id} }

// Relay sends what Enqueue has written down, until ctx ends or s is closed;
// then it returns the reason. hub is the one that s is the Store of. Run it on one node
// or on several:
//
//	go store.Relay(ctx, hub)
//
// The row of a notification is deleted in the transaction that stores it in the inbox. Should two nodes
// relay the same one, the second finds its id there. A notification that the
// hub refuses for good (parley.ErrNotFound, ErrTooLarge, ErrInvalidName) is set aside and logged; others
// are tried again, after a second at first and after five minutes at last. The notifications of one
// user are sent in the order of Enqueue, unless one fails or several nodes relay.
func (s *Store) Relay(ctx context.Context, hub Notifier) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.closing, func() { cancel(ErrClosed) })()
	pause := s.opts.RelayInterval
	for {
		more, err := s.relaySome(ctx, hub)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			s.opts.Logger.Warn("parley: relaying notifications", "error", err, "again in", pause)
		} else if more {
			continue
		} else {
			pause = s.opts.RelayInterval
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.relays.wake:
		case <-time.After(pause):
		}
		if err != nil { // a database that is gone for long is asked, and logged, less and less often
			pause = max(pause, min(2*pause, relayLook))
		}
	}
}

// relaySome relays what is due, up to relayRows, and reports whether there may be more.
func (s *Store) relaySome(ctx context.Context, hub Notifier) (more bool, err error) {
	if err := s.ready(ctx); err != nil {
		return false, err
	}
	due := false // a look that locks nothing, because mostly there is nothing
	err = query(ctx, s.db, s.text(lookOutbox), []any{s.clock.now()},
		func(*sql.Rows) error { due = true; return nil })
	if err != nil || !due {
		return false, err
	}
	var list []*waiting
	err = s.do(ctx, &request{alone: func(tx *sql.Tx) (err error) {
		list, err = s.claimOutbox(ctx, tx)
		return err
	}})
	if err != nil {
		return false, err
	}
	users := map[string][]*waiting{}
	for _, w := range list {
		users[w.user] = append(users[w.user], w)
	}
	ctx, cancel := context.WithTimeout(ctx, relayLease)
	defer cancel()
	var all sync.WaitGroup
	for _, own := range users { // at once, so that they share transactions
		all.Go(func() {
			for _, w := range own {
				s.relay(ctx, hub, w)
			}
		})
	}
	all.Wait()
	return len(list) == relayRows, nil
}

const (
	lookOutbox = `SELECT seq FROM {p}outbox WHERE failed IS NULL AND retry_at <= ? ORDER BY retry_at LIMIT 1`
	findOutbox = `SELECT seq, user_id, id, kind, ttl, attempts, data FROM {p}outbox WHERE failed IS NULL AND retry_at <= ?
ORDER BY retry_at, seq LIMIT ? {skip locked}`
	claimOutbox = `WITH w(seq, retry_at) AS ({w})
UPDATE {p}outbox SET retry_at = w.retry_at, attempts = attempts + 1 FROM w WHERE {p}outbox.seq = w.seq`
	deleteOutbox = `WITH w(seq) AS ({w}) DELETE FROM {p}outbox WHERE seq IN (SELECT seq FROM w)`
)

// claimOutbox puts off what it returns, so that nobody else relays it.
func (s *Store) claimOutbox(ctx context.Context, tx *sql.Tx) (list []*waiting, err error) {
	var rows [][]any
	now := s.clock.now()
	err = query(ctx, tx, s.text(findOutbox), []any{now, int64(relayRows)}, func(r *sql.Rows) error {
		w := &waiting{}
		err := r.Scan(&w.seq, &w.user, &w.id, &w.kind, &w.ttl, &w.attempts, &w.data)
		list, rows = append(list, w), append(rows, []any{w.seq, now + relayLease.Milliseconds()})
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, s.execEach(ctx, tx, claimOutbox, "ii", rows)
}

// relay sends one notification.
func (s *Store) relay(ctx context.Context, hub Notifier, w *waiting) {
	if ctx.Err() != nil {
		return // the lease is over: somebody claims it again
	}
	s.relays.begin(w)
	err := protect(func() error { // a panic over one notification is no reason not to send the others
		_, err := hub.Notify(ctx, w.user, json.RawMessage(w.data),
			parley.WithID(w.id), parley.WithKind(w.kind), parley.WithTTL(time.Duration(w.ttl)*time.Millisecond))
		return err
	})
	switch {
	case err == nil:
		s.relays.end(w)
		s.relays.sent.Add(1)
		if !w.seen.Load() { // nothing is kept for this user, or the hub has another Store
			err = s.settle(ctx, `DELETE FROM {p}outbox WHERE seq = ?`, w.seq)
		}
	case errors.Is(err, parley.ErrNotFound), errors.Is(err, parley.ErrTooLarge), errors.Is(err, parley.ErrInvalidName):
		s.relays.end(w)
		s.relays.setAside.Add(1)
		s.opts.Logger.Error("parley: a notification cannot be sent and was set aside", "user", w.user, "id", w.id, "error", err)
		reason := strings.ToValidUTF8(strings.ReplaceAll(err.Error(), "\x00", ""), "")
		err = s.settle(ctx, `UPDATE {p}outbox SET failed = ? WHERE seq = ?`, reason, w.seq)
	default: // the hub may still store it: then the row has to go
		s.relays.retried.Add(1)
		s.opts.Logger.Warn("parley: a notification is sent again later", "user", w.user, "id", w.id, "attempts", w.attempts+1, "error", err)
		pause := min(relayBackoff<<min(w.attempts, 20), relaySlowest)
		err = s.settle(ctx, `UPDATE {p}outbox SET retry_at = ? WHERE seq = ?`, s.clock.now()+pause.Milliseconds(), w.seq)
	}
	if err != nil && ctx.Err() == nil {
		s.opts.Logger.Warn("parley: relaying notifications", "error", err) // it is claimed again when the lease is over
	}
}

// settle changes a row of the outbox after the hub's answer.
func (s *Store) settle(ctx context.Context, statement string, args ...any) error {
	return s.do(ctx, &request{alone: func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.text(statement), args...)
		return err
	}})
}

// begin has the row of w deleted with the Append that stores it, until end, or
// until long after the hub has given up.
func (r *relays) begin(w *waiting) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.under == nil {
		r.under = map[relayed][]*waiting{}
	}
	w.since = time.Now()
	if w.since.Sub(r.swept) > relayMemory {
		r.swept = w.since
		for place, list := range r.under {
			r.set(place, slices.DeleteFunc(list, func(x *waiting) bool { return w.since.Sub(x.since) > relayMemory }))
		}
	}
	r.set(w.place(), append(r.under[w.place()], w))
}

func (r *relays) end(w *waiting) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(w.place(), slices.DeleteFunc(r.under[w.place()], func(x *waiting) bool { return x.seq == w.seq }))
}

// set replaces the rows of a place. The caller holds r.mu.
func (r *relays) set(place relayed, list []*waiting) {
	if len(list) == 0 {
		delete(r.under, place)
	} else {
		r.under[place] = list
	}
}

// has reports whether an entry is that of a notification under way.
func (r *relays) has(topic, key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.under[relayed{topic, key}]) > 0
}

// forgetRelayed deletes the rows of the notifications that these requests store, or
// that they find stored already.
func (s *Store) forgetRelayed(ctx context.Context, tx *sql.Tx, requests []*request) error {
	r := &s.relays
	var rows [][]any
	r.mu.Lock()
	if len(r.under) > 0 {
		for _, req := range requests {
			for _, e := range req.append.entries {
				for _, w := range r.under[relayed{req.topic, e.Key}] {
					w.seen.Store(true)
					rows = append(rows, []any{w.seq})
				}
			}
		}
	}
	r.mu.Unlock()
	if err := s.execEach(ctx, tx, deleteOutbox, "i", rows); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}
