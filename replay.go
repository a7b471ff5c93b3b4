package parley

import (
	"context"
	"fmt"
)

const (
	// maxPage is the largest page of history (docs/protocol.md, section 5).
	maxPage = 100
	// maxReplay is how many missed messages a client can get at a join.
	maxReplay = 1000
)

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
	page, err := t.hub.opts.Store.Read(ctx, t.name, q)
	if err != nil {
		t.hub.stats.storeErrors.Add(1)
		t.hub.logError("parley: store: read failed", "topic", t.kind(), "error", err)
		return Page{}, fmt.Errorf("%w: %w", ErrStore, err)
	}
	return page, nil
}

// catchUp reads what a client needs that was at pos, or that is new if pos is
// nil: all that it missed, or the newest messages; never a part of what it missed.
func (t *topic) catchUp(ctx context.Context, pos *position) (replay, error) {
	var why Code
	if pos != nil {
		page, err := t.read(ctx, Query{Forward: true, After: pos.offset, Limit: maxReplay})
		if err != nil {
			return replay{}, err
		}
		if why = t.incomplete(page, *pos); why == "" {
			return replay{page: page, recovered: new(true)}, nil
		}
	}
	page, err := t.read(ctx, Query{Limit: min(t.keep.Messages, maxPage)})
	if err != nil {
		return replay{}, err
	}
	page.Entries = t.newestFitting(page.Entries)
	r := replay{page: page}
	if pos != nil {
		r.recovered, r.code = new(false), why
	}
	return r, nil
}

// incomplete tells why page does not hold everything after pos, or holds more
// than fits into a queue; "" if it is all there.
func (t *topic) incomplete(page Page, pos position) Code {
	switch {
	case page.Epoch != pos.epoch || page.Epoch == "":
		return codeReset
	case pos.offset > page.Top:
		return codeAhead
	case pos.offset < page.First-1,
		int64(len(page.Entries)) != page.Top-pos.offset,
		len(t.newestFitting(page.Entries)) != len(page.Entries):
		return codeGone
	}
	return ""
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
	generation := m.startReplay()
	var r replay
	err := t.begin(ctx)
	if err == nil {
		r, err = t.catchUp(ctx, pos)
	}
	r.generation = generation
	if err == nil {
		m.endReplay(generation, build(r), &r.page)
	}
	return r, err
}

func historyFrame(typ, room string, r replay) *frame {
	size := 128
	for _, e := range r.page.Entries {
		size += len(e.Data) + 64
	}
	return newFrame(appendHistory(newBuffer(size), historyMessage{
		Type: typ, Room: room, Epoch: r.page.Epoch, Offset: r.page.Top,
		Recovered: r.recovered, Code: r.code, Entries: r.page.Entries,
	}))
}
