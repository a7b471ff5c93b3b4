package parley

import (
	pq "container/heap" // priority queue
	"context"
	"slices"
	"sync"
	"time"
)

// memoryOverdue holds the entries of all topics that wait to be received, and no
// others: an entry is taken out when it is received, expires or leaves the log.
type memoryOverdue struct {
	// mu guards the fields below and the unexported heap fields of each memoryDue. It is
	// taken last, with or without the mu of a topic, and no other is taken under it.
	mu    sync.Mutex
	queue memoryDues
	count uint64 // of those ever put in
}

// memoryDue is an entry that waits to be received. Its memoryMark points to it for as long.
type memoryDue struct {
	topic  *memoryTopic
	offset int64

	// Guarded by memoryOverdue.mu.
	at    time.Duration // when it becomes overdue, or when the lease of a caller of Overdue ends
	order uint64        // among those with the same time
	place int           // 1 + its index in the queue; 0: not in there
}

// put lets d become overdue at a time.
func (o *memoryOverdue) put(d *memoryDue, at time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count++
	d.at, d.order = at, o.count
	pq.Push(&o.queue, d)
}

// remove takes d out, if it is in there.
func (o *memoryOverdue) remove(d *memoryDue) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d.place > 0 {
		pq.Remove(&o.queue, d.place-1)
	}
}

// take takes out the one that is overdue for longest, or returns nil.
func (o *memoryOverdue) take(now time.Duration) *memoryDue {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 || o.queue[0].at > now {
		return nil
	}
	return pq.Pop(&o.queue).(*memoryDue)
}

// Overdue implements [Store].
func (s *MemoryStore) Overdue(ctx context.Context, limit int, lease time.Duration) ([]OverdueEntry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// What is put back is due after this time, and so not found again by this call.
	now := s.now()
	var found []OverdueEntry
	for len(found) < limit {
		d := s.overdue.take(now)
		if d == nil {
			break
		}
		if e, ok := s.postpone(d, now, max(lease, 1)); ok {
			found = append(found, e)
		}
	}
	return found, nil
}

// postpone puts d, which take has returned, back for the time after lease, and returns its
// entry. If that has been received or has gone meanwhile, ok is false.
func (s *MemoryStore) postpone(d *memoryDue, now, lease time.Duration) (found OverdueEntry, ok bool) {
	t := d.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dropped {
		return found, false
	}
	t.log.expire(now)
	s.settle(t)
	l := &t.log
	if m := l.marks.at(d.offset, l.top); m == nil || m.due != d {
		return found, false
	}
	s.overdue.put(d, memoryAfter(now, lease))
	e := l.entries.at(int(d.offset - (l.top - int64(l.entries.len()) + 1)))
	return OverdueEntry{
		Topic: t.name,
		Epoch: t.epoch,
		Entry: Entry{Offset: d.offset, Time: e.time, Data: e.data},
	}, true
}

// memoryDues is a heap with the earliest first. It implements [heap.Interface].
type memoryDues []*memoryDue

func (q memoryDues) Len() int { return len(q) }

func (q memoryDues) Less(i, j int) bool {
	if q[i].at != q[j].at {
		return q[i].at < q[j].at
	}
	return q[i].order < q[j].order
}

func (q memoryDues) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i+1, j+1
}

func (q *memoryDues) Push(x any) {
	d := x.(*memoryDue)
	*q = append(*q, d)
	d.place = len(*q)
}

func (q *memoryDues) Pop() any {
	last := len(*q) - 1
	d := (*q)[last]
	d.place = 0
	(*q)[last] = nil
	*q = (*q)[:last]
	if cap(*q) > 64 && last < cap(*q)/4 {
		*q = slices.Clone(*q)
	}
	return d
}
