package checker

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-go/parley"
)

// storeFault is what a Store may do wrong.
type storeFault uint8

const (
	storeWell   storeFault = iota
	storeBefore            // fails, and has done nothing
	storeAfter             // has done it, but the answer is lost
	storeSlow              // takes 2 s
	storeStuck             // takes longer than the hub waits, and may do it then
)

var (
	errStore = errors.New("the store is out of order")
	errDead  = errors.New("this node is dead")
)

// operation is one call of a Store.
type operation func(ctx context.Context, inner parley.Store) error

// store makes the Stores of all nodes fail on demand. If they are one MemoryStore, that writes down what it takes, and can be wiped.
type store struct {
	rec    *Recorder
	faults atomic.Int64 // calls that went wrong

	// life is held for reading during a call, so that a wipe comes before or
	// after it, and for writing during an Append, which is written down before anybody can know of it.
	life  sync.RWMutex
	inner *parley.MemoryStore

	mu     sync.Mutex // guards the fields below
	random *rand.Rand
	fault  storeFault
	until  time.Time
	epochs map[string]bool // that are written down, with their topic
}

func newStore(rec *Recorder, random *rand.Rand) *store {
	return &store{rec: rec, random: random, inner: parley.NewMemoryStore(), epochs: make(map[string]bool)}
}

// wipe loses everything.
func (s *store) wipe() {
	s.life.Lock()
	defer s.life.Unlock()
	s.inner = parley.NewMemoryStore()
}

// answered writes down that a Store of which it is not known what it takes has a log of this epoch.
func (s *store) answered(topic, epoch string) {
	s.mu.Lock()
	known := s.epochs[topic+epoch]
	s.epochs[topic+epoch] = true
	s.mu.Unlock()
	if !known {
		s.rec.Add(Event{Kind: Epoch, Client: App, Topic: topic, Place: Place{Epoch: epoch}})
	}
}

// disturb makes half of the calls go wrong for a while.
func (s *store) disturb(fault storeFault, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.until = fault, time.Now().Add(d)
}

// well reports whether no call has gone wrong for some time.
func (s *store) well(d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.until) > d
}

// next draws what becomes of one call.
func (s *store) next() (fault storeFault, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == storeWell || time.Now().After(s.until) || s.random.IntN(2) == 0 {
		return storeWell, false
	}
	s.faults.Add(1)
	return s.fault, s.random.IntN(2) == 0
}

// now does f with what there is at the moment.
func (s *storeOf) now(ctx context.Context, writes bool, f operation) error {
	if s.given != nil {
		return f(ctx, s.given)
	}
	if writes {
		s.life.Lock()
		defer s.life.Unlock()
	} else {
		s.life.RLock()
		defer s.life.RUnlock()
	}
	return f(ctx, s.inner)
}

// call does f once or not at all, and fails or not, as the fault of the moment wants it.
func (s *storeOf) call(ctx context.Context, writes bool, f operation) error {
	fault, late := s.next()
	switch fault {
	case storeBefore:
		return errStore
	case storeAfter:
		if err := s.now(ctx, writes, f); err != nil {
			return err
		}
		return errStore
	case storeSlow:
		if !late {
			if err := sleep(ctx, 2*time.Second); err != nil {
				return err
			}
			return s.now(ctx, writes, f)
		}
		if err := s.now(ctx, writes, f); err != nil {
			return err
		}
		return sleep(ctx, 2*time.Second)
	case storeStuck:
		err := sleep(ctx, 7*time.Second)
		if late {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			_ = s.now(ctx, writes, f)
		}
		return errors.Join(err, errStore)
	}
	return s.now(ctx, writes, f)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// appendTo appends and writes down what is new.
func (s *storeOf) appendTo(ctx context.Context, inner parley.Store, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
	log, err := inner.Append(ctx, topic, keep, entries)
	if err != nil {
		return parley.Log{}, err
	}
	s.took(topic, log, entries)
	return log, nil
}

// took writes down what an Append has stored. Where others may know of it before, only the epoch is.
func (s *storeOf) took(topic string, log parley.Log, entries []parley.Entry) {
	if s.given != nil {
		top := int64(0)
		for _, e := range entries {
			top = max(top, e.Offset)
		}
		s.rec.Add(Event{Kind: Epoch, Client: App, Topic: topic, Place: Place{log.Epoch, top}})
		return
	}
	var stored []Event
	for _, e := range entries {
		if e.Duplicate {
			continue
		}
		if seen, err := readEntry(e.Data); err == nil {
			stored = append(stored, Event{
				Kind: Stored, Client: App, Topic: topic, ID: seen.ID, Place: Place{log.Epoch, e.Offset},
				Label: strings.TrimPrefix(e.Key, "\x00"), TTL: e.TTL, ReceiveIn: e.ReceiveIn,
			})
		}
	}
	if n := len(stored); n > 0 {
		stored[n-1].Count = countOf(log)
	}
	for _, e := range stored {
		s.rec.Add(e)
	}
}

func readEntry(data []byte) (Seen, error) {
	var m wireMessage
	if err := json.Unmarshal(data, &m); err != nil {
		return Seen{}, err
	}
	return m.seen("")
}

// page returns all that is kept of a topic, whatever is wrong with the Store otherwise.
func (s *store) page(topic string) (parley.Page, error) {
	s.life.RLock()
	defer s.life.RUnlock()
	return s.inner.Read(context.Background(), topic, parley.Query{Limit: 1 << 20, Marks: true})
}

// storeOf is the way of one node to the store. When the node is dead, nothing passes any more.
type storeOf struct {
	*store
	given parley.Store // used instead of the MemoryStore of all nodes
	dead  *atomic.Bool
}

var _ parley.Store = (*storeOf)(nil)

func (s *storeOf) do(ctx context.Context, writes bool, f operation) error {
	if s.dead.Load() {
		return errDead
	}
	return s.call(ctx, writes, f)
}

// Append implements parley.Store.
func (s *storeOf) Append(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
	return s.appending(ctx, topic, entries, func(ctx context.Context, inner parley.Store, entries []parley.Entry) (parley.Log, error) {
		return s.appendTo(ctx, inner, topic, keep, entries)
	})
}

// appending does an Append, or something of the kind, with entries of its own: who is late must not write into what it was lent.
func (s *storeOf) appending(ctx context.Context, topic string, entries []parley.Entry,
	f func(ctx context.Context, inner parley.Store, entries []parley.Entry) (parley.Log, error),
) (log parley.Log, err error) {
	done := slices.Clone(entries)
	err = s.do(ctx, true, func(ctx context.Context, inner parley.Store) error {
		log, err = f(ctx, inner, done)
		return err
	})
	if err != nil {
		for _, e := range entries {
			if seen, err := readEntry(e.Data); err == nil {
				s.rec.Add(Event{Kind: Failed, Client: App, Topic: topic, ID: seen.ID})
			}
		}
		return parley.Log{}, err
	}
	copy(entries, done)
	return log, nil
}

// Read implements parley.Store.
func (s *storeOf) Read(ctx context.Context, topic string, q parley.Query) (page parley.Page, err error) {
	err = s.do(ctx, false, func(ctx context.Context, inner parley.Store) error {
		if page, err = inner.Read(ctx, topic, q); err == nil && s.given != nil {
			s.answered(topic, page.Epoch)
		}
		return err
	})
	return page, err
}

// Enter implements parley.Store.
func (s *storeOf) Enter(ctx context.Context, topic, node string, members []parley.Member, lease time.Duration) error {
	return s.do(ctx, false, func(ctx context.Context, inner parley.Store) error {
		return inner.Enter(ctx, topic, node, members, lease)
	})
}

// Leave implements parley.Store.
func (s *storeOf) Leave(ctx context.Context, topic, node string, userIDs []string) error {
	return s.do(ctx, false, func(ctx context.Context, inner parley.Store) error {
		return inner.Leave(ctx, topic, node, userIDs)
	})
}

// Members implements parley.Store.
func (s *storeOf) Members(ctx context.Context, topic string, limit int) (members []parley.Member, count int, err error) {
	err = s.do(ctx, false, func(ctx context.Context, inner parley.Store) error {
		members, count, err = inner.Members(ctx, topic, limit)
		return err
	})
	return members, count, err
}

// Mark implements parley.Store.
func (s *storeOf) Mark(ctx context.Context, topic string, m parley.Mark) (marked parley.Marked, err error) {
	asked := markingOf(m)
	err = s.do(ctx, true, func(ctx context.Context, inner parley.Store) error {
		if marked, err = inner.Mark(ctx, topic, m); err == nil && s.given == nil {
			s.rec.Add(Event{
				Kind: Applied, Client: App, Topic: topic, Mark: asked, Spans: marked.Changed,
				Place: Place{marked.Epoch, marked.Top}, Count: countOf(marked.Log),
			})
		}
		return err
	})
	if err != nil {
		s.rec.Add(Event{Kind: Unapplied, Client: App, Topic: topic, Mark: asked})
	}
	return marked, err
}

// Overdue implements parley.Store.
func (s *storeOf) Overdue(ctx context.Context, limit int, lease time.Duration) (overdue []parley.OverdueEntry, err error) {
	err = s.do(ctx, true, func(ctx context.Context, inner parley.Store) error {
		overdue, err = inner.Overdue(ctx, limit, lease)
		for _, o := range overdue {
			if s.given != nil {
				break
			}
			s.rec.Add(Event{Kind: Taken, Client: App, Topic: o.Topic, Place: Place{o.Epoch, o.Entry.Offset}})
		}
		return err
	})
	return overdue, err
}

// AddUsers implements parley.Store.
func (s *storeOf) AddUsers(ctx context.Context, audience string, userIDs []string) error {
	return s.do(ctx, true, func(ctx context.Context, inner parley.Store) error {
		return inner.AddUsers(ctx, audience, userIDs)
	})
}

// RemoveUsers implements parley.Store.
func (s *storeOf) RemoveUsers(ctx context.Context, audience string, userIDs []string) error {
	return s.do(ctx, true, func(ctx context.Context, inner parley.Store) error {
		return inner.RemoveUsers(ctx, audience, userIDs)
	})
}

// Users implements parley.Store.
func (s *storeOf) Users(ctx context.Context, audience, after string, limit int) (userIDs []string, err error) {
	err = s.do(ctx, false, func(ctx context.Context, inner parley.Store) error {
		userIDs, err = inner.Users(ctx, audience, after, limit)
		return err
	})
	return userIDs, err
}

// Heads implements parley.Store.
func (s *storeOf) Heads(ctx context.Context, topics []string) (heads []parley.Head, err error) {
	err = s.do(ctx, false, func(ctx context.Context, inner parley.Store) error {
		heads, err = inner.Heads(ctx, topics)
		return err
	})
	return heads, err
}

// Connect implements parley.Store.
func (s *storeOf) Connect(ctx context.Context, node string, userIDs []string, lease time.Duration) error {
	return s.do(ctx, false, func(ctx context.Context, inner parley.Store) error {
		return inner.Connect(ctx, node, userIDs, lease)
	})
}

// Disconnect implements parley.Store.
func (s *storeOf) Disconnect(ctx context.Context, node string, userIDs []string) error {
	return s.do(ctx, false, func(ctx context.Context, inner parley.Store) error {
		return inner.Disconnect(ctx, node, userIDs)
	})
}

// Status implements parley.Store.
func (s *storeOf) Status(ctx context.Context, userIDs []string) (all []parley.UserStatus, err error) {
	err = s.do(ctx, false, func(ctx context.Context, inner parley.Store) error {
		all, err = inner.Status(ctx, userIDs)
		return err
	})
	return all, err
}
