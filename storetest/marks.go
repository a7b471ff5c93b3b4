package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

func (e *env) markOn(s parley.Store, topic string, m parley.Mark) parley.Marked {
	e.Helper()
	got, err := s.Mark(context.Background(), topic, m)
	require.NoErrorf(e, err, "Mark of %q, %+v", topic, m)
	return got
}

// mark marks, and expects the other node to find what Mark says of the log.
func (e *env) mark(topic string, m parley.Mark) parley.Marked {
	e.Helper()
	got := e.markOn(e.store, topic, m)
	page := e.read(e.peer, topic, parley.Query{})
	require.Equalf(e, page.Log, got.Log, "Mark %+v returns how the log stands afterwards", m)
	require.Equalf(e, page.Top, got.Top, "Top after Mark %+v", m)
	return got
}

// changes marks and expects what has changed by that.
func (e *env) changes(topic string, m parley.Mark, want ...int64) {
	e.Helper()
	got := e.mark(topic, m)
	require.Equalf(e, spansOf(want...), solid(got.Changed), "Changed by %+v", m)
}

// refused marks and expects that it has no effect.
func (e *env) refused(topic string, m parley.Mark, why string) {
	e.Helper()
	before := e.read(e.store, topic, standings)
	got := e.mark(topic, m)
	require.Emptyf(e, got.Changed, "Changed by %+v: %s", m, why)
	require.Equalf(e, before.Log, got.Log, "nothing changes by %+v: %s", m, why)
	require.Equalf(e, before, e.read(e.store, topic, standings), "nothing changes by %+v: %s", m, why)
}

var markCases = []storeCase{
	{name: "Mark/read, unread and archived, and what each makes of the others (F33)", run: func(e *env) {
		topic := e.topic()
		e.log(topic, keep(20), counted(1, 6)...)
		e.changes(topic, parley.Mark{As: parley.MarkRead, UpTo: 4}, 1, 2, 3, 4)
		e.stands(topic, 2, spansOf(1, 2, 3, 4), nil, "1 to 4 are read")
		e.changes(topic, parley.Mark{As: parley.MarkArchived, Offsets: []int64{2, 5}}, 2, 5)
		e.stands(topic, 1, spansOf(1, 3, 4), spansOf(2, 5), "a read one and an unread one are archived")
		e.changes(topic, parley.Mark{As: parley.MarkRead, UpTo: 6}, 6)
		e.stands(topic, 0, spansOf(1, 3, 4, 6), spansOf(2, 5), "what is archived stays archived when it is read")
		e.changes(topic, parley.Mark{As: parley.MarkUnread, Offsets: []int64{1, 2}}, 1, 2)
		e.stands(topic, 2, spansOf(3, 4, 6), spansOf(5), "unread again, and no longer archived")
		e.changes(topic, parley.Mark{As: parley.MarkArchived, UpTo: 6}, 1, 2, 3, 4, 6)
		e.stands(topic, 0, nil, spansOf(1, 2, 3, 4, 5, 6), "all are archived")
		e.changes(topic, parley.Mark{As: parley.MarkUnread, UpTo: 6}, 1, 2, 3, 4, 5, 6)
		e.stands(topic, 6, nil, nil, "all are as they were")
	}},
	{name: "Mark/of entries that have the state already changes none", run: func(e *env) {
		topic := e.topic()
		e.log(topic, keep(20), counted(1, 3)...)
		e.changes(topic, parley.Mark{As: parley.MarkUnread, UpTo: 3})
		for _, as := range []parley.MarkAs{parley.MarkRead, parley.MarkArchived, parley.MarkUnread} {
			e.changes(topic, parley.Mark{As: as, UpTo: 2}, 1, 2)
			e.changes(topic, parley.Mark{As: as, UpTo: 2})
			e.changes(topic, parley.Mark{As: as, UpTo: 3, Keys: []string{"key-1"}}, 3)
			e.changes(topic, parley.Mark{As: as, Offsets: []int64{1, 2, 3}, Keys: []string{"key-1"}})
		}
	}},
	{name: "Mark/UpTo, Offsets and Keys pick together, in any order and repeatedly", run: func(e *env) {
		topic := e.topic()
		e.log(topic, keep(20), counted(1, 12)...)
		e.changes(topic, parley.Mark{As: parley.MarkRead, UpTo: 2, Offsets: []int64{9, 4, 6, 4, 1}, Keys: []string{"key-10", "key-4", "key-7", "key-7"}},
			1, 2, 4, 6, 7, 9, 10)
		e.stands(topic, 5, spansOf(1, 2, 4, 6, 7, 9, 10), nil, "by all three")
		e.changes(topic, parley.Mark{As: parley.MarkRead, Offsets: []int64{3}}, 3)
		e.changes(topic, parley.Mark{As: parley.MarkRead, Keys: []string{"key-8", "no such key", "KEY-12", ""}}, 8)
		e.stands(topic, 3, spansOf(1, 2, 3, 4, 6, 7, 8, 9, 10), nil, "neighbours make one span")
		e.changes(topic, parley.Mark{As: parley.MarkArchived, Keys: []string{"key-12"}}, 12)
		e.stands(topic, 2, spansOf(1, 2, 3, 4, 6, 7, 8, 9, 10), spansOf(12), "12 by its key")
	}},
	{name: "Mark/that picks nothing changes nothing", run: func(e *env) {
		topic := e.topic()
		e.log(topic, keep(20), append(messages(1, 1), counted(2, 4)...)...)
		e.mark(topic, parley.Mark{As: parley.MarkRead, UpTo: 2})
		for _, as := range []parley.MarkAs{parley.MarkRead, parley.MarkArchived, parley.MarkUnread, parley.MarkReceived} {
			e.refused(topic, parley.Mark{As: as}, "an empty mark")
			e.refused(topic, parley.Mark{As: as, Offsets: []int64{}, Keys: []string{}}, "an empty mark")
			e.refused(topic, parley.Mark{As: as, Keys: []string{"", "none"}}, "no entry has this key")
		}
	}},
	{name: "Mark/an entry that was appended without Unread is never marked", run: func(e *env) {
		topic := e.topic()
		entries := counted(1, 6)
		for _, i := range []int{1, 4} {
			entries[i].Unread = false
		}
		e.log(topic, keep(20), entries...)
		pick := parley.Mark{UpTo: 4, Offsets: []int64{5}, Keys: []string{"key-2", "key-6"}}
		for _, as := range []parley.MarkAs{parley.MarkRead, parley.MarkArchived, parley.MarkUnread} {
			pick.As = as
			e.changes(topic, pick, 1, 3, 4, 6)
		}
		e.stands(topic, 4, nil, nil, "4 of 6 were counted")
		e.changes(topic, parley.Mark{As: parley.MarkRead, UpTo: 6}, 1, 3, 4, 6)
		e.stands(topic, 0, spansOf(1, 3, 4, 6), nil, "what was never counted is in no span")
	}},
	{name: "Mark/received changes nothing that can be seen", run: func(e *env) {
		topic := e.topic()
		e.log(topic, keep(3), counted(1, 5)...)
		e.mark(topic, parley.Mark{As: parley.MarkArchived, Offsets: []int64{4}})
		e.refused(topic, parley.Mark{As: parley.MarkReceived, UpTo: 5}, "received")
		e.refused(topic, parley.Mark{As: parley.MarkReceived, Offsets: []int64{3, 4}, Keys: []string{"key-5"}}, "received")
	}},
	// F65, F66: a position of a lost log names other entries now.
	{name: "Mark/of another epoch changes nothing (F66)", run: func(e *env) {
		topic := e.topic()
		log := e.log(topic, keep(20), counted(1, 4)...)
		for _, as := range []parley.MarkAs{parley.MarkRead, parley.MarkArchived, parley.MarkUnread, parley.MarkReceived} {
			for _, epoch := range []string{"other", log.Epoch + "x", " " + log.Epoch} {
				e.refused(topic, parley.Mark{As: as, Epoch: epoch, UpTo: 3}, "the epoch is another")
				e.refused(topic, parley.Mark{As: as, Epoch: epoch, Offsets: []int64{2}, Keys: []string{"key-1"}}, "the epoch is another")
			}
		}
		got := e.mark(topic, parley.Mark{As: parley.MarkRead, Epoch: "other", UpTo: 99})
		require.Equal(e, log.Epoch, got.Epoch, "the caller sees the epoch of the log")
		require.EqualValues(e, 4, got.Top)
		e.changes(topic, parley.Mark{As: parley.MarkRead, Epoch: log.Epoch, UpTo: 3}, 1, 2, 3)
		e.changes(topic, parley.Mark{As: parley.MarkRead, UpTo: 4}, 4)
	}},
	{name: "Mark/of a log that was lost does not touch the new one (F66)", needs: wiping, run: func(e *env) {
		topic := e.topic()
		old := e.log(topic, e.aged(20), counted(1, 4)...)
		e.wipe()
		e.log(topic, e.aged(20), counted(5, 8)...)
		e.refused(topic, parley.Mark{As: parley.MarkRead, Epoch: old.Epoch, UpTo: 4}, "the epoch is that of the lost log")
		e.changes(topic, parley.Mark{As: parley.MarkRead, Keys: []string{"key-1", "key-5"}}, 1)
	}},
	{name: "Mark/ahead of the log changes nothing (F65)", run: func(e *env) {
		topic := e.topic()
		log := e.log(topic, keep(20), counted(1, 4)...)
		for _, as := range []parley.MarkAs{parley.MarkRead, parley.MarkArchived, parley.MarkUnread, parley.MarkReceived} {
			for _, epoch := range []string{"", log.Epoch} {
				e.refused(topic, parley.Mark{As: as, Epoch: epoch, UpTo: 5}, "UpTo is after Top")
				e.refused(topic, parley.Mark{As: as, Epoch: epoch, UpTo: 1<<53 - 1, Offsets: []int64{1}}, "UpTo is after Top")
				e.refused(topic, parley.Mark{As: as, Epoch: epoch, UpTo: 2, Offsets: []int64{1, 5, 2}, Keys: []string{"key-3"}},
					"one of Offsets is after Top")
			}
		}
		e.changes(topic, parley.Mark{As: parley.MarkRead, UpTo: 4, Offsets: []int64{4}}, 1, 2, 3, 4)
	}},
	{name: "Mark/passes over entries that are not kept any more", run: func(e *env) {
		topic := e.topic()
		e.log(topic, keep(20), counted(1, 4)...)
		e.mark(topic, parley.Mark{As: parley.MarkRead, UpTo: 3})
		e.log(topic, keep(3), counted(5, 6)...)
		e.changes(topic, parley.Mark{As: parley.MarkUnread, UpTo: 3})
		e.changes(topic, parley.Mark{As: parley.MarkUnread, Offsets: []int64{1, 3}, Keys: []string{"key-2"}})
		e.stands(topic, 3, nil, nil, "4 to 6 are kept")
		e.changes(topic, parley.Mark{As: parley.MarkRead, UpTo: 4, Offsets: []int64{2, 6}, Keys: []string{"key-1", "key-3"}}, 4, 6)
		e.stands(topic, 1, spansOf(4, 6), nil, "5 is unread")
	}},
}

var markedCases = []storeCase{
	{name: "Mark/of a topic that nothing was appended to neither fails nor creates it", run: func(e *env) {
		topic := e.topic()
		for _, m := range []parley.Mark{
			{As: parley.MarkRead}, {As: parley.MarkRead, UpTo: 1}, {As: parley.MarkArchived, Offsets: []int64{1}},
			{As: parley.MarkUnread, Keys: []string{"key-1"}}, {As: parley.MarkReceived, Epoch: "other", UpTo: 7},
		} {
			e.refused(topic, m, "there is nothing")
		}
		before := e.all(topic)
		got := e.mark(topic, parley.Mark{As: parley.MarkRead, UpTo: 1})
		require.Equal(e, before.Epoch, got.Epoch, "the epoch that the topic will have")
		require.Zero(e, got.Top)
		log := e.log(topic, keep(5), counted(1, 2)...)
		require.Equal(e, before.Epoch, log.Epoch)
		require.Equal(e, 2, log.Unread, "the marks before came to nothing")
	}},
	{name: "Mark/is of its topic only", run: func(e *env) {
		a, b := e.topic(), e.topic()
		e.log(a, keep(9), counted(1, 3)...)
		e.log(b, keep(9), counted(1, 3)...)
		e.changes(a, parley.Mark{As: parley.MarkRead, UpTo: 1, Keys: []string{"key-3"}}, 1, 3)
		e.stands(a, 1, spansOf(1, 3), nil, "the one that was marked")
		e.stands(b, 3, nil, nil, "the other")
	}},
	{name: "Mark/on one node counts on the other", run: func(e *env) {
		topic := e.topic()
		e.log(topic, keep(9), counted(1, 4)...)
		first := e.markOn(e.peer, topic, parley.Mark{As: parley.MarkRead, UpTo: 1})
		require.Equal(e, 3, first.Unread)
		second := e.markOn(e.store, topic, parley.Mark{As: parley.MarkRead, UpTo: 2})
		require.Equal(e, spansOf(2), solid(second.Changed), "1 was read by the other node's mark")
		require.Greater(e, second.Version, first.Version, "both changed something")
		e.stands(topic, 2, spansOf(1, 2), nil, "both marks")
	}},
	{name: "Mark/keys are opaque", run: func(e *env) {
		topic := e.topic()
		keys := oddNames()
		for n, key := range keys {
			entry := keyed(n+1, key)
			entry.Unread = true
			e.log(topic, keep(1000), entry)
		}
		for n, key := range keys {
			got := e.markOn(e.store, topic, parley.Mark{As: parley.MarkRead, Keys: []string{key}})
			require.Equalf(e, spansOf(int64(n+1)), solid(got.Changed), "key %.50q", key)
		}
	}},
	{name: "Mark/neither keeps nor changes the slices given", run: func(e *env) {
		topic := e.topic()
		e.log(topic, keep(5), counted(1, 5)...)
		m := parley.Mark{As: parley.MarkRead, Offsets: []int64{4, 2, 4}, Keys: []string{"key-3", "key-1"}}
		e.changes(topic, m, 1, 2, 3, 4)
		require.Equal(e, []int64{4, 2, 4}, m.Offsets, "Mark must not write to Offsets")
		require.Equal(e, []string{"key-3", "key-1"}, m.Keys, "Mark must not write to Keys")
		m.Offsets[0], m.Keys[0] = 5, "key-5"
		e.stands(topic, 1, spansOf(1, 2, 3, 4), nil, "the caller used its slices again")
	}},
	{name: "Mark/a page that was returned never changes", run: func(e *env) {
		topic := e.topic()
		e.log(topic, keep(20), counted(1, 9)...)
		e.mark(topic, parley.Mark{As: parley.MarkRead, Offsets: []int64{2, 3, 6}})
		page := e.read(e.store, topic, standings)
		got := e.mark(topic, parley.Mark{As: parley.MarkRead, Offsets: []int64{8}})
		e.mark(topic, parley.Mark{As: parley.MarkArchived, UpTo: 9})
		e.mark(topic, parley.Mark{As: parley.MarkUnread, Offsets: []int64{5}})
		require.Equal(e, spansOf(2, 3, 6), solid(page.Read))
		require.Equal(e, spansOf(8), solid(got.Changed))
	}},
	{name: "Mark/finds a key as long as its entry is kept, beyond IdempotencyWindow", needs: freeTime, run: func(e *env) {
		topic := e.topic()
		e.log(topic, keep(100), counted(1, 3)...)
		for i := range 8 { // a store may tidy up while it is used
			e.sleepFor(parley.IdempotencyWindow / 2)
			e.log(topic, keep(100), message(10+i))
		}
		e.changes(topic, parley.Mark{As: parley.MarkRead, Keys: []string{"key-1", "key-3"}}, 1, 3)
		e.stands(topic, 1, spansOf(1, 3), nil, fmt.Sprint("after ", 4*parley.IdempotencyWindow))
	}},
	{name: "Mark/picks all entries with the same key", needs: freeTime, run: func(e *env) {
		topic := e.topic()
		want := []int64{}
		for range 3 {
			entries := append(counted(1, 1), messages(2, 3)...)
			e.append(topic, keep(100), entries...)
			if !entries[0].Duplicate { // a key may be remembered longer
				want = append(want, entries[0].Offset)
			}
			e.sleepFor(parley.IdempotencyWindow + time.Minute)
		}
		e.changes(topic, parley.Mark{As: parley.MarkRead, Keys: []string{"key-1"}}, want...)
		e.stands(topic, 0, spansOf(want...), nil, "all with this key")
		e.changes(topic, parley.Mark{As: parley.MarkUnread, Keys: []string{"key-1"}}, want...)
	}},
	{name: "Mark/of long logs", run: func(e *env) {
		topic := e.topic()
		for from := 1; from <= 1000; from += 250 {
			e.log(topic, keep(1000), counted(from, from+249)...)
		}
		var even []int64
		for n := int64(2); n <= 1000; n += 2 {
			even = append(even, n)
		}
		e.changes(topic, parley.Mark{As: parley.MarkRead, Offsets: even}, even...)
		e.stands(topic, 500, spansOf(even...), nil, "every other entry")
		e.changes(topic, parley.Mark{As: parley.MarkArchived, UpTo: 1000}, span(1, 1000)...)
		e.stands(topic, 0, nil, []parley.Span{{From: 1, To: 1000}}, "one span")
	}},
}

// F27: what an inbox loses unread must be told.
var truncatedCases = []storeCase{
	{name: "Truncated/is the newest entry that was removed while it was unread (F27)", run: func(e *env) {
		topic := e.topic()
		entries := counted(1, 5)
		entries[2].Unread = false
		require.Zero(e, e.log(topic, keep(5), entries...).Truncated, "nothing was removed")
		e.mark(topic, parley.Mark{As: parley.MarkRead, Offsets: []int64{2}})
		for n, want := range []int64{1, 1, 1, 4, 5, 6} { // 2 is read, 3 was never counted
			log := e.log(topic, keep(5), counted(6+n, 6+n)...)
			require.Equalf(e, want, log.Truncated, "after message %d, with 5 kept", 6+n)
			require.Equalf(e, log, e.read(e.peer, topic, parley.Query{}).Log, "on the other node, after message %d", 6+n)
		}
	}},
	{name: "Truncated/counts what Retention.Bytes removes, and a batch larger than what is kept", run: func(e *env) {
		topic := e.topic()
		size := int64(len(message(10).Data))
		log := e.log(topic, parley.Retention{Messages: 100, Bytes: 2 * size}, counted(10, 14)...)
		require.EqualValues(e, 3, log.Truncated, "two of five fit")
		require.Equal(e, 2, log.Unread)
		log = e.log(topic, keep(3), counted(15, 24)...)
		require.EqualValues(e, 12, log.Truncated, "12 of 15 had to go, some of them at once")
		require.Equal(e, 3, log.Unread)
	}},
	{name: "Truncated/ends with a Mark up to there that entries are read or archived", run: func(e *env) {
		for _, as := range []parley.MarkAs{parley.MarkRead, parley.MarkArchived} {
			topic := e.topic()
			log := e.log(topic, keep(4), counted(1, 7)...)
			require.EqualValues(e, 3, log.Truncated)
			for _, m := range []parley.Mark{
				{As: as, UpTo: 2}, {As: as, Offsets: []int64{4}, Keys: []string{"key-5"}}, {As: parley.MarkUnread, UpTo: 7}, {As: parley.MarkReceived, UpTo: 7},
				{As: as, Epoch: "other", UpTo: 7}, {As: as, UpTo: 8}, {As: as, UpTo: 3, Offsets: []int64{9}},
			} {
				require.EqualValuesf(e, 3, e.mark(topic, m).Truncated, "after %+v", m)
			}
			require.Zero(e, e.mark(topic, parley.Mark{As: as, UpTo: 3}).Truncated, "UpTo is just there")
			require.Equal(e, 4, e.all(topic).Unread, "none of those kept was marked")
			require.EqualValues(e, 5, e.log(topic, keep(4), counted(8, 9)...).Truncated, "others had to go since")
			require.Zero(e, e.mark(topic, parley.Mark{As: as, UpTo: 7}).Truncated, "UpTo is beyond")
			log = e.log(topic, keep(4), counted(10, 11)...)
			require.Zero(e, log.Truncated, "what was marked may go")
			require.EqualValues(e, 8, e.log(topic, keep(4), counted(12, 12)...).Truncated, "8 was unread")
		}
	}},
}
