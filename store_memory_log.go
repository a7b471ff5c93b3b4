package parley

import "time"

// memoryLog is the log of a topic. It is guarded by the topic's mu.
type memoryLog struct {
	top     int64 // the newest offset; the entries are those up to it
	keep    Retention
	used    time.Duration // when the last Append was
	entries memoryRing[memoryEntry]
	size    int64 // of the entries, for MaxBytes
	keys    memoryKeys
}

type memoryEntry struct {
	at   time.Duration // when it was appended, since MemoryStore.start
	time int64
	data []byte
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
		l.top++
		e.Offset, e.Duplicate = l.top, false
		// A copy of exactly this length: nobody can append to it in place either.
		data := make([]byte, len(e.Data))
		copy(data, e.Data)
		if l.entries.len() >= keep.Messages {
			l.discard(1)
		}
		l.size += memoryEntryCost + int64(len(data))
		l.entries.push(memoryEntry{at: now, time: e.Time, data: data}, keep.Messages)
		if e.Key != "" {
			l.keys.add(now, e.Key, l.top, max(memoryKeyLimit, keep.Messages))
		}
	}
}

// expire forgets what is too much or too old at the time now.
func (l *memoryLog) expire(now time.Duration) {
	l.keys.expire(now)
	n := l.entries.len()
	if n == 0 {
		return
	}
	drop := max(n-l.keep.Messages, 0)
	if age := l.keep.Age; age > 0 {
		if now-l.entries.at(n-1).at >= age {
			drop = n // the newest is too old, so all are: the common case of a quiet topic
		}
		for drop < n && now-l.entries.at(drop).at >= age {
			drop++
		}
	}
	if drop > 0 {
		l.discard(drop)
	}
}

// discard removes the n oldest entries.
func (l *memoryLog) discard(n int) {
	for i := range n {
		l.size -= memoryEntryCost + int64(len(l.entries.at(i).data))
	}
	l.entries.discard(n)
}

// bare reports whether only the bounds are left.
func (l *memoryLog) bare() bool { return l.entries.len() == 0 && l.keys.queue.len() == 0 }

// trim frees need bytes, or what it can if that is less, and returns how many entries
// that cost. At least least of them stay. Keys go first when their entries
// have left the log, as the contract allows for want of space, but not before.
func (l *memoryLog) trim(need int64, least int) (removed int) {
	goal := l.size + l.keys.size - need
	for l.size+l.keys.size > goal {
		switch first := l.top - int64(l.entries.len()) + 1; {
		case l.keys.behind(first):
			l.keys.forget(1)
		case l.entries.len() <= least:
			return removed
		default:
			l.discard(1)
			removed++
		}
	}
	return removed
}

// read returns a stretch of the log, without the epoch.
func (l *memoryLog) read(now time.Duration, q Query) Page {
	l.expire(now)
	first := l.top - int64(l.entries.len()) + 1
	page := Page{First: first, Top: l.top}

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
