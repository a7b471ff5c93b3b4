package parley

import (
	"context"
	"crypto/rand"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// memoryShards spreads the topics, so that looking one up rarely waits.
	memoryShards = 64
	// memoryGrace is how long at least the bounds of a log outlive its last entry.
	memoryGrace = time.Hour
	// memoryKeyLimit is how many idempotency keys a topic remembers, unless its log is longer.
	memoryKeyLimit = 10_000
	// memorySweep is how many topics each write looks at for something to
	// forget. With n looks per write, not much more than 1/n of the topics can be
	// waiting to be dropped, however fast new ones come.
	memorySweep = 2
)

var errMemoryKeep = errors.New("parley: Append needs keep.Messages > 0, keep.Bytes >= 0 and keep.Age >= 0")

// MemoryStore is a [Store] in the memory of this process: what it holds ends
// with the process, and the epochs tell clients so. It may be used by several
// goroutines and by several hubs of the process at once. It runs no
// goroutines and no timers, and there is nothing to close.
//
// It has no bounds of its own on how many topics it keeps or how large a
// message is, but one on the whole: MaxBytes. Further:
//
//   - A log keeps what the Retention given to Append says. What that no
//     longer allows is freed when the topic is used again or, a little later,
//     when others are: every write looks after two other topics.
//   - A topic whose entries have all grown too old keeps its epoch and its top
//     for as long again as Retention.Age, for an hour at least, and for as long as
//     anybody is in the room: a client that missed nothing resumes. Then it is dropped.
//     A topic with Age 0 stays for good.
//   - When MaxBytes is exceeded, the oldest messages of the topics that were not appended to
//     for longest go, read or not, with their keys. So a flood of new topics costs the quiet ones
//     their history, not the busy ones. Who misses something is told so when resuming. If there are
//     still too many topics, those without messages are dropped early, except rooms with somebody in them.
//   - A topic to which nothing was appended and in whose room nobody is costs
//     nothing, however often it is read. Its epoch changes at most once in the grace
//     above, unless topics are dropped early.
//   - Keys are remembered for IdempotencyWindow, but no more than the newest
//     10,000 of a topic, or as many as its log keeps if that is more.
//   - Messages whose time to live is over keep their place, but not their data. They go like others.
//   - Mark and a Read with Query.Marks look at every message of the log that may be concerned, but
//     a Mark that has nothing to change looks at none. Without them nothing is counted up: how many
//     are unread is known at any time. Overdue looks only at what is due, however much waits.
//   - Audiences are kept until their users are removed.
//   - Enter costs the same in rooms of any size, and so does Members with limit 0
//     except when a lease has run out. Members with a limit looks at every
//     user of the room, which takes 0.8 ms with 15,000 users and holds up the topic meanwhile.
type MemoryStore struct {
	// MaxBytes is how much the logs may take altogether. Counted are, for each topic,
	// 600 bytes and its name, for each message 100 bytes and its data, and for each
	// key that is remembered 100 bytes and the key. A topic with messages that count as
	// unread, have a time to live or may become overdue takes 200 bytes more, each message in it
	// 100 bytes and its key more, and one that waits to be received 100 more still. A message
	// larger than MaxBytes is kept alone. Presence and audiences are not counted: a user in a room
	// takes about 170 bytes, and the first one 700; a user in an audience takes the id
	// and 16 to 40 bytes; one whose status is known (Options.TrackPresence) the id and about 150 bytes. The garbage collector needs space of its own on top, as much again by default.
	//
	// Set it before first use. 0 means 256 MiB, a negative number no bound.
	MaxBytes int64

	seed    maphash.Seed
	start   time.Time     // all times inside are durations since then: monotonic (F40)
	turn    atomic.Int64  // counts writes; modulo memoryShards it is the shard to sweep next
	bytes   atomic.Int64  // the sum of memoryTopic.counted
	evicted atomic.Uint64 // entries
	shards  [memoryShards]memoryShard

	overdue   memoryOverdue
	audiences memoryAudiences
	statuses  memoryStatuses
}

var _ Store = (*MemoryStore)(nil)

// memoryShard holds a part of the topics.
//
// Its epoch is the one that absent topics are said to have and that a topic
// gets when it comes into being. Dropping a topic that has had entries
// replaces the shard's epoch if it is still the topic's own, and a value that
// was replaced never comes back. This is what keeps (epoch, offset) from ever
// naming two messages (F66):
//
//   - While a topic exists, its epoch is fixed, and its offsets only rise.
//   - The epochs of its earlier lives were all the shard's at some time, and
//     each was replaced at the latest when that life ended. So none of them can
//     be the epoch of a later life.
//   - Who read "epoch E, top 0" of an absent topic holds a position before the
//     first message. Either the topic is born with E, and the position is right,
//     or with a later epoch, and the client is told that it cannot resume.
//
// One epoch for all absent topics of a shard, instead of a memory of the
// dropped ones, is why they cost nothing. As a topic must be born after the
// last replacement and outlive its grace to cause the next one, replacements
// are at least memoryGrace apart, unless topics are dropped for want of space.
type memoryShard struct {
	mu     sync.Mutex // guards the fields below; taken before the mu of a topic
	topics memoryMap[string, *memoryTopic]
	order  []*memoryTopic // the same topics, for the sweep
	next   int            // index in order
	epoch  string
	// Topics with something to evict, from cold to hot; see evict.
	cold, hot *memoryTopic

	oldest atomic.Int64 // the tick of cold, or memoryNone; written under mu
	store  *MemoryStore
}

type memoryTopic struct {
	name  string
	epoch string

	// Guarded by the shard's mu.
	index          int // in memoryShard.order
	tick           int64
	colder, hotter *memoryTopic
	// Whether t is in the list of these. Becomes false only with mu held as well: who has
	// appended and still finds it true knows that this will be found for eviction.
	listed atomic.Bool

	mu      sync.Mutex // guards the fields below
	dropped bool       // no longer in the shard: look it up again; written under the shard's mu, too
	counted int64      // of MaxBytes
	log     memoryLog
	room    memoryRoom
}

// NewMemoryStore returns an empty MemoryStore.
func NewMemoryStore() *MemoryStore {
	s := &MemoryStore{seed: maphash.MakeSeed(), start: time.Now()}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.store, sh.epoch = s, newMemoryEpoch()
		sh.oldest.Store(memoryNone)
	}
	return s
}

// newMemoryEpoch draws 50 bits: enough to tell apart the few epochs that one
// topic sees, and short, because every message carries it.
func newMemoryEpoch() string { return rand.Text()[:10] }

// Append implements [Store].
func (s *MemoryStore) Append(ctx context.Context, topic string, keep Retention, entries []Entry) (Log, error) {
	if err := ctx.Err(); err != nil {
		return Log{}, err
	}
	if keep.Messages <= 0 || keep.Bytes < 0 || keep.Age < 0 {
		return Log{}, errMemoryKeep
	}
	sh := s.shard(topic)
	if len(entries) == 0 {
		return s.stand(sh, topic), nil
	}
	t, _ := sh.lock(topic, memoryAppend)
	now := s.now() // under the lock, so that the times in a log ascend
	t.log.prepare(t, &s.overdue, entries)
	t.log.append(now, keep, entries)
	total, listed, log := s.settle(t), t.listed.Load(), t.stand()
	t.mu.Unlock()
	if !listed {
		sh.relist(t)
	}
	if limit := s.limit(); total > limit {
		s.makeSpace(t, total, limit, now)
	}
	s.sweep(now)
	return log, nil
}

// stand returns how the log of a topic stands, and creates nothing.
func (s *MemoryStore) stand(sh *memoryShard, topic string) Log {
	t, epoch := sh.lock(topic, memoryLook)
	if t == nil {
		return Log{Epoch: epoch}
	}
	defer t.mu.Unlock()
	t.log.expire(s.now())
	s.settle(t)
	return t.stand()
}

// Read implements [Store].
func (s *MemoryStore) Read(ctx context.Context, topic string, q Query) (Page, error) {
	if err := ctx.Err(); err != nil {
		return Page{}, err
	}
	t, epoch := s.shard(topic).lock(topic, memoryLook)
	if t == nil {
		return Page{Log: Log{Epoch: epoch}, First: 1}, nil
	}
	defer t.mu.Unlock()
	page := t.log.read(s.now(), q)
	s.settle(t)
	page.Log = t.stand()
	return page, nil
}

// Enter implements [Store].
func (s *MemoryStore) Enter(ctx context.Context, topic, node string, members []Member, lease time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(members) == 0 || lease <= 0 {
		return nil
	}
	t, _ := s.shard(topic).lock(topic, memoryEnter)
	now := s.now()
	t.room.enter(now, node, members, lease)
	t.mu.Unlock()
	s.sweep(now)
	return nil
}

// Leave implements [Store].
func (s *MemoryStore) Leave(ctx context.Context, topic, node string, userIDs []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	sh := s.shard(topic)
	t, _ := sh.lock(topic, memoryLook)
	if t == nil {
		return nil
	}
	t.room.leave(node, userIDs)
	empty := t.room.empty()
	t.mu.Unlock()
	if empty {
		// At once, not by the sweep: rooms without messages come and go in
		// numbers, and this keeps none of them. Others may now be evicted.
		sh.mu.Lock()
		sh.dropIfDone(t, s.now())
		sh.mu.Unlock()
	}
	return nil
}

// Members implements [Store].
func (s *MemoryStore) Members(ctx context.Context, topic string, limit int) ([]Member, int, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	t, _ := s.shard(topic).lock(topic, memoryLook)
	if t == nil {
		return nil, 0, nil
	}
	defer t.mu.Unlock()
	members, count := t.room.list(s.now(), limit)
	return members, count, nil
}

func (s *MemoryStore) now() time.Duration { return time.Since(s.start) }

func (s *MemoryStore) shard(topic string) *memoryShard {
	return &s.shards[maphash.String(s.seed, topic)%memoryShards]
}

// memoryUse says what a topic is looked up for. Those after memoryLook create it.
type memoryUse int

const (
	memoryLook memoryUse = iota
	memoryEnter
	memoryAppend
)

// lock returns a topic with its mu held. If it is not there and not to be created,
// it returns nil and the epoch that the topic would get.
func (sh *memoryShard) lock(name string, use memoryUse) (t *memoryTopic, epoch string) {
	for {
		sh.mu.Lock()
		t, epoch = sh.topics.m[name], sh.epoch
		if t == nil && use != memoryLook {
			t = &memoryTopic{name: name, epoch: epoch, index: len(sh.order)}
			sh.topics.set(name, t)
			sh.order = append(sh.order, t)
		}
		if use == memoryAppend {
			sh.touch(t, sh.store.turn.Load())
		}
		sh.mu.Unlock()
		if t == nil {
			return nil, epoch
		}
		// The shard is free by now: who waits for a busy topic holds up nobody.
		t.mu.Lock()
		if !t.dropped {
			return t, t.epoch
		}
		t.mu.Unlock()
	}
}

// sweep looks at a few topics for something to forget. It takes the shards in
// turn, so that also those which are not written to are looked after.
func (s *MemoryStore) sweep(now time.Duration) {
	sh := &s.shards[s.turn.Add(1)%memoryShards]
	if !sh.mu.TryLock() {
		return // in use, and so swept by another write before long
	}
	defer sh.mu.Unlock()
	for range min(memorySweep, len(sh.order)) {
		if sh.next >= len(sh.order) {
			sh.next = 0
		}
		if !sh.dropIfDone(sh.order[sh.next], now) {
			sh.next++ // else another topic has taken the place
		}
	}
}

// dropIfDone forgets what is too old in t, and t itself if that leaves
// nothing worth keeping. The caller holds sh.mu.
func (sh *memoryShard) dropIfDone(t *memoryTopic, now time.Duration) bool {
	if !t.mu.TryLock() {
		return false // in use
	}
	defer t.mu.Unlock()
	if t.dropped {
		return false
	}
	t.log.expire(now)
	t.room.expire(now)
	sh.store.settle(t)
	if t.vacant() || t.expired(now) {
		sh.drop(t)
		return true
	}
	if t.log.top > 0 && t.room.empty() && !t.listed.Load() {
		sh.touch(t, sh.store.turn.Load()) // has left the list while somebody was there
	}
	return false
}

// drop forgets t. The caller holds sh.mu and t.mu.
func (sh *memoryShard) drop(t *memoryTopic) {
	t.dropped = true
	sh.store.bytes.Add(-t.counted)
	t.counted = 0
	sh.unlink(t)
	if t.log.top > 0 && t.epoch == sh.epoch {
		sh.epoch = newMemoryEpoch()
	}
	sh.topics.delete(t.name)
	last := len(sh.order) - 1
	sh.order[t.index] = sh.order[last]
	sh.order[t.index].index = t.index
	sh.order[last] = nil
	sh.order = sh.order[:last]
	if cap(sh.order) > 64 && last < cap(sh.order)/4 {
		sh.order = slices.Clone(sh.order)
	}
}

// vacant reports whether t is as if it had never been used.
func (t *memoryTopic) vacant() bool { return t.log.top == 0 && t.room.empty() }

// expired reports whether the log has no entries, the grace for its bounds is
// over, and nobody is there to ask for them.
func (t *memoryTopic) expired(now time.Duration) bool {
	age := t.log.keep.Age
	return age > 0 && t.log.entries.len() == 0 && t.room.empty() &&
		now-t.log.used-age > max(age, memoryGrace)
}
