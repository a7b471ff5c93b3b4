package parley

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"
)

// memoryNever is a time that does not come.
const memoryNever = time.Duration(math.MaxInt64)

var errMemoryMark = errors.New("parley: Mark needs As to be MarkRead, MarkUnread, MarkArchived or MarkReceived")

// memoryMarks is what there is to know of the entries of a log besides their data:
// who has read them, and when they run out. The logs of rooms have none. It is guarded by
// the topic's mu.
type memoryMarks struct {
	topic   *memoryTopic
	overdue *memoryOverdue
	// entries belong to the newest ones of the log. Those from before there were marks have none.
	entries   memoryRing[memoryMark]
	unread    int   // entries in state memoryUnread
	dues      int   // entries with due
	keyBytes  int64 // of their keys
	changes   int64 // by Mark
	truncated int64 // Log.Truncated
	// expiry is a time before which no TTL passes. An entry that leaves the log makes it too
	// early, and looking through the entries brings it up to date again.
	expiry time.Duration
}

// memoryMark is the part of a memoryEntry that rooms do not need.
type memoryMark struct {
	key     string        // only if a Mark could have an effect
	expires time.Duration // 0: never, or done
	due     *memoryDue    // nil: never, or received
	state   memoryState
	expired bool // the TTL has passed; no Mark has an effect any more
}

type memoryState uint8

const (
	memoryUncounted memoryState = iota
	memoryUnread
	memoryRead
	memoryArchived
)

// prepare gives the log marks if one of the entries that it is going to get needs them.
func (l *memoryLog) prepare(t *memoryTopic, overdue *memoryOverdue, entries []Entry) {
	if l.marks != nil {
		return
	}
	for i := range entries {
		if e := &entries[i]; e.Unread || e.TTL > 0 || e.ReceiveIn > 0 {
			l.marks = &memoryMarks{topic: t, overdue: overdue, expiry: memoryNever}
			return
		}
	}
}

// stand returns how the log of t stands. The caller holds t.mu, and has called expire.
func (t *memoryTopic) stand() Log {
	log := Log{Epoch: t.epoch, Version: t.log.top}
	if k := t.log.marks; k != nil {
		log.Version += k.changes
		log.Unread, log.Truncated = k.unread, k.truncated
	}
	return log
}

func (k *memoryMarks) size() int64 {
	return memoryMarksCost + memoryMarkCost*int64(k.entries.len()) + k.keyBytes + memoryDueCost*int64(k.dues)
}

// add adds the mark of an entry that has just been appended.
func (k *memoryMarks) add(now time.Duration, e *Entry, limit int) {
	var m memoryMark
	if e.Unread {
		m.state = memoryUnread
		k.unread++
	}
	if e.TTL > 0 {
		m.expires = memoryAfter(now, e.TTL)
		k.expiry = min(k.expiry, m.expires)
	}
	if e.ReceiveIn > 0 {
		m.due = &memoryDue{topic: k.topic, offset: e.Offset}
		k.overdue.put(m.due, memoryAfter(now, e.ReceiveIn))
		k.dues++
	}
	if e.Unread || e.ReceiveIn > 0 {
		m.key = e.Key
		k.keyBytes += int64(len(m.key))
	}
	k.entries.push(m, limit)
}

// discard removes the n oldest marks, if n is positive. top and lost are those of memoryLog.discard.
func (k *memoryMarks) discard(n int, top int64, lost bool) {
	if n <= 0 {
		return
	}
	first := top - int64(k.entries.len()) + 1
	for i := range n {
		m := k.entries.at(i)
		if m.state == memoryUnread && lost && !mutant("untruncated") {
			k.truncated = first + int64(i)
		}
		k.retire(m)
	}
	k.entries.discard(n)
}

// retire takes m out of what is counted up, for good.
func (k *memoryMarks) retire(m *memoryMark) {
	if m.state == memoryUnread {
		m.state = memoryUncounted
		k.unread--
	}
	k.receive(m)
	k.keyBytes -= int64(len(m.key))
	m.key = ""
}

// receive makes sure that m does not become overdue.
func (k *memoryMarks) receive(m *memoryMark) {
	if m.due != nil {
		k.overdue.remove(m.due)
		m.due = nil
		k.dues--
	}
}

// at returns the mark of the entry with an offset, or nil. top is the top of the log.
func (k *memoryMarks) at(offset, top int64) *memoryMark {
	i := offset - (top - int64(k.entries.len()) + 1)
	if i < 0 || i >= int64(k.entries.len()) {
		return nil
	}
	return k.entries.at(int(i))
}

// lapse takes their data from the entries whose TTL has passed. They stay, so that offsets have no holes.
func (l *memoryLog) lapse(now time.Duration) {
	k := l.marks
	if now < k.expiry {
		return
	}
	k.expiry = memoryNever
	unmarked := l.entries.len() - k.entries.len()
	for i := range k.entries.len() {
		m := k.entries.at(i)
		switch {
		case m.expires == 0:
		case m.expires > now:
			k.expiry = min(k.expiry, m.expires)
		default:
			e := l.entries.at(unmarked + i)
			l.bytes -= int64(len(e.data))
			e.data = nil
			k.retire(m)
			m.expires, m.expired = 0, true
		}
	}
}

// Mark implements [Store].
func (s *MemoryStore) Mark(ctx context.Context, topic string, m Mark) (Marked, error) {
	if err := ctx.Err(); err != nil {
		return Marked{}, err
	}
	if m.As < MarkRead || m.As > MarkReceived {
		return Marked{}, errMemoryMark
	}
	t, epoch := s.shard(topic).lock(topic, memoryLook)
	if t == nil {
		return Marked{Log: Log{Epoch: epoch}}, nil
	}
	defer t.mu.Unlock()
	t.log.expire(s.now())
	var changed []Span
	if k, top := t.log.marks, t.log.top; k != nil && (m.Epoch == "" || m.Epoch == t.epoch) && !m.ahead(top) {
		changed = k.mark(m, top)
	}
	s.settle(t)
	return Marked{Log: t.stand(), Top: t.log.top, Changed: changed}, nil
}

// ahead reports whether m speaks of entries after top.
func (m *Mark) ahead(top int64) bool {
	return m.UpTo > top || slices.ContainsFunc(m.Offsets, func(offset int64) bool { return offset > top })
}

// mark does what m says, which is for this log and not ahead of its top.
func (k *memoryMarks) mark(m Mark, top int64) []Span {
	if (m.As == MarkRead || m.As == MarkArchived) && m.UpTo >= k.truncated {
		k.truncated = 0
	}
	if k.idle(m.As) {
		return nil
	}
	first := top - int64(k.entries.len()) + 1
	var changed []int64
	apply := func(offset int64) {
		if e := k.at(offset, top); e != nil && k.apply(e, m.As) {
			changed = append(changed, offset)
		}
	}
	for offset := first; offset <= m.UpTo; offset++ {
		apply(offset)
	}
	for _, offset := range m.Offsets {
		apply(offset)
	}
	if len(m.Keys) > 0 {
		wanted := make(map[string]struct{}, len(m.Keys))
		for _, key := range m.Keys {
			wanted[key] = struct{}{}
		}
		for offset := first; offset <= top; offset++ {
			key := k.at(offset, top).key
			if _, ok := wanted[key]; ok && key != "" {
				apply(offset)
			}
		}
	}
	if len(changed) == 0 {
		return nil
	}
	k.changes++
	slices.Sort(changed) // each is there once: what has been applied has no effect again
	var spans []Span
	for _, offset := range changed {
		spans = extendSpans(spans, offset)
	}
	return spans
}

// idle reports whether nothing in the log could be changed by marking it so: the
// common case of devices that say again and again what is known already.
func (k *memoryMarks) idle(as MarkAs) bool {
	switch as {
	case MarkReceived:
		return k.dues == 0
	case MarkRead:
		return k.dues == 0 && k.unread == 0
	}
	return k.entries.len() == 0
}

// apply marks one entry, and reports whether its state is another now.
func (k *memoryMarks) apply(e *memoryMark, as MarkAs) bool {
	if as != MarkUnread {
		k.receive(e)
	}
	if e.state == memoryUncounted || e.expired {
		return false
	}
	before := e.state
	switch {
	case as == MarkUnread:
		e.state = memoryUnread
	case as == MarkArchived:
		e.state = memoryArchived
	case as == MarkRead && before == memoryUnread:
		e.state = memoryRead
	}
	if e.state == before {
		return false
	}
	if before == memoryUnread && (as != MarkArchived || !mutant("archive-counts")) {
		k.unread--
	}
	if e.state == memoryUnread {
		k.unread++
	}
	return true
}

// spans returns the entries in a state.
func (k *memoryMarks) spans(state memoryState, top int64) (spans []Span) {
	first := top - int64(k.entries.len()) + 1
	for i := range k.entries.len() {
		if k.entries.at(i).state == state && !mutant("nospans") {
			spans = extendSpans(spans, first+int64(i))
		}
	}
	return spans
}

// extendSpans adds an offset that comes after all that are in spans.
func extendSpans(spans []Span, offset int64) []Span {
	if n := len(spans); n > 0 && spans[n-1].To == offset-1 {
		spans[n-1].To = offset
		return spans
	}
	return append(spans, Span{From: offset, To: offset})
}
