package checker

import (
	"fmt"
	"slices"
	"time"

	"github.com/parley-go/parley"
)

const (
	// hookLease is how long nobody else is told of an entry that Overdue has returned.
	hookLease = time.Minute
	// hookPatience is how long after its time an entry has to be received, or told, if nothing fails.
	hookPatience = hookLease + 15*time.Second
)

// undelivered judges Hooks.Undelivered: not before the time, not for what was received, and not again when it has succeeded.
func (w *inboxJudge) undelivered(e Event) {
	entry := w.log(e.Topic, e.Place.Epoch).entries[e.Place.Offset]
	if !w.recorded {
		if entry == nil { // the Store says nothing
			entry = &inboxEntry{}
			w.log(e.Topic, e.Place.Epoch).entries[e.Place.Offset] = entry
		}
		w.hook(entry, e)
		return
	}
	if entry == nil {
		w.fault("P7", "an entry is overdue that was never stored", e)
		return
	}
	if e.Kind != Taken {
		w.hook(entry, e)
		return
	}
	switch in := entry.stored.ReceiveIn; {
	case in == 0 || e.At+w.history.Slack < entry.stored.At+in:
		w.fault("P7", "an entry is overdue before its time", entry.stored, e)
	case entry.received:
		w.fault("P7", "an entry is overdue that was received", entry.stored, e)
	case entry.taken.N > 0 && e.At < entry.taken.At+hookLease:
		w.fault("P7", "an entry is overdue again before the lease is over", entry.taken, e)
	}
	entry.taken = e
}

func (w *inboxJudge) hook(entry *inboxEntry, e Event) {
	switch {
	case e.Kind == Hooked && e.Code == "":
		entry.hooked = e
	case e.Kind != Hook:
	case entry.hooked.N > 0 && !w.unconfirmed(e, entry.hooked):
		w.fault("P7", "Undelivered is called again for an entry", entry.hooked, e)
	case w.recorded && entry.taken.N == 0:
		w.fault("P7", "Undelivered is called for an entry that was not overdue", e)
	case !w.recorded:
		if m := w.messages[e.ID]; m != nil && e.At+w.history.Slack < m.send.At+receiveIn {
			w.fault("P7", "Undelivered is called before the time", m.send, e)
		}
		for _, c := range w.calls {
			if c.done.Kind == MarkDone && c.done.At < e.At && c.asked.Mark.As != parley.MarkUnread && c.asked.Topic == e.Topic && w.picked(c, e.Place) {
				w.fault("P7", "Undelivered is called for an entry that was received", c.asked, c.done, e)
			}
		}
	}
}

// unconfirmed reports whether the Store has failed since the hook succeeded, so that it does not know of it.
func (w *inboxJudge) unconfirmed(e, hooked Event) bool {
	return slices.ContainsFunc(w.failed, func(f Event) bool {
		return f.N > hooked.N && f.Topic == e.Topic && f.Mark.As == parley.MarkReceived && slices.Contains(f.Mark.Offsets, e.Place.Offset)
	})
}

// overdue checks that nothing is left of which nobody was told. e is Stands.
func (w *inboxJudge) overdue(l *inboxLog, e Event) {
	for offset := l.first(); offset <= l.top; offset++ {
		entry := l.entries[offset]
		if entry == nil || entry.expired(e.At) || entry.received || entry.stored.ReceiveIn == 0 {
			continue
		}
		if e.At > entry.stored.At+entry.stored.ReceiveIn+hookPatience {
			w.fault("P7", fmt.Sprintf("%d was neither received nor told as undelivered", offset), entry.stored, e)
		}
	}
}
