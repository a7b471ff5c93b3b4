package checker

import (
	"fmt"
	"strings"
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
		case Connected:
			t.Connections++
			if e.Recovered == Yes {
				t.Sessions++
			}
		case Closed:
			if e.Code == "-1" {
				t.Cuts++
			}
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
		}
	}
	t.Restarts -= h.Nodes // the first start of each is none
}

func (t *Totals) base(e Event) {
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
		"%d positions recovered, %d gaps told, %d restarts, %d wipes, %d messages failed in the Store",
		t.Runs, t.Sent, t.Lost, t.Refused, t.Deliveries, t.Replayed,
		t.Connections, t.Cuts, t.Sessions, t.Takeover, t.Recovered, t.Gaps, t.Restarts, t.Wipes, t.StoreFails)
}
