package checker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/parley-go/parley/checker"
)

func judgeNodes(events []Event) *History {
	h := judge(events)
	h.Nodes = 3
	return h
}

func synced(since int) []Event {
	return one(Event{Kind: Synced, Client: App, Since: since, Present: []int{1}})
}

// kickOn disconnects lee, who is connected to node 0, on another node.
func kickOn(code string) []Event {
	return []Event{
		{Kind: Kick, Client: App, User: "lee", Node: 2, ID: "x"},
		{Kind: Kicked, Client: App, User: "lee", Node: 2, ID: "x", Code: code},
	}
}

// kickHere disconnects lee on the node that lee is connected to.
func kickHere(code string) []Event {
	events := kickOn(code)
	for i := range events {
		events[i].Node = 0
	}
	return events
}

func TestGoodNodes(t *testing.T) {
	reaches := one(Event{Kind: Reaches, Client: App, Topic: "room/plain", ID: "p", Present: []int{1}})
	for name, events := range map[string][]Event{
		"synced":                         lines(enter(), publish(1, "a"), get(1, "a"), synced(8), quiet),
		"too early to be sure":           lines(enter(), publish(1, "a"), synced(6), get(1, "a"), quiet),
		"kicked later":                   lines(enter(), kickOn("later"), publish(1, "a"), get(1, "a"), one(Event{Kind: Closed, Client: 1, Conn: 1, Code: "4101"}), synced(8)),
		"kicked here alone":              lines(enter(), kickOn("here"), synced(7), quiet),
		"elsewhere, by a node that ends": lines(enter(), kickOn("end"), publish(1, "a"), get(1, "a"), synced(10), quiet),
		"by its own node, which ends": lines(enter(), kickHere("end"), publish(1, "a"), get(1, "a"), one(Event{Kind: Closed, Client: 1, Conn: 1, Code: "4000"}),
			one(Event{Kind: Dropped, Client: 1, Topic: room}), quiet),
		"the kick went with a wipe": lines(enter(), kickOn("later"), one(Event{Kind: Wiped}), synced(8), quiet),
		"carried": lines(enter()[:2], plainRoom(), one(Event{Kind: Send, Client: App, Topic: "room/plain", ID: "p"}),
			one(Event{Kind: Deliver, Client: 1, Conn: 1, Topic: "room/plain", ID: "p"}), reaches),
	} {
		t.Run(name, func(t *testing.T) { require.Empty(t, judgeNodes(events).Check()) })
	}
}

func plainRoom() []Event {
	return []Event{{Kind: Join, Client: 1, Conn: 1, Topic: "room/plain"}, {Kind: Base, Client: 1, Conn: 1, Topic: "room/plain", Asked: true}}
}

func TestBadNodes(t *testing.T) {
	for _, row := range []bad{
		{"P4", "did not come", lines(enter(), publish(1, "a"), synced(8))},
		{"P4", "did not come", lines(enter(), publish(1, "a"), quiet)},
		{"P4", "has not reached client 1", lines(enter()[:2], plainRoom(), one(Event{Kind: Send, Client: App, Topic: "room/plain", ID: "p"}),
			one(Event{Kind: Reaches, Client: App, Topic: "room/plain", ID: "p", Present: []int{1}}))},
		{"P2", "has reached client 1 twice", lines(enter()[:2], plainRoom(), one(Event{Kind: Send, Client: App, Topic: "room/plain", ID: "p"}),
			one(Event{Kind: Deliver, Client: 1, Conn: 1, Topic: "room/plain", ID: "p"}), one(Event{Kind: Deliver, Client: 1, Conn: 1, Topic: "room/plain", ID: "p"}),
			one(Event{Kind: Reaches, Client: App, Topic: "room/plain", ID: "p", Present: []int{1}}))},
		{"P9", "after the user had been disconnected", lines(enter(), kickOn(""), publish(1, "a"), get(1, "a"))},
		{"P9", "of a disconnected user is still open", lines(enter(), kickOn(""), quiet)},
		{"P9", "should have heard of it by now", lines(enter(), kickOn("later"), synced(8))},
		{"P9", "should have heard of it by now", lines(enter(), kickOn("later"), quiet)},
		{"P9", "should have heard of it by now", lines(enter(), kickHere("end"), quiet)},
		{"P9", "after the user had been disconnected", lines(enter(), kickHere("here"), publish(1, "a"), get(1, "a"))},
		{"P4", "has lost nothing", lines(enter(), publish(1, "a"), get(1, "a"), one(Event{Kind: Epoch, Client: App, Topic: room, Place: Place{Epoch: "f"}}))},
	} {
		t.Run(row.property+" "+row.text, func(t *testing.T) {
			if row.property == "P9" && !KicksEverywhere {
				t.Skip("hubs are not held to it")
			}
			found := judgeNodes(row.events).Check()
			require.NotEmpty(t, found)
			require.Equal(t, row.property, found[0].Property, "%v", found)
			require.Contains(t, found[0].Text, row.text)
		})
	}
}
