package natsstore

import "github.com/nats-io/nats.go"

// receive hands what arrives to the subscriptions. Nothing that it does waits for application code.
func (b *Broker) receive() {
	r := receiver{Broker: b}
	for {
		select {
		case <-b.ended:
			return
		case m := <-b.in:
			r.take(m)
			r.watchInbox()
		}
	}
}

type receiver struct {
	*Broker
	puzzles puzzles
	full    bool // the inbox was full: what came then, NATS has dropped
	taken   int  // since then
}

func (r *receiver) take(m *nats.Msg) {
	data, p, whole, err := open(m.Data)
	if err != nil {
		r.count.garbage.Add(1)
		r.garbage.Do(func() {
			r.opts.Logger.Warn("natsstore: a message that is none; such are ignored, and no longer told", "subject", m.Subject, "error", err)
		})
		return
	}
	if !whole {
		var lost []string
		data, lost = r.puzzles.add(m.Subject, p, data)
		for _, subject := range lost {
			r.lose(subject)
		}
		if data == nil {
			return
		}
	}
	r.count.received.Add(1)
	for _, s := range r.subs(m.Subject) {
		if s.add(data) {
			r.count.overflows.Add(1)
		}
	}
}

// watchInbox notices that the inbox was full, without the error handler of the connection, which is the application's: if
// NATS could not put a message into it, it is full, or one short of it, when this goroutine has taken the next one. Which
// subscriptions that concerns their counters know.
func (r *receiver) watchInbox() {
	if len(r.in) >= cap(r.in)-1 {
		r.full = true
	}
	if !r.full {
		return
	}
	if r.taken++; len(r.in) > cap(r.in)/2 && r.taken < cap(r.in) {
		return
	}
	r.full, r.taken = false, 0
	var lost []*subscription
	r.mu.Lock()
	for _, t := range r.topics {
		if t.sub == nil {
			continue
		}
		if n, err := t.sub.Dropped(); err == nil && n > t.dropped {
			t.dropped = n
			lost = append(lost, t.subs...)
		}
	}
	r.mu.Unlock()
	for _, s := range lost {
		r.count.overflows.Add(1)
		s.lose()
	}
}

func (b *Broker) subs(subject string) []*subscription {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if t := b.topics[subject]; t != nil {
		return t.subs
	}
	return nil
}

// lose tells the subscriptions of a subject that something was lost.
func (b *Broker) lose(subject string) {
	b.count.torn.Add(1)
	for _, s := range b.subs(subject) {
		s.lose()
	}
}

// loseAll tells it all subscriptions.
func (b *Broker) loseAll() {
	b.mu.RLock()
	var all []*subscription
	for _, t := range b.topics {
		all = append(all, t.subs...)
	}
	b.mu.RUnlock()
	for _, s := range all {
		s.lose()
	}
}
