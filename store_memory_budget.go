package parley

import (
	"math"
	"time"
)

const (
	// memoryMaxBytes is the default of MemoryStore.MaxBytes.
	memoryMaxBytes = 256 << 20
	// What is counted besides the data, the keys and the names themselves.
	memoryTopicCost = 600
	memoryEntryCost = 100
	memoryKeyCost   = 100
	memoryMarksCost = 200 // a topic with memoryMarks
	memoryMarkCost  = 100 // an entry of such a topic
	memoryDueCost   = 100 // an entry that may become overdue
	// memorySlack: when the budget is exceeded, this part of it is freed at once, so
	// that a full store does not look for the coldest topic in every Append.
	memorySlack = 256
	// memoryStep is how many bytes, about, are freed under the lock of one shard.
	memoryStep = 64 << 10
	// memoryTries is how many topics that have nothing to give one Append looks at.
	memoryTries = 8
	// memoryNone is the memoryShard.oldest of a shard that has nothing to evict.
	memoryNone = math.MaxInt64
)

// Bytes returns how much of MaxBytes is in use.
func (s *MemoryStore) Bytes() int64 { return s.bytes.Load() }

// Evicted returns how many messages have been removed for want of space. If it
// rises all the time, clients find less history than the Retention promises.
func (s *MemoryStore) Evicted() uint64 { return s.evicted.Load() }

func (s *MemoryStore) limit() int64 {
	switch {
	case s.MaxBytes == 0:
		return memoryMaxBytes
	case s.MaxBytes < 0:
		return math.MaxInt64
	}
	return s.MaxBytes
}

// settle brings the total up to date with t. Whoever has changed the log of t
// calls it before giving t.mu back. It returns the total.
func (s *MemoryStore) settle(t *memoryTopic) int64 {
	size := int64(0)
	if t.log.top > 0 { // a mere room is not counted: nothing could be removed from it
		size = memoryTopicCost + int64(len(t.name)) + t.log.size()
	}
	change := size - t.counted
	t.counted = size
	return s.bytes.Add(change)
}

// makeSpace evicts what is coldest until the total, which was found to be
// above the limit, is a little below it. The newest entry of own, which has just
// been stored, is spared.
//
// A position that was handed out stays right: eviction raises First, as
// trimming does, and drops topics by the rules of memoryShard.
//
// The work is paid for by earlier Appends, as each entry, key and topic is removed
// once. What goes beyond that is bounded by memoryTries. Should topics
// be too busy to give anything, the next Append carries on.
func (s *MemoryStore) makeSpace(own *memoryTopic, total, limit int64, now time.Duration) {
	target := limit - limit/memorySlack
	// Several may do this at once: together they stop at the target, and
	// none of them works for those who keep appending.
	need, tries := total-target, 0
	for need > 0 && tries < memoryTries && s.bytes.Load() > target {
		sh := s.coldest()
		if sh == nil {
			return
		}
		freed, ok := sh.evict(own, min(need, memoryStep), now)
		if !ok {
			tries++
		}
		need -= freed
	}
}

// coldest returns the shard with the topic that was not appended to for longest.
func (s *MemoryStore) coldest() *memoryShard {
	var found *memoryShard
	oldest := int64(memoryNone)
	for i := range s.shards {
		if at := s.shards[i].oldest.Load(); at < oldest {
			found, oldest = &s.shards[i], at
		}
	}
	return found
}

// evict removes about need bytes from the coldest topic of the shard, less if
// it has no more. ok is false if there was nothing to be done about it.
//
// A topic that has given everything keeps its bounds at first, so that clients
// which missed nothing still resume: it becomes the hottest one. When it has
// become the coldest again it is dropped, but never while somebody is in the
// room. Then it is of no more use here and leaves the list.
func (sh *memoryShard) evict(own *memoryTopic, need int64, now time.Duration) (freed int64, ok bool) {
	s := sh.store
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t := sh.cold
	if t == nil {
		return 0, false
	}
	if !t.mu.TryLock() {
		sh.touch(t, s.tick()) // in use: try the others first
		return 0, false
	}
	defer t.mu.Unlock()
	before, least := t.counted, 0
	if t == own {
		least = 1
	}
	t.log.expire(now)
	bare := t.log.bare()
	s.evicted.Add(uint64(t.log.trim(need, least)))
	s.settle(t)
	switch {
	case !t.log.bare():
		if t == own && t.log.entries.len() <= least {
			sh.touch(t, s.tick()) // has no more to give, and the others go on
		}
	case !t.room.empty():
		sh.unlink(t)
		return before - t.counted, true
	case bare:
		sh.drop(t)
	default:
		sh.touch(t, s.tick())
	}
	freed = before - t.counted
	return freed, freed > 0
}

// tick returns a time later than all before it, on the clock by which topics are cold
// or hot. It skips a whole round of the sweep, which counts in the same variable
// and must not miss a shard.
func (s *MemoryStore) tick() int64 { return s.turn.Add(memoryShards) }

// touch makes t the hottest topic of the shard, in the list or new there. The
// caller holds sh.mu.
func (sh *memoryShard) touch(t *memoryTopic, tick int64) {
	t.tick = tick
	if sh.hot != t {
		if t.listed.Load() {
			sh.cut(t)
		}
		t.colder = sh.hot
		if sh.hot != nil {
			sh.hot.hotter = t
		} else {
			sh.cold = t
		}
		sh.hot = t
		t.listed.Store(true)
	}
	sh.note()
}

// unlink takes t out of the list, if it is there. The caller holds sh.mu and t.mu.
func (sh *memoryShard) unlink(t *memoryTopic) {
	if t.listed.Load() {
		sh.cut(t)
		t.listed.Store(false)
		sh.note()
	}
}

func (sh *memoryShard) cut(t *memoryTopic) {
	if t.colder != nil {
		t.colder.hotter = t.hotter
	} else {
		sh.cold = t.hotter
	}
	if t.hotter != nil {
		t.hotter.colder = t.colder
	} else {
		sh.hot = t.colder
	}
	t.colder, t.hotter = nil, nil
}

// note tells the other shards how old the coldest topic of this one is.
func (sh *memoryShard) note() {
	oldest := int64(memoryNone)
	if sh.cold != nil {
		oldest = sh.cold.tick
	}
	if sh.oldest.Load() != oldest { // a load is cheaper, and this one often enough
		sh.oldest.Store(oldest)
	}
}

// relist puts t back into the list if it had to leave it.
func (sh *memoryShard) relist(t *memoryTopic) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !t.dropped && !t.listed.Load() {
		sh.touch(t, sh.store.turn.Load())
	}
}
