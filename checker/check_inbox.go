package checker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parley-go/parley"
)

// inboxJudge judges the read state of inboxes (P7).
type inboxJudge struct {
	*judge
	logs    map[string]map[string]*inboxLog // by topic and epoch
	devices map[int]*device                 // by client
	order   []*device
	dials   map[int]Event // by connection
	asked   map[string]*markCall
	calls   []*markCall
	applies map[string][]Event // Applied, by topic and mark
	failed  []Event            // Unapplied
}

// markCall is a Mark that was asked for.
type markCall struct {
	asked Event
	done  Event // MarkDone, MarkNo or MarkLost
}

// checkInboxes goes through the history once, in order.
func (j *judge) checkInboxes() {
	w := &inboxJudge{
		judge: j, logs: make(map[string]map[string]*inboxLog), devices: make(map[int]*device), dials: make(map[int]Event),
		asked: make(map[string]*markCall), applies: make(map[string][]Event),
	}
	for _, e := range j.history.Events {
		if e.Kind == Everyone {
			w.everyone(e)
		}
		if strings.HasPrefix(e.Topic, userPrefix) && j.history.Keep(e.Topic) > 0 || e.Topic == "" {
			w.see(e)
		}
	}
}

func (w *inboxJudge) log(topic, epoch string) *inboxLog {
	if w.logs[topic] == nil {
		w.logs[topic] = make(map[string]*inboxLog)
	}
	l := w.logs[topic][epoch]
	if l == nil {
		l = newInboxLog()
		w.logs[topic][epoch] = l
	}
	return l
}

func (w *inboxJudge) see(e Event) {
	switch e.Kind {
	case Dial:
		w.dials[e.Conn] = e
	case Connected:
		w.device(e.Client).live = false
	case Stored:
		w.stored(e)
	case Applied:
		w.applies[e.Topic+e.Mark.String()] = append(w.applies[e.Topic+e.Mark.String()], e)
		w.applied(e)
		w.wanted(e)
	case Unapplied:
		w.failed = append(w.failed, e)
	case Mark, MarkDone, MarkNo, MarkLost:
		w.marking(e)
	case Base, State, Page:
		w.shown(e)
	case Deliver:
		w.live(e)
	case News:
		w.news(e)
	case Counted:
		w.device(e.Client).says = e.Count
	case Stands:
		w.stands(e)
	case Taken, Hook, Hooked:
		w.undelivered(e)
	}
}

// everyone checks that a notification to an audience is in as many inboxes as it is said to be.
func (w *inboxJudge) everyone(e Event) {
	n := int64(0)
	for topic, l := range w.judge.logs {
		if len(l.places[e.ID]) > 0 && strings.HasPrefix(topic, userPrefix) {
			n++
		}
	}
	if w.recorded && n < e.Count.Version {
		w.fault("P7", fmt.Sprintf("notification %q is said to be in %d inboxes, but is in %d", e.ID, e.Count.Version, n), e)
	}
}

// marking follows a Mark from the asking to the answer.
func (w *inboxJudge) marking(e Event) {
	if e.Kind == Mark {
		c := &markCall{asked: e}
		w.asked[e.ID] = c
		w.calls = append(w.calls, c)
		return
	}
	c := w.asked[e.ID]
	if c == nil {
		w.fault("P1", "an answer to a mark that was not asked for", e)
		return
	}
	c.done = e
	bad := c.asked.Code == "bad"
	switch {
	case e.Kind == MarkLost:
	case e.Kind == MarkDone && bad:
		w.fault("P7", "a mark that says nothing was acknowledged", c.asked, e)
	case e.Kind == MarkDone:
		w.done(c)
	case e.Code != "reset" && e.Code != "ahead" && e.Code != "position":
		if !bad {
			w.fault("P7", "a mark was refused for no reason", c.asked, e)
		}
	case w.recorded && !bad && !w.carriedOut(c, true):
		w.fault("P7", fmt.Sprintf("a mark was refused (%s), but not by the Store", e.Code), c.asked, e)
	}
}

// done judges the acknowledgement of a mark: the Store has carried it out.
func (w *inboxJudge) done(c *markCall) {
	if e := c.done; e.Count != nil {
		w.counts(e)
		w.device(e.Client).count(e)
		if e.Place.Epoch != "" {
			l := w.log(e.Topic, e.Place.Epoch)
			l.acks = append(l.acks, e)
		}
	} else if c.asked.Mark.As != parley.MarkReceived {
		w.fault("P7", "the acknowledgement of a mark does not say how many are unread", c.asked, e)
	}
	if w.recorded && !w.carriedOut(c, false) {
		w.fault("P7", "a mark was acknowledged, but the Store has not carried it out", c.asked, c.done)
	}
}

// carriedOut looks for the call of the Store, since c was asked for, and whether it was one that had to be refused.
func (w *inboxJudge) carriedOut(c *markCall, refused bool) bool {
	m := c.asked.Mark
	return slices.ContainsFunc(w.applies[c.asked.Topic+m.String()], func(e Event) bool {
		no := m.Epoch != "" && m.Epoch != e.Place.Epoch || m.newest() > e.Place.Offset
		return e.N > c.asked.N && no == refused
	})
}

// wanted checks that somebody had asked for what the Store was told to change, for this inbox.
func (w *inboxJudge) wanted(e Event) {
	if e.Mark.As == parley.MarkReceived {
		return // is also said by positions, and after the hook
	}
	for _, c := range w.calls {
		if c.asked.Topic == e.Topic && c.asked.Mark.String() == e.Mark.String() {
			return
		}
	}
	w.fault("P7", "a mark that nobody has asked for", e)
}

// lasting judges, when all is quiet, that no acknowledged mark was lost: entries have the state that they were
// given last, if no other mark of them may have come after it.
func (w *inboxJudge) lasting(stands Event) {
	var all []*markCall
	for _, c := range w.calls {
		if c.asked.Topic == stands.Topic && c.asked.Code != "bad" && c.asked.Mark.As != parley.MarkReceived {
			all = append(all, c)
		}
	}
	for _, s := range stands.Entries {
		if s.Expired {
			continue
		}
		for _, c := range all {
			if c.done.Kind == MarkDone && w.picked(c, s.Place) && !slices.ContainsFunc(all, func(other *markCall) bool {
				over := other.done.Kind == MarkDone && other.done.N < c.asked.N
				return other != c && !over && w.mayPick(other, s.Place)
			}) {
				w.kept(c, s.Place, stands)
			}
		}
	}
}

func (w *inboxJudge) kept(c *markCall, at Place, stands Event) {
	state, want := stands.Inbox.state(at.Offset), c.asked.Mark.As
	if state != want && (want != parley.MarkRead || state != parley.MarkArchived) {
		w.fault("P7", fmt.Sprintf("%s was acknowledged to be %s, but is %s", at, markNames[want], markNames[state]), c.asked, c.done, stands)
	}
}

// picked reports whether c surely was about an entry.
func (w *inboxJudge) picked(c *markCall, at Place) bool {
	first := w.judge.log(c.asked.Topic).ids[at]
	return first.N > 0 && first.N < c.asked.N && w.mayPick(c, at)
}

func (w *inboxJudge) mayPick(c *markCall, at Place) bool {
	m := c.asked.Mark
	if m.Epoch != "" && m.Epoch != at.Epoch {
		return false
	}
	first := w.judge.log(c.asked.Topic).ids[at]
	return m.picks(at.Offset, first.ID)
}

// start is when an entry was stored, at the latest, and ttl its time to live. known is false if nobody has ever seen it.
func (j *judge) start(topic string, at Place) (start Event, ttl time.Duration, known bool) {
	first, known := j.log(topic).ids[at]
	if m := j.messages[first.ID]; known && m != nil {
		return first, m.send.TTL, true
	}
	return first, 0, false
}

// over reports whether an entry may be told as expired.
func (j *judge) over(topic string, at Place, when time.Duration) bool {
	start, ttl, known := j.start(topic, at)
	switch {
	case !known:
		return !j.recorded // nobody may have seen it while it lived
	case start.Kind != Stored: // the Store says nothing, and so it was stored some time after it was sent
		return ttl > 0 && j.messages[start.ID].send.At+ttl <= when+j.history.Slack
	}
	return ttl > 0 && start.At+ttl <= when+j.history.Slack
}

// checkExpired judges what is told as expired, and that what has expired is not shown to those who come later.
func (j *judge) checkExpired(e Event, s Seen, asked Event) {
	switch {
	case s.Expired && !j.over(e.Topic, s.Place, e.At):
		start, _, _ := j.start(e.Topic, s.Place)
		j.fault("P7", fmt.Sprintf("%s is told as expired, but is not", s.Place), start, e)
	case !s.Expired && asked.N > 0:
		start, ttl, known := j.start(e.Topic, s.Place)
		if known && ttl > 0 && start.N < asked.N && start.At+ttl+j.history.Slack <= asked.At {
			j.fault("P7", fmt.Sprintf("%s had expired, and is shown", s.Place), start, asked, e)
		}
	}
}
