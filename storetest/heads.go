package storetest

import (
	"context"
	"fmt"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// headsLimit is how many topics a hub asks for at once.
const headsLimit = 512

func (e *env) heads(s parley.Store, topics ...string) []parley.Head {
	e.Helper()
	list, err := s.Heads(context.Background(), topics)
	require.NoErrorf(e, err, "Heads of %d topics", len(topics))
	require.Lenf(e, list, len(topics), "Heads of %d topics: one for each", len(topics))
	return list
}

// sameHeads expects Heads to say what Read says, on both nodes. For topics that nothing was appended to it may be nothing.
func (e *env) sameHeads(why string, topics ...string) {
	e.Helper()
	for node, s := range e.nodes() {
		list := e.heads(s, topics...)
		for i, topic := range topics {
			page := e.read(s, topic, parley.Query{})
			if page.Top == 0 && list[i] == (parley.Head{}) {
				continue
			}
			require.Equalf(e, parley.Head{Log: page.Log, Top: page.Top}, list[i], "head %d of %d, on %s, beside what Read says: %s", i, len(topics), node, why)
		}
	}
}

var headCases = []storeCase{
	{name: "Heads/are in the order of topics, also if some are named twice or not known", run: func(e *env) {
		var topics []string
		for n := range 12 {
			topic := e.topic()
			if n%3 > 0 {
				e.append(topic, keep(100), messages(1, n)...)
			}
			topics = append(topics, topic, topic)
		}
		e.rng.Shuffle(len(topics), func(i, j int) { topics[i], topics[j] = topics[j], topics[i] })
		e.sameHeads("in any order", topics...)
		slices.Sort(topics)
		e.sameHeads("sorted", topics...)
		slices.Reverse(topics)
		e.sameHeads("sorted backward", topics...)
	}},
	{name: "Heads/say what a Read would say", run: func(e *env) {
		var topics []string
		for n := range 8 {
			topic := e.topic()
			topics = append(topics, topic)
			log := e.log(topic, keep(3+n), counted(1, 6)...)
			e.sameHeads("after Append", topics...)
			if n%2 == 0 {
				e.mark(topic, parley.Mark{As: parley.MarkRead, Offsets: []int64{5, 6}})
			}
			if n == 1 {
				e.mark(topic, parley.Mark{As: parley.MarkRead, UpTo: log.Truncated})
			}
			e.sameHeads("after Mark", topics...)
		}
		list := e.heads(e.peer, topics...)
		require.EqualValues(e, 3, list[0].Truncated, "three entries too many were unread")
		require.Equal(e, 6, list[7].Unread)
	}},
	{name: "Heads/of logs whose entries have grown too old, or whose TTL has passed", run: func(e *env) {
		aged, mortal, both := e.topic(), e.topic(), e.topic()
		e.log(aged, e.aged(10), counted(1, 3)...)
		for _, topic := range []string{mortal, both} {
			entries := counted(1, 3)
			for i := range entries[:2] {
				entries[i].TTL = e.cfg.units(lifetime)
			}
			e.log(topic, keep(10), entries...)
		}
		e.sleep(lifetime + 2)
		e.log(both, keep(10), counted(4, 4)...)
		e.sameHeads("at 12/10 of Age and TTL", aged, mortal, both)
		list := e.heads(e.store, aged, mortal, both)
		for i, unread := range []int{0, 1, 2} {
			require.Equalf(e, unread, list[i].Unread, "Unread of log %d", i)
			require.EqualValuesf(e, 3+i/2, list[i].Top, "Top of log %d", i)
		}
	}},
	{name: "Heads/of 512 topics at once", run: func(e *env) {
		topics := make([]string, headsLimit)
		for i := range topics {
			topics[i] = fmt.Sprintf("%s-%d", e.topic(), i)
			if i%8 == 0 {
				e.log(topics[i], keep(10), counted(1, 1+i%5)...)
			}
		}
		e.sameHeads("512 topics", topics...)
	}},
	{name: "Heads/of no topics are none", run: func(e *env) {
		require.Empty(e, e.heads(e.store))
		list, err := e.peer.Heads(context.Background(), nil)
		require.NoError(e, err)
		require.Empty(e, list)
	}},
	{name: "Heads/create nothing", run: func(e *env) {
		topic := e.topic()
		before := e.all(topic)
		e.sameHeads("nothing was appended", topic)
		require.Equal(e, before, e.all(topic), "after Heads")
		epoch, got := e.append(topic, keep(5), message(1))
		require.Equal(e, before.Epoch, epoch, "the first Append uses the epoch that Read reported")
		require.EqualValues(e, 1, got[0].Offset)
	}},
	{name: "Heads/of a log that was lost are of the new one, or nothing (F16, F66)", needs: wiping, run: func(e *env) {
		lost, again := e.topic(), e.topic()
		for _, topic := range []string{lost, again} {
			e.append(topic, e.aged(100), messages(1, 5)...)
		}
		old := e.heads(e.store, lost, again)
		e.wipe()
		epoch, _ := e.append(again, e.aged(100), message(1))
		for node, s := range e.nodes() {
			list := e.heads(s, lost, again)
			require.Zerof(e, list[0].Top, "Top on %s", node)
			require.NotEqualf(e, old[0].Epoch, list[0].Epoch, "the epoch on %s", node)
			require.Equalf(e, parley.Head{Log: parley.Log{Epoch: epoch, Version: 1}, Top: 1}, list[1], "a log that has begun anew, on %s", node)
		}
		e.sameHeads("after the loss", lost, again)
	}},
	{name: "Heads/keep odd names of topics apart (S38)", run: func(e *env) {
		var topics []string
		for i, odd := range oddNames() {
			topics = append(topics, e.prefix+odd)
			e.append(e.prefix+odd, keep(100), messages(1, 1+i%7)...)
		}
		for node, s := range e.nodes() {
			for i, head := range e.heads(s, topics...) {
				require.EqualValuesf(e, 1+i%7, head.Top, "Top of %.320q on %s", topics[i], node)
			}
		}
	}},
	{name: "Heads/tell of each topic in one step", run: func(e *env) {
		topics := []string{e.topic(), e.topic()}
		const size = 4
		e.together(func(w int, s parley.Store) {
			for n := range 25 {
				if w < 4 {
					if _, err := s.Append(context.Background(), topics[n%2], keep(100_000), unkeyed(size)); err != nil {
						e.Errorf("writer %d: %v", w, err)
					}
					continue
				}
				list, err := s.Heads(context.Background(), topics)
				if err != nil {
					e.Errorf("reader %d: %v", w, err)
				}
				for _, h := range list {
					if h.Top%size != 0 || int64(h.Unread) != h.Top || h.Version != h.Top {
						e.Errorf("reader %d: %+v, but all entries count, and all batches have %d", w, h, size)
					}
				}
			}
		})
	}},
}

// unkeyed returns entries that count as unread.
func unkeyed(n int) []parley.Entry {
	list := messages(1, n)
	for i := range list {
		list[i].Unread = true
	}
	return list
}

var versionCases = []storeCase{
	{name: "Version/is the offset of the newest entry, however they were appended", run: func(e *env) {
		topic := e.topic()
		top := int64(0)
		for n := range 8 {
			log := e.log(topic, keep(5), counted(int(top)+1, int(top)+1+n)...)
			top += int64(n) + 1
			e.version(topic, log.Version, top, fmt.Sprintf("after an Append of %d", n+1))
		}
	}},
	{name: "Version/does not count duplicates (F24)", run: func(e *env) {
		topic := e.topic()
		e.version(topic, e.log(topic, keep(10), counted(1, 3)...).Version, 3, "three new entries")
		e.version(topic, e.log(topic, keep(10), counted(1, 3)...).Version, 3, "duplicates only")
		e.version(topic, e.log(topic, keep(10), counted(2, 5)...).Version, 5, "two duplicates and two new entries")
		e.version(topic, e.log(topic, keep(10), keyed(9, "a"), keyed(9, "a"), keyed(9, "a")).Version, 6, "duplicates within one call")
	}},
	{name: "Version/counts Marks that change something, each once", run: func(e *env) {
		topic := e.topic()
		e.log(topic, keep(20), counted(1, 10)...)
		version := int64(10)
		for i, m := range []struct {
			parley.Mark
			changes bool
		}{
			{parley.Mark{As: parley.MarkRead, UpTo: 4}, true},
			{parley.Mark{As: parley.MarkRead, UpTo: 4}, false},
			{parley.Mark{As: parley.MarkReceived, UpTo: 10}, false},
			{parley.Mark{As: parley.MarkArchived, Offsets: []int64{2}, Keys: []string{"key-9", "key-10"}}, true},
			{parley.Mark{As: parley.MarkRead, Offsets: []int64{2}}, false},
			{parley.Mark{As: parley.MarkRead, Offsets: []int64{11}, UpTo: 10}, false},
			{parley.Mark{As: parley.MarkRead, Epoch: "another", UpTo: 10}, false},
			{parley.Mark{As: parley.MarkUnread, Offsets: []int64{1, 2, 3}}, true},
			{parley.Mark{As: parley.MarkUnread, Keys: []string{"key-1", "nobody's"}}, false},
			{parley.Mark{As: parley.MarkRead}, false},
		} {
			got := e.markOn([]parley.Store{e.store, e.peer}[i%2], topic, m.Mark)
			require.Equalf(e, m.changes, len(got.Changed) > 0, "Changed by Mark %d", i)
			if m.changes {
				version++
			}
			e.version(topic, got.Version, version, fmt.Sprintf("after Mark %d, %+v", i, m.Mark))
		}
		e.version(topic, e.log(topic, keep(3), counted(11, 15)...).Version, version+5, "Marks count on while the log grows and is trimmed")
	}},
	{name: "Version/stays when entries leave by age or TTL", run: func(e *env) {
		topic := e.topic()
		entries := counted(1, 4)
		entries[1].TTL = e.cfg.units(lifetime / 2)
		e.log(topic, e.aged(10), entries...)
		e.mark(topic, parley.Mark{As: parley.MarkRead, UpTo: 1})
		e.sleep(lifetime + 2)
		e.version(topic, e.all(topic).Version, 5, "all entries have gone")
		e.version(topic, e.log(topic, e.aged(10), counted(5, 6)...).Version, 7, "two new ones")
	}},
}

// version expects a Version that a call has told, and the same of both nodes.
func (e *env) version(topic string, told, want int64, why string) {
	e.Helper()
	require.Equalf(e, want, told, "Version: %s", why)
	for node, s := range e.nodes() {
		require.Equalf(e, want, e.read(s, topic, parley.Query{}).Version, "Version by Read on %s: %s", node, why)
	}
}
