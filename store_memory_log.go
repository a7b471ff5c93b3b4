package parley

import "time"

// memoryLog is the log of a topic. It is guarded by the topic's mu.
type memoryLog struct {
	top     int64 // the newest offset; the entries are those up to it
	keep    Retention
	used    time.Duration // when the last Append was
	entries memoryRing[memoryEntry]
	bytes   int64 // of the data of the entries
	keys    memoryKeys
	marks   *memoryMarks // nil until an entry comes that needs it
}

type memoryEntry struct {
	at   time.Duration // when it was appended, since MemoryStore.start
	time int64
	data []byte // nil when the TTL has passed, and only then
}

// append adds entries and fills in their Offset and Duplicate.
func (l *memoryLog) append(now time.Duration, keep Retention, entries []Entry) {
	l.keep, l.used = keep, now
	l.expire(now)
	for i := range entries {
		e := &entries[i]
		if e.Key != "" {
			if offset, ok := l.keys.offsets.m[e.Key]; ok {
				e.Offset, e.Duplicate = offset, true
				continue
			}
		}
		if l.entries.len() >= keep.Messages {
			l.discard(1, true)
		}
		l.top++
		e.Offset, e.Duplicate = l.top, false
		// A copy of exactly this length: nobody can append to it in place either.
		data := make([]byte, len(e.Data))
		copy(data, e.Data)
		l.bytes += int64(len(data))
		l.entries.push(memoryEntry{at: now, time: e.Time, data: data}, keep.Messages)
		if l.marks != nil {
			l.marks.add(now, e, keep.Messages)
		}
		if e.Key != "" {
			l.keys.add(now, e.Key, l.top, max(memoryKeyLimit, keep.Messages))
		}
	}
	for keep.Bytes > 0 && l.bytes > keep.Bytes && l.entries.len() > 1 {
		l.discard(1, true)
	}
}

// expire forgets what is too much or too old at the time now.
func (l *memoryLog) expire(now time.Duration) {
	l.keys.expire(now)
	n := l.entries.len()
	if n == 0 {
		return
	}
	if l.marks != nil {
		l.lapse(now)
	}
	old := 0
	if age := l.keep.Age; age > 0 {
		if now-l.entries.at(n-1).at >= age {
			old = n // the newest is too old, so all are: the common case of a quiet topic
		}
		for old < n && now-l.entries.at(old).at >= age {
			old++
		}
	}
	l.discard(old, false) // first, because what is too old is not missed
	l.discard(n-old-l.keep.Messages, true)
}

// discard removes the n oldest entries, if n is positive. lost says that it is for want of
// space, so that clients are to be told about those that were unread.
func (l *memoryLog) discard(n int, lost bool) {
	if n <= 0 {
		return
	}
	for i := range n {
		l.bytes -= int64(len(l.entries.at(i).data))
	}
	if l.marks != nil {
		l.marks.discard(n-(l.entries.len()-l.marks.entries.len()), l.top, lost)
	}
	l.entries.discard(n)
}

// size is what the log counts for MaxBytes.
func (l *memoryLog) size() int64 {
	size := memoryEntryCost*int64(l.entries.len()) + l.bytes + l.keys.size
	if l.marks != nil {
		size += l.marks.size()
	}
	return size
}

// bare reports whether only the bounds are left.
func (l *memoryLog) bare() bool { return l.entries.len() == 0 && l.keys.queue.len() == 0 }

// trim frees need bytes, or what it can if that is less, and returns how many entries
// that cost. At least least of them stay. Keys go first when their entries
// have left the log, as the contract allows for want of space, but not before.
func (l *memoryLog) trim(need int64, least int) (removed int) {
	goal := l.size() - need
	for l.size() > goal {
		switch first := l.top - int64(l.entries.len()) + 1; {
		case l.keys.behind(first):
			l.keys.forget(1)
		case l.entries.len() <= least:
			return removed
		default:
			l.discard(1, true)
			removed++
		}
	}
	return removed
}

// read returns a stretch of the log, without Page.Log.
func (l *memoryLog) read(now time.Duration, q Query) Page {
	l.expire(now)
	first := l.top - int64(l.entries.len()) + 1
	page := Page{First: first, Top: l.top}
	if q.Marks && l.marks != nil {
		page.Read, page.Archived = l.marks.spans(memoryRead, l.top), l.marks.spans(memoryArchived, l.top)
	}

	from, to := first, l.top // the offsets wanted, both included
	if q.Forward {
		if q.After >= from {
			from = min(q.After, l.top) + 1
		}
	} else if q.Before != 0 {
		to = min(to, max(q.Before, 0)-1)
	}
	n := min(to-from+1, int64(q.Limit))
	if n <= 0 {
		return page
	}
	if !q.Forward {
		from = to - n + 1
	}
	page.Entries = make([]Entry, n)
	for i := range page.Entries {
		offset := from + int64(i)
		e := l.entries.at(int(offset - first))
		page.Entries[i] = Entry{Offset: offset, Time: e.time, Data: e.data}
	}
	return page
}

// memoryKeys remembers the idempotency keys of a topic.
type memoryKeys struct {
	offsets memoryMap[string, int64]
	queue   memoryRing[memoryKey] // the same keys, oldest first
	size    int64                 // for MaxBytes
}

type memoryKey struct {
	at  time.Duration
	key string
}

// add remembers a key that is not there yet. Beyond limit the oldest is
// forgotten. As limit is no less than the length of the log, that one's entry
// has left the log, which is what the contract asks for.
func (k *memoryKeys) add(now time.Duration, key string, offset int64, limit int) {
	if k.queue.len() >= limit {
		k.forget(k.queue.len() - limit + 1)
	}
	k.size += memoryKeyCost + int64(len(key))
	k.offsets.set(key, offset)
	k.queue.push(memoryKey{now, key}, limit)
}

// expire forgets the keys that are older than the window.
func (k *memoryKeys) expire(now time.Duration) {
	n := k.queue.len()
	if n == 0 {
		return
	}
	if now-k.queue.at(n-1).at > IdempotencyWindow {
		*k = memoryKeys{}
		return
	}
	old := 0
	for now-k.queue.at(old).at > IdempotencyWindow {
		old++
	}
	k.forget(old)
}

// forget removes the n oldest keys.
func (k *memoryKeys) forget(n int) {
	if n == 0 {
		return
	}
	for i := range n {
		key := k.queue.at(i).key
		k.size -= memoryKeyCost + int64(len(key))
		delete(k.offsets.m, key)
	}
	k.offsets.shrink()
	k.queue.discard(n)
}

// behind reports whether the oldest key is that of an entry before first.
func (k *memoryKeys) behind(first int64) bool {
	return k.queue.len() > 0 && k.offsets.m[k.queue.at(0).key] < first
}
