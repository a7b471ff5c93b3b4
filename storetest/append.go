package storetest

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

var appendCases = []storeCase{
	{name: "Append/offsets are 1 for the first entry, then one more each", run: func(e *env) {
		topic := e.topic()
		for _, span := range [][2]int{{1, 1}, {2, 4}, {5, 5}, {6, 9}} {
			_, got := e.append(topic, keep(100), messages(span[0], span[1])...)
			for i, entry := range got {
				require.EqualValuesf(e, span[0]+i, entry.Offset, "entry %d of the batch of messages %v", i, span)
			}
		}
	}},
	{name: "Append/adds to the end, a batch in its order", run: func(e *env) {
		topic := e.topic()
		e.append(topic, keep(100), messages(1, 1)...)
		e.append(topic, keep(100), messages(2, 40)...)
		e.append(topic, keep(100), messages(41, 43)...)
		for node, s := range e.nodes() {
			page := e.read(s, topic, everything)
			e.same(1, 43, page.Entries, fmt.Sprintf("the log on %s", node))
			require.Equalf(e, span(1, 43), offsets(page.Entries), "the log on %s", node)
		}
	}},
	{name: "Append/sets Offset and Duplicate of each entry and nothing else", run: func(e *env) {
		entries := []parley.Entry{
			{Offset: 99, Duplicate: true, Key: "k", Time: 7, Data: []byte(`{"a":1}`)},
			{Offset: -1, Duplicate: true, Time: 8, Data: []byte(`{"a":2}`), Unread: true, TTL: time.Hour, ReceiveIn: time.Hour},
		}
		e.append(e.topic(), keep(10), entries...)
		require.Equal(e, []parley.Entry{
			{Offset: 1, Key: "k", Time: 7, Data: []byte(`{"a":1}`)},
			{Offset: 2, Time: 8, Data: []byte(`{"a":2}`), Unread: true, TTL: time.Hour, ReceiveIn: time.Hour},
		}, entries, "what the caller put into Offset and Duplicate does not count, and the rest stays")
	}},
	{name: "Append/returns the epoch of the log", run: func(e *env) {
		topic := e.topic()
		before := e.all(topic).Epoch
		first, _ := e.append(topic, keep(10), message(1))
		require.Equal(e, before, first,
			"who read the topic while it was empty must be able to resume after its first message: the log was not lost")
		second, _ := e.append(topic, keep(10), message(2))
		require.Equal(e, first, second, "a second Append")
		for node, s := range e.nodes() {
			require.Equalf(e, first, e.read(s, topic, parley.Query{}).Epoch, "Read on %s", node)
		}
	}},
	{name: "Append/keeps Data and Time as they are", run: func(e *env) {
		topic := e.topic()
		data := []string{
			`{}`, ` { "b" : 1 , "a" : [ ] } `, `{"a":1,"a":2}`, `{"n":12345678901234567890,"m":1.0,"x":1e400}`,
			`{"s":"<&>\u0000\u2028\/"}`, `{"s":"é e\u0301 🙂 $1 ? % ' \" \\ :x"}`, "{\"s\":\n\t\"x\"\r\n}",
			`{"big":"` + strings.Repeat("x", 256<<10) + `"}`,
		}
		var entries []parley.Entry
		for i, d := range data {
			entries = append(entries, parley.Entry{Time: []int64{0, 1, 1<<53 - 1}[i%3], Data: []byte(d)})
		}
		e.append(topic, keep(100), entries...)
		page := e.all(topic)
		require.Len(e, page.Entries, len(data))
		for i, entry := range page.Entries {
			require.Truef(e, data[i] == string(entry.Data),
				"Data must come back byte for byte: %.100q became %.100q", data[i], entry.Data)
			require.Equalf(e, entries[i].Time, entry.Time, "Time of entry %d", i)
		}
	}},
	{name: "Append/neither keeps nor changes the slices given", run: func(e *env) {
		topic := e.topic()
		entries := messages(1, 3)
		want := bodies(entries)
		e.append(topic, keep(10), entries...)
		require.Equal(e, want, bodies(entries), "Append must not write to Data")
		for i := range entries {
			copy(entries[i].Data, bytes.Repeat([]byte{'#'}, len(entries[i].Data)))
			entries[i] = parley.Entry{Offset: 50}
		}
		require.Equal(e, want, bodies(e.all(topic).Entries), "the caller used its slices again after Append returned")
	}},
	{name: "Append/a batch may be larger than what is kept", run: func(e *env) {
		topic := e.topic()
		e.append(topic, keep(3), messages(1, 2)...)
		_, got := e.append(topic, keep(3), messages(3, 12)...)
		require.Equal(e, span(3, 12), offsets(got), "every entry has an offset, also those that are trimmed at once")
		page := e.all(topic)
		require.EqualValues(e, 10, page.First)
		require.EqualValues(e, 12, page.Top)
		e.same(10, 12, page.Entries, "the log")
	}},
	{name: "Append/long logs", run: func(e *env) {
		topic := e.topic()
		for from := 1; from <= 2000; from += 250 {
			e.append(topic, keep(1500), messages(from, from+249)...)
		}
		page := e.all(topic)
		e.same(501, 2000, page.Entries, "the log")
		require.EqualValues(e, 501, page.First)
	}},
}

var readCases = []storeCase{
	{name: "Read/a topic that nothing was appended to has an epoch, First 1 and Top 0", run: func(e *env) {
		topic := e.topic()
		epoch := e.all(topic).Epoch
		require.NotEmpty(e, epoch)
		for node, s := range e.nodes() {
			for _, q := range []parley.Query{{}, everything, {Limit: 5}, {Forward: true, After: 7, Limit: 5}, {Before: 7, Limit: 5}} {
				page := e.read(s, topic, q)
				require.Emptyf(e, offsets(page.Entries), "%+v on %s", q, node)
				page.Entries, page.Version = nil, 0 // where versions begin is up to the store
				require.Equalf(e, parley.Page{Log: parley.Log{Epoch: epoch}, First: 1, Top: 0}, page,
					"%+v on %s: the epoch changes only together with the log", q, node)
			}
		}
	}},
	{name: "Read/gives the bounds only with Limit 0", run: func(e *env) {
		topic := e.topic()
		e.append(topic, keep(3), messages(1, 5)...)
		for _, q := range []parley.Query{{}, {Forward: true}, {Forward: true, After: 4}, {Before: 5}} {
			page := e.read(e.store, topic, q)
			require.Emptyf(e, offsets(page.Entries), "%+v", q)
			require.Equalf(e, [2]int64{3, 5}, [2]int64{page.First, page.Top}, "bounds for %+v", q)
		}
	}},
	// F64, F65: whoever has read up to an offset in [First-1, Top] recovers
	// everything, and nobody else takes a part for the whole.
	{name: "Read/every query at every edge, forward and backward (F65)", run: func(e *env) {
		for _, log := range []struct{ sent, kept int }{{0, 3}, {1, 1}, {1, 3}, {2, 1}, {4, 5}, {5, 5}, {6, 5}, {13, 5}} {
			topic := e.topic()
			for n := 1; n <= log.sent; n++ {
				e.append(topic, keep(log.kept), message(n))
			}
			top := int64(log.sent)
			first := max(1, top-int64(log.kept)+1)
			for since := int64(0); since <= top+3; since++ {
				for _, limit := range []int{0, 1, 2, log.kept - 1, log.kept, log.kept + 1, 1000} {
					for _, forward := range []bool{true, false} {
						e.checkQuery(topic, first, top, edge(forward, since, limit))
					}
				}
			}
			e.checkQuery(topic, first, top, parley.Query{Forward: true, After: 1<<53 - 1, Limit: 9})
			e.checkQuery(topic, first, top, parley.Query{Before: 1<<53 - 1, Limit: 1<<31 - 1})
		}
	}},
	{name: "Read/the direction not asked for does not count", run: func(e *env) {
		topic := e.topic()
		e.append(topic, keep(9), messages(1, 9)...)
		page := e.read(e.store, topic, parley.Query{Forward: true, After: 2, Before: 4, Limit: 9})
		require.Equal(e, span(3, 9), offsets(page.Entries), "Before is ignored when Forward is set")
		page = e.read(e.store, topic, parley.Query{After: 7, Before: 5, Limit: 9})
		require.Equal(e, span(1, 4), offsets(page.Entries), "After counts only with Forward")
	}},
	{name: "Read/never changes a page that was returned", run: func(e *env) {
		topic := e.topic()
		e.append(topic, keep(4), messages(1, 4)...)
		page := e.all(topic)
		for n := 5; n <= 20; n++ {
			e.append(topic, keep(4), message(n))
		}
		e.same(1, 4, page.Entries, "Data of a page read before 16 more messages")
		require.Equal(e, span(1, 4), offsets(page.Entries))
	}},
}

func edge(forward bool, at int64, limit int) parley.Query {
	if forward {
		return parley.Query{Forward: true, After: at, Limit: limit}
	}
	return parley.Query{Before: at, Limit: limit}
}

// wanted is the reference: the offsets that a query gives on a log from first to top.
func wanted(first, top int64, q parley.Query) []int64 {
	var list []int64
	for offset := first; offset <= top; offset++ {
		if q.Forward && offset > q.After || !q.Forward && (q.Before == 0 || offset < q.Before) {
			list = append(list, offset)
		}
	}
	if extra := len(list) - q.Limit; extra > 0 && q.Forward {
		list = list[:q.Limit]
	} else if extra > 0 {
		list = list[extra:]
	}
	return list
}

// checkQuery expects message(n) at each offset n from first to top.
func (e *env) checkQuery(topic string, first, top int64, q parley.Query) {
	e.Helper()
	what := fmt.Sprintf("%+v on a log from %d to %d", q, first, top)
	page := e.read(e.store, topic, q)
	require.Equalf(e, [2]int64{first, top}, [2]int64{page.First, page.Top}, "bounds for %s", what)
	want := wanted(first, top, q)
	require.Lenf(e, page.Entries, len(want), "%s", what)
	for i, entry := range page.Entries {
		expected := message(int(want[i]))
		require.Equalf(e, want[i], entry.Offset, "offset of entry %d for %s", i, what)
		require.Equalf(e, string(expected.Data), string(entry.Data), "data of entry %d for %s", i, what)
		require.Equalf(e, expected.Time, entry.Time, "time of entry %d for %s", i, what)
		require.Falsef(e, entry.Duplicate, "entry %d for %s: a stored entry is no duplicate", i, what)
	}
}
