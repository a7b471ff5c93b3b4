package parley

import "time"

// memoryLog is the log of a topic. It is guarded by the topic's mu.
type memoryLog struct {
	top     int64 // the newest offset; the entries are those up to it
	keep    Retention
	used    time.Duration // when the last Append was
	entries memoryRing[memoryEntry]
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
			l.entries.discard(1)
		}
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
		l.entries.discard(drop)
	}
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
		delete(k.offsets.m, k.queue.at(i).key)
	}
	k.offsets.shrink()
	k.queue.discard(n)
}
