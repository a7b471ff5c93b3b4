package storetest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

func keyed(n int, key string) parley.Entry {
	entry := message(n)
	entry.Key = key
	return entry
}

// F10, F24: a client or a hub repeats what it does not know to have arrived.
var keyCases = []storeCase{
	{name: "Key/an entry with a known key is not stored and gets the first one's offset (F24)", run: func(e *env) {
		topic := e.topic()
		epoch, _ := e.append(topic, keep(10), message(1), keyed(2, "k"))
		for node, s := range e.nodes() {
			entries := []parley.Entry{keyed(99, "k")}
			again, err := s.Append(context.Background(), topic, keep(10), entries)
			require.NoError(e, err)
			require.Equalf(e, epoch, again.Epoch, "the epoch on %s", node)
			require.Truef(e, entries[0].Duplicate, "Duplicate on %s", node)
			require.EqualValuesf(e, 2, entries[0].Offset, "the offset of the entry stored first, on %s", node)
		}
		e.same(1, 2, e.all(topic).Entries, "the log")
	}},
	{name: "Key/counts within one call too", run: func(e *env) {
		topic := e.topic()
		_, got := e.append(topic, keep(10), keyed(1, "a"), keyed(2, "b"), keyed(3, "a"), keyed(4, "b"), keyed(5, "c"))
		require.Equal(e, []int64{1, 2, 1, 2, 3}, offsets(got))
		for i, duplicate := range []bool{false, false, true, true, false} {
			require.Equalf(e, duplicate, got[i].Duplicate, "entry %d", i)
		}
		require.Equal(e, []string{`{"n":1}`, `{"n":2}`, `{"n":5}`}, bodies(e.all(topic).Entries))
	}},
	{name: "Key/duplicates among new entries leave no holes", run: func(e *env) {
		topic := e.topic()
		e.append(topic, keep(10), keyed(1, "a"), keyed(2, "b"))
		_, got := e.append(topic, keep(10), message(3), keyed(91, "b"), message(4), keyed(92, "a"), keyed(5, "c"))
		require.Equal(e, []int64{3, 2, 4, 1, 5}, offsets(got))
		e.same(1, 5, e.all(topic).Entries, "the log")
	}},
	{name: "Key/an Append repeated as a whole has no further effect (F10)", run: func(e *env) {
		topic := e.topic()
		batch := func() []parley.Entry { return []parley.Entry{keyed(1, "a"), keyed(2, "b"), keyed(3, "c")} }
		e.append(topic, keep(10), batch()...)
		before := e.all(topic)
		_, got := e.append(topic, keep(10), batch()...)
		require.Equal(e, span(1, 3), offsets(got))
		require.Equal(e, before, e.all(topic))
	}},
	{name: "Key/an empty key is none", run: func(e *env) {
		topic := e.topic()
		_, got := e.append(topic, keep(10), message(1), message(1))
		_, more := e.append(topic, keep(10), message(1))
		for _, entry := range append(got, more...) {
			require.Falsef(e, entry.Duplicate, "offset %d", entry.Offset)
		}
		require.EqualValues(e, 3, e.all(topic).Top)
	}},
	{name: "Key/is known in its topic only", run: func(e *env) {
		a, b := e.topic(), e.topic()
		e.append(a, keep(10), message(1), keyed(2, "k"))
		_, got := e.append(b, keep(10), keyed(1, "k"))
		require.False(e, got[0].Duplicate)
		require.EqualValues(e, 1, got[0].Offset)
	}},
	{name: "Key/is opaque", run: func(e *env) {
		topic := e.topic()
		keys := append(oddNames(), "1", "01", "1.0", "null", strings.Repeat("k", 400)+"1", strings.Repeat("k", 400)+"2")
		for round := range 2 {
			for i, key := range keys {
				_, got := e.append(topic, keep(1000), keyed(i+1, key))
				require.EqualValuesf(e, i+1, got[0].Offset, "key %.50q, round %d", key, round)
				require.Equalf(e, round > 0, got[0].Duplicate, "key %.50q, round %d", key, round)
			}
		}
	}},
	{name: "Key/is remembered while its entry is in the log, however many there are", run: func(e *env) {
		topic := e.topic()
		batch := func() (entries []parley.Entry) {
			for n := 1; n <= 500; n++ {
				entries = append(entries, keyed(n, fmt.Sprint("key-", n)))
			}
			return entries
		}
		e.append(topic, keep(500), batch()...)
		_, got := e.append(topic, keep(500), batch()...)
		require.Equal(e, span(1, 500), offsets(got))
		require.EqualValues(e, 500, e.all(topic).Top)
	}},
	{name: "Key/an entry that left the log may be forgotten, but has its old offset if it is not", run: func(e *env) {
		topic := e.topic()
		e.append(topic, keep(2), keyed(1, "a"))
		e.append(topic, keep(2), messages(2, 9)...)
		_, got := e.append(topic, keep(2), keyed(1, "a"))
		if got[0].Duplicate {
			require.EqualValues(e, 1, got[0].Offset)
		} else {
			require.EqualValues(e, 10, got[0].Offset)
		}
	}},
	{name: "Key/is remembered for the whole IdempotencyWindow", needs: freeTime, run: func(e *env) {
		topic := e.topic()
		e.append(topic, keep(100), keyed(1, "k"))
		for i := range 4 {
			e.sleepFor(parley.IdempotencyWindow/4 - time.Second)
			e.append(topic, keep(100), message(2+i))
		}
		_, got := e.append(topic, keep(100), keyed(99, "k"))
		require.True(e, got[0].Duplicate, "4 s before the end of the window")
		require.EqualValues(e, 1, got[0].Offset)
	}},
	{name: "Key/in a log that was lost counts as new", needs: wiping, run: func(e *env) {
		topic := e.topic()
		old, _ := e.append(topic, e.aged(100), message(1), keyed(2, "k"))
		e.wipe()
		epoch, got := e.append(topic, e.aged(100), keyed(3, "k"))
		require.NotEqual(e, old, epoch)
		require.False(e, got[0].Duplicate)
		require.EqualValues(e, 1, got[0].Offset, "an offset of the lost log would name another message in the new one")
	}},
}
