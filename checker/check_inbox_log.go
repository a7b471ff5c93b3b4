package checker

import (
	"fmt"
	"slices"
	"time"

	"github.com/parley-go/parley"
)

// inboxLog is one epoch of an inbox, made of what the Store has written down, with the rules of the
// Store's contract: what is in it, in which state, and how it stood at each version.
type inboxLog struct {
	top       int64
	version   int64
	truncated int64
	entries   map[int64]*inboxEntry // also those that are not kept any more
	versions  map[int64]inboxVersion
	acks      []Event // MarkDone
}

type inboxEntry struct {
	stored   Event
	state    parley.MarkAs
	was      []parley.MarkAs // all states that it has had
	received bool            // by a Mark
	taken    Event           // by Overdue, the last time
	hooked   Event           // the hook has succeeded, the last time
}

// inboxVersion is how an inbox stood at a version. The number of unread entries falls as they expire.
type inboxVersion struct {
	made     Event
	unread   int
	expiring []time.Duration // when some of them do
	standing Standing
}

// has reports whether all entries of spans are in a state.
func (v *inboxVersion) has(spans []parley.Span, state parley.MarkAs) bool {
	for _, s := range spans {
		for offset := s.From; offset <= s.To; offset++ {
			if v.standing.state(offset) != state {
				return false
			}
		}
	}
	return true
}

func newInboxLog() *inboxLog {
	return &inboxLog{entries: make(map[int64]*inboxEntry), versions: map[int64]inboxVersion{0: {}}}
}

// first is the oldest entry that is kept.
func (l *inboxLog) first() int64 { return max(1, l.top-inboxKeeps+1) }

func (e *inboxEntry) expired(at time.Duration) bool {
	return e.stored.TTL > 0 && e.stored.At+e.stored.TTL <= at
}

// add notes that an entry was stored.
func (l *inboxLog) add(e Event) {
	l.top = e.Place.Offset
	l.entries[l.top] = &inboxEntry{stored: e, state: parley.MarkUnread, was: []parley.MarkAs{parley.MarkUnread}}
	if gone := l.entries[l.top-inboxKeeps]; gone != nil && gone.state == parley.MarkUnread && !gone.expired(e.At) {
		l.truncated = l.top - inboxKeeps
	}
}

// apply changes the state of entries, and returns those that are in another one now.
func (l *inboxLog) apply(e Event) (changed []parley.Span) {
	m := e.Mark
	if m.Epoch != "" && m.Epoch != e.Place.Epoch || m.newest() > l.top {
		return nil // refused
	}
	if (m.As == parley.MarkRead || m.As == parley.MarkArchived) && m.UpTo >= l.truncated {
		l.truncated = 0
	}
	for offset := l.first(); offset <= l.top; offset++ {
		entry := l.entries[offset]
		if entry == nil || !m.picks(offset, entry.stored.Label) {
			continue
		}
		entry.received = entry.received || m.As != parley.MarkUnread
		if m.As == parley.MarkReceived || entry.expired(e.At) || entry.state == m.As || m.As == parley.MarkRead && entry.state == parley.MarkArchived {
			continue
		}
		entry.state = m.As
		entry.was = append(entry.was, m.As)
		changed = addOffset(changed, offset)
	}
	return changed
}

func addOffset(spans []parley.Span, offset int64) []parley.Span {
	if n := len(spans); n > 0 && spans[n-1].To == offset-1 {
		spans[n-1].To = offset
		return spans
	}
	return append(spans, parley.Span{From: offset, To: offset})
}

// at returns how it stands after e.
func (l *inboxLog) at(e Event) inboxVersion {
	v := inboxVersion{made: e, standing: Standing{Truncated: l.truncated}}
	for offset := l.first(); offset <= l.top; offset++ {
		entry := l.entries[offset]
		switch {
		case entry == nil:
		case entry.state == parley.MarkRead:
			v.standing.Read = addOffset(v.standing.Read, offset)
		case entry.state == parley.MarkArchived:
			v.standing.Archived = addOffset(v.standing.Archived, offset)
		case !entry.expired(e.At):
			v.unread++
			if ttl := entry.stored.TTL; ttl > 0 {
				v.expiring = append(v.expiring, entry.stored.At+ttl)
			}
		}
	}
	return v
}

// least is how many entries may be unread at a time, as long as the version is the same.
func (v inboxVersion) least(at time.Duration) int {
	n := v.unread
	for _, when := range v.expiring {
		if when <= at {
			n--
		}
	}
	return n
}

// stored follows an Append. The last entry of one says how the log stands then.
func (w *inboxJudge) stored(e Event) {
	l := w.log(e.Topic, e.Place.Epoch)
	l.add(e)
	if e.Count != nil {
		w.advance(l, e)
	}
	if m := w.messages[e.ID]; m != nil && (m.send.TTL != e.TTL || m.send.Client == App && m.send.ReceiveIn != e.ReceiveIn) {
		w.fault("P7", fmt.Sprintf("message %q was sent with the times %s and %s, and stored with %s and %s",
			e.ID, m.send.TTL, m.send.ReceiveIn, e.TTL, e.ReceiveIn), m.send, e)
	}
}

// applied follows a Mark.
func (w *inboxJudge) applied(e Event) {
	l := w.log(e.Topic, e.Place.Epoch)
	for _, offset := range e.Mark.Offsets {
		if entry := l.entries[offset]; e.Mark.As == parley.MarkReceived && entry != nil && e.Mark.Epoch == e.Place.Epoch && entry.hooked.N == 0 {
			w.fault("P7", "an entry is taken for one that was told as undelivered, and was not", entry.stored, e) // devices name a position
		}
	}
	want := l.apply(e)
	if !slices.Equal(want, e.Spans) {
		w.fault("P7", fmt.Sprintf("a mark was to change %v, but has changed %v", want, e.Spans), e)
	}
	if len(e.Spans) > 0 {
		w.advance(l, e)
		return
	}
	if e.Count.Version != l.version && l.top > 0 {
		w.fault("P7", fmt.Sprintf("a mark that has changed nothing has made version %d of %d", e.Count.Version, l.version), e)
	}
	v := l.versions[l.version] // truncated may be another
	v.standing.Truncated = l.truncated
	l.versions[l.version] = v
}

// advance notes a new version.
func (w *inboxJudge) advance(l *inboxLog, e Event) {
	v := l.at(e)
	if v.unread != e.Count.Unread {
		w.fault("P7", fmt.Sprintf("%d entries are unread, but the Store counts %d", v.unread, e.Count.Unread), e)
	}
	if e.Count.Version <= l.version {
		w.fault("P7", fmt.Sprintf("the Store makes version %d after %d", e.Count.Version, l.version), e)
	}
	l.version = e.Count.Version
	l.versions[l.version] = v
}

// counts judges a number of unread entries that somebody was told: it was that of this version (P8.1).
func (w *inboxJudge) counts(e Event) {
	if e.Count == nil || e.Place.Epoch == "" || !w.recorded {
		return
	}
	l := w.log(e.Topic, e.Place.Epoch)
	v, known := l.versions[e.Count.Version]
	switch {
	case !known:
		w.fault("P7", fmt.Sprintf("%s was never the case", e.Count), e)
	case e.Count.Unread > v.unread || e.Count.Unread < v.least(e.At):
		w.fault("P7", fmt.Sprintf("%s, but %d to %d were unread then", e.Count, v.least(e.At), v.unread), v.made, e)
	case e.Inbox != nil && !e.Inbox.is(&v.standing):
		w.fault("P7", fmt.Sprintf("the inbox stands otherwise than said: %s", &v.standing), v.made, e)
	}
}

// is leaves Truncated out: that may be taken back without a new version.
func (s *Standing) is(other *Standing) bool {
	return slices.Equal(s.Read, other.Read) && slices.Equal(s.Archived, other.Archived)
}
