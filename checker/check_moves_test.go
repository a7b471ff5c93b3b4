package checker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/parley-go/parley/checker"
)

// removal removes lee from the room.
func removal(code string) []Event {
	return []Event{
		{Kind: Remove, Client: App, User: "lee", Topic: room, ID: "x"},
		{Kind: Removed, Client: App, User: "lee", Topic: room, ID: "x", Code: code},
	}
}

func ousted() []Event { return one(Event{Kind: Ousted, Client: 1, Conn: 1, Topic: room, ID: "x"}) }

// addition adds lee to it.
func addition() []Event {
	return []Event{{Kind: Add, Client: App, User: "lee", Topic: room, ID: "y"}, {Kind: Added, Client: App, User: "lee", Topic: room, ID: "y"}}
}

func given(n int64, entries ...Seen) []Event {
	return one(Event{Kind: Base, Client: 1, Conn: 1, Topic: room, Place: at(n), Given: true, Entries: entries})
}

func rejoin(from int64) []Event {
	return one(Event{Kind: Join, Client: 1, Conn: 1, Topic: room, Offered: place(from)})
}

func rejoined(n int64) []Event {
	return based(Event{Conn: 1, Place: at(n), Offered: place(n), Recovered: Yes})
}

// goClient turns client 1 into a Go client.
func goClient(events []Event) []Event {
	for i := range events {
		if events[i].Client == 1 {
			events[i].Conn = -1
		}
	}
	return events
}

func TestGoodMoves(t *testing.T) {
	reconnected := []Event{{Kind: Closed, Client: 1, Code: "-1"}, {Kind: Connected, Client: 1, User: "lee", ClientID: "L", Recovered: Yes}}
	wiped := one(Event{Kind: Wiped})
	for name, events := range map[string][]Event{
		"removed":                   lines(enter(), publish(1, "a"), get(1, "a"), removal(""), ousted(), publish(2, "b"), quiet),
		"removed while it is told":  lines(enter(), removal("")[:1], publish(1, "a"), get(1, "a"), ousted(), removal("")[1:], quiet),
		"removed later":             lines(enter(), removal("later"), publish(1, "a"), get(1, "a"), ousted(), quiet),
		"perhaps removed":           lines(enter(), removal("here"), publish(1, "a"), get(1, "a"), quiet),
		"gone with a wipe":          lines(enter(), removal("later"), wiped, quiet),
		"joined again":              lines(enter(), removal(""), ousted(), rejoin(0), rejoined(0), publish(1, "a"), get(1, "a"), quiet),
		"while it joins again":      lines(enter(), rejoin(0), removal(""), ousted(), rejoined(0), publish(1, "a"), get(1, "a"), quiet),
		"by itself":                 goClient(lines(enter(), reconnected, removal(""), one(Event{Kind: Reached, Client: 1, Topic: room, Place: at(0)}), publish(1, "a"), get(1, "a"), quiet)),
		"added":                     lines(enter()[:2], addition(), given(0), publish(1, "a"), get(1, "a"), quiet),
		"added once more":           lines(enter(), publish(1, "a"), get(1, "a"), addition(), given(1, said(1, "a")), publish(2, "b"), get(2, "b"), quiet),
		"removed and added":         lines(enter(), removal(""), addition(), ousted(), given(0), publish(1, "a"), get(1, "a"), quiet),
		"added before it has asked": lines(addition(), publish(1, "a"), enter(), publish(2, "b"), get(1, "a"), get(2, "b"), quiet),
	} {
		t.Run(name, func(t *testing.T) { require.Empty(t, judge(events).Check()) })
	}
}

func badMoves() []bad {
	return []bad{
		{"P1", "nobody has done that", lines(enter(), ousted())},
		{"P1", "nobody has done that", lines(enter(), one(Event{Kind: Remove, Client: App, User: "kim", Topic: room, ID: "x"}), ousted())},
		{"P1", "nobody has asked for", lines(enter()[:2], given(0))},
		{"P2", "twice by one call", lines(enter(), removal(""), ousted(), rejoin(0), rejoined(0), ousted())},
		{"P3", "had come already", lines(enter(), addition(), publish(1, "a"), get(1, "a"), given(0))},
		{"P4", "did not come", lines(enter(), publish(1, "a"), removal(""), ousted())},
		{"P4", "was acknowledged before it was asked for", lines(publish(1, "a"), enter()[:2], addition(), given(0))},
		{"P4", "but 1 are kept", lines(publish(1, "a"), enter()[:2], addition(), given(1))},
		{"P9", "had been removed from the room", lines(enter(), removal(""), publish(1, "a"), get(1, "a"))},
		{"P9", "was never told", lines(enter(), removal(""), quiet)},
		{"P9", "should have heard of it", lines(enter(), removal("later"), quiet)},
		{"P9", "a message after the leave", lines(enter(), removal(""), ousted(), publish(1, "a"), get(1, "a"))},
		{"P9", "a history after the leave", lines(enter(), removal(""), ousted(), enter()[3:])},
	}
}

// A message to a user of whom nobody knew, or by somebody who had just been removed, may have been refused the first time: then
// it may be overtaken.
func TestRefusedAtFirst(t *testing.T) {
	for _, row := range []struct {
		topic   string
		conns   []int
		removed bool
		fine    bool
	}{
		{"user/lee", []int{1, 2}, false, true},
		{"user/lee", []int{1}, false, false},
		{room, []int{1, 2}, true, true},
		{room, []int{1}, true, false},
		{room, []int{1, 2}, false, false},
	} {
		send := func(id string) (all []Event) {
			all = one(Event{Kind: Send, Client: 2, Topic: row.topic, ID: id, User: "kim"})
			for _, conn := range row.conns {
				all = append(all, Event{Kind: Ask, Client: 2, Conn: conn, ID: id})
			}
			return all
		}
		sent := func(n int64, id string) []Event {
			return one(Event{Kind: Sent, Client: 2, Topic: row.topic, ID: id, Place: at(n)})
		}
		var removed []Event
		if row.removed {
			removed = one(Event{Kind: Remove, Client: App, User: "kim", Topic: room, ID: "x"})
		}
		found := judge(lines(send("a"), removed, send("b"), sent(1, "b"), sent(2, "a"))).Check()
		require.Equal(t, row.fine, len(found) == 0, "%+v: %v", row, found)
	}
}
