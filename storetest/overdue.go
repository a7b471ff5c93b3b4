package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// Overdue is about all topics of a Store, also those of earlier subtests and
// runs. So a subtest looks at its own topics only, and leaves nothing behind.

// awaited returns counted entries that are overdue after the lifetime.
func (e *env) awaited(from, to int) []parley.Entry {
	list := counted(from, to)
	for i := range list {
		list[i].ReceiveIn = e.cfg.units(lifetime)
	}
	return list
}

// inboxes returns n topics of which Overdue may tell, and puts off what others have left.
func (e *env) inboxes(n int) []string {
	e.Helper()
	var topics []string
	for range n {
		topics = append(topics, e.topic())
	}
	for round := 0; ; round++ {
		left, err := e.store.Overdue(context.Background(), 1000, long)
		require.NoError(e, err, "Overdue")
		if len(left) == 0 {
			break
		}
		require.Lessf(e, round, 1000, "Overdue still returns %d entries, after a thousand calls with a lease of %v", len(left), long)
	}
	e.Cleanup(func() {
		for _, topic := range topics {
			page, err := e.store.Read(context.Background(), topic, parley.Query{})
			if err == nil {
				_, _ = e.store.Mark(context.Background(), topic, parley.Mark{As: parley.MarkReceived, UpTo: page.Top})
			}
		}
	})
	return topics
}

// overdue lists what one call returns, as "topic offset" with the index of the topic.
func (e *env) overdue(s parley.Store, topics []string, limit int, lease time.Duration) []string {
	e.Helper()
	got, err := s.Overdue(context.Background(), limit, lease)
	require.NoError(e, err, "Overdue")
	require.LessOrEqual(e, len(got), limit, "the limit of Overdue")
	list := []string{}
	for _, o := range got {
		for i, topic := range topics {
			if o.Topic == topic {
				list = append(list, fmt.Sprint(i, " ", o.Entry.Offset))
			}
		}
	}
	return list
}

// due is what [env.overdue] gives for offsets of the first topic.
func due(offsets ...int64) []string {
	list := []string{}
	for _, offset := range offsets {
		list = append(list, fmt.Sprint(0, " ", offset))
	}
	return list
}

var overdueCases = []storeCase{
	{name: "Overdue/returns entries when their ReceiveIn has passed, not before", run: func(e *env) {
		topics := e.inboxes(1)
		entries := append(e.awaited(1, 2), counted(3, 4)...)
		entries[1].Unread = false // is awaited all the same
		entries[3].ReceiveIn = long
		start := time.Now()
		log := e.log(topics[0], keep(10), entries...)
		e.sleep(4)
		got := e.overdue(e.store, topics, 10, long)
		e.fresh(start)
		require.Empty(e, got, "at 4/10 of ReceiveIn")
		e.sleep(lifetime - 2)
		list, err := e.store.Overdue(context.Background(), 10, long)
		require.NoError(e, err)
		require.Len(e, list, 2, "at 12/10 of ReceiveIn of two; one has none, and one has a long one")
		for i, o := range list {
			require.Equal(e, topics[0], o.Topic)
			require.Equal(e, log.Epoch, o.Epoch)
			require.EqualValues(e, i+1, o.Entry.Offset)
			require.Equal(e, string(message(i+1).Data), string(o.Entry.Data))
			require.Equal(e, message(i+1).Time, o.Entry.Time)
		}
		e.stands(topics[0], 3, nil, nil, "Overdue marks nothing")
	}},
	{name: "Overdue/puts what it returns off by the lease, for all nodes", run: func(e *env) {
		topics := e.inboxes(1)
		e.log(topics[0], keep(10), e.awaited(1, 3)...)
		e.sleep(lifetime + 2)
		for round := range 3 {
			start := time.Now()
			require.Equalf(e, due(1, 2, 3), e.overdue(e.store, topics, 10, e.cfg.units(lifetime)), "round %d", round)
			for node, s := range e.nodes() {
				got := e.overdue(s, topics, 10, e.cfg.units(lifetime))
				e.fresh(start)
				require.Emptyf(e, got, "right after, on %s, round %d", node, round)
			}
			e.sleep(4)
			got := e.overdue(e.peer, topics, 10, e.cfg.units(lifetime))
			e.fresh(start)
			require.Emptyf(e, got, "at 4/10 of the lease, round %d", round)
			e.sleep(lifetime - 2)
		}
		require.Equal(e, due(1, 2, 3), e.overdue(e.peer, topics, 10, long), "after the last lease, on the other node")
	}},
	{name: "Overdue/returns the oldest first, up to limit", run: func(e *env) {
		topics := e.inboxes(3)
		want := []string{}
		for n := range 3 {
			for i, topic := range topics {
				e.log(topic, keep(10), e.awaited(2*n+1, 2*n+2)...)
				want = append(want, fmt.Sprint(i, " ", 2*n+1), fmt.Sprint(i, " ", 2*n+2))
				e.sleep(0.5)
			}
		}
		e.sleep(lifetime + 2)
		got := []string{}
		for i, limit := range []int{1, 4, 2, 5, 100} {
			s := []parley.Store{e.store, e.peer}[i%2]
			got = append(got, e.overdue(s, topics, limit, long)...)
			require.Equalf(e, want[:min(len(want), []int{1, 5, 7, 12, 18}[i])], got, "limits up to %d", limit)
		}
	}},
	{name: "Overdue/an entry that was received, read or archived is not returned", run: func(e *env) {
		topics := e.inboxes(1)
		topic := topics[0]
		entries := e.awaited(1, 12)
		for _, i := range []int{8, 9, 10} {
			entries[i].Unread = false
		}
		log := e.log(topic, keep(20), entries...)
		e.mark(topic, parley.Mark{As: parley.MarkReceived, Epoch: log.Epoch, UpTo: 1})
		e.mark(topic, parley.Mark{As: parley.MarkReceived, Offsets: []int64{2}, Keys: []string{"key-3"}})
		e.mark(topic, parley.Mark{As: parley.MarkRead, Offsets: []int64{4, 9}})
		e.mark(topic, parley.Mark{As: parley.MarkArchived, Keys: []string{"key-6", "key-10"}})
		e.mark(topic, parley.Mark{As: parley.MarkReceived, Epoch: "other", UpTo: 12})
		e.mark(topic, parley.Mark{As: parley.MarkReceived, UpTo: 13})
		e.sleep(lifetime + 2)
		require.Equal(e, due(5, 7, 8, 11, 12), e.overdue(e.store, topics, 100, e.cfg.units(lifetime)))
		e.markOn(e.peer, topic, parley.Mark{As: parley.MarkReceived, Offsets: []int64{5, 11}})
		e.markOn(e.peer, topic, parley.Mark{As: parley.MarkRead, Keys: []string{"key-7"}})
		e.sleep(lifetime + 2)
		require.Equal(e, due(8, 12), e.overdue(e.peer, topics, 100, long), "others were marked during the lease")
	}},
	{name: "Overdue/an entry that is marked as unread is returned, unless it was received before", run: func(e *env) {
		topics := e.inboxes(1)
		topic := topics[0]
		e.log(topic, keep(20), e.awaited(1, 4)...)
		e.mark(topic, parley.Mark{As: parley.MarkRead, Offsets: []int64{1}})
		e.mark(topic, parley.Mark{As: parley.MarkArchived, Offsets: []int64{2}})
		e.mark(topic, parley.Mark{As: parley.MarkUnread, UpTo: 3})
		e.stands(topic, 4, nil, nil, "all are unread")
		e.sleep(lifetime + 2)
		require.Equal(e, due(3, 4), e.overdue(e.store, topics, 100, long), "to mark as unread says nothing of what was received")
	}},
	{name: "Overdue/a duplicate is not awaited again (F10)", run: func(e *env) {
		topics := e.inboxes(1)
		entries := e.awaited(1, 3)
		entries[2].ReceiveIn = 0
		e.log(topics[0], keep(20), entries...)
		e.mark(topics[0], parley.Mark{As: parley.MarkReceived, UpTo: 1})
		e.log(topics[0], keep(20), e.awaited(1, 3)...)
		e.sleep(lifetime + 2)
		require.Equal(e, due(2), e.overdue(e.store, topics, 100, long), "the first of the entries with the same key counts")
	}},
	{name: "Overdue/entries that left the log are not returned", run: func(e *env) {
		topics := e.inboxes(3)
		e.log(topics[0], keep(3), e.awaited(1, 5)...)
		e.log(topics[0], keep(3), messages(6, 6)...)
		size := int64(len(message(1).Data))
		e.log(topics[1], parley.Retention{Messages: 9, Bytes: 2 * size}, e.awaited(1, 4)...)
		old := e.awaited(1, 2)
		old[1].ReceiveIn = 3 * old[0].ReceiveIn
		e.log(topics[2], parley.Retention{Messages: 9, Age: e.cfg.units(lifetime / 2)}, old...)
		e.sleep(lifetime + 2)
		require.ElementsMatch(e, []string{"0 4", "0 5", "1 3", "1 4"}, e.overdue(e.store, topics, 100, e.cfg.units(lifetime)),
			"by Messages, by Bytes and by Age")
		e.log(topics[0], keep(2), messages(7, 7)...)
		e.sleep(2 * lifetime)
		require.ElementsMatch(e, []string{"1 3", "1 4"}, e.overdue(e.peer, topics, 100, long), "4 and 5 left during the lease")
	}},
	{name: "Overdue/entries whose TTL has passed are not returned", run: func(e *env) {
		topics := e.inboxes(1)
		entries := e.awaited(1, 4)
		entries[0].TTL, entries[2].TTL = e.cfg.units(lifetime/2), e.cfg.units(lifetime/2)
		entries[1].TTL = long
		e.log(topics[0], keep(10), entries...)
		e.sleep(lifetime + 2)
		require.Equal(e, due(2, 4), e.overdue(e.store, topics, 100, long))
	}},
	{name: "Overdue/entries are awaited for days", needs: freeTime, run: func(e *env) {
		topics := e.inboxes(1)
		entries := e.awaited(1, 2)
		entries[0].ReceiveIn, entries[1].ReceiveIn = 3*24*time.Hour, 6*24*time.Hour
		e.log(topics[0], keep(10), entries...)
		e.sleepFor(3*24*time.Hour - time.Minute)
		require.Empty(e, e.overdue(e.store, topics, 10, time.Hour), "a minute before")
		e.sleepFor(2 * time.Minute)
		require.Equal(e, due(1), e.overdue(e.store, topics, 10, 24*time.Hour), "a minute after")
		e.sleepFor(23 * time.Hour)
		require.Empty(e, e.overdue(e.peer, topics, 10, time.Hour), "an hour before the end of the lease")
		e.sleepFor(3 * 24 * time.Hour)
		require.ElementsMatch(e, due(1, 2), e.overdue(e.peer, topics, 10, time.Hour))
	}},
	// A node that dies after Overdue has told it leaves the rest to the others.
	{name: "Overdue/each entry goes to one of the nodes, and after the lease to one again (F23)", run: func(e *env) {
		topics := e.inboxes(4)
		want := []string{}
		for i, topic := range topics {
			e.log(topic, keep(100), e.awaited(1, 25)...)
			for offset := range 25 {
				want = append(want, fmt.Sprint(i, " ", offset+1))
			}
		}
		for round, lease := range []time.Duration{e.cfg.units(4 * lifetime), long} {
			e.sleep([]float64{lifetime + 2, 4*lifetime + 2}[round])
			start := time.Now()
			var got [writers][]string
			e.together(func(w int, s parley.Store) {
				for range 200 {
					list, err := s.Overdue(context.Background(), 1+w, lease)
					if err != nil {
						e.Errorf("writer %d: %v", w, err)
						return
					}
					if len(list) == 0 {
						return // or others hold the rest at this moment
					}
					for _, o := range list {
						for i, topic := range topics {
							if o.Topic == topic {
								got[w] = append(got[w], fmt.Sprint(i, " ", o.Entry.Offset))
							}
						}
					}
				}
			})
			all := e.overdue(e.store, topics, 1000, lease)
			if time.Since(start) > lease-e.cfg.Unit {
				e.Skip("the machine was too slow to see anything put off: raise Config.Unit")
			}
			for _, list := range got {
				all = append(all, list...)
			}
			require.ElementsMatchf(e, want, all, "round %d: each entry once", round)
		}
	}},
}
