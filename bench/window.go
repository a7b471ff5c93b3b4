package main

import (
	"fmt"
	"time"
)

// window holds the messages under way: those sent and not yet received by
// every receiver. It slides: a message may be sent only when fewer than size
// lie between it and the oldest one under way. All times are measured from
// one start, so that a slot is two words.
type window struct {
	size      int
	receivers int // how many must get each message
	oldest    uint64
	next      uint64
	slots     []slot
}

type slot struct {
	missing int
	sent    time.Duration
}

func newWindow(size, receivers int) *window {
	return &window{size: size, receivers: receivers, slots: make([]slot, size)}
}

// open says whether another message may be sent.
func (w *window) open() bool { return w.next-w.oldest < uint64(w.size) }

// empty says whether every message has arrived everywhere.
func (w *window) empty() bool { return w.next == w.oldest }

// send enters the next message and returns its sequence number.
func (w *window) send(now time.Duration) uint64 {
	seq := w.next
	w.slots[seq%uint64(w.size)] = slot{missing: w.receivers, sent: now}
	w.next++
	return seq
}

// arrived notes that one receiver got seq and returns how long it took.
func (w *window) arrived(seq uint64, now time.Duration) (time.Duration, error) {
	if seq < w.oldest || seq >= w.next {
		return 0, fmt.Errorf("message %d arrived, but only %d to %d are under way", seq, w.oldest, w.next)
	}
	s := &w.slots[seq%uint64(w.size)]
	s.missing--
	for w.oldest < w.next && w.slots[w.oldest%uint64(w.size)].missing == 0 {
		w.oldest++
	}
	return now - s.sent, nil
}
