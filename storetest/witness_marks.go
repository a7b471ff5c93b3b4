package storetest

import (
	"context"
	"fmt"
	"slices"

	"github.com/parley-go/parley"
)

// standing is the newest Version known of a log, and the lowest Unread seen with it.
type standing struct {
	version int64
	unread  int
}

// log checks how a log is said to stand, and records it. grown is set if the
// call appended entries or changed the state of some. It is called with mu held.
func (r *record) log(b before, call, topic string, log parley.Log, grown bool) {
	r.tb.Helper()
	r.epoch(b, call, topic, log.Epoch)
	if log.Unread < 0 || log.Truncated < 0 {
		r.tb.Errorf("%s of %q: Unread is %d, Truncated is %d", call, topic, log.Unread, log.Truncated)
	}
	if old, ok := b.stood[log.Epoch]; ok {
		switch {
		case log.Version < old.version:
			r.tb.Errorf("%s of %q: Version fell from %d to %d within epoch %q", call, topic, old.version, log.Version, log.Epoch)
		case log.Version == old.version && grown:
			r.tb.Errorf("%s of %q: Version is still %d, though something was appended or changed", call, topic, log.Version)
		case log.Version == old.version && log.Unread > old.unread:
			r.tb.Errorf("%s of %q: Unread rose from %d to %d, and Version is still %d", call, topic, old.unread, log.Unread, log.Version)
		}
	}
	in := incarnation{topic, log.Epoch}
	if old, ok := r.stood[in]; !ok || log.Version > old.version {
		r.stood[in] = standing{log.Version, log.Unread}
	} else if log.Version == old.version {
		r.stood[in] = standing{log.Version, min(old.unread, log.Unread)}
	}
}

// exact checks the Version of a log whose Top is told with it: it is Top and one for each Mark that
// has changed something. It is called with mu held, after log.
func (r *record) exact(b before, call, topic string, log parley.Log, top int64) {
	r.tb.Helper()
	changes := log.Version - top
	if changes < b.changes[log.Epoch] {
		r.tb.Errorf("%s of %q: Version is %d and Top %d, but %d Marks had changed something before", call, topic, log.Version, top, b.changes[log.Epoch])
	}
	in := incarnation{topic, log.Epoch}
	r.changes[in] = max(r.changes[in], changes)
}

// marks checks the read state in a page. It is called with mu held.
func (r *record) marks(topic string, p parley.Page, q parley.Query) {
	r.tb.Helper()
	if p.Truncated >= p.First && p.Truncated > 0 {
		r.tb.Errorf("Read of %q: Truncated is %d, but entries from %d on are kept", topic, p.Truncated, p.First)
	}
	if !q.Marks && len(p.Read)+len(p.Archived) > 0 {
		r.tb.Errorf("Read of %q: Read %v and Archived %v for %+v, which does not ask for Marks", topic, p.Read, p.Archived, q)
	}
	if !r.spans("Read of "+topic+": Read", p.Read, p.First, p.Top) ||
		!r.spans("Read of "+topic+": Archived", p.Archived, p.First, p.Top) {
		return
	}
	marked := append(numbersIn(p.Read), numbersIn(p.Archived)...)
	slices.Sort(marked)
	if len(slices.Compact(slices.Clone(marked))) < len(marked) {
		r.tb.Errorf("Read of %q: an offset is in both Read %v and Archived %v", topic, p.Read, p.Archived)
	}
	rest := p.Top - p.First + 1 - int64(len(marked))
	if int64(p.Unread) > rest {
		r.tb.Errorf("Read of %q: Unread is %d, but only %d entries from %d to %d are in neither Read %v nor Archived %v",
			topic, p.Unread, rest, p.First, p.Top, p.Read, p.Archived)
	}
}

// spans checks the form of a list of spans that lie between first and top, and reports whether it is right.
func (r *record) spans(what string, list []parley.Span, first, top int64) bool {
	r.tb.Helper()
	end := int64(-1)
	for _, s := range list {
		if s.From > s.To || s.From <= end+1 || s.From < first || s.To > top {
			r.tb.Errorf("%s: %v: spans ascend, none touches the next, and they lie between %d and %d", what, list, first, top)
			return false
		}
		end = s.To
	}
	return true
}

func (w *witness) Mark(ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
	r := w.record
	r.tb.Helper()
	b := r.begin(topic)
	got, err := w.Store.Mark(ctx, topic, m)
	if err != nil {
		return got, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log(b, "Mark", topic, got.Log, len(got.Changed) > 0)
	r.exact(b, "Mark", topic, got.Log, got.Top)
	if top := b.top[got.Epoch]; got.Top < top {
		r.tb.Errorf("Mark of %q: Top fell from %d to %d within epoch %q", topic, top, got.Top, got.Epoch)
	}
	r.spans(fmt.Sprintf("Mark of %q: Changed", topic), got.Changed, 1, got.Top)
	log := incarnation{topic, got.Epoch}
	r.top[log] = max(r.top[log], got.Top)
	return got, nil
}

// numbersIn lists the offsets in spans.
func numbersIn(list []parley.Span) []int64 {
	offsets := []int64{}
	for _, s := range list {
		offsets = append(offsets, span(s.From, s.To)...)
	}
	return offsets
}

// spansOf makes spans of offsets that ascend.
func spansOf(offsets ...int64) []parley.Span {
	list := []parley.Span{}
	for _, offset := range offsets {
		if n := len(list); n > 0 && list[n-1].To == offset-1 {
			list[n-1].To = offset
		} else {
			list = append(list, parley.Span{From: offset, To: offset})
		}
	}
	return list
}
