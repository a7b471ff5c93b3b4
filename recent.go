package parley

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// recentLife is how long what was read of a log serves others: a storm of
	// reconnects after a restart takes seconds. Messages that expire meanwhile may be seen so much longer.
	recentLife = time.Second
	// recentLifeShared is that of a log that other nodes append to: what the Broker has
	// not brought yet may be missing for so much longer.
	recentLifeShared = 250 * time.Millisecond
	// recentFrames is how many encoded histories are kept with it. Clients that
	// lost the same node have the same positions.
	recentFrames = 16
	// maxReads is how many reads for joins may be at the Store at once. The
	// others wait, up to Options.StoreTimeout: a Store that has just come back must not be felled again.
	maxReads = 64
	// topicReads is how many of them may be of one topic: not one, because a call
	// of the Store that hangs would hold up everybody until it times out.
	topicReads = 2
)

// tail is the newest stretch of a log, up to its top, as a read gave it.
type tail struct {
	page   Page
	read   uint64             // recent.reads when it was begun
	frames map[tailUse]*frame // guarded by recent.mu
}

// tailUse is what a history is made of: all after an offset, or the newest
// messages for a client that was at no position (after is -1) or at one that code says no to.
type tailUse struct {
	after int64
	code  Code
}

// recent lets the joins of a topic share what they read of its log: few read
// at a time, and the result serves everybody who cannot miss anything by it.
// Lock order: topic.mu and recent.mu are never held together.
type recent struct {
	turn chan struct{} // holds a token for each who reads

	mu    sync.Mutex // guards the fields below
	last  *tail
	reads uint64 // begun so far
	aging bool   // a timer will drop last
	cut   uint64 // reads up to this one may hold what the log has lost since
}

// seen is what a member knew when it began to hold live messages: everything
// up to there was fanned out, and must be in what it reads.
type seen struct {
	epoch string
	last  int64
	reads uint64
	had   position // where the history ended that the member has got already, if it has
}

func (t *topic) seen(had position) seen {
	t.recent.mu.Lock()
	s := seen{reads: t.recent.reads, had: had}
	t.recent.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	s.epoch, s.last = t.epoch, t.last
	return s
}

// serves reports whether l holds all that was fanned out before s, and knows
// better than the client's position: a read begun after s does, an older one
// if what it saw is the same log, and not behind (F67: another node may be ahead of this one;
// a history of the same member may have held what is not fanned out yet).
func (l *tail) serves(s seen, pos *position) bool {
	if l.read > s.reads || mutant("stale") {
		return true
	}
	if l.page.Epoch != s.epoch || l.page.Top < s.last {
		return false
	}
	return (pos == nil || l.reaches(*pos)) && (s.had.epoch == "" || l.reaches(s.had))
}

func (l *tail) reaches(p position) bool {
	return p.epoch == l.page.Epoch && p.offset <= l.page.Top
}

// takeTurn waits for the right to read, both for the topic and for the hub.
func (t *topic) takeTurn(ctx context.Context) error {
	for _, turns := range []chan struct{}{t.recent.turn, t.hub.reads} {
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			if turns == t.hub.reads {
				<-t.recent.turn
			}
			return fmt.Errorf("%w: too many reads wait: %w", ErrStore, ctx.Err())
		}
	}
	return nil
}

func (t *topic) endTurn() {
	<-t.hub.reads
	<-t.recent.turn
}

// catchUp reads what a client needs that was at pos, or that is new if pos is
// nil: all that it missed, or the newest messages; never a part of what it missed.
// The member must hold live messages already; had is what startReplay said.
func (t *topic) catchUp(ctx context.Context, pos *position, had position) (replay, error) {
	if !t.keep.keeps() {
		r, _ := t.replayOf(&tail{page: Page{First: 1}}, pos, true)
		return r, nil
	}
	s := t.seen(had)
	if r, ok := t.recall(s, pos); ok {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.hub.opts.StoreTimeout)
	defer cancel()
	if err := t.takeTurn(ctx); err != nil {
		return replay{}, err
	}
	defer t.endTurn()
	if r, ok := t.recall(s, pos); ok {
		return r, nil // somebody before us has read it
	}
	l, err := t.readTail(ctx, pos)
	if err != nil {
		return replay{}, err
	}
	t.took(l)
	// Else there is nobody to share it with. Of an inbox the marks would be old.
	if t.roster.count.Load() > 1 && t.user == "" {
		t.remember(l)
	}
	r, _ := t.replayOf(l, pos, true)
	return r, nil
}

// took notes how far a history went that a member gets: should the log lose its end, that member must be told (F16).
func (t *topic) took(l *tail) {
	t.recent.mu.Lock()
	old := l.read <= t.recent.cut
	t.recent.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch == l.page.Epoch && !old {
		t.most = max(t.most, l.page.Top)
	}
}

// outdate has nobody get what was read before the log lost its end.
func (r *recent) outdate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.cut = nil, r.reads
}

// recall answers from what was read last, if that serves.
func (t *topic) recall(s seen, pos *position) (replay, bool) {
	t.recent.mu.Lock()
	l := t.recent.last
	t.recent.mu.Unlock()
	if l == nil || !l.serves(s, pos) {
		return replay{}, false
	}
	return t.replayOf(l, pos, false)
}

// remember keeps l for others, for a while.
func (t *topic) remember(l *tail) {
	r := &t.recent
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.read > r.cut && (r.last == nil || r.last.read < l.read) {
		r.last = l
	}
	if !r.aging {
		r.aging = true
		life := recentLife
		if t.hub.opts.Broker != nil {
			life = recentLifeShared
		}
		time.AfterFunc(life, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.last, r.aging = nil, false
		})
	}
}

// readTail reads all after pos, if that can be had, else the newest messages.
func (t *topic) readTail(ctx context.Context, pos *position) (*tail, error) {
	t.recent.mu.Lock()
	t.recent.reads++
	l := &tail{read: t.recent.reads}
	t.recent.mu.Unlock()
	var err error
	if pos != nil {
		l.page, err = t.read(ctx, Query{Forward: true, After: pos.offset, Limit: maxReplay})
		if err != nil || t.refusal(l.page, *pos) == "" && int64(len(l.page.Entries)) == l.page.Top-pos.offset {
			return l, err
		}
	}
	l.page, err = t.read(ctx, Query{Limit: t.pageSize()})
	return l, err
}

// pageSize is how many messages a client gets that is new.
func (t *topic) pageSize() int { return min(t.keep.Messages, maxPage) }

// refusal tells why there is no resuming from pos, going by the bounds of the log; "" if they allow it.
func (t *topic) refusal(page Page, pos position) Code {
	switch {
	case page.Epoch != pos.epoch && !mutant("noepoch") || page.Epoch == "":
		return codeReset
	case pos.offset > page.Top:
		return codeAhead
	case mutant("partial"):
	case pos.offset < page.First-1, page.Top-pos.offset > maxReplay, mutant("edge") && pos.offset < page.First:
		return codeGone
	}
	return ""
}

// replayOf makes what a client at pos gets out of a tail. ok is false if the
// tail does not reach back far enough; with final, that is how it is.
func (t *topic) replayOf(l *tail, pos *position, final bool) (r replay, ok bool) {
	page, top := l.page, l.page.Top
	r = replay{page: page, tail: l, use: tailUse{after: -1}}
	if pos != nil {
		why := t.refusal(page, *pos)
		if why == "" {
			missed := newest(page.Entries, top-pos.offset)
			if int64(len(missed)) < top-pos.offset && !final {
				return replay{}, false
			}
			if (int64(len(missed)) == top-pos.offset || mutant("partial")) && len(t.newestFitting(missed)) == len(missed) {
				r.page.Entries, r.recovered, r.use.after = missed, new(true), pos.offset
				return r, true
			}
			why = codeGone
		}
		r.recovered, r.code, r.use.code = new(mutant("nooffset")), why, why
	}
	wanted := max(0, min(int64(t.pageSize()), top-page.First+1))
	if int64(len(page.Entries)) < wanted && !final {
		return replay{}, false
	}
	r.page.Entries = t.newestFitting(newest(page.Entries, wanted))
	return r, true
}

// newest returns the last n entries, or all if there are less.
func newest(entries []Entry, n int64) []Entry {
	return entries[max(0, int64(len(entries))-n):]
}

// historyFrame returns the frame of a replay. Clients at the same position share it.
func (t *topic) historyFrame(r replay) *frame {
	if r.tail == nil {
		return t.newHistoryFrame(r)
	}
	t.recent.mu.Lock()
	defer t.recent.mu.Unlock()
	f := r.tail.frames[r.use]
	if f == nil {
		f = t.newHistoryFrame(r)
		if r.tail.frames == nil {
			r.tail.frames = make(map[tailUse]*frame)
		}
		if len(r.tail.frames) < recentFrames {
			r.tail.frames[r.use] = f
		}
	}
	return f
}

func (t *topic) newHistoryFrame(r replay) *frame {
	m := historyMessage{
		Type: "history", Epoch: r.page.Epoch, Offset: r.page.Top,
		Recovered: r.recovered, Code: r.code, Entries: r.page.Entries,
	}
	switch {
	case t.room != nil:
		m.Room = t.roomName()
	case t.name != topicBroadcast:
		m.Type = "inbox"
	}
	if t.user != "" {
		m.Marks = &r.page
	}
	size := 128
	for _, e := range r.page.Entries {
		size += len(e.Data) + 64
	}
	return newFrame(appendHistory(newBuffer(size), m))
}
