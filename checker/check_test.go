package checker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	. "github.com/parley-go/parley/checker"
)

// Histories written by hand: the good one breaks nothing, and each of the
// others, which differ in little from it, breaks what it is meant to break.

const room = "room/r"

func at(n int64) Place { return Place{"e", n} }

func said(n int64, id string) Seen { return Seen{Place: at(n), ID: id, User: "kim"} }

// lines numbers events, a second apart.
func lines(parts ...[]Event) []Event {
	var all []Event
	for _, part := range parts {
		all = append(all, part...)
	}
	for i := range all {
		all[i].N, all[i].At = i+1, time.Duration(i+1)*time.Second
	}
	return all
}

// enter connects client 1 as connection 1 and joins the room at the beginning of its log.
func enter() []Event {
	return []Event{
		{Kind: Dial, Client: 1, Conn: 1, User: "lee"},
		{Kind: Connected, Client: 1, Conn: 1, User: "lee", ClientID: "L"},
		{Kind: Join, Client: 1, Conn: 1, Topic: room},
		{Kind: Base, Client: 1, Conn: 1, Topic: room, Place: at(0), Asked: true},
	}
}

// publish has client 2 send a message that is stored and acknowledged.
func publish(n int64, id string) []Event {
	return []Event{
		{Kind: Send, Client: 2, Topic: room, ID: id, User: "kim"},
		{Kind: Stored, Client: App, Topic: room, ID: id, Place: at(n)},
		{Kind: Sent, Client: 2, Topic: room, ID: id, Place: at(n)},
	}
}

func get(n int64, id string) []Event {
	return []Event{{Kind: Deliver, Client: 1, Conn: 1, Topic: room, ID: id, User: "kim", Place: at(n)}}
}

// back loses connection 1, connects again as connection 2, and joins from a position.
func back(from int64) []Event {
	p := at(from)
	return []Event{
		{Kind: Closed, Client: 1, Conn: 1, Code: "-1"},
		{Kind: Dial, Client: 1, Conn: 2, User: "lee"},
		{Kind: Connected, Client: 1, Conn: 2, User: "lee", ClientID: "L", Recovered: Yes},
		{Kind: Join, Client: 1, Conn: 2, Topic: room, Offered: &p},
	}
}

func based(e Event) []Event {
	e.Kind, e.Client, e.Topic, e.Asked = Base, 1, room, true
	if e.Conn == 0 {
		e.Conn = 2
	}
	return []Event{e}
}

func one(e Event) []Event { return []Event{e} }

func leave() []Event {
	return []Event{
		{Kind: Leave, Client: 1, Conn: 1, Topic: room},
		{Kind: Left, Client: 1, Conn: 1, Topic: room},
	}
}

func kick() []Event {
	return []Event{
		{Kind: Kick, Client: App, User: "lee"},
		{Kind: Kicked, Client: App, User: "lee"},
	}
}

func flushed(n int64, entries ...Seen) []Event {
	return one(Event{Kind: Flushed, Client: App, Topic: room, Place: at(n), Entries: entries})
}

var quiet = one(Event{Kind: Quiet, Client: App})

func place(n int64) *Place { p := at(n); return &p }

func judge(events []Event) *History {
	return &History{Events: events, Nodes: 1, Keep: func(topic string) int {
		if topic == "room/plain" {
			return 0
		}
		return 3
	}}
}

func TestGoodHistories(t *testing.T) {
	for name, events := range map[string][]Event{
		"empty": nil,
		"live":  lines(enter(), publish(1, "a"), get(1, "a"), publish(2, "b"), get(2, "b"), quiet, flushed(2, said(1, "a"), said(2, "b"))),
		"resumed": lines(enter(), publish(1, "a"), get(1, "a"), publish(2, "b"), back(1),
			based(Event{Place: at(2), Offered: place(1), Recovered: Yes, Entries: []Seen{said(2, "b")}}), quiet),
		"resumed at the edge of the window": lines(enter(), publish(1, "a"), publish(2, "b"), publish(3, "c"), back(0),
			based(Event{Place: at(3), Offered: place(0), Recovered: Yes, Entries: []Seen{said(1, "a"), said(2, "b"), said(3, "c")}}), quiet),
		"a gap": lines(enter(), publish(1, "a"), publish(2, "b"), publish(3, "c"), publish(4, "d"), back(0),
			based(Event{Place: at(4), Offered: place(0), Recovered: No, Code: "gone", Entries: []Seen{said(2, "b"), said(3, "c"), said(4, "d")}}), quiet),
		"another log": lines(enter(), publish(1, "a"), get(1, "a"), one(Event{Kind: Base, Client: 1, Conn: 1, Topic: room,
			Place: Place{"f", 0}, Recovered: No, Code: "reset"}), quiet),
		"left":                   lines(enter(), publish(1, "a"), get(1, "a"), leave(), publish(2, "b"), quiet),
		"unknown, then received": lines(enter(), one(Event{Kind: Send, Client: 2, Topic: room, ID: "a", User: "kim"}), one(Event{Kind: Lost, Client: 2, Topic: room, ID: "a"}), get(1, "a"), quiet),
		"own broadcasts": lines(one(Event{Kind: Connected, Client: 2, Conn: 1, User: "kim"}), one(Event{Kind: Base, Client: 2, Conn: 1, Topic: "all", Place: at(0)}),
			[]Event{{Kind: Send, Client: 2, Topic: "all", ID: "a", User: "kim"}, {Kind: Sent, Client: 2, Topic: "all", ID: "a", Place: at(1)}}, quiet),
	} {
		t.Run(name, func(t *testing.T) { require.Empty(t, judge(events).Check()) })
	}
}

// bad is a history and what must be found in it.
type bad struct {
	property, text string
	events         []Event
}

func TestBadHistories(t *testing.T) {
	for _, rows := range [][]bad{badMessages(), badViews(), badResumes(), badConnections(), badMoves(), badPresence()} {
		for _, row := range rows {
			t.Run(row.property+" "+row.text, func(t *testing.T) {
				var got []string
				for _, v := range judge(row.events).Check() {
					require.NotEmpty(t, v.Events, "%s", v)
					require.NotContains(t, v.String(), "%!")
					got = append(got, v.Property)
					if v.Property == row.property {
						require.Contains(t, v.Text, row.text)
					}
				}
				require.Equal(t, []string{row.property}, got, "%v", judge(row.events).Check())
			})
		}
	}
}

func badMessages() []bad {
	forged := get(1, "a")
	forged[0].User = "eve"
	elsewhere := get(1, "a")
	elsewhere[0].Topic = "room/other"
	otherRoom := one(Event{Kind: Base, Client: 1, Conn: 1, Topic: "room/other", Place: at(0)})
	denied := []Event{{Kind: Send, Client: 2, Topic: room, ID: "a", User: "kim"}, {Kind: Refused, Client: 2, Topic: room, ID: "a", Code: "forbidden"}}
	send := func(client int, id string) []Event {
		return one(Event{Kind: Send, Client: client, Topic: room, ID: id, User: "kim"})
	}
	sent := func(client int, n int64, id string) []Event {
		return one(Event{Kind: Sent, Client: client, Topic: room, ID: id, Place: at(n)})
	}
	other := Event{Kind: Deliver, Client: 3, Conn: 3, Topic: room, ID: "b", User: "kim", Place: at(1)}
	return []bad{
		{"P1", "was never sent", lines(enter(), get(1, "a"))},
		{"P1", "before it was sent", lines(enter(), get(1, "a"), send(2, "a"))},
		{"P1", "has another sender", lines(enter(), send(2, "a"), forged)},
		{"P1", "went to another topic", lines(otherRoom, send(2, "a"), elsewhere)},
		{"P1", "although it was refused", lines(enter(), denied, get(1, "a"))},
		{"P1", "answer to a message that was never sent", lines(sent(2, 1, "a"))},
		{"P1", "question that was not asked", lines(one(Event{Kind: Answered, Client: 1, Conn: 1, ID: "q"}))},
		{"P2", "in the log of room/r twice", lines(enter(), publish(1, "a"), get(1, "a"), get(2, "a"))},
		{"P2", "a second answer", lines(one(Event{Kind: Ask, Client: 1, Conn: 1, ID: "q"}), one(Event{Kind: Answered, Client: 1, Conn: 1, ID: "q"}),
			one(Event{Kind: Answered, Client: 1, Conn: 1, ID: "q"}))},
		{"P4", "request that is not answered", lines(one(Event{Kind: Ask, Client: 1, Conn: 1, ID: "q"}), quiet)},
		{"P4", "the Store had not taken it", lines(publish(1, "a"), send(2, "b"), sent(2, 2, "b"))},
		{"P4", "without a place", lines(send(2, "a"), one(Event{Kind: Sent, Client: 2, Topic: room, ID: "a"}))},
		{"P4", "the Store has 1 messages", lines(publish(1, "a"), publish(2, "b"), flushed(2, said(2, "b")))},
		{"P5", "was acknowledged before", lines(send(2, "a"), sent(2, 2, "a"), send(3, "b"), sent(3, 1, "b"))},
		{"P5", "one client sent", lines(send(2, "a"), send(2, "b"), sent(2, 1, "b"), sent(2, 2, "a"))},
		{"P6", "for one and", lines(enter(), publish(1, "a"), get(1, "a"), send(2, "b"),
			one(Event{Kind: Base, Client: 3, Conn: 3, Topic: room, Place: at(0)}), []Event{other})},
	}
}

func badViews() []bad {
	plain := Event{Kind: Deliver, Client: 1, Conn: 1, Topic: "room/plain", ID: "a", User: "kim"}
	said1 := one(Event{Kind: Send, Client: 2, Topic: "room/plain", ID: "a", User: "kim"})
	here := one(Event{Kind: Base, Client: 1, Conn: 1, Topic: "room/plain"})
	noPlace := get(1, "a")
	noPlace[0].Place = Place{}
	noticed := []Event{{Kind: Send, Client: App, Topic: "user/lee", ID: "n"}, {Kind: Sent, Client: App, Topic: "user/lee", ID: "n", Place: at(1)}}
	inbox := one(Event{Kind: Base, Client: 1, Conn: 1, Topic: "user/lee", Place: at(0), Count: &Count{}, Inbox: &Standing{}})
	foreign := get(1, "b")
	foreign[0].Place = Place{"f", 1}
	cast := func(n int64, id string) []Event {
		return []Event{
			{Kind: Send, Client: 2, Topic: "all", ID: id, User: "kim"}, {Kind: Sent, Client: 2, Topic: "all", ID: id, Place: at(n)},
		}
	}
	all := one(Event{Kind: Base, Client: 1, Conn: 1, Topic: "all", Place: at(0)})
	gotB := one(Event{Kind: Deliver, Client: 1, Conn: 1, Topic: "all", ID: "b", User: "kim", Place: at(2)})
	signal := one(Event{Kind: Signal, Client: 1, Conn: 1, Topic: "room/plain", ID: "a", User: "kim"})
	return []bad{
		{"P2", "a message again", lines(enter(), publish(1, "a"), get(1, "a"), get(1, "a"))},
		{"P2", "a message again", lines(here, said1, []Event{plain, plain})},
		{"P2", "came back", lines(one(Event{Kind: Connected, Client: 1, Conn: 1, User: "lee", ClientID: "L"}), all,
			[]Event{{Kind: Send, Client: 1, Topic: "all", ID: "a", User: "lee", ClientID: "L"}, {Kind: Deliver, Client: 1, Conn: 1, Topic: "all", ID: "a", User: "lee", Place: at(1)}})},
		{"P2", "a signal again", lines(said1, signal, signal)},
		{"P2", "or late", lines(enter(), publish(1, "a"), publish(2, "b"), based(Event{Conn: 1, Place: at(2), Entries: []Seen{said(1, "a"), said(2, "b")}}), get(1, "a"))},
		{"P3", "is missing after", lines(enter(), publish(1, "a"), publish(2, "b"), get(2, "b"))},
		{"P3", "is missing after", lines(all, cast(1, "a"), cast(2, "b"), gotB)},
		{"P3", "without being told", lines(enter(), publish(1, "a"), get(1, "a"), one(Event{Kind: Wiped}), one(Event{Kind: Send, Client: 2, Topic: room, ID: "b", User: "kim"}), foreign)},
		{"P3", "before the history", lines(enter()[:3], publish(1, "a"), get(1, "a"))},
		{"P3", "without a position", lines(enter(), publish(1, "a"), noPlace)},
		{"P3", "a hole in a history", lines(enter()[:3], publish(1, "a"), publish(2, "b"), publish(3, "c"),
			based(Event{Conn: 1, Place: at(3), Entries: []Seen{said(1, "a"), said(1, "a"), said(3, "c")}}))},
		{"P3", "but ends at", lines(enter()[:2], publish(1, "a"), publish(2, "b"),
			one(Event{Kind: Page, Client: 1, Conn: 1, Topic: room, Place: at(2), Entries: []Seen{said(1, "a")}}))},
		{"P3", "no gap was told", lines(enter(), publish(1, "a"), one(Event{Kind: Base, Client: 1, Conn: 1, Topic: room, Place: at(1), Entries: []Seen{said(1, "a")}}))},
		{"P4", "did not come", lines(enter(), publish(1, "a"), quiet)},
		{"P4", "did not come", lines(enter(), publish(1, "a"), leave())},
		{"P4", "which ends at", lines(enter(), publish(1, "a"), flushed(1, said(1, "a")))},
		{"P4", "did not get back", lines(enter(), one(Event{Kind: Closed, Client: 1, Conn: 1, Code: "-1"}), quiet)},
		{"P4", "was acknowledged before it was asked for", lines(publish(1, "a"), enter())},
		{"P4", "but 2 are kept", lines(publish(1, "a"), publish(2, "b"), enter()[:3], based(Event{Conn: 1, Place: at(2), Entries: []Seen{said(2, "b")}}))},
		{"P7", "did not come", lines(enter()[:2], inbox, noticed, quiet)},
	}
}

// On clocks that do not stand still an answer takes time, whenever the question was asked; but not for ever.
func TestAnswersOnRealClocks(t *testing.T) {
	ask := one(Event{Kind: Ask, Client: 1, Conn: 1, ID: "q"})
	soon := judge(lines(enter(), ask, quiet, one(Event{Kind: Answered, Client: 1, Conn: 1, ID: "q"}), quiet))
	soon.Slack = time.Millisecond
	require.Empty(t, soon.Check())
	var wait []Event
	for range 5 { // seconds
		wait = append(wait, Event{Kind: Fault, Client: App})
	}
	never := judge(lines(enter(), ask, quiet, wait, quiet))
	never.Slack = time.Millisecond
	found := never.Check()
	require.Len(t, found, 1)
	require.Contains(t, found[0].String(), "a request that is not answered")
}
