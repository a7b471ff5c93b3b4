package parley

import (
	"context"
	"errors"
	"fmt"
)

const (
	// maxPage is the largest page of history (docs/protocol.md, section 5).
	maxPage = 100
	// maxReplay is how many missed messages a client can get at a join.
	maxReplay = 1000
)

var errNoEpoch = errors.New("broken Store: a log without epoch")

// position is the last message of a topic that a client has processed.
type position struct {
	epoch  string
	offset int64
}

// replay is what a member gets of the log before the live messages.
type replay struct {
	page       Page
	recovered  *bool // nil unless the client gave a position
	code       Code  // why recovered is false, else ""
	tail       *tail // where page is from, nil if it is not shared
	use        tailUse
	generation uint32
}

func pageLimit(limit int) int {
	if limit <= 0 || limit > maxPage {
		return maxPage
	}
	return limit
}

func moreBefore(p Page) bool {
	return len(p.Entries) > 0 && p.Entries[0].Offset > p.First
}

// read calls the Store with its timeout. A topic that keeps nothing has no log to read.
func (t *topic) read(ctx context.Context, q Query) (Page, error) {
	if !t.keep.keeps() {
		return Page{First: 1}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.hub.opts.StoreTimeout)
	defer cancel()
	q.Marks = t.user != "" && q.Limit > 0
	page, err := t.hub.opts.Store.Read(ctx, t.name, q)
	if err == nil {
		err = page.check(q)
	}
	page = mutatedPage(page)
	if err != nil {
		t.hub.stats.storeErrors.Add(1)
		t.hub.logError("parley: store: read failed", "topic", t.kind(), "error", err)
		return Page{}, fmt.Errorf("%w: %w", ErrStore, err)
	}
	return page, nil
}

// check reports a page that breaks the contract of the Store: delivering a log
// with holes, doubles or changed order would break every promise that is built on it (F12).
func (p Page) check(q Query) error {
	switch {
	case p.Epoch == "":
		return errNoEpoch
	case p.First < 1 || p.First > p.Top+1:
		return fmt.Errorf("broken Store: first offset %d, top %d", p.First, p.Top)
	}
	first, last := q.stretch(p.First, p.Top)
	if n := int64(len(p.Entries)); n != last-first+1 {
		return fmt.Errorf("broken Store: %d entries of a log from %d to %d for %+v", n, p.First, p.Top, q)
	}
	for i, e := range p.Entries {
		if e.Offset != first+int64(i) {
			return fmt.Errorf("broken Store: entry %d of a log from %d to %d has offset %d for %+v", i, p.First, p.Top, e.Offset, q)
		}
	}
	return nil
}

// stretch returns the offsets that q picks from a log; last is first-1 if there are none.
func (q Query) stretch(from, top int64) (first, last int64) {
	limit := int64(q.Limit)
	if q.Forward {
		first = max(q.After+1, from)
		return first, max(first-1, min(top, first+limit-1))
	}
	last = top
	if q.Before > 0 {
		last = min(top, q.Before-1)
	}
	first = max(from, last-limit+1)
	return first, max(first-1, last)
}

// newestFitting returns the newest of entries that together take at most half
// of a connection's queue: the history must not be what overflows it. The very newest
// fits in any case.
func (t *topic) newestFitting(entries []Entry) []Entry {
	room := t.hub.opts.QueueSize / 2
	for i := len(entries) - 1; i >= 0; i-- {
		room -= len(entries[i].Data) + 64
		if room < 0 && i < len(entries)-1 {
			return entries[i+1:]
		}
	}
	return entries
}

// subscribe makes m a live member of the topic, with the log up to now before
// what comes live: nothing is lost, doubled or reordered between the two.
// build makes the frames that come first. After an error it is for the caller
// to remove m, or to go on without the log by endReplay.
func (t *topic) subscribe(ctx context.Context, m *sub, pos *position, build func(replay) []*frame) (replay, error) {
	generation, had := m.startReplay()
	var r replay
	err := t.begin(ctx)
	if err == nil {
		r, err = t.catchUp(ctx, pos, had)
	}
	r.generation = generation
	if err == nil {
		m.endReplay(generation, build(r), &r.page)
	}
	return r, err
}
