package checker

import (
	"fmt"
	"slices"
	"strings"
)

// moves is what the application does to memberships.
type moves struct {
	added   map[moveKey]Event // the first AddUser
	removes map[string]Event  // by id: RemoveUser
	users   map[int]string    // by client
}

type moveKey struct{ user, topic string }

func newMoves() moves {
	return moves{added: make(map[moveKey]Event), removes: make(map[string]Event), users: make(map[int]string)}
}

// membership is what a view knows of the client's membership.
type membership struct {
	asked   Event          // the newest thing that may have made it one
	since   Event          // what has told that it is one. If that is before asked, nobody knows when it began, or will
	removed Event          // RemoveUser has returned, and has ended it
	ordered Event          // likewise, but it may take some time
	reasons map[string]int // of the Ousted: their connections
}

func (w *viewer) membership(v *view) moveKey { return moveKey{w.moves.users[v.client], v.topic} }

// moved follows who is made a member, or is no more.
func (w *viewer) moved(e Event) {
	m := &w.moves
	switch e.Kind {
	case Connected:
		m.users[e.Client] = e.User
		w.doubt(e)
	case Closed:
		w.doubt(e)
	case Add:
		if key := (moveKey{e.User, e.Topic}); m.added[key].N == 0 {
			m.added[key] = e
		}
	case Remove:
		m.removes[e.ID] = e
	case Removed:
		w.removed(e)
	case Join:
		v := w.view(e.Client, e.Topic)
		v.member.begin(e)
	case Base, Reached:
		w.entered(w.view(e.Client, e.Topic), e)
	case Left, Dropped:
		v := w.view(e.Client, e.Topic)
		v.member.removed, v.member.ordered = Event{}, Event{}
	}
}

// entered notes what says that a client is in a room.
func (w *viewer) entered(v *view, e Event) {
	m := &v.member
	if !e.Asked && !e.Given && e.Conn > 0 {
		return
	}
	m.removed, m.ordered = Event{}, Event{}
	waits := m.since.N < m.asked.N
	if waits && e.Given || e.Conn > 0 && e.Asked && e.Offered == nil && w.moves.added[w.membership(v)].N != 0 {
		return // it may be the word of AddUser, and the answer to the join is still to come
	}
	m.since = e
}

func (m *membership) begin(e Event) { m.asked, m.removed, m.ordered = e, Event{}, Event{} }

// doubt notes that the Go client joins its rooms by itself.
func (w *viewer) doubt(e Event) {
	for _, v := range w.order {
		if v.client == e.Client && e.Conn < 0 {
			v.member.begin(e)
		}
	}
}

// removed notes that RemoveUser has returned: who was surely a member when it was called is none any more, or will soon be none.
func (w *viewer) removed(e Event) {
	call := w.moves.removes[e.ID]
	for _, v := range w.order {
		m := &v.member
		if v.topic != e.Topic || w.moves.users[v.client] != e.User || !v.open || v.conn == 0 || m.since.N < m.asked.N || m.since.N > call.N {
			continue
		}
		switch e.Code {
		case "":
			m.removed = e
		case kickedLater:
			m.ordered = e
		}
	}
}

// removedBefore judges a message by when it was sent.
func (w *viewer) removedBefore(v *view, e Event) {
	if m := w.messages[e.ID]; m != nil && v.member.removed.N != 0 && m.send.N > v.member.removed.N {
		w.fault("P9", "a message that was sent after the user had been removed from the room", v.member.since, v.member.removed, m.send, e)
	}
}

// obeyed judges, when all is quiet, that members who were removed know it.
func (w *viewer) obeyed(v *view, quiet Event) {
	m := &v.member
	lost := slices.ContainsFunc(w.wipes, func(wipe Event) bool { return wipe.At > m.ordered.At-sessionTime && wipe.N < quiet.N })
	switch {
	case !v.open || v.conn == 0:
	case m.removed.N != 0:
		w.fault("P9", "a user was removed from a room, and the client was never told", m.since, m.removed, quiet)
	case m.ordered.N != 0 && !lost:
		w.fault("P9", "a user was removed from a room, and is still in it, on a node that should have heard of it by now", m.since, m.ordered, quiet)
	}
}

// ousted judges the word that the application has ended a membership.
func (w *viewer) ousted(v *view, e Event) {
	call, m := w.moves.removes[e.ID], &v.member
	switch {
	case call.N == 0 || call.Topic != e.Topic || call.User != w.moves.users[e.Client]:
		w.fault("P1", "told to have been removed from a room, but nobody has done that", e)
	case m.reasons[e.ID] == e.Conn && e.Conn > 0:
		w.fault("P2", "removed from a room twice by one call", call, e)
	case v.open && v.conn == e.Conn && w.history.Nodes == 1 && m.since.N >= m.asked.N:
		w.reached(v, call.N, call, e)
	}
	if m.reasons == nil {
		m.reasons = make(map[string]int)
	}
	m.reasons[e.ID] = e.Conn
	m.removed, m.ordered = Event{}, Event{}
	v.open, v.conn = false, 0
	if m.since.N >= m.asked.N { // else a join is on its way, which may be carried out after that
		v.left = e
	}
}

// given judges a history that says that the application has made the client a member.
func (w *viewer) given(v *view, e Event) {
	added := w.moves.added[w.membership(v)]
	switch {
	case added.N == 0 || !strings.HasPrefix(v.topic, roomPrefix):
		w.fault("P1", "a membership that nobody has asked for", e)
		return
	case w.history.Nodes == 1 && v.open && v.conn == e.Conn && v.place.Epoch == e.Place.Epoch && e.Place.Offset < v.place.Offset:
		w.fault("P3", fmt.Sprintf("a history up to %s, but %s had come already", e.Place, v.place), v.since, e)
	}
	v.left = Event{}
	if e.Recovered == Unsaid {
		w.whole(v, added, e)
	}
}
