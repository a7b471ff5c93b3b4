package parley

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Names of topics; what follows the prefix comes from users.
const (
	roomPrefix     = "room/"
	userPrefix     = "user/"
	topicBroadcast = "all"
)

// topic is an ordered log with members: a room, the inbox of a user, or the
// broadcast. Publications are queued; one goroutine at a time takes all that
// collected, appends them to the Store, and fans them out as one batch.
type topic struct {
	hub    *Hub
	name   string
	keep   Retention
	roster roster
	room   *roomState // nil unless this is a room
	user   string     // whose inbox this is, else ""

	refs int // guarded by topicTable.mu: members, publishers and timers

	mu      sync.Mutex // guards pending, running, and where the members are; no other lock is taken while it is held
	pending []*publication
	running bool

	// The message fanned out last; set by the running goroutine, and by begin.
	// Guarded by mu.
	epoch string
	last  int64
	// What begin found, 0 if it has not.
	begunAt int64
	// How many Marks the members have heard of, or marksUnknown or marksUnsure; see Log.Version. Guarded by mu.
	marks   int64
	unheard int64 // see missesMarks
	ahead   int64 // see behind
	most    int64 // how far a history of this log went that a member has got; it may be after last

	// Used by the running goroutine alone: what waits for messages before it, in order of offset,
	// and what has waited so, and need not wait any more.
	early, arrived []*publication
	poking         bool // a timer ends the patience of early

	recent recent // what was read of the log

	resolving atomic.Bool // see resolve
	link      link        // to the other nodes
	suspect   atomic.Bool // the Broker says that something may be lost
}

// publication is one message on its way through a topic.
type publication struct {
	entry Entry  // Data is the message object
	store bool   // append it to the log
	skip  *Conn  // see frame
	v1    bool   // see frame.v1Only
	key   string // see frame
	// remote: it came from another node, and was appended there if it has an epoch.
	remote bool
	log    Log  // how the log stands with it; without an epoch it is not stored
	inbox  bool // the frame carries log.Unread and log.Version (P8.1)
	// marks is how many Marks the log has had with it, counted from 1, so that 0 is unknown; news: this tells of the last one.
	marks int64
	news  bool
	of    string // the epoch that news is of
	// local: it is not for other nodes. carried: they have got it with the append.
	local, carried bool
	waits          bool // it is in topic.early
	// Instead of a message: poke ends the patience of topic.early, head is where the Store says that the log ends.
	poke bool
	head *Head

	frame *frame
	err   error
	done  chan struct{} // receives one value when the fields above are final

	flight *flight // instead of somebody who waits for done
}

// finish tells whoever waits for p that its fields are final.
func (p *publication) finish() {
	switch {
	case p.done != nil:
		p.done <- struct{}{}
	case p.flight != nil:
		p.flight.land()
	}
}

// publish queues p and returns when it was fanned out, refused, or ctx ended;
// in the last case the outcome is unknown to the caller.
func (t *topic) publish(ctx context.Context, p *publication) (Result, error) {
	return t.await(ctx, p, t.enqueue(p))
}

// enqueue gives p its place in the order of the topic. Call await next.
func (t *topic) enqueue(p *publication) (lead bool) {
	p.done = make(chan struct{}, 1)
	return t.queue(p)
}

// queue adds publications to those that wait, and reports whether the caller has to see to it that they are processed.
func (t *topic) queue(batch ...*publication) (lead bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending = append(t.pending, batch...)
	lead = !t.running
	t.running = true
	return lead
}

func (t *topic) await(ctx context.Context, p *publication, lead bool) (Result, error) {
	if lead {
		if !t.hub.fast {
			t.start() // a Store or Broker may block for longer than ctx allows
		} else {
			t.step(t.take())
		}
	}
	select {
	case <-p.done:
		return p.result(), p.err
	default:
	}
	select {
	case <-p.done:
		return p.result(), p.err
	case <-ctx.Done():
		return Result{}, fmt.Errorf("parley: publish: outcome unknown: %w", ctx.Err())
	}
}

func (p *publication) result() Result {
	r := Result{Stored: p.store && p.err == nil, Duplicate: p.entry.Duplicate, Epoch: p.log.Epoch, Offset: p.entry.Offset, Unread: p.log.Unread}
	if p.frame != nil {
		r.Delivered, r.Dropped = p.frame.delivered, p.frame.dropped
	}
	return r
}

// step processes one batch in the goroutine of a publisher, and leaves what
// collected meanwhile to a goroutine of its own: no publisher works for others for long.
func (t *topic) step(batch []*publication) {
	t.process(batch)
	t.mu.Lock()
	more := len(t.pending) > 0
	t.running = more
	t.mu.Unlock()
	if more {
		t.start()
	}
}

// start runs the topic in a goroutine of its own, which ends when nothing is
// pending. It holds a reference: publishers may give up and release theirs, and
// the topic that members join meanwhile must be the one that delivers.
// The caller holds a reference.
func (t *topic) start() {
	t.retain()
	t.hub.runStarts()
	t.hub.runners.run(t)
}

func (t *topic) run() {
	defer t.hub.runEnds()
	defer t.release()
	for {
		batch := t.take()
		if batch == nil {
			return
		}
		t.process(batch)
		// The drains that the batch has started go first, or the next one
		// could overflow queues that nobody is slow to empty.
		runtime.Gosched()
	}
}

// take returns what is pending, up to a quarter of a connection's queue, so
// that a batch fits into an empty one; nil ends the run.
func (t *topic) take() []*publication {
	t.mu.Lock()
	defer t.mu.Unlock()
	room := t.hub.opts.QueueSize / 4
	n := 0
	for n < len(t.pending) && (n == 0 || room > 0) {
		room -= len(t.pending[n].entry.Data) + 64
		n++
	}
	batch := t.pending[:n:n]
	if t.pending = t.pending[n:]; len(t.pending) == 0 {
		t.pending = nil
	}
	if n == 0 {
		t.running = false
		return nil
	}
	return batch
}

// process delivers a batch, reports it done, and hands it to the other nodes.
func (t *topic) process(batch []*publication) {
	t.deliver(batch)
	for _, p := range batch {
		if !p.waits {
			p.finish()
		}
	}
	for _, p := range t.arrived {
		p.finish()
	}
	t.arrived = nil
	t.carry(batch)
}

// submit queues publications that nobody waits for.
func (t *topic) submit(batch ...*publication) {
	if t.queue(batch...) {
		t.start()
	}
}

// deliver stores, frames and fans out a batch, in order. It may run in a
// goroutine of ours: data of a Store that makes it panic must not end the process.
func (t *topic) deliver(batch []*publication) {
	defer func() {
		if v := recover(); v != nil {
			t.hub.stats.panics.Add(1)
			t.hub.logError("parley: panic", "in", "fan-out", "topic", t.kind(), "panic", v, "stack", string(debug.Stack()))
		}
	}()
	t.store(batch)
	run := fanOutRun{topic: t, frames: make([]*frame, 0, len(batch))}
	for _, p := range batch {
		if p.err == nil {
			run.add(p)
		}
	}
	run.flush()
	if run.lost && t.hub.opts.Broker != nil {
		// The members stay where they are, and get what is missing, and what follows, by comparing.
		t.giveUpEarly()
		t.suspect.Store(true)
	} else if run.lost {
		// Where the log stands is found out anew: what was stored meanwhile must
		// be in what the members read when they come back.
		t.mu.Lock()
		t.epoch, t.last, t.begunAt, t.marks = "", 0, 0, marksUnknown
		t.mu.Unlock()
		t.giveUpEarly()
		t.roster.end(CloseResync, "missed messages: reconnect and resume")
	}
}

// positionRoom is what the members for its place take in a message, besides the epoch; in an inbox they are more.
const positionRoom = 44

func (p *publication) newFrame() *frame {
	data := p.entry.message()
	buf := newBuffer(len(data) + len(p.log.Epoch) + positionRoom)
	switch {
	case p.log.Epoch == "":
		buf = append(buf, data...)
	case p.inbox && !mutant("uncounted"):
		buf = appendCounted(appendPositioned(buf, data, p.log.Epoch, p.entry.Offset), p.log)
	default:
		buf = appendPositioned(buf, data, p.log.Epoch, p.entry.Offset)
	}
	f := newFrame(buf)
	f.skip, f.v1Only, f.key = p.skip, p.v1, p.key
	f.epoch, f.offset = p.log.Epoch, p.entry.Offset
	return f
}

// store appends those publications of the batch that are to be kept.
func (t *topic) store(batch []*publication) {
	entries := make([]Entry, 0, len(batch))
	for _, p := range batch {
		if p.store {
			entries = append(entries, p.entry)
		}
	}
	if len(entries) == 0 {
		return
	}
	log, err := t.append(entries, batch)
	if err == nil {
		err = checkAppended(log.Epoch, entries)
	}
	if err != nil {
		t.hub.stats.storeErrors.Add(1)
		t.hub.logError("parley: store: append failed", "topic", t.kind(), "error", err)
		err = fmt.Errorf("%w: %w", ErrStore, err)
	}
	if mutant("ackanyway") {
		err = nil
	}
	if mutant("count-old") {
		log.Unread = max(0, log.Unread-len(entries))
	}
	i := 0
	for _, p := range batch {
		if p.store {
			p.entry, p.log, p.err = entries[i], log, err
			p.marks = marksOf(log, entries)
			i++
		}
	}
}

// checkAppended reports what breaks the contract of Store.Append (F12).
func checkAppended(epoch string, entries []Entry) error {
	if epoch == "" {
		return errNoEpoch
	}
	last := int64(0)
	for _, e := range entries {
		if e.Offset < 1 || !e.Duplicate && last > 0 && e.Offset != last+1 {
			return fmt.Errorf("broken Store: appended at offset %d after %d", e.Offset, last)
		}
		if !e.Duplicate {
			last = e.Offset
		}
	}
	return nil
}

// append calls the Store with its timeout. If that can hand what is appended to the other nodes, it does.
func (t *topic) append(entries []Entry, batch []*publication) (Log, error) {
	ctx := t.hub.appends.context()
	if t.hub.appender == nil {
		return t.hub.opts.Store.Append(ctx, t.name, t.keep, entries)
	}
	p := packet{Node: t.hub.node}
	for _, b := range batch {
		if b.store {
			p.Messages = append(p.Messages, b.message())
			b.carried = true
		}
	}
	return t.hub.appender.AppendPublish(ctx, t.name, t.keep, entries, p.encode())
}

// marksOf returns publication.marks for what was appended.
func marksOf(log Log, entries []Entry) int64 {
	for i := len(entries) - 1; i >= 0; i-- {
		if !entries[i].Duplicate {
			return log.Version - entries[i].Offset + 1
		}
	}
	return 0
}

// kind is the topic's name without what came from users, for logs.
func (t *topic) kind() string { return topicKind(t.name) }

func topicKind(name string) string {
	kind, _, _ := strings.Cut(name, "/")
	return kind
}

func nowMillis() int64 { return time.Now().UnixMilli() }

// topicTable finds the topics in use. A topic lives as long as somebody holds a reference.
type topicTable struct {
	mu     sync.Mutex // guards topics and topic.refs; nothing else is locked while it is held
	topics map[string]*topic
}

// acquire returns the topic of this name, with a reference for the caller.
func (h *Hub) acquire(name string) *topic {
	if t := h.lookup(name); t != nil {
		return t
	}
	fresh := h.newTopic(name) // may call Options.Room: not under the lock
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	t := h.table.topics[name]
	if t == nil {
		t = fresh
		h.table.topics[name] = t
	}
	t.refs++
	return t
}

func (h *Hub) newTopic(name string) *topic {
	t := &topic{hub: h, name: name, marks: marksUnknown, recent: recent{turn: make(chan struct{}, topicReads)}}
	if h.opts.Broker != nil {
		t.link.turn = make(chan struct{}, 1)
	}
	switch {
	case name == topicBroadcast:
		t.keep = h.opts.BroadcastHistory
	case name == topicControl:
		t.keep = controlLog
	case strings.HasPrefix(name, userPrefix):
		t.keep, t.user = h.opts.Inbox, name[len(userPrefix):]
	default:
		t.room = newRoomState(t, h.roomConfig(name[len(roomPrefix):]))
		t.keep = t.room.config.History
	}
	return t
}

// lookup is acquire without creating the topic.
func (h *Hub) lookup(name string) *topic {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	t := h.table.topics[name]
	if t != nil {
		t.refs++
	}
	return t
}

// release gives a reference back. The last one ends the topic on this node.
func (t *topic) release() {
	table := &t.hub.table
	table.mu.Lock()
	t.refs--
	ended := t.refs == 0 && !mutant("leak")
	if ended && table.topics[t.name] == t {
		delete(table.topics, t.name)
	}
	table.mu.Unlock()
	if ended {
		t.link.cut()
	}
}

// retain adds a reference for somebody, while the caller holds one.
func (t *topic) retain() {
	t.hub.table.mu.Lock()
	defer t.hub.table.mu.Unlock()
	t.refs++
}
