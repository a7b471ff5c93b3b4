package checker

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/parley-go/parley"
)

// device is what a page knows of the inbox that follows the protocol: the last inbox, and the marks since.
type device struct {
	client int
	topic  string
	live   bool    // the connection has shown the inbox
	base   Event   // Base or State
	place  Place   // of the last message
	marks  []Event // News that is newer, by version
	last   *Count
	says   *Count // the Go client's own word
}

func (w *inboxJudge) device(client int) *device {
	d := w.devices[client]
	if d == nil {
		d = &device{client: client}
		w.devices[client] = d
		w.order = append(w.order, d)
	}
	return d
}

// count takes the number of unread entries, if it is newer (P8.1).
func (d *device) count(e Event) {
	if e.Count == nil || e.Place.Epoch != "" && e.Place.Epoch != d.base.Place.Epoch {
		return
	}
	if d.last == nil || e.Count.Version >= d.last.Version {
		d.last = e.Count
	}
}

// state is that of an entry that is kept: of all that is known, the newest counts (P8.2, P8.5). An
// inbox may be ahead of its position, and say what was read of messages that are still to come.
func (d *device) state(offset int64) parley.MarkAs {
	state := d.base.Inbox.state(offset)
	for _, e := range d.marks {
		if covers(e.Spans, offset) {
			state = e.Mark.As
		}
	}
	return state
}

// shown judges an inbox, and has the device go on from it.
func (w *inboxJudge) shown(e Event) {
	if e.Inbox == nil || e.Count == nil {
		if e.Conn > 0 || e.Kind == State {
			w.fault("P7", "an inbox that does not say how it stands", e)
		}
		return
	}
	w.counts(e)
	w.truncation(e)
	if e.Kind == Page {
		return
	}
	w.recent(e)
	d := w.device(e.Client)
	if e.Place.Epoch != d.base.Place.Epoch {
		d.marks, d.last = nil, nil
	}
	d.topic, d.live, d.base, d.place = e.Topic, true, e, e.Place
	d.count(e)
	d.marks = slices.DeleteFunc(d.marks, func(m Event) bool { return m.Count.Version <= e.Count.Version })
}

// recent checks that an inbox has all that was acknowledged before the connection was asked for.
func (w *inboxJudge) recent(e Event) {
	asked := w.dials[e.Conn]
	if e.Conn < 0 || !e.Asked {
		return
	}
	for _, ack := range w.log(e.Topic, e.Place.Epoch).acks {
		if ack.N < asked.N && ack.Count.Version > e.Count.Version {
			w.fault("P7", "an inbox is older than a mark that was acknowledged before the connection was opened", ack, asked, e)
			return
		}
	}
}

// truncation checks that a loss that is told is one, and that none is told that is none.
func (w *inboxJudge) truncation(e Event) {
	if !w.recorded || e.Inbox.Truncated == 0 {
		return
	}
	l := w.log(e.Topic, e.Place.Epoch)
	if e.Inbox.Truncated > l.top-inboxKeeps {
		w.fault("P7", fmt.Sprintf("%d is told as truncated, and is still kept", e.Inbox.Truncated), e)
	}
}

// live takes what comes of the inbox.
func (w *inboxJudge) live(e Event) {
	if e.Place == (Place{}) {
		return
	}
	d := w.device(e.Client)
	if e.Conn > 0 && (e.Count == nil || e.Count.Version == 0) {
		w.fault("P7", "a message does not say how many are unread", e)
		return
	}
	w.counts(e)
	d.count(e)
	d.place = e.Place
	if e.Mark != nil && d.live {
		w.overtaken(d, e)
	}
	if e.Mark == nil || !w.recorded {
		return
	}
	entry := w.log(e.Topic, e.Place.Epoch).entries[e.Place.Offset]
	if entry != nil && !slices.Contains(entry.was, e.Mark.As) {
		w.fault("P7", fmt.Sprintf("an entry is shown as %s, which it has never been", markNames[e.Mark.As]), entry.stored, e)
	}
}

// overtaken judges the state with which the Go client shows a message: marks may have come before it, alone or in an inbox (P8.5).
func (w *inboxJudge) overtaken(d *device, e Event) {
	if told := d.state(e.Place.Offset); told != e.Mark.As {
		w.fault("P7", fmt.Sprintf("an entry is shown as %s, but was told to be %s", markNames[e.Mark.As], markNames[told]),
			append(append([]Event{d.base}, d.marks...), e)...)
	}
}

// news judges that a device is told of what was done to its own inbox, and takes it.
func (w *inboxJudge) news(e Event) {
	w.counts(e)
	if w.recorded {
		v := w.log(e.Topic, e.Place.Epoch).versions[e.Count.Version]
		if len(e.Spans) == 0 || !v.has(e.Spans, e.Mark.As) {
			w.fault("P7", "news of a mark that was never made", v.made, e)
		}
	}
	d := w.device(e.Client)
	if e.Place.Epoch != d.base.Place.Epoch {
		return
	}
	d.count(e)
	if e.Count.Version > d.base.Count.Version {
		d.marks = append(d.marks, e)
		slices.SortStableFunc(d.marks, func(a, b Event) int { return cmp.Compare(a.Count.Version, b.Count.Version) })
	}
}

// stands judges, when nothing is under way, the Store by itself, and the devices by it.
func (w *inboxJudge) stands(e Event) {
	unread, expired := 0, 0
	for _, s := range e.Entries {
		switch {
		case s.Expired:
			w.checkExpired(e, s, Event{})
			expired++
		case e.Inbox.state(s.Place.Offset) == parley.MarkUnread:
			unread++
		}
	}
	if unread != e.Count.Unread {
		w.fault("P7", fmt.Sprintf("%d entries are unread, but the Store counts %d", unread, e.Count.Unread), e)
	}
	if w.recorded {
		l := w.log(e.Topic, e.Place.Epoch)
		if want := l.at(e).standing; !e.Inbox.is(&want) || e.Inbox.Truncated != want.Truncated || e.Count.Version != l.version {
			w.fault("P7", fmt.Sprintf("the inbox should stand like this: %s, version %d", &want, l.version), e)
		}
		w.overdue(l, e)
	}
	w.lasting(e)
	for _, d := range w.order {
		if d.topic == e.Topic && d.live {
			w.agrees(d, e, expired)
		}
	}
}

// acknowledged reports whether anything in a log was by then: the devices have been told of that.
func (w *inboxJudge) acknowledged(stands Event) bool {
	return slices.ContainsFunc(w.judge.log(stands.Topic).acks, func(ack Event) bool {
		return ack.Place.Epoch == stands.Place.Epoch && ack.N < stands.N
	})
}

// agrees compares what a device knows with what is. Until something comes it does not know what has expired, nor of a message that
// was stored, but not acknowledged. Where marks may get lost between nodes, what is told at connecting counts.
func (w *inboxJudge) agrees(d *device, e Event, expired int) {
	strict := e.Code != "quiet"
	if d.base.Place.Epoch != e.Place.Epoch {
		if strict || w.history.certain() && w.acknowledged(e) {
			w.fault("P7", fmt.Sprintf("client %d knows another log", d.client), d.base, e)
		}
		return
	}
	known := d.last
	if d.says != nil {
		known = d.says // the messages that the Go client hands out do not carry the number
	}
	switch {
	case strict && w.history.Slack == 0 && *known != *e.Count, // at a faster pace something may have expired since
		w.history.certain() && d.place == e.Place && (known.Unread < e.Count.Unread || known.Unread > e.Count.Unread+expired):
		w.fault("P7", fmt.Sprintf("client %d believes %s", d.client, known), d.base, e)
	}
	if !w.history.certain() && e.Code != "back" {
		return
	}
	for _, s := range e.Entries {
		if e.Code == "quiet" && s.Place.Offset > d.place.Offset {
			break
		}
		want := e.Inbox.state(s.Place.Offset)
		if got := d.state(s.Place.Offset); !s.Expired && got != want {
			w.fault("P7", fmt.Sprintf("client %d believes that %s is %s, but it is %s", d.client, s.Place, markNames[got], markNames[want]),
				append(append([]Event{d.base}, d.marks...), e)...)
			return
		}
	}
}
