package parley

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// headsAtOnce is how many topics are compared by one call of Store.Heads: some 40 KB of answer, a millisecond of a server.
	headsAtOnce = 512
	// topicsAtOnce is how many topics are subscribed, read or told to the Store at once, where it is about many.
	topicsAtOnce = 16
)

// watchTopics compares the topics in use with the Store: all of them every Options.SyncInterval, and at
// once those of which the Broker says that something may be lost. It ends with the hub.
func (m *monitor) watchTopics() {
	last := time.Now()
	for {
		interval := m.hub.opts.SyncInterval
		if m.deaf() {
			interval = min(interval, deafSync)
		}
		tick := time.NewTimer(interval - time.Since(last))
		select {
		case <-tick.C:
			last = time.Now()
			m.compare(anyTopic)
		case <-m.hurried:
			m.compare(func(t *topic) bool { return t.suspect.Load() })
			time.Sleep(patience) // should the Broker have trouble without end
		case <-m.hub.ctx.Done():
			tick.Stop()
			return
		}
		tick.Stop()
	}
}

// suspectAll has all topics compared.
func (m *monitor) suspectAll() {
	for _, t := range m.hub.inUse(anyTopic) {
		t.suspect.Store(true)
		t.release()
	}
	m.hurry()
}

// What inUse is asked for.
func anyTopic(*topic) bool { return true }
func isRoom(t *topic) bool { return t.room != nil }

// inUse returns the topics that match, with a reference each.
func (h *Hub) inUse(match func(*topic) bool) []*topic {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	var all []*topic
	for _, t := range h.table.topics {
		if match(t) {
			t.refs++
			all = append(all, t)
		}
	}
	return all
}

// compare finds out which of the topics are behind the Store, and brings them up.
func (m *monitor) compare(match func(*topic) bool) {
	topics := m.hub.inUse(match)
	defer func() {
		for _, t := range topics {
			t.release()
		}
	}()
	m.repair(topics)
	type lag struct {
		t    *topic
		head Head
	}
	var behind []lag
	var unmarked []*topic
	followed := slices.DeleteFunc(slices.Clone(topics), func(t *topic) bool { return !t.begun() })
	for part := range slices.Chunk(followed, headsAtOnce) {
		heads, err := m.heads(part)
		if err != nil {
			return // they stay suspect, and all are compared before long
		}
		for i, t := range part {
			if t.behind(heads[i]) {
				behind = append(behind, lag{t, heads[i]})
			}
			if t.missesMarks(heads[i]) {
				unmarked = append(unmarked, t)
			}
		}
	}
	m.remark(unmarked)
	if len(behind) == 0 {
		return
	}
	select {
	case <-time.After(patience): // most of it is on its way
	case <-m.hub.ctx.Done():
		return
	}
	for _, l := range behind {
		if !l.t.stands(l.head) {
			l.t.submit(&publication{head: &l.head, remote: true})
		}
	}
}

// heads asks the Store. The topics count as suspect until it has answered.
func (m *monitor) heads(topics []*topic) ([]Head, error) {
	h := m.hub
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.name
		t.suspect.Store(false) // what is lost from now on may not be in the answer
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.opts.StoreTimeout)
	defer cancel()
	heads, err := h.opts.Store.Heads(ctx, names)
	if err == nil && len(heads) != len(names) {
		err = errHeads
	}
	if err != nil {
		for _, t := range topics {
			t.suspect.Store(true)
		}
		if h.ctx.Err() == nil {
			_ = h.storeError("heads", err)
		}
		return nil, err
	}
	return heads, nil
}

// behind reports whether the log of the Store goes on after what the members have got, or, the second time that it seems so and
// nothing has come meanwhile, ends before it.
func (t *topic) behind(head Head) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch == "" || head.Epoch == "" {
		return false
	}
	most := max(t.last, t.most)
	if head.Epoch != t.epoch || head.Top >= most {
		t.ahead = 0
		return head.Epoch != t.epoch || head.Top > t.last
	}
	again := t.ahead == most
	t.ahead = most
	return again
}

// stands reports whether the members have got just what head says.
func (t *topic) stands(head Head) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return head.Epoch == t.epoch && head.Top == t.last && t.most <= t.last
}

// repair tries again, beside the comparing, where the Broker has refused a subscription, and where the Store did not tell how a log stands.
func (m *monitor) repair(topics []*topic) {
	var broken []*topic
	for _, t := range topics {
		if !t.attached() || t.keep.keeps() && !t.begun() && t.roster.count.Load() > 0 {
			t.retain()
			broken = append(broken, t)
		}
	}
	if len(broken) == 0 && m.hub.control.begun() {
		return
	}
	if m.repairing.Swap(true) {
		for _, t := range broken {
			t.release()
		}
		return
	}
	m.running.Go(func() {
		defer m.repairing.Store(false)
		ctx, cancel := context.WithTimeout(m.hub.ctx, m.hub.opts.StoreTimeout)
		defer cancel()
		if _, again := m.follows(time.Now()); again { // the first time is after this node has entered the registry, see beat
			_ = m.hub.beginControl(ctx) // or the next time
		}
		eachTopic(broken, func(t *topic) {
			defer t.release()
			t.attach(m.hub.ctx)
			if t.name != topicControl {
				_ = t.begin(m.hub.ctx)
			}
			t.suspect.Store(true)
		})
		m.hurry()
	})
}

// eachTopic calls f for all topics, topicsAtOnce at a time.
func eachTopic(topics []*topic, f func(*topic)) {
	var all sync.WaitGroup
	turns := make(chan struct{}, topicsAtOnce)
	for _, t := range topics {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			f(t)
		})
	}
	all.Wait()
}

// missesMarks reports whether a Mark that the members have not heard of is in the Store for the second time that we look.
func (t *topic) missesMarks(head Head) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	marks := head.Version - head.Top
	if t.user == "" || t.epoch == "" || head.Epoch != t.epoch || marks == t.marks || mutant("marks-unsynced") {
		t.unheard = 0
		return false
	}
	again := t.unheard == marks+1
	t.unheard = marks + 1 // it may be on its way
	return again
}

// remark tells the devices on this node the read state of inboxes.
func (m *monitor) remark(topics []*topic) {
	eachTopic(topics, func(t *topic) { _ = t.readMarks(true) }) // else the next time round
}
