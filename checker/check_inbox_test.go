package checker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	. "github.com/parley-go/parley/checker"
)

const inbox = "user/lee"

func spans(from, to int64) []parley.Span { return []parley.Span{{From: from, To: to}} }

// notify stores a notification that the application sends, as the last one of the log.
func notify(n int64, id string, unread int, version int64) []Event {
	return []Event{
		{Kind: Send, Client: App, Topic: inbox, ID: id},
		{Kind: Stored, Client: App, Topic: inbox, ID: id, Label: id, Place: at(n), Count: &Count{unread, version}},
		{Kind: Sent, Client: App, Topic: inbox, ID: id, Place: at(n)},
	}
}

// home connects client 1 as connection 1, with an empty inbox.
func home() []Event {
	return []Event{
		{Kind: Dial, Client: 1, Conn: 1, User: "lee"},
		{Kind: Connected, Client: 1, Conn: 1, User: "lee", ClientID: "L"},
		{Kind: Base, Client: 1, Conn: 1, Topic: inbox, Place: Place{"e", 0}, Asked: true, Count: &Count{}, Inbox: &Standing{}},
	}
}

func noticed(n int64, id string, unread int, version int64) []Event {
	return one(Event{Kind: Deliver, Client: 1, Conn: 1, Topic: inbox, ID: id, Place: at(n), Count: &Count{unread, version}})
}

func upTo(as parley.MarkAs, n int64) *Marking { return &Marking{As: as, Epoch: "e", UpTo: n} }

func ask(m *Marking) []Event {
	return one(Event{Kind: Mark, Client: 2, Topic: inbox, ID: "k", Mark: m})
}

func apply(m *Marking, top int64, changed []parley.Span, unread int, version int64) []Event {
	return one(Event{Kind: Applied, Client: App, Topic: inbox, Mark: m, Spans: changed, Place: at(top), Count: &Count{unread, version}})
}

func acked(unread int, version int64) []Event {
	return one(Event{Kind: MarkDone, Client: 2, Topic: inbox, ID: "k", Place: Place{Epoch: "e"}, Count: &Count{unread, version}})
}

func told(as parley.MarkAs, changed []parley.Span, unread int, version int64) []Event {
	return one(Event{Kind: News, Client: 1, Conn: 1, Topic: inbox, Mark: &Marking{As: as}, Spans: changed, Place: Place{Epoch: "e"}, Count: &Count{unread, version}})
}

// stands is what the Store has: all is kept.
func stands(top int64, s Standing, unread int, version int64) []Event {
	e := Event{Kind: Stands, Client: App, Code: "quiet", Topic: inbox, Place: at(top), First: 1, Inbox: &s, Count: &Count{unread, version}}
	for n := range top {
		e.Entries = append(e.Entries, Seen{Place: at(n + 1)})
	}
	return one(e)
}

// two is an inbox of two, and device 1 has seen them; marked is it when a mark up to 1 was made, told and acknowledged.
func two() []Event {
	return lines(home(), notify(1, "a", 1, 1), noticed(1, "a", 1, 1), notify(2, "b", 2, 2), noticed(2, "b", 2, 2))
}

func marked() []Event {
	m := upTo(parley.MarkRead, 1)
	return lines(two(), ask(m), apply(m, 2, spans(1, 1), 1, 3), told(parley.MarkRead, spans(1, 1), 1, 3), acked(1, 3))
}

// ahead connects client 1 with an inbox that has a mark of a message that is still to come, which is then shown as this.
func ahead(shown parley.MarkAs) []Event {
	m, first := upTo(parley.MarkRead, 1), notify(1, "a", 1, 1)
	base, message := home()[2], noticed(1, "a", 0, 2)
	base.Count, base.Inbox = &Count{0, 2}, &Standing{Read: spans(1, 1)}
	message[0].Mark = &Marking{As: shown}
	return lines(home()[:2], first[:2], ask(m), apply(m, 1, spans(1, 1), 0, 2), one(base), message, first[2:], acked(0, 2),
		stands(1, Standing{Read: spans(1, 1)}, 0, 2))
}

// lost has the Store lose the log, and take a message into the new one: how says what becomes of that.
func lost(how Kind) []Event {
	after := func(e Event) Event {
		e.Client, e.Topic, e.ID = App, inbox, "c"
		return e
	}
	s := stands(1, Standing{}, 1, 1)
	s[0].Place.Epoch, s[0].Entries[0].Place.Epoch = "f", "f"
	return lines(two(), []Event{
		after(Event{Kind: Send}),
		after(Event{Kind: Wiped}), after(Event{Kind: Stored, Label: "c", Place: Place{"f", 1}, Count: &Count{1, 1}}),
		after(Event{Kind: how, Place: Place{"f", 1}, Code: "failed"}),
	}, s)
}

func judgeInbox(events []Event) *History {
	return &History{Events: events, Nodes: 1, Keep: func(string) int { return 30 }}
}

func TestGoodInboxes(t *testing.T) {
	read := Standing{Read: spans(1, 1)}
	again := Event{Kind: Base, Client: 1, Conn: 2, Topic: inbox, Place: at(2), Offered: place(2), Recovered: Yes, Asked: true, Count: &Count{1, 3}, Inbox: &read}
	for name, events := range map[string][]Event{
		"marked": lines(marked(), stands(2, read, 1, 3)),
		"found when coming back": lines(two(), ask(upTo(parley.MarkRead, 1)), apply(upTo(parley.MarkRead, 1), 2, spans(1, 1), 1, 3), acked(1, 3),
			back(0)[:3], one(again), stands(2, read, 1, 3)),
		"news out of order": lines(two(), ask(upTo(parley.MarkRead, 2)), apply(upTo(parley.MarkRead, 2), 2, spans(1, 2), 0, 3),
			one(Event{Kind: Mark, Client: 3, Topic: inbox, ID: "l", Mark: upTo(parley.MarkUnread, 2)}), apply(upTo(parley.MarkUnread, 2), 2, spans(1, 2), 2, 4),
			told(parley.MarkUnread, spans(1, 2), 2, 4), told(parley.MarkRead, spans(1, 2), 0, 3), stands(2, Standing{}, 2, 4)),
		"an inbox that is ahead":                  ahead(parley.MarkRead),
		"a log of which nobody has said anything": lost(Lost),
		"refused": lines(two(), ask(upTo(parley.MarkRead, 9)), apply(upTo(parley.MarkRead, 9), 2, nil, 2, 2),
			one(Event{Kind: MarkNo, Client: 2, Topic: inbox, ID: "k", Code: "ahead"}), stands(2, Standing{}, 2, 2)),
	} {
		t.Run(name, func(t *testing.T) { require.Empty(t, judgeInbox(events).Check()) })
	}
}

func TestBadInboxes(t *testing.T) {
	read := Standing{Read: spans(1, 1)}
	m := upTo(parley.MarkRead, 1)
	short := []Event{
		{Kind: Send, Client: App, Topic: inbox, ID: "t", TTL: 10 * time.Second},
		{Kind: Stored, Client: App, Topic: inbox, ID: "t", Label: "t", TTL: 10 * time.Second, Place: at(1), Count: &Count{1, 1}},
	}
	early := one(Event{Kind: Deliver, Client: 1, Conn: 1, Topic: inbox, Expired: true, Place: at(1), Count: &Count{1, 1}})
	due := func(ago time.Duration) []Event {
		return []Event{
			{Kind: Send, Client: App, Topic: inbox, ID: "a", ReceiveIn: ago},
			{Kind: Stored, Client: App, Topic: inbox, ID: "a", Label: "a", ReceiveIn: ago, Place: at(1), Count: &Count{1, 1}},
		}
	}
	hook := func(kind Kind) []Event {
		return one(Event{Kind: kind, Client: App, Topic: inbox, ID: "a", Place: at(1)})
	}
	silent := noticed(1, "a", 1, 1)
	silent[0].Count = nil
	received := &Marking{As: parley.MarkReceived, Epoch: "e", UpTo: 1}
	for _, row := range []bad{
		{"P7", "believes that e:1 is unread", lines(two(), ask(m), apply(m, 2, spans(1, 1), 1, 3), acked(1, 3),
			notify(3, "c", 2, 4), noticed(3, "c", 2, 4), stands(3, read, 2, 4))},
		{"P7", "client 1 believes 2 unread", lines(two(), ask(m), apply(m, 2, spans(1, 1), 1, 3), acked(1, 3), stands(2, read, 1, 3))},
		{"P7", "the Store has not carried it out", lines(two(), ask(m), acked(2, 2), stands(2, Standing{}, 2, 2))},
		{"P7", "that nobody has asked for", lines(two(), apply(m, 2, spans(1, 1), 1, 3), told(parley.MarkRead, spans(1, 1), 1, 3))},
		{"P7", "was to change", lines(two(), ask(m), apply(m, 2, spans(2, 2), 1, 3))},
		{"P7", "was to change []", lines(two(), ask(upTo(parley.MarkRead, 9)), apply(upTo(parley.MarkRead, 9), 2, spans(1, 2), 2, 3))},
		{"P7", "news of a mark that was never made", lines(marked(), told(parley.MarkArchived, spans(2, 2), 1, 3))},
		{"P7", "was never the case", lines(marked(), told(parley.MarkRead, spans(1, 1), 1, 9))},
		{"P7", "1 to 1 were unread then", lines(marked(), told(parley.MarkRead, spans(1, 1), 2, 3))},
		{"P7", "does not say how many are unread", lines(home(), notify(1, "a", 1, 1), silent)},
		{"P7", "the inbox stands otherwise", lines(marked(), one(Event{Kind: Page, Client: 1, Conn: 1, Topic: inbox, Place: at(2), Count: &Count{1, 3}, Inbox: &Standing{}}))},
		{"P7", "entries are unread, but the Store counts", lines(home(), notify(1, "a", 2, 1))},
		{"P7", "not by the Store", lines(two(), ask(m), one(Event{Kind: MarkNo, Client: 2, Topic: inbox, ID: "k", Code: "reset"}))},
		{"P7", "for no reason", lines(two(), ask(m), one(Event{Kind: MarkNo, Client: 2, Topic: inbox, ID: "k", Code: "forbidden"}))},
		{"P7", "told as expired, but is not", lines(home(), short, early)},
		{"P7", "overdue before its time", lines(home(), due(time.Hour), hook(Taken))},
		{"P7", "that was received", lines(home(), due(time.Second), ask(received), apply(received, 1, nil, 1, 1), acked(1, 1), hook(Taken))},
		{"P7", "before the lease is over", lines(home(), due(time.Second), hook(Taken), hook(Taken))},
		{"P7", "called again", lines(home(), due(time.Second), hook(Taken), hook(Hook), hook(Hooked), hook(Hook))},
		{"P7", "and was not", lines(home(), due(time.Second), hook(Taken), apply(&Marking{As: parley.MarkReceived, Epoch: "e", Offsets: []int64{1}}, 1, nil, 1, 1))},
		{"P7", "an entry is shown as unread, but was told to be read", ahead(parley.MarkUnread)},
		{"P7", "knows another log", lost(Sent)},
		{"P1", "a mark that was not asked for", lines(acked(0, 0))},
	} {
		t.Run(row.text, func(t *testing.T) {
			found := judgeInbox(row.events).Check()
			require.NotEmpty(t, found)
			for _, v := range found {
				require.Equal(t, row.property, v.Property, "%v", found)
				require.NotEmpty(t, v.Events)
			}
			require.Contains(t, found[0].Text, row.text, "%v", found)
		})
	}
}

// An acknowledged mark is kept as long as nothing says otherwise, also where the Store writes down nothing.
func TestAcknowledgedMarksLast(t *testing.T) {
	m := upTo(parley.MarkRead, 1)
	plain := func(more ...[]Event) []Event {
		var events []Event
		for _, e := range lines(append([][]Event{two(), ask(m), told(parley.MarkRead, spans(1, 1), 1, 3), acked(1, 3)}, more...)...) {
			if e.Kind != Stored {
				events = append(events, e)
			}
		}
		return events
	}
	require.Empty(t, judgeInbox(plain(stands(2, Standing{Read: spans(1, 1)}, 1, 3))).Check())
	found := judgeInbox(plain(told(parley.MarkUnread, spans(1, 1), 2, 4), stands(2, Standing{}, 2, 4))).Check()
	require.Len(t, found, 1)
	require.Contains(t, found[0].Text, "e:1 was acknowledged to be read, but is unread")
	other := one(Event{Kind: Mark, Client: 3, Topic: inbox, ID: "l", Mark: upTo(parley.MarkUnread, 2)})
	require.Empty(t, judgeInbox(plain(other, told(parley.MarkUnread, spans(1, 1), 2, 4), stands(2, Standing{}, 2, 4))).Check())
}
