package checker

import (
	"fmt"
	"strings"

	"github.com/parley-go/parley"
)

// Totals counts what runs did, so that it can be seen that they did something.
type Totals struct {
	Runs, Events                          int
	Sent, Lost, Refused                   int
	Deliveries, Replayed                  int // live messages, and missed ones that were recovered
	Connections, Cuts                     int
	Sessions                              int // resumed
	Recovered, Gaps                       int // positions, of all topics
	Restarts, Wipes, StoreFails, Takeover int
	Ousted, Given                         int // memberships that the application has ended, and histories of those that it has made

	Marks      int // acknowledged, and
	Raced      int // of these, made while another one of the same inbox was under way
	Unmarked   int // refused
	MarkFails  int // in the Store
	Overtaken  int // news of marks that a device got before the message
	Expired    int // entries that clients were told as expired
	Truncated  int // inboxes that told of unread entries that were removed
	Receipts   int // acknowledged
	Told       int // entries of which Hooks.Undelivered was told with success, and
	TellFails  int // without
	Everywhere int // notifications that an audience has got
}

// Add counts a run.
func (t *Totals) Add(h *History) {
	t.Runs++
	t.Events += len(h.Events)
	for _, e := range h.Events {
		switch e.Kind {
		case Sent:
			t.Sent++
		case Lost:
			t.Lost++
		case Refused:
			t.Refused++
		case Deliver:
			t.Deliveries++
			if e.Expired {
				t.Expired++
			}
		case Connected:
			t.Connections++
			if e.Recovered == Yes {
				t.Sessions++
			}
		case Closed:
			if e.Code == "-1" {
				t.Cuts++
			}
		case Ousted:
			t.Ousted++
		case Base:
			t.base(e)
		case Started:
			t.Restarts++
		case Failed:
			t.StoreFails++
		case Replaced:
			t.Takeover++
		case Fault:
			if strings.Contains(e.Code, string(DoWipe)) {
				t.Wipes++
			}
		default:
			t.inbox(e)
		}
	}
	t.raced(h)
	t.Restarts -= h.Nodes // the first start of each is none
}

// inbox counts what only inboxes have.
func (t *Totals) inbox(e Event) {
	switch e.Kind {
	case MarkNo:
		t.Unmarked++
	case Unapplied:
		t.MarkFails++
	case Everyone:
		t.Everywhere += int(e.Count.Version)
	case Hooked:
		if e.Code == "" {
			t.Told++
		} else {
			t.TellFails++
		}
	}
}

// raced counts marks, and those that were made while others were under way.
func (t *Totals) raced(h *History) {
	open := make(map[string]map[string]bool) // by inbox: the ids, and whether there were others
	places := make(map[viewKey]Place)
	for _, e := range h.Events {
		calls := open[e.Topic]
		switch e.Kind {
		case Base, State, Deliver:
			places[viewKey{e.Client, e.Topic}] = e.Place
		case News:
			at := places[viewKey{e.Client, e.Topic}]
			if n := len(e.Spans); n > 0 && at.Epoch == e.Place.Epoch && e.Spans[n-1].To > at.Offset {
				t.Overtaken++
			}
		case Mark:
			if calls == nil {
				calls = make(map[string]bool)
				open[e.Topic] = calls
			}
			if e.Mark.As != parley.MarkReceived && e.Code != "bad" {
				for id := range calls {
					calls[id] = true
				}
				calls[e.ID] = len(calls) > 0
			}
		case MarkDone, MarkNo, MarkLost:
			raced, mark := calls[e.ID]
			delete(calls, e.ID)
			switch {
			case e.Kind != MarkDone:
			case !mark:
				t.Receipts++
			case raced:
				t.Raced++
				fallthrough
			default:
				t.Marks++
			}
		}
	}
}

func (t *Totals) base(e Event) {
	if e.Given {
		t.Given++
	}
	for _, s := range e.Entries {
		if s.Expired {
			t.Expired++
		}
	}
	if e.Inbox != nil && e.Inbox.Truncated > 0 {
		t.Truncated++
	}
	switch e.Recovered {
	case Yes:
		t.Recovered++
		t.Deliveries += len(e.Entries)
		t.Replayed += len(e.Entries)
	case No:
		t.Gaps++
	}
}

func (t *Totals) String() string {
	return fmt.Sprintf("%d runs: %d messages acknowledged (%d lost on the way, %d refused), %d deliveries (%d of them replayed), "+
		"%d connections, %d broken without a close frame, %d sessions resumed, %d replaced while alive, "+
		"%d positions recovered, %d gaps told, %d memberships ended by the application, %d made, %d restarts, %d wipes, %d messages failed in the Store; %s",
		t.Runs, t.Sent, t.Lost, t.Refused, t.Deliveries, t.Replayed,
		t.Connections, t.Cuts, t.Sessions, t.Takeover, t.Recovered, t.Gaps, t.Ousted, t.Given, t.Restarts, t.Wipes, t.StoreFails, t.inboxes())
}

func (t *Totals) inboxes() string {
	return fmt.Sprintf("%d marks acknowledged (%d raced), %d refused, %d failed in the Store, %d overtook a message, %d entries expired, %d truncations, "+
		"%d receipts, %d undelivered told (%d failed), %d notifications to an audience",
		t.Marks, t.Raced, t.Unmarked, t.MarkFails, t.Overtaken, t.Expired, t.Truncated, t.Receipts, t.Told, t.TellFails, t.Everywhere)
}
