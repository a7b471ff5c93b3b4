package checker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// view is what one client has been shown of one topic: P2, P3, P4 and P7.
type view struct {
	client int
	topic  string
	open   bool  // place is known, and every message after it must come
	conn   int   // the connection on which live messages may come; 0 without one
	place  Place // of the last message
	since  Event // the Base that place counts from
	live   bool  // a message has come after it
	asked  Event // the Join, if there was one since the connection began
	left   Event // the Left or Ousted, likewise
	leave  Event
	plain  map[string]Event // messages without a place, by id
	again  map[string]Event // those that have come twice
	member membership
}

type viewKey struct {
	client int
	topic  string
}

// viewer goes through a history once and follows all views.
type viewer struct {
	*judge
	views map[viewKey]*view
	order []*view       // in the order of appearance
	dials map[int]Event // by connection
	// clientIDs are those that clients have now.
	clientIDs map[int]string
	own       map[int]int // by client: broadcasts of which nobody knows what became
	now       Event
	moves     moves
}

func (j *judge) checkViews() {
	w := &viewer{judge: j, views: make(map[viewKey]*view), dials: make(map[int]Event), own: make(map[int]int), clientIDs: make(map[int]string), moves: newMoves()}
	for _, m := range j.messages {
		if m.send.Topic == topicAll && !m.acked {
			w.own[m.send.Client]++
		}
	}
	for _, e := range j.history.Events {
		w.see(e)
	}
}

func (w *viewer) view(client int, topic string) *view {
	key := viewKey{client, topic}
	v := w.views[key]
	if v == nil {
		v = &view{client: client, topic: topic, plain: make(map[string]Event), again: make(map[string]Event)}
		w.views[key] = v
		w.order = append(w.order, v)
	}
	return v
}

func (w *viewer) see(e Event) {
	w.now = e
	w.moved(e)
	switch e.Kind {
	case Dial:
		w.dials[e.Conn] = e
	case Connected:
		w.clientIDs[e.Client] = e.ClientID
		w.detach(func(v *view) bool { return v.client == e.Client && v.conn > 0 })
	case Closed, Replaced:
		w.detach(func(v *view) bool { return v.conn == e.Conn && v.conn > 0 })
	case Reached:
		w.passes(w.view(e.Client, e.Topic), e)
	case Join:
		v := w.view(e.Client, e.Topic)
		v.asked, v.left = e, Event{}
	case Page:
		w.entries(w.unfold(e))
	case Base:
		w.base(w.view(e.Client, e.Topic), e)
	case Deliver:
		w.deliver(w.view(e.Client, e.Topic), e)
	case Leave:
		w.view(e.Client, e.Topic).leave = e
	case Left:
		w.leaves(w.view(e.Client, e.Topic), e)
	case Ousted:
		w.ousted(w.view(e.Client, e.Topic), e)
	case Dropped:
		v := w.view(e.Client, e.Topic)
		v.open, v.conn = false, 0
	case Roster, Came, Went, Told, Signal:
		if e.Topic != "" {
			w.present(w.view(e.Client, e.Topic), e)
		}
	case Quiet:
		w.quiet(e)
	case Synced:
		for _, v := range w.order {
			if v.open && v.conn != 0 && slices.Contains(e.Present, v.client) {
				w.reached(v, e.Since, e)
			}
		}
	case Reaches:
		for _, client := range e.Present {
			switch v := w.view(client, e.Topic); {
			case v.plain[e.ID].N == 0:
				w.fault("P4", fmt.Sprintf("message %q, sent when all was quiet, has not reached client %d: the Broker brings nothing", e.ID, client), e)
			case v.again[e.ID].N > 0:
				w.fault("P2", fmt.Sprintf("message %q, sent when all was quiet, has reached client %d twice", e.ID, client), v.plain[e.ID], v.again[e.ID], e)
			}
		}
	case Flushed:
		w.flushed(e)
	}
}

// detach notes that connections are gone, and so what was said on them about leaving.
func (w *viewer) detach(gone func(*view) bool) {
	for _, v := range w.order {
		if gone(v) {
			v.conn, v.asked, v.left, v.leave, v.member = 0, Event{}, Event{}, Event{}, membership{}
		}
	}
}

// holds names the property that says that nothing is missing in v.
func (v *view) holds() string { return holds(v.topic) }

func holds(topic string) string {
	if strings.HasPrefix(topic, userPrefix) {
		return "P7"
	}
	return "P4"
}

// base judges a history, or what takes its place, and starts from it.
func (w *viewer) base(v *view, e Event) {
	e = w.unfold(e)
	w.entries(e)
	switch e.Recovered {
	case Yes:
		w.recovered(v, e)
	case No:
		w.gap(v, e)
	default:
		if e.Asked && e.Offered != nil && e.Place != (Place{}) {
			w.fault("P3", "a position was offered, and nothing said about it", e)
		}
		if !e.Asked && !e.Given && v.open && v.place != (Place{}) {
			w.fault("P3", "a new history, and no gap was told", v.since, e)
		}
	}
	switch {
	case e.Asked:
		w.fresh(v, e)
	case e.Given:
		w.given(v, e)
	}
	if v.left.N != 0 {
		w.fault("P9", "a history after the leave was acknowledged", v.left, e)
	}
	v.open, v.conn, v.place, v.since, v.live = true, e.Conn, e.Place, e, false
}

// entries checks that what is shown has no holes and ends where it says.
func (w *viewer) entries(e Event) {
	if len(e.Entries) == 0 {
		return
	}
	first, last := e.Entries[0].Place, e.Entries[len(e.Entries)-1].Place
	asked := Event{}
	if e.Asked && e.Conn > 0 {
		asked = w.dials[e.Conn]
	}
	for _, s := range e.Entries {
		if holds(e.Topic) == "P7" {
			w.checkExpired(e, s, asked)
		}
	}
	if last != e.Place {
		w.fault("P3", fmt.Sprintf("a history says that it ends at %s, but ends at %s", e.Place, last), e)
	}
	for i, s := range e.Entries {
		if s.Place.Epoch != first.Epoch || s.Place.Offset != first.Offset+int64(i) {
			w.fault("P3", fmt.Sprintf("a hole in a history, before %s", s.Place), e)
			return
		}
	}
}

// unfold puts back what the Go client leaves out of an inbox: entries that have expired.
func (w *viewer) unfold(e Event) Event {
	if e.Conn > 0 || holds(e.Topic) != "P7" || w.history.Keep(e.Topic) == 0 {
		return e
	}
	var all []Seen
	rest := slices.Clone(e.Entries)
	for at := e.Place; at.Offset > 0; at.Offset-- {
		if n := len(rest); n > 0 && rest[n-1].Place == at {
			all, rest = append(all, rest[n-1]), rest[:n-1]
		} else if n > 0 || w.over(e.Topic, at, e.At) && at.Offset > e.Place.Offset-inboxKeeps {
			all = append(all, Seen{Place: at, Expired: true})
		} else {
			break
		}
	}
	slices.Reverse(all)
	e.Entries = all
	return e
}

// recovered judges a resume: exactly what was missed.
func (w *viewer) recovered(v *view, e Event) {
	if e.Offered == nil {
		w.fault("P3", "recovered without a position", e)
		return
	}
	missed := e.Place.Offset - e.Offered.Offset
	switch {
	case e.Offered.Epoch != e.Place.Epoch:
		w.fault("P3", fmt.Sprintf("recovered from %s to %s, which is another log", e.Offered, e.Place), v.since, e)
	case missed != int64(len(e.Entries)) || missed > 0 && e.Entries[0].Place.Offset != e.Offered.Offset+1:
		w.fault("P3", fmt.Sprintf("recovered from %s to %s, but with other messages than those between", e.Offered, e.Place), v.since, e)
	case v.open && v.place.Epoch == e.Place.Epoch && e.Place.Offset < v.place.Offset:
		w.fault("P3", fmt.Sprintf("recovered to %s, but %s had come already", e.Place, v.place), v.since, e)
	}
}

// gap judges whether there was a reason to tell of one: seen from the
// position that was offered, or from that of the client if it came by itself.
func (w *viewer) gap(v *view, e Event) {
	if e.Place == (Place{}) {
		return // the Store could not be read
	}
	if e.Given || e.Conn < 0 && w.moves.added[w.membership(v)].N != 0 {
		return // what AddUser sends may overtake the answer to a join, which the Go client then takes for a gap
	}
	why := ""
	if e.Offered != nil {
		if why = w.groundless(v, *e.Offered, e); why == "" {
			return
		}
	}
	if !e.Asked && v.place != (Place{}) {
		why = w.groundless(v, v.place, e)
	}
	if why != "" {
		w.fault("P4", why, v.since, e)
	}
}

// groundless says why there was no reason to tell of a gap after from, "" if there was.
func (w *viewer) groundless(v *view, from Place, e Event) string {
	same := from.Epoch == e.Place.Epoch
	switch {
	case e.Code == "ahead":
		return "told of a gap (ahead), but no position was ever made up"
	case e.Code == "gone" && !same:
		return "told of a gap (gone), but it is another log"
	case same && !e.Asked && !v.live && from == v.place:
		// It is for those who were there before. Who has just joined gets it as
		// well, if there is more in it than the history had.
		return ""
	case e.Code == "reset" && same:
		return "told of a gap (reset) in the same log"
	case same && from.Offset >= w.top(v.topic, e)-int64(w.history.Keep(v.topic)):
		return fmt.Sprintf("told of a gap after %s, but everything since was kept", from)
	}
	return ""
}

// top is how far the log went at e, or a bit further if nobody said exactly.
func (w *viewer) top(topic string, e Event) int64 {
	top := e.Place.Offset
	if e.Asked {
		return top
	}
	for at, first := range w.log(topic).ids {
		if at.Epoch == e.Place.Epoch && first.N < e.N {
			top = max(top, at.Offset)
		}
	}
	for _, grown := range w.log(topic).grown {
		if grown.Place.Epoch == e.Place.Epoch && grown.At < e.At+answerTime {
			top = max(top, grown.Place.Offset)
		}
	}
	return top
}

// answerTime is how long a Store that does not write down what it takes may need to say so.
const answerTime = 2 * time.Second

// staleness is how old the view of a node may be of what other nodes do: as
// long as a call of the Store, and the quarter of a second for which joins share a read.
const staleness = 5500 * time.Millisecond

// known returns the event up to which an answer to e must know what was acknowledged.
func (w *viewer) known(e Event) int {
	if w.history.Nodes == 1 {
		return e.N
	}
	n, _ := slices.BinarySearchFunc(w.history.Events, e.At-staleness, func(e Event, at time.Duration) int { return cmp.Compare(e.At, at) })
	return min(n+1, e.N)
}

// fresh checks that what answers a request contains all that was acknowledged
// before it was made, and as much of it as is kept (P4, F27, F67).
func (w *viewer) fresh(v *view, e Event) {
	asked := v.asked
	if v.topic == topicAll || v.holds() == "P7" {
		asked = w.dials[e.Conn]
	}
	if w.moves.added[w.membership(v)].N != 0 {
		asked = w.moves.added[w.membership(v)] // it may be what that has brought
	}
	w.whole(v, asked, e)
}

// whole checks a history that somebody has asked for.
func (w *viewer) whole(v *view, asked, e Event) {
	l := w.log(v.topic)
	if at, first, ok := l.acknowledgedBefore(w.known(asked)); ok && l.behind(e.Place, at) && e.Place != (Place{}) {
		w.fault(v.holds(), fmt.Sprintf("a history ends at %s, although %s was acknowledged before it was asked for", e.Place, at), first, asked, e)
	}
	if e.Recovered == Yes || v.topic == topicAll && e.Offered == nil {
		return
	}
	want := min(int64(w.history.Keep(v.topic)), maxPage, e.Place.Offset)
	if int64(len(e.Entries)) != want {
		w.fault(v.holds(), fmt.Sprintf("a history of %d messages, but %d are kept", len(e.Entries), want), e)
	}
}
