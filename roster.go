package parley

import (
	"sync"
	"sync/atomic"
)

// shardSize bounds how long a join can wait: no lock is held for more
// than this many enqueues (about 20 us).
const shardSize = 256

// sub is the membership of one connection in one topic.
type sub struct {
	conn *Conn
	name string // shown to the room; set before the sub is added

	shard *shard // set once by roster.add
	// Guarded by shard.mu:
	index     int
	gone      bool
	replaying bool     // history is being read: live frames are held
	held      []*frame // live frames that came meanwhile
	heldSize  int
	// After a replay, live frames that the history contained, or that are of
	// an older log than it, are left out, until one comes that is newer.
	seam  bool
	epoch string
	from  int64
	// replay counts the reads of history, so that an overtaken one is dropped.
	replay uint32
}

// shard is a part of a topic's members. Its lock is held only to change it or
// to enqueue frames, neither of which blocks.
type shard struct {
	mu   sync.Mutex
	subs []*sub
	size atomic.Int32 // len(subs), for finding room without the lock
}

// roster holds the members of a topic in shards, so that a join waits for the
// fan-out to at most one shard. Lock order: roster.mu, shard.mu, outbox.mu.
type roster struct {
	mu     sync.Mutex // guards changes of shards
	shards atomic.Pointer[[]*shard]
	count  atomic.Int32
}

func (r *roster) list() []*shard {
	if p := r.shards.Load(); p != nil {
		return *p
	}
	return nil
}

// add makes m a member. The shard is filled up before a new one is opened.
func (r *roster) add(m *sub) {
	r.mu.Lock()
	defer r.mu.Unlock()
	shards := r.list()
	s := (*shard)(nil)
	for i := len(shards) - 1; i >= 0; i-- {
		if shards[i].size.Load() < shardSize {
			s = shards[i]
			break
		}
	}
	if s == nil {
		s = new(shard)
		// Readers walk the old slice: never append in place.
		next := append(make([]*shard, 0, len(shards)+1), shards...)
		next = append(next, s)
		r.shards.Store(&next)
	}
	s.mu.Lock()
	m.shard, m.index = s, len(s.subs)
	s.subs = append(s.subs, m)
	s.size.Add(1)
	s.mu.Unlock()
	r.count.Add(1)
}

// remove ends a membership: after it returns nothing more is enqueued for m.
// It reports whether m was a member.
func (r *roster) remove(m *sub) bool {
	s := m.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.gone {
		return false
	}
	m.gone, m.held, m.heldSize = true, nil, 0
	last := len(s.subs) - 1
	s.subs[m.index] = s.subs[last]
	s.subs[m.index].index = m.index
	s.subs[last] = nil
	s.subs = s.subs[:last]
	if cap(s.subs) > 64 && len(s.subs) < cap(s.subs)/4 {
		s.subs = append(make([]*sub, 0, cap(s.subs)/2), s.subs...)
	}
	s.size.Add(-1)
	r.count.Add(-1)
	return true
}

// fanOut enqueues frames for every member, shard by shard. Frames of one
// topic are fanned out by one goroutine at a time.
func (r *roster) fanOut(frames []*frame) {
	for _, s := range r.list() {
		s.mu.Lock()
		for _, m := range s.subs {
			m.deliver(frames)
		}
		s.mu.Unlock()
	}
}

// deliver enqueues or holds frames; the shard is locked.
func (m *sub) deliver(frames []*frame) {
	frames = mutated(frames)
	if m.replaying {
		m.hold(frames)
		return
	}
	if m.seam {
		frames = m.afterHistory(frames)
	}
	if m.conn.out.push(m.conn, frames) == pushFull {
		m.conn.end(CloseSlow, reasonSlow)
	}
}

// afterHistory leaves out what is not newer than the history.
func (m *sub) afterHistory(frames []*frame) []*frame {
	if mutant("seam") {
		return frames
	}
	newer := make([]*frame, 0, len(frames))
	for _, f := range frames {
		if m.seam && f.resets != "" {
			old := f.resets == m.epoch && f.offset <= m.from && !(f.rewound && f.offset < m.from)
			if old || f.resets != m.epoch && f.hole {
				continue // its history goes at least as far, or is of the log after that
			}
			m.seam = false
		}
		if m.seam && f.epoch != "" {
			restart := f.restart && f.epoch != m.epoch
			if !restart && (f.epoch != m.epoch || f.offset <= m.from) {
				continue
			}
			m.seam = false
		}
		newer = append(newer, f)
	}
	return newer
}

// hold queues frames on the member itself. They are counted here: when they
// go on to the outbox, they may belong to another goroutine already.
func (m *sub) hold(frames []*frame) {
	for i, f := range frames {
		if !f.isFor(m.conn) {
			continue
		}
		if f.key != "" && m.heldSize > m.conn.hub.opts.QueueSize/signalShare {
			f.dropped++ // a signal may be lost, and closes nobody
			m.conn.hub.stats.signalsDropped.Add(1)
			m.conn.lost(Drop{Signals: 1})
			continue
		}
		m.heldSize += len(f.wire)
		if m.heldSize > m.conn.hub.opts.QueueSize {
			dropAll(m.conn, frames[i:])
			m.conn.lost(Drop{Messages: countFor(m.conn, frames[i:]) + len(m.held)})
			m.held = nil
			m.conn.end(CloseSlow, reasonSlow)
			return
		}
		m.held = append(m.held, f)
		f.delivered++
	}
}

// startReplay makes m hold what comes live, while its history is read. had is where the last one ended, without epoch if there was none.
func (m *sub) startReplay() (replay uint32, had position) {
	m.shard.mu.Lock()
	defer m.shard.mu.Unlock()
	m.replaying = true
	m.replay++
	return m.replay, position{epoch: m.epoch, offset: m.from}
}

// endReplay enqueues the history, then the held frames that it did not
// contain, and goes live; all in one step under the lock of the shard.
// log is where the history ends; nil if there is none.
func (m *sub) endReplay(replay uint32, first []*frame, log *Page) {
	m.shard.mu.Lock()
	defer m.shard.mu.Unlock()
	if m.gone || m.replay != replay {
		return
	}
	held := m.held
	if mutant("readfirst") {
		held = nil
	}
	m.replaying, m.held, m.heldSize = false, nil, 0
	if log != nil {
		m.seam, m.epoch, m.from = log.Epoch != "", log.Epoch, log.Top
	}
	switch m.conn.out.put(m.conn, append(first, m.afterHistory(held)...), false) {
	case pushOK:
		m.conn.hub.stats.delivered.Add(uint64(len(first)))
	case pushFull:
		m.conn.end(CloseSlow, reasonSlow)
	}
}

// conns returns the connections of all members.
func (r *roster) conns() []*Conn {
	var all []*Conn
	for _, s := range r.list() {
		s.mu.Lock()
		for _, m := range s.subs {
			all = append(all, m.conn)
		}
		s.mu.Unlock()
	}
	return all
}

// end closes the connections of all members.
func (r *roster) end(code CloseCode, reason string) {
	for _, c := range r.conns() {
		c.end(code, reason)
	}
}
