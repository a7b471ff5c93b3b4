package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// counted returns the messages from one to another as entries that count as
// unread; the key of message n is "key-n".
func counted(from, to int) []parley.Entry {
	list := messages(from, to)
	for i := range list {
		list[i].Unread, list[i].Key = true, fmt.Sprint("key-", from+i)
	}
	return list
}

// standings is the query for how a log stands, with all marks.
var standings = parley.Query{Marks: true}

// stands expects the read state of a topic, on both nodes, whatever part of it is asked for.
func (e *env) stands(topic string, unread int, read, archived []parley.Span, why string) {
	e.Helper()
	for node, s := range e.nodes() {
		for _, q := range []parley.Query{standings, {Forward: true, After: 1, Limit: 1, Marks: true}, {Before: 2, Limit: 1, Marks: true}} {
			page := e.read(s, topic, q)
			require.Equalf(e, unread, page.Unread, "Unread on %s for %+v: %s", node, q, why)
			require.Equalf(e, solid(read), solid(page.Read), "Read on %s for %+v: %s", node, q, why)
			require.Equalf(e, solid(archived), solid(page.Archived), "Archived on %s for %+v: %s", node, q, why)
		}
	}
}

// solid makes no spans and an empty list of spans the same.
func solid(list []parley.Span) []parley.Span { return append([]parley.Span{}, list...) }

// log appends and returns how the log stands.
func (e *env) log(topic string, keep parley.Retention, entries ...parley.Entry) parley.Log {
	e.Helper()
	log, err := e.store.Append(context.Background(), topic, keep, entries)
	require.NoErrorf(e, err, "Append to %q", topic)
	return log
}

var unreadCases = []storeCase{
	{name: "Unread/counts the entries that were appended so (F33)", run: func(e *env) {
		topic := e.topic()
		require.Zero(e, e.log(topic, keep(100), messages(1, 2)...).Unread, "entries without Unread do not count")
		require.Equal(e, 3, e.log(topic, keep(100), counted(3, 5)...).Unread, "three entries with Unread")
		mixed := append(messages(6, 7), counted(8, 8)...)
		require.Equal(e, 4, e.log(topic, keep(100), mixed...).Unread, "one more of three")
		e.stands(topic, 4, nil, nil, "4 of 8 entries count, and nothing is marked")
	}},
	{name: "Unread/every answer says how the log stands", run: func(e *env) {
		topic := e.topic()
		before := e.all(topic).Log
		require.Equal(e, [2]int64{0, 0}, [2]int64{int64(before.Unread), before.Truncated}, "before the first Append")
		for n := 1; n <= 8; n++ {
			log := e.log(topic, keep(3), counted(n, n)...)
			require.Greaterf(e, log.Version, before.Version, "Version after Append %d", n)
			for node, s := range e.nodes() {
				for _, q := range []parley.Query{{}, standings, everything, {Before: 2, Limit: 5}} {
					require.Equalf(e, log, e.read(s, topic, q).Log, "%+v on %s after Append %d", q, node, n)
				}
			}
			before = log
		}
	}},
	{name: "Unread/an Append without entries changes and creates nothing", run: func(e *env) {
		topic := e.topic()
		before := e.all(topic)
		require.Equal(e, before.Log, e.log(topic, keep(1)), "of a topic that nothing was appended to")
		require.Equal(e, before, e.all(topic))
		e.log(topic, keep(5), counted(1, 5)...)
		before = e.all(topic)
		require.Equal(e, before.Log, e.log(topic, keep(1)), "the log is not trimmed to keep")
		require.Equal(e, before, e.all(topic))
	}},
	{name: "Unread/a duplicate does not count again (F10)", run: func(e *env) {
		topic := e.topic()
		log := e.log(topic, keep(10), counted(1, 3)...)
		require.Equal(e, log.Unread, e.log(topic, keep(10), counted(1, 3)...).Unread)
		e.mark(topic, parley.Mark{As: parley.MarkRead, UpTo: 2})
		require.Equal(e, 2, e.log(topic, keep(10), counted(1, 4)...).Unread,
			"3 and 4: an entry that is read does not become unread by coming again")
		e.stands(topic, 2, spansOf(1, 2), nil, "the duplicates change no state")
	}},
	{name: "Unread/falls with the entries that leave the log", run: func(e *env) {
		topic := e.topic()
		e.log(topic, keep(10), counted(1, 4)...)
		e.mark(topic, parley.Mark{As: parley.MarkRead, Offsets: []int64{1, 4}})
		require.Equal(e, 2, e.log(topic, keep(4), messages(5, 5)...).Unread, "a read one has left")
		require.Equal(e, 1, e.log(topic, keep(4), messages(6, 6)...).Unread, "an unread one has left")
		e.stands(topic, 1, spansOf(4), nil, "what is marked has left with its entry")
		require.Zero(e, e.log(topic, keep(1), messages(7, 7)...).Unread)
		e.stands(topic, 0, nil, nil, "none is left")
	}},
	{name: "Unread/falls with the entries that grow too old", run: func(e *env) {
		topic := e.topic()
		start := time.Now()
		e.log(topic, e.aged(10), counted(1, 3)...)
		e.markOn(e.store, topic, parley.Mark{As: parley.MarkRead, Offsets: []int64{1}})
		e.sleep(4)
		page := e.read(e.peer, topic, standings)
		e.fresh(start)
		require.Equal(e, 2, page.Unread, "at 4/10 of Age")
		e.sleep(lifetime - 2)
		e.stands(topic, 0, nil, nil, "at 12/10 of Age")
		got := e.markOn(e.store, topic, parley.Mark{As: parley.MarkUnread, UpTo: 3, Offsets: []int64{1}, Keys: []string{"key-2"}})
		require.Empty(e, got.Changed, "they are not kept any more")
		require.Zero(e, got.Unread)
		require.Zero(e, got.Truncated, "what was kept for as long as was asked for was not truncated")
		require.Equal(e, 1, e.log(topic, e.aged(10), counted(4, 4)...).Unread)
	}},
	{name: "Unread/a log that was lost begins without anything (F66)", needs: wiping, run: func(e *env) {
		topic := e.topic()
		e.log(topic, e.aged(3), counted(1, 5)...)
		e.wipe()
		e.stands(topic, 0, nil, nil, "the log is lost")
		require.Zero(e, e.all(topic).Truncated)
		require.Equal(e, 1, e.log(topic, e.aged(3), counted(6, 6)...).Unread)
	}},
	{name: "Unread/Retention.Bytes bounds the data of all entries", run: func(e *env) {
		size := int64(len(message(10).Data)) // the same for 10 to 99
		topic := e.topic()
		for n := 10; n <= 20; n++ {
			log := e.log(topic, parley.Retention{Messages: 100, Bytes: 3*size + size/2}, counted(n, n)...)
			page := e.all(topic)
			first := max(10, n-2)
			e.same(first, n, page.Entries, fmt.Sprintf("three messages fit, after %d", n))
			require.EqualValuesf(e, first-9, page.First, "First after %d", n)
			require.Equalf(e, len(page.Entries), log.Unread, "Unread after %d", n)
		}
		e.log(topic, parley.Retention{Messages: 100, Bytes: 2 * size}, message(21))
		e.same(20, 21, e.all(topic).Entries, "the bound fell to exactly two messages")
		e.log(topic, parley.Retention{Messages: 100, Bytes: 1}, messages(22, 23)...)
		e.same(23, 23, e.all(topic).Entries, "the newest message is kept in any case")
		e.log(topic, keep(100), messages(24, 60)...)
		e.same(23, 60, e.all(topic).Entries, "0 is no bound")
		e.log(topic, parley.Retention{Messages: 2, Bytes: 5 * size}, message(61))
		e.same(60, 61, e.all(topic).Entries, "Messages bounds as well")
	}},
}

var ttlCases = []storeCase{
	{name: "TTL/an entry whose TTL has passed has no data and leaves no hole", run: func(e *env) {
		topic := e.topic()
		entries := counted(1, 5)
		entries[1].TTL, entries[4].TTL = e.cfg.units(lifetime), e.cfg.units(lifetime)
		entries[2].TTL = long
		start := time.Now()
		e.log(topic, keep(10), entries...)
		e.sleep(4)
		page := e.all(topic)
		e.fresh(start)
		e.same(1, 5, page.Entries, "at 4/10 of the TTL of two")
		require.Equal(e, 5, page.Unread, "at 4/10 of the TTL of two")
		e.sleep(lifetime - 2)
		for node, s := range e.nodes() {
			page := e.read(s, topic, everything)
			require.Equalf(e, span(1, 5), offsets(page.Entries), "on %s: offsets have no hole", node)
			require.Equalf(e, 3, page.Unread, "on %s: what has expired does not count", node)
			for i, entry := range page.Entries {
				if i == 1 || i == 4 {
					require.Nilf(e, entry.Data, "on %s: offset %d is at 12/10 of its TTL", node, i+1)
				} else {
					require.Equalf(e, string(message(i+1).Data), string(entry.Data), "on %s: offset %d lives on", node, i+1)
				}
			}
			require.Equalf(e, span(2, 3), offsets(e.read(s, topic, parley.Query{Forward: true, After: 1, Limit: 2}).Entries), "on %s", node)
			require.Equalf(e, span(5, 5), offsets(e.read(s, topic, parley.Query{Limit: 1}).Entries), "on %s", node)
		}
		_, got := e.append(topic, keep(10), message(6))
		require.EqualValues(e, 6, got[0].Offset)
	}},
	{name: "TTL/no mark brings back an entry whose TTL has passed", run: func(e *env) {
		topic := e.topic()
		entries := counted(1, 3)
		entries[1].TTL = e.cfg.units(lifetime)
		e.log(topic, keep(10), entries...)
		e.sleep(lifetime + 2)
		for _, as := range []parley.MarkAs{parley.MarkRead, parley.MarkArchived, parley.MarkUnread} {
			got := e.mark(topic, parley.Mark{As: as, UpTo: 3, Offsets: []int64{2}, Keys: []string{"key-2"}})
			require.Equalf(e, spansOf(1, 3), solid(got.Changed), "kind %d: what has expired is not kept any more", as)
		}
		require.Equal(e, 2, e.all(topic).Unread, "two of three are unread again")
	}},
	{name: "TTL/Retention.Age ends the longer TTL", run: func(e *env) {
		topic := e.topic()
		entries := counted(1, 2)
		entries[0].TTL = long
		e.log(topic, e.aged(10), entries...)
		e.sleep(lifetime + 2)
		page := e.all(topic)
		require.Empty(e, offsets(page.Entries), "at 12/10 of Age")
		require.Zero(e, page.Unread)
	}},
	{name: "TTL/an entry that has expired does not leave the log as unread", run: func(e *env) {
		topic := e.topic()
		entries := counted(1, 2)
		entries[0].TTL, entries[1].TTL = e.cfg.units(lifetime), e.cfg.units(lifetime)
		e.log(topic, keep(2), entries...)
		e.sleep(lifetime + 2)
		log := e.log(topic, keep(2), counted(3, 4)...)
		require.Equal(e, 2, log.Unread)
		require.Zero(e, log.Truncated, "nothing was unread of what had to make room")
	}},
}
