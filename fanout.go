package parley

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"
)

const (
	// patience is how long a message that came before one with a lower offset waits for that one: two nodes that publish at
	// the same time overtake each other by some milliseconds, and asking the Store each time would cost more.
	patience = 50 * time.Millisecond
	// maxEarly is how many messages may wait so.
	maxEarly = 256
)

// fanOutRun collects the frames of one batch so that members get a log
// without holes and doubles, whatever the Broker has lost, doubled or reordered.
type fanOutRun struct {
	topic   *topic
	frames  []*frame
	size    int  // bytes in frames
	restart bool // the members were told of a gap before the next frame
	lost    bool // there is a hole that could not be filled
	over    bool // who waits has waited long enough
}

// add adds p and what is missing before it, or nothing if p was sent already.
func (r *fanOutRun) add(p *publication) {
	t := r.topic
	switch {
	case p.poke:
		r.expire()
		return
	case p.head != nil:
		r.compare(*p.head)
		return
	case p.log.Epoch == "":
		r.send(p)
		return
	}
	t.mu.Lock()
	epoch, last, begunAt := t.epoch, t.last, t.begunAt
	t.mu.Unlock()
	if epoch == "" && t.name == topicControl {
		return // beginControl finds it
	}
	if epoch != p.log.Epoch {
		if epoch != "" && !r.restarted(p.log.Epoch, p.entry.Offset) {
			return
		}
		if t.name == topicControl {
			return // beginControl finds it, after those before it
		}
		last = p.entry.Offset - 1
	}
	switch {
	case p.entry.Offset <= last && !p.remote && !p.entry.Duplicate && p.entry.Offset <= begunAt:
		// Somebody who came while it was appended has read it already, and told begin; the others have not.
		r.send(p)
		return
	case p.entry.Offset <= last && !mutant("redeliver"), epoch == "" && p.entry.Duplicate:
		return
	case p.entry.Duplicate:
		// The answer to the call that stored it was lost, and so it was not sent.
		r.fill(p.log.Epoch, last, p.entry.Offset+1)
	case p.entry.Offset > last+1 && r.holds(p):
		return
	case p.remote && p.entry.Offset > last+1 && !r.exists(p):
		return
	default:
		r.fill(p.log.Epoch, last, p.entry.Offset)
		r.send(p)
	}
	r.reached(p.log.Epoch, p.entry.Offset)
}

// reached notes how far the members are, and goes on with what has waited for that.
func (r *fanOutRun) reached(epoch string, offset int64) {
	t := r.topic
	if r.lost {
		return
	}
	t.mu.Lock()
	again := t.name == topicControl && t.epoch != epoch
	if !again {
		t.moveLocked(epoch, offset)
	}
	t.mu.Unlock()
	if again {
		return // it was reset, and beginControl says where it goes on
	}
	for len(t.early) > 0 && t.early[0].entry.Offset <= offset+1 {
		p := t.nextEarly()
		if p.entry.Offset == offset+1 && p.log.Epoch == epoch {
			r.send(p)
			offset++
			t.mu.Lock()
			t.last = offset
			t.mu.Unlock()
		}
	}
}

// holds keeps p for a moment, because what is missing before it is probably on its way (F26).
func (r *fanOutRun) holds(p *publication) bool {
	t := r.topic
	if r.over || t.hub.opts.Broker == nil || len(t.early) >= maxEarly || t.hub.monitor.deaf() {
		return false
	}
	i, known := slices.BinarySearchFunc(t.early, p.entry.Offset, func(e *publication, offset int64) int {
		return int(e.entry.Offset - offset)
	})
	if known && p.remote {
		return true
	}
	p.waits = true
	if known {
		t.arrived = append(t.arrived, t.early[i]) // whoever waits for that has its answer
		t.early[i] = p
	} else {
		t.early = slices.Insert(t.early, i, p)
	}
	if !t.poking {
		t.poking = true
		t.retain()
		time.AfterFunc(patience, func() {
			defer t.release()
			t.submit(&publication{poke: true, remote: true})
		})
	}
	return true
}

// nextEarly takes out the first of those that wait.
func (t *topic) nextEarly() *publication {
	p := t.early[0]
	t.early = t.early[1:]
	t.arrived = append(t.arrived, p)
	return p
}

// giveUpEarly has nobody wait any more: what is missing is found by comparing, or comes with the log.
func (t *topic) giveUpEarly() { t.arrived, t.early = append(t.arrived, t.early...), nil }

// expire goes on without what has not come.
func (r *fanOutRun) expire() {
	t := r.topic
	r.over, t.poking = true, false
	for len(t.early) > 0 {
		r.add(t.nextEarly())
	}
}

// compare brings the members to where the Store says that the log ends (F13, F20): what the Broker has
// lost last before a silence shows by nothing else.
func (r *fanOutRun) compare(head Head) {
	t := r.topic
	t.mu.Lock()
	epoch, last, most := t.epoch, t.last, max(t.last, t.most)
	t.mu.Unlock()
	switch {
	case epoch == "" || head.Epoch == epoch && head.Top == last && most == last || mutant("nosync"):
		return
	case head.Epoch != epoch:
		if r.restarted(head.Epoch, head.Top+1) {
			r.flush() // of the reset, which says how far it goes
		}
		return
	case head.Top < most:
		r.rewind(epoch, most)
		return
	}
	t.hub.stats.brokerMissed.Add(uint64(head.Top - last))
	r.fill(epoch, last, head.Top+1)
	r.reached(epoch, head.Top)
}

// rewind tells the members that the log ends before what they have got: the Store has lost its end, or
// somebody has made up messages at the Broker.
func (r *fanOutRun) rewind(epoch string, last int64) {
	page, err := r.read(Query{})
	if err != nil || page.Epoch != epoch || page.Top >= last {
		return // it is so no more, or the next time round
	}
	r.reset(epoch, page.Top+1, codeAhead)
	r.flush()
}

// read reads the log for the members. Many topics may have something to make up at the same time: they take turns.
func (r *fanOutRun) read(q Query) (Page, error) {
	h := r.topic.hub
	ctx, cancel := context.WithTimeout(h.ctx, h.opts.StoreTimeout)
	defer cancel()
	select {
	case h.reads <- struct{}{}:
		defer func() { <-h.reads }()
	case <-ctx.Done():
		return Page{}, fmt.Errorf("%w: too many reads wait: %w", ErrStore, ctx.Err())
	}
	return r.topic.read(ctx, q)
}

// exists asks the Store whether a message that another node tells of, and that
// does not follow on the last one, is in the log: a made-up offset would silence the topic.
func (r *fanOutRun) exists(p *publication) bool {
	page, err := r.read(Query{})
	if err != nil {
		r.lost = true
		return false
	}
	if page.Epoch == p.log.Epoch && p.entry.Offset <= page.Top {
		return true
	}
	r.topic.hub.stats.brokerGarbage.Add(1)
	return false
}

// send adds the frame of p. After a hole that could not be filled no stored
// message follows: the members are about to be closed, and resume before the hole.
func (r *fanOutRun) send(p *publication) {
	if r.lost && p.log.Epoch != "" {
		return
	}
	r.topic.heard(p)
	if r.topic.name == topicControl {
		r.topic.hub.obey(p)
		return
	}
	p.frame = p.newFrame()
	p.frame.restart, r.restart = r.restart, false
	r.push(p.frame)
}

func (r *fanOutRun) push(f *frame) {
	r.frames = append(r.frames, f)
	if r.size += len(f.wire); r.size > r.topic.hub.opts.QueueSize/4 {
		r.flush()
		runtime.Gosched() // see topic.run
	}
}

// moveLocked sets how far the members are.
func (t *topic) moveLocked(epoch string, last int64) {
	if t.epoch != epoch {
		t.begunAt, t.most = 0, 0 // of another log
	}
	t.epoch, t.last = epoch, last
}

// note moves the topic past the frames that are about to be fanned out: who
// joins from now on, and does not get them live, must find them in what it reads.
func (r *fanOutRun) note() {
	t := r.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range r.frames {
		switch {
		case f.resets != "":
			t.moveLocked(f.resets, f.offset)
			t.most = f.offset
		case f.epoch != "" && (f.epoch != t.epoch || f.offset > t.last):
			t.moveLocked(f.epoch, f.offset)
		}
	}
}

// flush fans out what was collected.
func (r *fanOutRun) flush() {
	if len(r.frames) == 0 {
		return
	}
	r.note()
	r.topic.roster.fanOut(r.frames)
	for _, f := range r.frames {
		r.topic.hub.stats.fannedOut(f)
	}
	r.frames, r.size = r.frames[:0], 0
}

// fill adds the messages between after and before from the Store.
func (r *fanOutRun) fill(epoch string, after, before int64) {
	for after < before-1 && !mutant("nofill") {
		limit := int(min(before-1-after, maxReplay))
		page, err := r.read(Query{Forward: true, After: after, Limit: limit})
		if err != nil {
			r.lost = true
			return
		}
		if page.Epoch != epoch || len(page.Entries) == 0 || page.Entries[0].Offset != after+1 {
			why := codeGone
			if page.Epoch != epoch {
				why = codeReset
			}
			r.reset(epoch, before, why)
			return
		}
		for _, e := range page.Entries {
			if e.Offset < before {
				r.send(&publication{remote: true, entry: e, log: page.Log, inbox: r.topic.user != "", v1: e.Data == nil})
			}
			after = e.Offset
		}
	}
}

// restarted finds out whether there is a new log, and not an old one
// whose message comes late, and tells the members of it, up to before an offset.
func (r *fanOutRun) restarted(epoch string, before int64) bool {
	page, err := r.read(Query{})
	r.lost = r.lost || err != nil
	if err != nil {
		return false
	}
	if page.Epoch != epoch {
		if !r.topic.at(page.Epoch) { // the log was lost twice, the second time together with this message
			r.reset(page.Epoch, page.Top+1, codeReset)
			r.flush()
		}
		return false
	}
	r.reset(epoch, before, codeReset)
	return true
}

// reset tells the members of a gap: the newest history before an offset takes
// the place of what they knew (P4.10).
func (r *fanOutRun) reset(epoch string, before int64, why Code) {
	if r.lost {
		return
	}
	t := r.topic
	t.giveUpEarly()
	if t.name == topicControl {
		if why != codeGone {
			t.mu.Lock()
			t.epoch = "" // beginControl reads it again
			t.mu.Unlock()
			t.hub.monitor.reenter()
		}
		t.hub.logError("parley: the log of commands has lost some: DisconnectUser and the like of just now may not have reached this node", "code", why)
		return
	}
	r.restart = r.restart || why == codeReset // a hole says nothing to who knows a newer log
	if mutant("noreset") {
		return
	}
	page, err := r.read(Query{Before: before, Limit: t.pageSize()})
	if err != nil || page.Epoch != epoch { // lost again, since we looked
		r.lost = true
		return
	}
	if why == codeAhead {
		t.recent.outdate()
	}
	t.mu.Lock()
	t.marks = marksUnsure // who has joined just now leaves the frame out, and may know an older read state
	t.mu.Unlock()
	page.Top = before - 1
	page.Entries = t.newestFitting(page.Entries)
	told := replay{page: page, recovered: new(false), code: why}
	f := t.historyFrame(told)
	f.resets, f.offset, f.v1Only, f.hole = page.Epoch, page.Top, t.room == nil, why != codeReset
	f.rewound = why == codeAhead
	r.push(f)
}

// heard notes of how many Marks the members know by p.
func (t *topic) heard(p *publication) {
	if p.marks == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := p.marks - 1; t.marks == marksUnknown && !p.news || p.news && p.of == t.epoch && n == t.marks+1 && t.marks >= 0 {
		t.marks = n
	}
}

// Values of topic.marks beside the number: nobody has asked yet, and members may know different things, so that comparing tells all of them.
const (
	marksUnknown = -1
	marksUnsure  = -2
)
