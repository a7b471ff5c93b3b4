package parley

import (
	"bytes"
	"context"
	"encoding/json"
	"runtime"
	"sync"
)

// packetVersion is the version of what nodes tell each other. Nodes ignore
// packets of a version that they do not know, and get stored messages from the Store.
const packetVersion = 1

// packet carries a batch of a topic to the other nodes.
type packet struct {
	Version  int             `json:"v"`
	Node     string          `json:"node"`
	Messages []packetMessage `json:"messages"`
}

type packetMessage struct {
	Epoch  string `json:"epoch,omitempty"` // empty: not stored
	Offset int64  `json:"offset,omitempty"`
	V1     bool   `json:"v1,omitempty"`
	Key    string `json:"key,omitempty"`
	// Of an inbox, see Log. Version is 0 for any other topic.
	Unread  int   `json:"unread,omitempty"`
	Version int64 `json:"version,omitempty"`

	Data json.RawMessage `json:"data"`
}

// link is the subscription of a topic at the Broker.
type link struct {
	mu          sync.Mutex // held while subscribing, which only joins of this topic wait for
	unsubscribe func()
	ended       bool
}

func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.unsubscribe != nil {
		l.unsubscribe()
		l.unsubscribe = nil
	}
}

// attach subscribes the topic at the Broker, if it is not. What fails is
// tried again at the next join; until then stored messages of other nodes
// come with the next one that gets through, from the Store.
func (t *topic) attach(ctx context.Context) {
	h := t.hub
	if h.opts.Broker == nil {
		return
	}
	t.link.mu.Lock()
	defer t.link.mu.Unlock()
	if t.link.ended || t.link.unsubscribe != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, h.opts.StoreTimeout)
	defer cancel()
	unsubscribe, err := h.opts.Broker.Subscribe(ctx, t.name, t.receive)
	if err != nil {
		h.stats.brokerErrors.Add(1)
		h.logError("parley: broker: subscribe failed", "topic", t.kind(), "error", err)
		return
	}
	t.link.unsubscribe = unsubscribe
}

// carry hands what this node fanned out to the others. A failure loses
// nothing that is stored, and does not fail the publications.
func (t *topic) carry(batch []*publication) {
	h := t.hub
	if h.opts.Broker == nil {
		return
	}
	p := packet{Version: packetVersion, Node: h.node}
	for _, b := range batch {
		if b.remote || b.err != nil || b.entry.Duplicate {
			continue
		}
		m := packetMessage{Epoch: b.log.Epoch, Offset: b.entry.Offset, V1: b.v1, Key: b.key, Data: b.entry.Data}
		if b.inbox {
			m.Unread, m.Version = b.log.Unread, b.log.Version
		}
		p.Messages = append(p.Messages, m)
	}
	if len(p.Messages) == 0 {
		return
	}
	var payload bytes.Buffer
	encoder := json.NewEncoder(&payload)
	encoder.SetEscapeHTML(false) // payloads are passed on as they are
	err := encoder.Encode(p)
	if err == nil {
		ctx, cancel := context.WithTimeout(h.ctx, h.opts.StoreTimeout)
		defer cancel()
		err = h.opts.Broker.Publish(ctx, t.name, payload.Bytes())
	}
	if err != nil {
		h.stats.brokerErrors.Add(1)
		h.logError("parley: broker: publish failed", "topic", t.kind(), "error", err)
	}
}

// receive takes a packet of another node. It never blocks.
func (t *topic) receive(payload []byte) {
	var p packet
	if err := json.Unmarshal(payload, &p); err != nil || p.Version != packetVersion {
		t.hub.stats.brokerGarbage.Add(1)
		return
	}
	if p.Node == t.hub.node {
		return
	}
	batch := make([]*publication, 0, len(p.Messages))
	for _, m := range p.Messages {
		if len(m.Data) == 0 || m.Data[0] != '{' || m.Offset < 0 || (m.Epoch == "") != (m.Offset == 0) {
			t.hub.stats.brokerGarbage.Add(1)
			continue
		}
		batch = append(batch, &publication{
			entry: Entry{Offset: m.Offset, Data: m.Data}, v1: m.V1, key: m.Key, remote: true,
			log: Log{Epoch: m.Epoch, Unread: m.Unread, Version: m.Version}, inbox: m.Version > 0,
		})
	}
	if len(batch) == 0 {
		return
	}
	t.mu.Lock()
	t.pending = append(t.pending, batch...)
	lead := !t.running
	t.running = true
	t.mu.Unlock()
	if lead {
		t.start()
	}
}

// begin finds out where the log stands, before the first member reads it.
// So every member knows at least this much, and all that comes after it
// follows without holes, however the members' reads and the publications overlap.
func (t *topic) begin(ctx context.Context) error {
	if t.begun() || !t.keep.keeps() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.hub.opts.StoreTimeout)
	defer cancel()
	if err := t.takeTurn(ctx); err != nil {
		return err
	}
	defer t.endTurn()
	if t.begun() {
		return nil
	}
	page, err := t.read(ctx, Query{})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch == "" {
		t.epoch, t.last = page.Epoch, page.Top
	}
	return nil
}

func (t *topic) begun() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.epoch != ""
}

// fanOutRun collects the frames of one batch so that members get a log
// without holes and doubles, whatever the Broker has lost, doubled or reordered.
type fanOutRun struct {
	topic   *topic
	frames  []*frame
	size    int  // bytes in frames
	restart bool // the members were told of a gap before the next frame
	lost    bool // there is a hole that could not be filled
}

// add adds p and what is missing before it, or nothing if p was sent already.
func (r *fanOutRun) add(p *publication) {
	t := r.topic
	if p.log.Epoch == "" {
		r.send(p)
		return
	}
	t.mu.Lock()
	epoch, last := t.epoch, t.last
	t.mu.Unlock()
	if epoch != p.log.Epoch {
		if epoch != "" && !r.restarted(p) {
			return
		}
		last = p.entry.Offset - 1
	}
	switch {
	case p.entry.Offset <= last && !p.remote && !p.entry.Duplicate:
		// Somebody who came while it was appended has read it already, and told begin; the others have not.
		r.send(p)
		return
	case p.entry.Offset <= last && !mutant("redeliver"), epoch == "" && p.entry.Duplicate:
		return
	case p.entry.Duplicate:
		// The answer to the call that stored it was lost, and so it was not sent.
		r.fill(p.log.Epoch, last, p.entry.Offset+1)
	case p.remote && p.entry.Offset > last+1 && !r.exists(p):
		return
	default:
		r.fill(p.log.Epoch, last, p.entry.Offset)
		r.send(p)
	}
	t.mu.Lock()
	t.epoch, t.last = p.log.Epoch, p.entry.Offset
	t.mu.Unlock()
}

// exists asks the Store whether a message that another node tells of, and that
// does not follow on the last one, is in the log: a made-up offset would silence the topic.
func (r *fanOutRun) exists(p *publication) bool {
	page, err := r.topic.read(r.topic.hub.ctx, Query{})
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

// note moves the topic past the frames that are about to be fanned out: who
// joins from now on, and does not get them live, must find them in what it reads.
func (r *fanOutRun) note() {
	t := r.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range r.frames {
		switch {
		case f.resets != "":
			t.epoch, t.last = f.resets, f.offset
		case f.epoch != "" && (f.epoch != t.epoch || f.offset > t.last):
			t.epoch, t.last = f.epoch, f.offset
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
		page, err := r.topic.read(r.topic.hub.ctx, Query{Forward: true, After: after, Limit: limit})
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
			r.send(&publication{entry: e, log: page.Log, inbox: r.topic.user != "", v1: e.Data == nil})
			after = e.Offset
		}
	}
}

// restarted finds out whether p belongs to a new log, and not to an old one
// whose message comes late, and tells the members.
func (r *fanOutRun) restarted(p *publication) bool {
	page, err := r.topic.read(r.topic.hub.ctx, Query{})
	r.lost = r.lost || err != nil
	if err != nil || page.Epoch != p.log.Epoch {
		return false
	}
	r.reset(p.log.Epoch, p.entry.Offset, codeReset)
	return true
}

// reset tells the members of a gap: the newest history before an offset takes
// the place of what they knew (P4.10).
func (r *fanOutRun) reset(epoch string, before int64, why Code) {
	if r.lost {
		return
	}
	t := r.topic
	r.restart = true
	if mutant("noreset") {
		return
	}
	page, err := t.read(t.hub.ctx, Query{Before: before, Limit: t.pageSize()})
	if err != nil || page.Epoch != epoch { // lost again, since we looked
		r.lost = true
		return
	}
	page.Top = before - 1
	page.Entries = t.newestFitting(page.Entries)
	told := replay{page: page, recovered: new(false), code: why}
	f := t.historyFrame(told)
	f.resets, f.offset, f.v1Only = page.Epoch, page.Top, t.room == nil
	r.push(f)
}
