package checker

import "fmt"

// deliver judges a live message.
func (w *viewer) deliver(v *view, e Event) {
	if e.Expired {
		w.checkExpired(e, Seen{Place: e.Place, Expired: true}, Event{})
	}
	switch {
	case v.left.N != 0:
		w.fault("P9", "a message after the leave was acknowledged", v.left, e)
		return
	case w.echo(v, e):
		w.fault("P2", "its own broadcast came back to a client", e)
	}
	w.removedBefore(v, e)
	switch {
	case e.Place == Place{}:
		w.plain(v, e)
		return
	case v.conn != e.Conn || !v.open:
		w.fault("P3", "a live message before the history", v.since, e)
		return
	}
	switch {
	case e.Place.Epoch != v.place.Epoch && v.place != (Place{}):
		w.fault("P3", fmt.Sprintf("a message of another log after %s, without being told", v.place), v.since, e)
	case v.place == Place{}: // the client was not told where it stands
	case e.Place.Offset <= v.place.Offset:
		w.fault("P2", fmt.Sprintf("a message again, or late: the last one was %s", v.place), v.since, e)
		return
	default:
		if missing, all := w.missing(v, e.Place.Offset-1); !all {
			w.fault("P3", fmt.Sprintf("%d is missing after %s, and no gap was told", missing, v.place), v.since, e)
		}
	}
	v.place, v.live = e.Place, true
}

// echo reports whether e is a broadcast of this client itself. As long as it
// has the same client id it is not to see those.
func (w *viewer) echo(v *view, e Event) bool {
	m := w.messages[e.ID]
	if e.Place == (Place{}) && w.history.Nodes > 1 {
		return false // from an earlier connection, to another node: nothing says by which client it was sent
	}
	return v.topic == topicAll && !e.Own && m != nil && m.send.Client == v.client && m.send.ClientID == w.clientIDs[v.client]
}

// passes judges the word of a client that everything up to a place has come.
func (w *viewer) passes(v *view, e Event) {
	v.live = false // what came were missed messages
	switch {
	case v.place == e.Place:
		return
	case v.place == (Place{}) || e.Place == (Place{}):
		v.place = e.Place
		return
	case v.place.Epoch == e.Place.Epoch && v.place.Offset < e.Place.Offset:
		if _, all := w.missing(v, e.Place.Offset); all {
			v.place = e.Place
			return
		}
	}
	w.fault("P3", fmt.Sprintf("all is said to have come up to %s, but the last message was %s", e.Place, v.place), v.since, e)
	v.place = e.Place
}

// missing looks for a message after v.place, up to an offset, that v should
// have been shown. Its own broadcasts are not sent to a client.
func (w *viewer) missing(v *view, upTo int64) (offset int64, none bool) {
	for offset = v.place.Offset + 1; offset <= upTo; offset++ {
		if v.client >= 0 && holds(v.topic) == "P7" && w.now.Conn <= 0 && w.over(v.topic, Place{v.place.Epoch, offset}, w.now.At) {
			continue // the Go client does not tell what has expired
		}
		if v.topic != topicAll {
			return offset, false
		}
		first, known := w.log(topicAll).ids[Place{v.place.Epoch, offset}]
		switch {
		case known && w.messages[first.ID] != nil && w.messages[first.ID].send.Client == v.client:
		case !known && w.own[v.client] > 0:
		default:
			return offset, false
		}
	}
	return 0, true
}

// plain judges a message that has no place: at most once, and not without a
// reason. Between nodes such a message may be doubled.
func (w *viewer) plain(v *view, e Event) {
	direct := e.ClientID != "" && w.messages[e.ID] != nil && w.messages[e.ID].send.Topic == userPrefix+e.ClientID
	if w.history.Keep(e.Topic) > 0 && !direct {
		w.fault("P3", "a message without a position", e)
	}
	first, again := v.plain[e.ID]
	if again && w.history.Nodes == 1 {
		w.fault("P2", "a message again", first, e)
	}
	if again {
		v.again[e.ID] = e
	}
	v.plain[e.ID] = e
	if v.conn != e.Conn && v.topic != topicAll && !direct {
		w.fault("P3", "a live message before the history", v.since, e)
	}
}

// present judges what else comes of a topic.
func (w *viewer) present(v *view, e Event) {
	if v.left.N != 0 {
		w.fault("P9", "something of the room after the leave was acknowledged", v.left, e)
	}
	if e.Kind != Signal {
		return
	}
	w.removedBefore(v, e)
	if first, again := v.plain[e.ID]; again && w.history.Nodes == 1 {
		w.fault("P2", "a signal again", first, e)
	}
	v.plain[e.ID] = e
}

// leaves judges an acknowledged leave: what was acknowledged before it was
// asked for has come. Other nodes may be behind, and what waits for the history that AddUser sends goes with the membership.
func (w *viewer) leaves(v *view, e Event) {
	if v.open && v.conn == e.Conn && w.history.Nodes == 1 && w.moves.added[w.membership(v)].N == 0 {
		w.reached(v, v.leave.N, v.leave, e)
	}
	v.open, v.conn, v.left = false, 0, e
}

// reached checks that v has come to everything acknowledged before event n.
func (w *viewer) reached(v *view, n int, why ...Event) {
	l := w.log(v.topic)
	at, first, ok := l.acknowledgedBefore(n)
	if !ok || v.place == (Place{}) || !l.behind(v.place, at) {
		return
	}
	from := *v
	if from.place.Epoch != at.Epoch {
		from.place = Place{at.Epoch, 0} // if all in the new log are its own, nothing has told it yet
	}
	if _, all := w.missing(&from, at.Offset); all {
		return
	}
	w.fault(v.holds(), fmt.Sprintf("client %d stands at %s of %s, and %s, which was acknowledged, did not come", v.client, v.place, v.topic, at),
		append([]Event{v.since, first}, why...)...)
}

// quiet judges all views when nothing is under way. Where hubs do not compare their topics with
// the Store, the last message may still be missing, until the next one.
func (w *viewer) quiet(e Event) {
	for _, v := range w.order {
		w.obeyed(v, e)
		switch {
		case !v.open:
		case v.conn == 0:
			w.fault(v.holds(), fmt.Sprintf("client %d did not get back into %s", v.client, v.topic), v.since, e)
		case w.history.certain():
			w.reached(v, e.N, e)
		}
	}
}

// flushed judges all views of a topic when a last message has been sent to it, on any number of nodes.
func (w *viewer) flushed(e Event) {
	if kept := min(int64(w.history.Keep(e.Topic)), e.Place.Offset); int64(len(e.Entries)) != kept {
		w.fault("P4", fmt.Sprintf("the Store has %d messages of %s, but is to keep %d", len(e.Entries), e.Topic, kept), e)
	}
	w.entries(e)
	for _, v := range w.order {
		if v.topic != e.Topic || !v.open || v.place == e.Place {
			continue
		}
		if v.place.Epoch == e.Place.Epoch {
			if _, all := w.missing(v, e.Place.Offset); all {
				continue
			}
		}
		w.fault(v.holds(), fmt.Sprintf("client %d stands at %s of %s, which ends at %s", v.client, v.place, v.topic, e.Place), v.since, e)
	}
}
