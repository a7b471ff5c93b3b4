package checker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/parley-go/parley/checker"
)

func badResumes() []bad {
	three := [][]Event{enter(), publish(1, "a"), publish(2, "b"), publish(3, "c")}
	with := func(more ...[]Event) []Event { return lines(append(append([][]Event{}, three...), more...)...) }
	return []bad{
		{"P3", "but with other messages", with(back(1), based(Event{Place: at(3), Offered: place(1), Recovered: Yes, Entries: []Seen{said(3, "c")}}))},
		{"P3", "but with other messages", with(back(1), based(Event{Place: at(3), Offered: place(1), Recovered: Yes,
			Entries: []Seen{said(1, "a"), said(2, "b"), said(3, "c")}}))},
		{"P3", "which is another log", lines(enter(), back(0), based(Event{Place: Place{"f", 0}, Offered: place(0), Recovered: Yes}))},
		{"P3", "recovered without a position", lines(enter()[:3], based(Event{Conn: 1, Place: at(0), Recovered: Yes}))},
		{"P3", "nothing said about it", lines(enter(), back(0), based(Event{Place: at(0), Offered: place(0)}))},
		{"P3", "had come already", lines(enter(), publish(1, "a"), get(1, "a"), back(0)[:1], one(Event{Kind: Base, Client: 1, Conn: 2, Topic: room,
			Place: at(0), Offered: place(0), Recovered: Yes}))},
		{"P4", "everything since was kept", with(back(0), based(Event{Place: at(3), Offered: place(0), Recovered: No, Code: "gone",
			Entries: []Seen{said(1, "a"), said(2, "b"), said(3, "c")}}))},
		{"P4", "(reset) in the same log", lines(enter(), back(0), based(Event{Place: at(0), Offered: place(0), Recovered: No, Code: "reset"}))},
		{"P4", "(ahead)", lines(enter(), back(0), based(Event{Place: at(0), Offered: place(0), Recovered: No, Code: "ahead"}))},
		{"P4", "(gone), but", lines(enter(), back(0), based(Event{Place: Place{"f", 0}, Offered: place(0), Recovered: No, Code: "gone"}))},
		{"P4", "was acknowledged before it was asked for", with(back(1), based(Event{Place: at(1), Offered: place(1), Recovered: Yes}))},
	}
}

func badConnections() []bad {
	resumed := []Event{
		{Kind: Replaced, Client: 1, Conn: 1},
		{Kind: Dial, Client: 1, Conn: 2, User: "lee"},
		{Kind: Connected, Client: 1, Conn: 2, User: "lee", ClientID: "L", Recovered: Yes},
	}
	dropped := one(Event{Kind: Dropped, Client: 1, Topic: room})
	stray := one(Event{Kind: Stray, Client: 1, Conn: 1, ID: "a"})
	closed := func(code string) []Event { return one(Event{Kind: Closed, Client: 1, Conn: 1, Code: code}) }
	again := func(clientID string, recovered Answer) []Event {
		return one(Event{Kind: Connected, Client: 1, Conn: 2, User: "lee", ClientID: clientID, Recovered: recovered})
	}
	told := one(Event{Kind: Told, Client: 1, Conn: 1, Topic: room, User: "kim", Code: "joined"})
	return []bad{
		{"P9", "a message after the leave", lines(enter(), leave(), publish(1, "a"), get(1, "a"))},
		{"P9", "something of the room after the leave", lines(enter(), leave(), told)},
		{"P9", "a history after the leave", lines(enter(), leave(), enter()[3:])},
		{"P9", "after the user had been disconnected", lines(enter(), kick(), publish(1, "a"), get(1, "a"))},
		{"P9", "of a disconnected user is still open", lines(enter(), kick(), quiet)},
		{"P9", "another connection had resumed", lines(enter(), resumed, dropped, publish(1, "a"), stray)},
		{"P9", "another one has resumed is still open", lines(enter(), resumed, dropped, quiet)},
		{"P9", "another client id", lines(enter(), closed("-1"), again("other", Yes))},
		{"P9", "ended for good", lines(enter(), closed("4101"), again("L", Yes))},
		{"P9", "although it was new", lines(enter(), closed("-1"), again("M", No))},
		{"P9", "its client has no other", lines(enter(), closed("4103"))},
	}
}

func badPresence() []bad {
	truth := one(Event{Kind: Members, Client: App, Topic: room, Users: []string{"kim", "lee"}, Present: []int{1, 2}})
	roster := func(users ...string) []Event {
		return one(Event{Kind: Roster, Client: 1, Conn: 1, Topic: room, Users: users})
	}
	told := func(user, what string) []Event {
		return one(Event{Kind: Told, Client: 1, Conn: 1, Topic: room, User: user, Code: what})
	}
	went := one(Event{Kind: Went, Client: 1, Conn: 1, Topic: room, Users: []string{"kim"}})
	return []bad{
		{"P8", "believes that [lee]", lines(enter(), roster("lee"), truth)},
		{"P8", "believes that [eve kim lee]", lines(enter(), roster("eve", "kim", "lee"), truth)},
		{"P8", "believes that [lee]", lines(enter(), roster("kim", "lee"), went, truth)},
		{"P8", "it has left", lines(enter(), roster("kim", "lee"), told("kim", "left"), truth)},
		{"P8", "it has joined", lines(enter(), roster("kim", "lee"), told("eve", "joined"), truth)},
	}
}

// P8: who has come since the roster is there.
func TestPresenceFollowsChanges(t *testing.T) {
	events := lines(enter(), []Event{
		{Kind: Roster, Client: 1, Conn: 1, Topic: room, Users: []string{"lee", "eve"}},
		{Kind: Came, Client: 1, Conn: 1, Topic: room, Users: []string{"kim"}},
		{Kind: Went, Client: 1, Conn: 1, Topic: room, Users: []string{"eve"}},
		{Kind: Members, Client: App, Topic: room, Users: []string{"kim", "lee"}, Present: []int{1}},
	})
	require.Empty(t, judge(events).Check())
}

func TestLeaksAreViolations(t *testing.T) {
	h := judge(nil)
	h.Leaks = []string{"3 goroutines"}
	got := h.Check()
	require.Len(t, got, 1)
	require.Equal(t, "P10: 3 goroutines", got[0].String())
}

// With several nodes, the last message before silence comes by itself, and a join may know a little less.
func TestSeveralNodes(t *testing.T) {
	h := judge(lines(enter(), publish(1, "a"), get(1, "a"), quiet))
	h.Nodes = 2
	require.Empty(t, h.Check())
	h.Events = lines(enter(), publish(1, "a"), quiet)
	require.Len(t, h.Check(), 1)
	h.Events = lines(publish(1, "a"), enter())
	require.Empty(t, h.Check(), "a view may be some seconds old")
}

// Of a Store that does not write down what it takes nobody knows that a message was in a log that is lost (P5).
func TestSentAgainAfterAWipe(t *testing.T) {
	send := func(id string) []Event {
		return []Event{
			{Kind: Send, Client: 2, Topic: room, ID: id, User: "kim"},
			{Kind: Ask, Client: 2, Conn: 1, ID: id}, {Kind: Ask, Client: 2, Conn: 2, ID: id},
		}
	}
	sent := func(id string, n int64) []Event {
		return one(Event{Kind: Sent, Client: 2, Topic: room, ID: id, Place: at(n)})
	}
	wiped := one(Event{Kind: Wiped})
	require.Empty(t, judge(lines(send("a"), wiped, send("b"), sent("a", 2), sent("b", 1))).Check())
	for name, events := range map[string][]Event{
		"no wipe":     lines(send("a"), send("b"), sent("a", 2), sent("b", 1)),
		"an old wipe": lines(wiped, send("a"), send("b"), sent("a", 2), sent("b", 1)),
		"a new wipe":  lines(send("a"), send("b"), sent("a", 2), sent("b", 1), wiped),
	} {
		found := judge(events).Check()
		require.Len(t, found, 1, name)
		require.Equal(t, "P5", found[0].Property, name)
	}
}
