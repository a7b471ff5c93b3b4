package checker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	roomPrefix = "room/"
	userPrefix = "user/"
	topicAll   = "all"
	// topicEveryone is that of a message to an audience: the inboxes of all users.
	topicEveryone = userPrefix + "*"

	// maxPage is how much of a log a client gets that does not come back, or cannot resume (P5.1, P4.5).
	maxPage = 100
)

// History is what happened in one run.
type History struct {
	Events []Event
	// Nodes is how many hubs there were at a time. With more than one, less is promised: see docs/checker.md.
	Nodes int
	// Keep is how many messages a topic keeps; 0 for one without history.
	Keep func(topic string) int
	// Leaks are gauges and goroutines that were not back at their baseline at the end.
	Leaks []string
	// Slack is by how much the clocks of those who take part may differ.
	Slack time.Duration
}

// selfHealing says that hubs make up by themselves for what is lost between nodes.
const selfHealing = true

// kicksEverywhere says that DisconnectUser keeps its word on all nodes, whatever happens to the Store meanwhile.
const kicksEverywhere = true

// tellsPresence says that hubs tell their clients of those who come and go on other nodes.
const tellsPresence = true

// rostersFollow says that who has joined while the Store failed is told later who is there.
const rostersFollow = true

// tracksUsers says that hubs keep in the Store who is online, without anybody waiting for a lock meanwhile: that stops the time of a bubble.
const tracksUsers = true

// certain reports whether all that is acknowledged comes by itself.
func (h *History) certain() bool { return h.Nodes == 1 || selfHealing }

// Violation is a broken promise.
type Violation struct {
	Property string // P1 to P10
	Text     string
	Events   []Event // those that show it
}

func (v Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", v.Property, v.Text)
	for _, e := range v.Events {
		fmt.Fprintf(&b, "\n    %s", e)
	}
	return b.String()
}

// Check judges a history. Violations come in the order in which they can be seen.
func (h *History) Check() []Violation {
	j := &judge{history: h, messages: make(map[string]*message), logs: make(map[string]*topicLog), removals: make(map[moveKey]bool)}
	j.recorded = slices.ContainsFunc(h.Events, func(e Event) bool { return e.Kind == Stored })
	j.collect()
	for _, l := range j.logs {
		l.advance()
	}
	j.checkLogs()
	j.checkOrder()
	j.checkViews()
	j.checkConnections()
	j.checkPresence()
	j.checkAnswers()
	j.checkInboxes()
	for _, leak := range h.Leaks {
		j.fault("P10", leak)
	}
	slices.SortStableFunc(j.found, func(a, b Violation) int { return cmp.Compare(a.last(), b.last()) })
	return j.found
}

func (v Violation) last() int {
	if len(v.Events) == 0 {
		return 1 << 30
	}
	return v.Events[len(v.Events)-1].N
}

// judge holds what is known of a history while it is judged.
type judge struct {
	history  *History
	messages map[string]*message
	logs     map[string]*topicLog
	found    []Violation
	recorded bool // the Store has written down what it took
	wipes    []Event
	removals map[moveKey]bool // who was removed from a room at some time
}

// message is what is known of one message.
type message struct {
	send    Event
	ack     Event // the first one
	acked   bool
	refused Event
	denied  bool // refused says for sure that it was not accepted
	errored bool
	asks    int // how often a client has sent it
}

// goesTo reports whether m was sent to a topic.
func (m *message) goesTo(topic string) bool {
	return m.send.Topic == topic || m.send.Topic == topicEveryone && strings.HasPrefix(topic, userPrefix)
}

// topicLog is the log of a topic as all the world has seen it.
type topicLog struct {
	topic  string
	epochs []string // in the order in which they were first written to
	begun  []Event  // what has shown that they are there
	grown  []Event  // appends to a Store that does not write down what it takes: Epoch
	ids    map[Place]Event
	places map[string][]Place // by id
	acks   []Event            // first acknowledgements, in order
	// front[i] is the newest place among acks[:i+1], by the order of epochs and offsets.
	front []Place
}

func (j *judge) fault(property, text string, events ...Event) {
	j.found = append(j.found, Violation{Property: property, Text: text, Events: events})
}

func (j *judge) log(topic string) *topicLog {
	l := j.logs[topic]
	if l == nil {
		l = &topicLog{topic: topic, ids: make(map[Place]Event), places: make(map[string][]Place)}
		j.logs[topic] = l
	}
	return l
}

// advance fills front.
func (l *topicLog) advance() {
	var newest Place
	for _, ack := range l.acks {
		if l.behind(newest, ack.Place) {
			newest = ack.Place
		}
		l.front = append(l.front, newest)
	}
}

// behind reports whether a is surely before b. Of an epoch in which nothing
// was ever written nobody knows.
func (l *topicLog) behind(a, b Place) bool {
	if a.Epoch == b.Epoch {
		return a.Offset < b.Offset
	}
	return l.age(a.Epoch) < l.age(b.Epoch) && (l.age(a.Epoch) >= 0 || a.Epoch == "")
}

// acknowledgedBefore returns the newest place that was acknowledged before event n.
func (l *topicLog) acknowledgedBefore(n int) (Place, Event, bool) {
	i, _ := slices.BinarySearchFunc(l.acks, n, func(e Event, n int) int { return cmp.Compare(e.N, n) })
	if i == 0 {
		return Place{}, Event{}, false
	}
	at := l.front[i-1]
	return at, l.ids[at], true
}

// begins notes that there is an epoch.
func (l *topicLog) begins(e Event) {
	if l.age(e.Place.Epoch) < 0 {
		l.epochs, l.begun = append(l.epochs, e.Place.Epoch), append(l.begun, e)
	}
}

// age returns the index of an epoch in the order of writing, -1 if nothing of it is known.
func (l *topicLog) age(epoch string) int { return slices.Index(l.epochs, epoch) }

// collect builds messages and logs.
func (j *judge) collect() {
	for _, e := range j.history.Events {
		if e.Kind == Send {
			j.messages[e.ID] = &message{send: e}
		}
	}
	for _, e := range j.history.Events {
		switch e.Kind {
		case Refused, Lost:
			if m := j.messages[e.ID]; m != nil {
				m.refused, m.errored = e, true
				m.denied = e.Kind == Refused
			}
		case Ask:
			if m := j.messages[e.ID]; m != nil {
				m.asks++
			}
		case Failed:
			if m := j.messages[e.ID]; m != nil {
				m.errored = true
			}
		case Sent:
			j.sent(e)
		case Stored:
			j.place(e, e.Place, e.ID)
		case Epoch:
			l := j.log(e.Topic)
			l.begins(e)
			l.grown = append(l.grown, e)
		case Wiped:
			j.wipes = append(j.wipes, e)
		case Remove:
			j.removals[moveKey{e.User, e.Topic}] = true
		case Deliver:
			if e.Expired || !j.genuine(e, Seen{Place: e.Place, ID: e.ID, User: e.User, Label: e.Label}) {
				continue
			}
			j.place(e, e.Place, e.ID)
		case Hook:
			j.genuine(e, Seen{Place: e.Place, ID: e.ID, User: e.User, Label: e.Label})
		case Base, Page, Flushed:
			for _, s := range e.Entries {
				if !s.Expired && j.genuine(e, s) {
					j.place(e, s.Place, s.ID)
				}
			}
		case Signal:
			j.genuine(e, Seen{ID: e.ID, User: e.User})
		}
	}
}

func (j *judge) sent(e Event) {
	m := j.messages[e.ID]
	if m == nil {
		j.fault("P1", "an answer to a message that was never sent", e)
		return
	}
	if !m.acked {
		m.ack, m.acked = e, true
	}
	if e.Place != (Place{}) {
		j.place(e, e.Place, e.ID)
		if m.ack.N == e.N {
			l := j.log(e.Topic)
			l.acks = append(l.acks, e)
		}
	}
}

// genuine checks that what was seen had been sent, there and by this user (P1).
func (j *judge) genuine(e Event, s Seen) bool {
	m := j.messages[s.ID]
	switch {
	case m == nil:
		j.fault("P1", fmt.Sprintf("message %q was never sent", s.ID), e)
	case m.send.N > e.N:
		j.fault("P1", fmt.Sprintf("message %q came before it was sent", s.ID), e, m.send)
	case !m.goesTo(e.Topic) && m.send.Topic != userPrefix+e.ClientID:
		j.fault("P1", fmt.Sprintf("message %q went to another topic", s.ID), m.send, e)
	case m.send.User != s.User:
		j.fault("P1", fmt.Sprintf("message %q has another sender", s.ID), m.send, e)
	case m.send.Label != s.Label && e.Kind != Signal:
		j.fault("P1", fmt.Sprintf("message %q has another kind: %q", s.ID, s.Label), m.send, e)
	case m.denied && m.refused.N < e.N:
		j.fault("P1", fmt.Sprintf("message %q came although it was refused", s.ID), m.send, m.refused, e)
	default:
		return true
	}
	return false
}

// place notes that id is at a place of the log: P6, and P2 for a message that was stored twice.
func (j *judge) place(e Event, at Place, id string) {
	if at == (Place{}) || id == "" {
		return
	}
	l := j.log(e.Topic)
	shows := e
	shows.Place = at
	l.begins(shows)
	first, known := l.ids[at]
	if !known {
		for _, other := range l.places[id] {
			if other.Epoch == at.Epoch {
				j.fault("P2", fmt.Sprintf("message %q is in the log of %s twice, at %s and %s", id, l.topic, other, at), l.ids[other], e)
			}
		}
		seen := e
		seen.ID, seen.Place = id, at
		l.ids[at] = seen
		l.places[id] = append(l.places[id], at)
		return
	}
	if first.ID != id {
		j.fault("P6", fmt.Sprintf("%s of %s is %q for one and %q for another", at, l.topic, first.ID, id), first, e)
	}
}
