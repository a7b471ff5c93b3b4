package storetest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

var retentionCases = []storeCase{
	{name: "Retention/keeps the newest Messages, neither more nor fewer", run: func(e *env) {
		for _, kept := range []int{1, 2, 7} {
			topic := e.topic()
			for n := 1; n <= 20; n++ {
				e.append(topic, keep(kept), message(n))
				page := e.all(topic)
				first := max(1, n-kept+1)
				require.EqualValuesf(e, first, page.First, "First after %d messages, %d kept", n, kept)
				e.same(first, n, page.Entries, fmt.Sprintf("after %d messages, %d kept", n, kept))
			}
		}
	}},
	{name: "Retention/what the last Append allowed counts", run: func(e *env) {
		topic := e.topic()
		e.append(topic, keep(10), messages(1, 10)...)
		e.append(topic, keep(3), message(11))
		require.Equal(e, span(9, 11), offsets(e.all(topic).Entries), "keep fell from 10 to 3")
		e.append(topic, keep(5), messages(12, 13)...)
		page := e.all(topic)
		require.Equal(e, span(9, 13), offsets(page.Entries), "keep rose from 3 to 5")
		require.EqualValues(e, 9, page.First)
	}},
	{name: "Retention/entries are returned until Age, and never after it", run: func(e *env) {
		topic := e.topic()
		start := time.Now()
		e.append(topic, e.aged(100), messages(1, 3)...)
		e.sleep(4)
		page := e.all(topic)
		e.fresh(start)
		require.Equal(e, span(1, 3), offsets(page.Entries), "at 4/10 of Age")
		e.sleep(lifetime - 2)
		for _, q := range []parley.Query{everything, {Limit: 100}, {Before: 4, Limit: 1}, {Forward: true, After: 1, Limit: 1}} {
			require.Emptyf(e, offsets(e.read(e.store, topic, q).Entries), "%+v at 12/10 of Age", q)
			require.Emptyf(e, offsets(e.read(e.peer, topic, q).Entries), "%+v at 12/10 of Age on the other node", q)
		}
	}},
	// socket.io#5282: a client that has seen everything resumes, however old that is.
	{name: "Retention/entries that left the log by age do not lower Top", run: func(e *env) {
		topic := e.topic()
		epoch, _ := e.append(topic, e.aged(100), messages(1, 3)...)
		e.sleep(lifetime + 2)
		for _, q := range []parley.Query{everything, {}, {Limit: 5}, {Forward: true, After: 3, Limit: 5}} {
			page := e.read(e.store, topic, q)
			require.Emptyf(e, offsets(page.Entries), "%+v", q)
			page.Entries, page.Version = nil, 0
			require.Equalf(e, parley.Page{Log: parley.Log{Epoch: epoch}, First: 4, Top: 3}, page,
				"%+v: same epoch, same Top, and without entries First is Top+1", q)
		}
		again, got := e.append(topic, e.aged(100), message(4))
		require.Equal(e, epoch, again, "the epoch of an Append after everything has expired")
		require.Equal(e, span(4, 4), offsets(got), "offsets go on after everything has expired")
		require.Equal(e, span(4, 4), offsets(e.all(topic).Entries))
	}},
	{name: "Retention/entries expire one by one, oldest first", run: func(e *env) {
		topic := e.topic()
		e.append(topic, e.aged(100), messages(1, 2)...)
		e.sleep(lifetime - 3)
		start := time.Now()
		e.append(topic, e.aged(100), message(3))
		e.sleep(5)
		page := e.all(topic)
		e.fresh(start)
		require.Equal(e, span(3, 3), offsets(page.Entries), "2 of 3 entries are too old")
		require.EqualValues(e, 3, page.First, "First is the oldest entry still kept")
		require.EqualValues(e, 3, page.Top)
	}},
	{name: "Retention/Age 0 is no bound", run: func(e *env) {
		topic := e.topic()
		e.append(topic, keep(5), messages(1, 2)...)
		e.sleep(lifetime + 2)
		require.Equal(e, span(1, 2), offsets(e.all(topic).Entries))
	}},
	{name: "Retention/Age 0 is no bound in the long run either", needs: freeTime, run: func(e *env) {
		topic := e.topic()
		epoch, _ := e.append(topic, keep(5), messages(1, 2)...)
		e.sleepFor(30 * 24 * time.Hour)
		for n := range 200 { // a store may tidy up while it is used
			e.append(fmt.Sprint(topic, "-", n%10), keep(5), message(n))
		}
		page := e.all(topic)
		require.Equal(e, span(1, 2), offsets(page.Entries), "after 30 days")
		require.Equal(e, epoch, page.Epoch)
	}},
	{name: "Retention/the Age that the last Append allowed counts", run: func(e *env) {
		topic := e.topic()
		e.append(topic, keep(100), messages(1, 3)...)
		e.sleep(lifetime + 2)
		start := time.Now()
		e.append(topic, e.aged(100), message(4))
		page := e.all(topic)
		e.fresh(start)
		require.Equal(e, span(4, 4), offsets(page.Entries), "Age became shorter than what the older entries have")
		require.EqualValues(e, 4, page.First)
	}},
	// F11, F66. Repeated, because a store may well get the second epoch right
	// and return to the first one afterwards.
	{name: "Retention/a log that was lost has an epoch never used before (F66)", needs: wiping, run: func(e *env) {
		topic, past := e.topic(), map[string]bool{}
		for life := range 4 {
			epoch, _ := e.append(topic, e.aged(100), messages(100*life+1, 100*life+3)...)
			require.Falsef(e, past[epoch], "life %d of the topic has the epoch %q of an earlier one", life, epoch)
			past[epoch] = true
			e.wipe()
			for node, s := range e.nodes() {
				page := e.read(s, topic, everything)
				require.NotContainsf(e, past, page.Epoch, "life %d, lost: the epoch on %s", life, node)
				require.Equalf(e, [2]int64{1, 0}, [2]int64{page.First, page.Top}, "life %d, lost: bounds on %s", life, node)
				require.Emptyf(e, offsets(page.Entries), "life %d, lost", life)
			}
		}
	}},
}
