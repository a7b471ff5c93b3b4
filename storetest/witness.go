package storetest

import (
	"context"
	"maps"
	"sync"
	"testing"

	"github.com/parley-go/parley"
)

// witness passes calls on to a Store and holds each answer against what the
// contract says of any answer, whatever the subtest is about. The witnesses
// of several nodes share one record.
type witness struct {
	parley.Store
	record *record
}

// place is what a client remembers as its position.
type place struct {
	topic, epoch string
	offset       int64
}

type incarnation struct{ topic, epoch string }

type record struct {
	tb testing.TB

	mu      sync.Mutex // guards the fields below
	data    map[place]string
	mortal  map[place]bool // entries with a TTL
	top     map[incarnation]int64
	stood   map[incarnation]standing
	changes map[incarnation]int64 // Version less Top: how many Marks have changed something
	current map[string]string     // topic -> epoch
	past    map[incarnation]bool  // epochs that gave way to another one
	told    bool                  // of a position that names two messages: one is enough to read
}

func newRecord(tb testing.TB) *record {
	return &record{
		tb:      tb,
		data:    map[place]string{},
		mortal:  map[place]bool{},
		top:     map[incarnation]int64{},
		stood:   map[incarnation]standing{},
		changes: map[incarnation]int64{},
		current: map[string]string{},
		past:    map[incarnation]bool{},
	}
}

// before is the state that a call must not fall behind: what was known when it began.
type before struct {
	top     map[string]int64    // epoch -> top
	stood   map[string]standing // by epoch
	changes map[string]int64    // by epoch
	past    map[incarnation]bool
}

func (r *record) begin(topic string) before {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := before{top: map[string]int64{}, stood: map[string]standing{}, changes: map[string]int64{}, past: maps.Clone(r.past)}
	for log, top := range r.top {
		if log.topic == topic {
			b.top[log.epoch] = top
		}
	}
	for log, stood := range r.stood {
		if log.topic == topic {
			b.stood[log.epoch], b.changes[log.epoch] = stood, r.changes[log]
		}
	}
	return b
}

// epoch checks the epoch of an answer and records it. It is called with mu held.
func (r *record) epoch(b before, call, topic, epoch string) {
	r.tb.Helper()
	log := incarnation{topic, epoch}
	if epoch == "" {
		r.tb.Errorf("%s of %q: the epoch is empty", call, topic)
	}
	if b.past[log] {
		r.tb.Errorf("%s of %q: epoch %q is back, after another one had taken its place (F66)", call, topic, epoch)
	}
	if old, ok := r.current[topic]; ok && old != epoch {
		r.past[incarnation{topic, old}] = true
	}
	if !r.past[log] { // else an answer that was long under way
		r.current[topic] = epoch
	}
}

// entry checks that a position names one message only. It is called with mu held.
func (r *record) entry(call, topic, epoch string, offset int64, data []byte) {
	r.tb.Helper()
	p := place{topic, epoch, offset}
	if data == nil {
		if _, ok := r.data[p]; ok && !r.mortal[p] {
			r.tb.Errorf("%s of %q: offset %d has no data, but no TTL either", call, topic, offset)
		}
		return
	}
	if known, ok := r.data[p]; ok && known != string(data) && !r.told {
		r.told = true
		r.tb.Errorf("%s of %q: epoch %q, offset %d names two messages (F66):\n%.200q and\n%.200q",
			call, topic, epoch, offset, known, data)
	}
	r.data[p] = string(data)
}

func (w *witness) Append(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
	w.record.tb.Helper()
	return w.record.append(topic, entries, func() (parley.Log, error) { return w.Store.Append(ctx, topic, keep, entries) })
}

// append checks what call, which appends entries, makes of them and returns.
func (r *record) append(topic string, entries []parley.Entry, call func() (parley.Log, error)) (parley.Log, error) {
	r.tb.Helper()
	b := r.begin(topic)
	sent := make([]string, len(entries))
	for i, e := range entries {
		sent[i] = string(e.Data)
	}
	got, err := call()
	if err != nil {
		return got, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	epoch := got.Epoch
	log := incarnation{topic, epoch}
	last := int64(0)
	for i, e := range entries {
		if e.Duplicate {
			continue
		}
		if e.Offset <= b.top[epoch] {
			r.tb.Errorf("Append to %q: entry %d got offset %d, but top was %d before", topic, i, e.Offset, b.top[epoch])
		}
		if last != 0 && e.Offset != last+1 {
			r.tb.Errorf("Append to %q: entry %d got offset %d after %d: a batch is added in one step, in order",
				topic, i, e.Offset, last)
		}
		last = e.Offset
		r.entry("Append", topic, epoch, e.Offset, []byte(sent[i]))
		r.mortal[place{topic, epoch, e.Offset}] = e.TTL > 0
		r.top[log] = max(r.top[log], e.Offset)
	}
	r.log(b, "Append", topic, got, last != 0)
	if got.Version < last {
		r.tb.Errorf("Append to %q: Version is %d after offset %d was given", topic, got.Version, last)
	}
	return got, nil
}

func (w *witness) Read(ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
	r := w.record
	r.tb.Helper()
	b := r.begin(topic)
	p, err := w.Store.Read(ctx, topic, q)
	if err != nil {
		return p, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log(b, "Read", topic, p.Log, false)
	r.exact(b, "Read", topic, p.Log, p.Top)
	r.marks(topic, p, q)
	if top := b.top[p.Epoch]; p.Top < top {
		r.tb.Errorf("Read of %q: Top fell from %d to %d within epoch %q", topic, top, p.Top, p.Epoch)
	}
	if p.First < 1 || p.First > p.Top+1 {
		r.tb.Errorf("Read of %q: First %d and Top %d: First is at least 1 and at most Top+1", topic, p.First, p.Top)
	}
	if len(p.Entries) > q.Limit {
		r.tb.Errorf("Read of %q: %d entries for %+v", topic, len(p.Entries), q)
	}
	for i, e := range p.Entries {
		switch {
		case e.Offset < p.First || e.Offset > p.Top:
			r.tb.Errorf("Read of %q: entry with offset %d outside of the bounds %d to %d of the same page",
				topic, e.Offset, p.First, p.Top)
		case q.Forward && e.Offset <= q.After, !q.Forward && q.Before != 0 && e.Offset >= q.Before:
			r.tb.Errorf("Read of %q: entry with offset %d for %+v", topic, e.Offset, q)
		case i > 0 && e.Offset != p.Entries[i-1].Offset+1:
			r.tb.Errorf("Read of %q: offset %d after %d: ascending and without holes (F12)",
				topic, e.Offset, p.Entries[i-1].Offset)
		case e.Key != "" || e.Duplicate || e.Unread || e.TTL != 0 || e.ReceiveIn != 0:
			r.tb.Errorf("Read of %q: offset %d has something set that is for Append only: %+v", topic, e.Offset, e)
		}
		r.entry("Read", topic, p.Epoch, e.Offset, e.Data)
	}
	log := incarnation{topic, p.Epoch}
	r.top[log] = max(r.top[log], p.Top)
	return p, nil
}
