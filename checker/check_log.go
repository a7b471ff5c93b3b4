package checker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// checkLogs judges acknowledgements: all of a message name one place, and the
// Store had taken it, if the Store writes down what it takes.
func (j *judge) checkLogs() {
	j.checkEpochs()
	for _, e := range j.history.Events {
		if e.Kind != Sent {
			continue
		}
		if e.Place == (Place{}) {
			if m := j.messages[e.ID]; m != nil && m.send.Code != signalKind && j.history.Keep(e.Topic) > 0 {
				j.fault(holds(e.Topic), fmt.Sprintf("message %q was acknowledged without a place in the log", e.ID), m.send, e)
			}
			continue
		}
		if m := j.messages[e.ID]; m != nil && m.ack.Place.Epoch == e.Place.Epoch && m.ack.Place != e.Place {
			j.fault("P2", fmt.Sprintf("message %q was acknowledged at two places", e.ID), m.ack, e)
		}
		if j.history.Keep(e.Topic) > 0 && j.recorded && !j.stored(e) {
			j.fault(holds(e.Topic), fmt.Sprintf("message %q was acknowledged, but the Store had not taken it", e.ID), e)
		}
	}
}

// checkEpochs judges that no log was lost but by a wipe.
func (j *judge) checkEpochs() {
	for _, topic := range j.topics() {
		for i, e := range j.logs[topic].begun {
			if i > 0 && (i > len(j.wipes) || j.wipes[i-1].N > e.N) {
				j.fault(holds(topic), fmt.Sprintf("the log of %s is another one, although the Store has lost nothing", topic), j.logs[topic].begun[i-1], e)
			}
		}
	}
}

// stored reports whether the Store had taken a message when it was acknowledged.
func (j *judge) stored(ack Event) bool {
	first, ok := j.log(ack.Topic).ids[ack.Place]
	return ok && first.N < ack.N && first.ID == ack.ID
}

// signalKind is the Code of a Send that is a signal, of which nothing is kept.
const signalKind = "signal"

// acknowledged is a message with its place, for the order of a log.
type acknowledged struct {
	send, ack Event
	errored   bool
}

// checkOrder judges P5: a message that was acknowledged before another one
// was sent stands before it; and so do the messages that one client sent one
// after the other, without waiting, as long as none of them failed.
func (j *judge) checkOrder() {
	for _, topic := range j.topics() {
		l := j.logs[topic]
		byEpoch := make(map[string][]acknowledged)
		for _, ack := range l.acks {
			m := j.messages[ack.ID]
			if m.send.Topic != topic {
				continue
			}
			byEpoch[ack.Place.Epoch] = append(byEpoch[ack.Place.Epoch], acknowledged{
				send: m.send, ack: ack,
				// The latter: lost with a log, and sent again.
				errored: m.errored || j.uncertain(m, topic) || len(l.places[ack.ID]) > 1,
			})
		}
		for _, epoch := range l.epochs {
			sorted := byEpoch[epoch]
			slices.SortFunc(sorted, func(a, b acknowledged) int { return cmp.Compare(a.ack.Place.Offset, b.ack.Place.Offset) })
			j.orderOf(sorted)
		}
	}
}

// uncertain reports whether m may have been refused before it was accepted, and nobody knows, because the answer was lost: the
// user that it is for was unknown, or its sender had just been removed from the room. There is no call of the Store in that.
// Or it was stored in a log that is lost, and then again, where the Store does not write down what it takes.
func (j *judge) uncertain(m *message, topic string) bool {
	return m.asks > 1 && (strings.HasPrefix(topic, userPrefix) || j.removals[moveKey{m.send.User, topic}] || !j.recorded && j.wipedDuring(m))
}

// wipedDuring reports whether the Store lost everything between the sending and the acknowledgement of m.
func (j *judge) wipedDuring(m *message) bool {
	return slices.ContainsFunc(j.wipes, func(w Event) bool { return m.send.N < w.N && w.N < m.ack.N })
}

func (j *judge) orderOf(sorted []acknowledged) {
	var newest acknowledged                // of those before: the one sent last
	ofClient := make(map[int]acknowledged) // the same, for each client
	for _, a := range sorted {
		if newest.send.N > a.ack.N {
			j.fault("P5", fmt.Sprintf("%q was acknowledged before %q was sent, but stands after it", a.send.ID, newest.send.ID),
				a.send, a.ack, newest.send, newest.ack)
		}
		if a.send.N > newest.send.N {
			newest = a
		}
		if a.send.Client == App || a.errored {
			continue
		}
		if before := ofClient[a.send.Client]; before.send.N > a.send.N {
			j.fault("P5", fmt.Sprintf("one client sent %q before %q, but it stands after it", a.send.ID, before.send.ID),
				a.send, before.send, before.ack, a.ack)
		} else {
			ofClient[a.send.Client] = a
		}
	}
}

// topics returns the names of all logs, sorted.
func (j *judge) topics() []string {
	names := make([]string, 0, len(j.logs))
	for name := range j.logs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
