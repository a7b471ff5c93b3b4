package redisstore

// channel is a channel of Redis that somebody subscribes to here, or did a
// moment ago. Its fields are guarded by receiver.mu.
type channel struct {
	name string
	subs []*subscription // never changed in place
	lane *lane           // that which receives it; nil when it is forgotten

	on       bool    // the server has confirmed it, on the present connection of the lane, and was not told otherwise since
	queued   bool    // in lane.queue
	underway command // nothing else is sent for this channel until the answer comes
	lost     bool    // something may be lost since it was on: to be told when it is on again

	confirmed chan struct{} // closed while on is true
}

type command int

const (
	none command = iota
	subscribing
	unsubscribing
)

// reconcile sees to it that the server has what is wanted. When it
// has, and that is nothing, the channel is forgotten.
func (ch *channel) reconcile() {
	if ch.queued || ch.underway != none {
		return
	}
	wanted := len(ch.subs) > 0
	switch {
	case wanted != ch.on:
		ch.queued = true
		ch.lane.queue = append(ch.lane.queue, ch)
		wake(ch.lane.work)
	case !wanted:
		ch.lane.forget(ch)
	}
}

// confirm notes that the server has the subscription.
func (ch *channel) confirm() {
	if !ch.on {
		ch.on = true
		close(ch.confirmed)
	}
	if ch.lost {
		ch.lost = false
		for _, sub := range ch.subs {
			sub.lose()
		}
	}
}

// end notes that the server has not, or soon will not have it.
func (ch *channel) end() {
	if ch.on {
		ch.on = false
		ch.confirmed = make(chan struct{})
	}
}

// subscribed takes the server's answer to a subscription. It reports whether
// that is the first one since trouble was logged.
func (l *lane) subscribed(name string) (over bool) {
	r := l.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	over = l.down
	l.lastErr, l.down = nil, false
	ch := l.channels[name]
	if ch == nil || ch.underway == unsubscribing {
		return over
	}
	if ch.underway == subscribing {
		l.answered(ch)
	} else {
		ch.lost = true // the client has connected and subscribed again without telling
	}
	ch.confirm()
	ch.reconcile()
	return over
}

// unsubscribed takes the server's answer to the end of a subscription, or the
// news that the server has ended it, as it does when a slot of a Cluster moves to another node.
func (l *lane) unsubscribed(name string) {
	r := l.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := l.channels[name]
	switch {
	case ch == nil, ch.underway == subscribing: // news of the past
	case ch.underway == unsubscribing:
		l.answered(ch)
		ch.reconcile()
	default:
		ch.lost = ch.lost || ch.on
		ch.end()
		wake(l.moved) // who gets this finds the right node
	}
}

func (l *lane) answered(ch *channel) {
	ch.underway = none
	l.underway--
	if len(l.queue) > 0 {
		wake(l.work)
	}
}

// take makes the channel one of this lane.
func (l *lane) take(ch *channel) {
	ch.lane = l
	l.channels[ch.name] = ch
}

// forget removes the channel, which nobody wants.
func (l *lane) forget(ch *channel) {
	delete(l.channels, ch.name)
	delete(l.receiver.channels, ch.name)
	ch.lane = nil
}

const (
	maxUnderway = 2048 // commands without an answer yet, so that messages pass between the answers
	maxCommand  = 512  // channels in one command
)

// next takes from the queue what may be sent now.
func (l *lane) next() (subscribe, unsubscribe []string) {
	r := l.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(l.queue) > 0 && l.underway < maxUnderway && len(subscribe)+len(unsubscribe) < maxCommand {
		ch := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		if ch.lane != l || !ch.queued {
			continue // moved to another lane
		}
		ch.queued = false
		wanted := len(ch.subs) > 0
		switch {
		case wanted == ch.on: // somebody has changed their mind
			ch.reconcile()
			continue
		case wanted:
			ch.underway = subscribing
			subscribe = append(subscribe, ch.name)
		default:
			ch.underway = unsubscribing
			ch.end()
			unsubscribe = append(unsubscribe, ch.name)
		}
		l.underway++
	}
	if len(l.queue) == 0 {
		l.queue = nil // it was long once
	} else if l.underway < maxUnderway {
		wake(l.work)
	}
	return subscribe, unsubscribe
}

// lose notes that the connection has ended: nothing is confirmed, and all is to be subscribed anew. It
// reports whether that is new and unwanted.
func (l *lane) lose(err error) (trouble bool) {
	r := l.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	trouble = !l.down && !r.closed
	l.lastErr, l.down = err, true
	l.queue, l.underway = nil, 0
	for _, ch := range l.channels {
		ch.lost = ch.lost || ch.on
		ch.end()
		ch.queued, ch.underway = false, none
		ch.reconcile()
	}
	return trouble
}
