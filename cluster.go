package parley

import (
	"context"
	"sync"
	"time"
)

// carryTimeout is how long a topic waits for the Broker to take what it publishes. What takes longer comes from the Store
// sooner, and until the Broker is known to be out of order, some seconds, each batch waits so long.
const carryTimeout = time.Second

// link is the subscription of a topic at the Broker.
type link struct {
	turn chan struct{} // holds a token while subscribing, which only joins of this topic wait for; nil without a Broker

	mu          sync.Mutex // guards the fields below; nothing else is locked while it is held
	unsubscribe func()
	ended       bool
}

func (l *link) cut() {
	l.mu.Lock()
	unsubscribe := l.unsubscribe
	l.ended, l.unsubscribe = true, nil
	l.mu.Unlock()
	if unsubscribe != nil {
		unsubscribe()
	}
}

// detach ends the subscription for good.
func (t *topic) detach() {
	if t != nil {
		t.link.cut()
	}
}

func (t *topic) attached() bool {
	t.link.mu.Lock()
	defer t.link.mu.Unlock()
	return t.link.ended || t.link.unsubscribe != nil
}

// attachSoon is attach for whoever should not wait for a Broker that is known to be out of order; then comparing attaches.
func (t *topic) attachSoon(ctx context.Context) {
	if !t.hub.monitor.deaf() {
		t.attach(ctx)
	}
}

// attach subscribes the topic at the Broker, if it is not. What fails is
// tried again at the next join, and whenever topics are compared with the Store.
func (t *topic) attach(ctx context.Context) {
	h := t.hub
	if h.opts.Broker == nil || t.attached() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, h.opts.StoreTimeout)
	defer cancel()
	select {
	case t.link.turn <- struct{}{}:
		defer func() { <-t.link.turn }()
	case <-ctx.Done():
		return
	}
	if t.attached() {
		return
	}
	unsubscribe, err := h.opts.Broker.(guardedBroker).SubscribeFiltered(ctx, t.name, h.skip, t.receive)
	if err != nil {
		h.stats.brokerErrors.Add(1)
		h.logError("parley: broker: subscribe failed", "topic", t.kind(), "error", err)
		return
	}
	t.link.mu.Lock()
	ended := t.link.ended
	if !ended {
		t.link.unsubscribe = unsubscribe
	}
	t.link.mu.Unlock()
	if ended {
		unsubscribe()
	}
}

// carry hands what this node fanned out to the others. A failure loses
// nothing that is stored, and does not fail the publications.
func (t *topic) carry(batch []*publication) {
	if t.hub.opts.Broker == nil {
		return
	}
	p := packet{Node: t.hub.node}
	for _, b := range batch {
		if b.remote || b.local || b.carried || b.err != nil || b.entry.Duplicate {
			continue
		}
		m := b.message()
		m.Epoch, m.Offset, m.Marks = b.log.Epoch, b.entry.Offset, b.marks
		if b.inbox {
			m.Unread, m.Version = b.log.Unread, b.log.Version
		}
		p.Messages = append(p.Messages, m)
	}
	if len(p.Messages) > 0 {
		t.tell(p)
	}
}

// tell publishes a packet to the other nodes. While the Broker is known to be out of order, nobody
// waits for it: what is stored they find in the Store.
func (t *topic) tell(p packet) {
	if !t.hub.monitor.deaf() {
		t.hub.publish(t.name, p)
		return
	}
	strays := t.hub.monitor.strays
	select {
	case strays <- struct{}{}:
		t.retain()
		go func() { // ends with carryTimeout
			defer t.release()
			t.hub.publish(t.name, p)
			<-strays
		}()
	default:
		t.hub.stats.brokerErrors.Add(1)
	}
}

func (h *Hub) publish(topic string, p packet) {
	ctx, cancel := context.WithTimeout(h.ctx, min(carryTimeout, h.opts.StoreTimeout))
	defer cancel()
	if err := h.opts.Broker.Publish(ctx, topic, p.encode()); err != nil && h.ctx.Err() == nil {
		h.stats.brokerErrors.Add(1)
		h.logError("parley: broker: publish failed", "topic", topicKind(topic), "error", err)
	}
}

// receive takes a packet of another node. It never blocks.
func (t *topic) receive(payload []byte) {
	if payload == nil {
		t.suspect.Store(true)
		t.hub.monitor.hurry()
		return
	}
	if isEcho(payload, t.hub.echo) {
		return
	}
	p, err := decodePacket(payload)
	if err != nil {
		t.hub.garbage(t, err)
		return
	}
	t.hub.stats.brokerReceived.Add(1)
	if p.Presence && t.room != nil {
		t.room.changedElsewhere()
	}
	if p.Gone {
		t.hub.monitor.left(p.Node)
	}
	if p.Ask != nil {
		t.hub.asked(*p.Ask)
	}
	batch := make([]*publication, 0, len(p.Messages))
	for _, m := range p.Messages {
		if err := m.check(); err != nil {
			t.hub.garbage(t, err)
			continue
		}
		batch = append(batch, &publication{
			entry: Entry{Offset: m.Offset, Data: m.Data}, v1: m.V1, key: m.Key, remote: true, marks: m.Marks, news: m.News, of: m.Of,
			log: Log{Epoch: m.Epoch, Unread: m.Unread, Version: m.Version}, inbox: m.Version > 0 && t.user != "",
		})
	}
	if len(batch) > 0 {
		t.arrive(batch)
	}
}

// arrive queues what came from another node. What follows on the last message needs no Store, and so is fanned out
// in the goroutine of the Broker; anything else may block.
func (t *topic) arrive(batch []*publication) {
	t.mu.Lock()
	first := &batch[0].log
	next := first.Epoch == "" || first.Epoch == t.epoch && batch[0].entry.Offset == t.last+1
	for i, p := range batch[1:] {
		next = next && p.log.Epoch == first.Epoch && (first.Epoch == "" || p.entry.Offset == batch[i].entry.Offset+1)
	}
	inline := next && !t.running // and so nothing is pending
	if inline {
		t.running = true
	}
	t.mu.Unlock()
	if inline {
		t.step(batch)
	} else {
		t.submit(batch...)
	}
}

// garbage counts what the Broker brought and no node of ours has sent, or a newer one (F72, S38). It is logged once.
func (h *Hub) garbage(t *topic, err error) {
	if h.stats.brokerGarbage.Add(1) == 1 {
		h.log.Warn("parley: broker: ignored a payload that is none of ours (further ones are only counted, in Stats.BrokerGarbage)", "topic", t.kind(), "error", err)
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
		t.epoch, t.last, t.begunAt, t.marks = page.Epoch, page.Top, page.Top, page.Version-page.Top
	}
	return nil
}

func (t *topic) begun() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.epoch != ""
}
