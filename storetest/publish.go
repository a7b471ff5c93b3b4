package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// publisher is what the subtests of AppendPublish need of both nodes.
type publisher interface {
	parley.Store
	parley.Broker
	parley.AppendPublisher
}

// both is a witness of a publisher.
type both struct {
	*witness
	parley.Broker
}

// publishers returns the two nodes.
func (e *env) publishers() (here, there publisher) {
	e.Helper()
	list := make([]publisher, 2)
	for i, s := range []parley.Store{e.store, e.peer} {
		w := s.(*witness)
		p, ok := w.Store.(publisher)
		if !ok {
			e.Skip("not a parley.AppendPublisher and a parley.Broker")
		}
		list[i] = both{w, p}
	}
	return list[0], list[1]
}

// listen subscribes until the end of the subtest.
func (e *env) listen(b parley.Broker, topic string) *inbox {
	e.Helper()
	in := new(inbox)
	unsubscribe, err := b.Subscribe(context.Background(), topic, payloadsOnly(in.add))
	require.NoErrorf(e, err, "Subscribe to %q", topic)
	e.Cleanup(unsubscribe)
	return in
}

// heard returns the payloads that have arrived before what is published next.
func (e *env) heard(in *inbox, b parley.Broker, topic string) []string {
	e.Helper()
	const marker = "marker "
	last := marker + e.user()
	require.NoErrorf(e, b.Publish(context.Background(), topic, []byte(last)), "Publish to %q", topic)
	for end := time.Now().Add(time.Minute); !in.has(last); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			require.FailNowf(e, "waited a minute for a payload published afterwards", "%q has got %.300q", topic, in.all())
		}
	}
	return slices.DeleteFunc(in.all(), func(p string) bool { return strings.HasPrefix(p, marker) })
}

// hears expects payloads to arrive, in order, and nothing else.
func (e *env) hears(in *inbox, b parley.Broker, topic string, want []string, why string) {
	e.Helper()
	got := e.heard(in, b, topic)
	for i, p := range got {
		if i >= len(want) || p != want[i] {
			require.FailNowf(e, "another payload", "payload %d of %d is %.150q; want %.300q: %s", i, len(got), p, want[min(i, len(want)):min(i+1, len(want))], why)
		}
	}
	require.Lenf(e, got, len(want), "payloads: %s", why)
}

func (e *env) appendPublish(p publisher, topic string, keep parley.Retention, payload string, entries ...parley.Entry) (parley.Log, []parley.Entry) {
	e.Helper()
	log, err := p.AppendPublish(context.Background(), topic, keep, entries, []byte(payload))
	require.NoErrorf(e, err, "AppendPublish to %q", topic)
	return log, entries
}

// framed is what AppendPublish is to publish: the header of the contract and the payload.
func framed(log parley.Log, entries []parley.Entry, payload string) string {
	var list []string
	for _, entry := range entries {
		if entry.Duplicate {
			list = append(list, "0")
		} else {
			list = append(list, strconv.FormatInt(entry.Offset, 10))
		}
	}
	return fmt.Sprintf("%d %d %s %s\n%s", log.Unread, log.Version, strings.Join(list, ","), log.Epoch, payload)
}

// publishCases are for a Store that is a parley.AppendPublisher; others skip them.
var publishCases = []storeCase{
	{name: "AppendPublish/publishes the payload behind the header, to subscribers of both nodes", run: func(e *env) {
		a, b := e.publishers()
		topic := e.topic()
		inboxes := map[string]*inbox{"here": e.listen(a, topic), "there": e.listen(b, topic), "there again": e.listen(b, topic)}
		e.append(topic, keep(20), messages(1, 8)...)
		var want []string
		for i, payload := range []string{"one", "", "\n", "a\nb\x00c\xff", " 1 2 3 x\n", strings.Repeat("x", 200<<10)} {
			log, entries := e.appendPublish([]publisher{a, b}[i%2], topic, keep(20), payload, counted(9+3*i, 9+4*i)...)
			want = append(want, framed(log, entries, payload))
		}
		for name, in := range inboxes {
			e.hears(in, a, topic, want, name)
		}
		require.True(e, strings.HasPrefix(want[0], "1 9 9 "), "one unread of nine: %.50q", want[0])
	}},
	{name: "AppendPublish/does what Append does", run: func(e *env) {
		a, b := e.publishers()
		topic := e.topic()
		before := e.all(topic)
		log, got := e.appendPublish(a, topic, keep(4), "p", counted(1, 3)...)
		require.Equal(e, before.Epoch, log.Epoch)
		require.Equal(e, span(1, 3), offsets(got))
		log, got = e.appendPublish(b, topic, keep(4), "p", counted(2, 6)...)
		require.Equal(e, span(2, 6), offsets(got))
		for i, entry := range got {
			require.Equalf(e, i < 2, entry.Duplicate, "Duplicate of entry %d", i)
		}
		page := e.all(topic)
		require.Equal(e, page.Log, log)
		require.Equal(e, parley.Log{Epoch: before.Epoch, Unread: 4, Version: 6, Truncated: 2}, log)
		e.same(3, 6, page.Entries, "the log, trimmed")
		e.mark(topic, parley.Mark{As: parley.MarkRead, Keys: []string{"key-5"}})
		require.Equal(e, 3, e.all(topic).Unread)
		_, got = e.append(topic, keep(4), keyed(6, "key-6"))
		require.True(e, got[0].Duplicate, "keys are those of Append, too")
	}},
	{name: "AppendPublish/neither keeps nor changes the slices given", run: func(e *env) {
		a, b := e.publishers()
		topic := e.topic()
		in := e.listen(b, topic)
		entries, payload := messages(1, 3), []byte("payload")
		log, err := a.AppendPublish(context.Background(), topic, keep(9), entries, payload)
		require.NoError(e, err)
		require.Equal(e, "payload", string(payload))
		want := framed(log, entries, "payload")
		require.Equal(e, bodies(messages(1, 3)), bodies(entries))
		for i := range entries {
			clear(entries[i].Data)
		}
		clear(payload)
		e.hears(in, a, topic, []string{want}, "what was published")
		e.same(1, 3, e.all(topic).Entries, "the log")
	}},
	{name: "AppendPublish/an offset of a duplicate is 0 in the list (F24)", run: func(e *env) {
		a, b := e.publishers()
		topic := e.topic()
		in := e.listen(b, topic)
		e.append(topic, keep(20), counted(1, 2)...)
		log, entries := e.appendPublish(a, topic, keep(20), "p", keyed(1, "key-1"), message(3), keyed(2, "key-2"), keyed(4, "k"), keyed(9, "k"))
		require.Equal(e, []int64{1, 3, 2, 4, 4}, offsets(entries))
		e.hears(in, a, topic, []string{fmt.Sprintf("2 4 0,3,0,4,0 %s\np", log.Epoch)}, "duplicates among new entries")
	}},
	{name: "AppendPublish/publishes nothing for duplicates only, or for no entries (F10)", run: func(e *env) {
		a, b := e.publishers()
		topic := e.topic()
		in := e.listen(b, topic)
		before := e.all(topic).Log
		log, _ := e.appendPublish(a, topic, keep(20), "nothing")
		require.Equal(e, before, log, "of a topic that nothing was appended to")
		e.log(topic, keep(20), counted(1, 3)...)
		for range 2 {
			log, entries := e.appendPublish(a, topic, keep(20), "again", counted(1, 3)...)
			require.Equal(e, span(1, 3), offsets(entries))
			require.Equal(e, e.all(topic).Log, log)
		}
		e.appendPublish(b, topic, keep(20), "nothing")
		e.hears(in, a, topic, nil, "nothing was stored")
	}},
	{name: "AppendPublish/the header is of the Log after Marks and lost entries", run: func(e *env) {
		a, b := e.publishers()
		topic := e.topic()
		in := e.listen(b, topic)
		e.log(topic, keep(5), counted(1, 7)...)
		e.mark(topic, parley.Mark{As: parley.MarkArchived, Offsets: []int64{4, 7}})
		e.mark(topic, parley.Mark{As: parley.MarkUnread, Offsets: []int64{7}})
		log, entries := e.appendPublish(b, topic, keep(5), "p", counted(8, 8)...)
		require.Equal(e, parley.Log{Epoch: log.Epoch, Unread: 4, Version: 10, Truncated: 3}, log)
		e.hears(in, a, topic, []string{framed(log, entries, "p")}, "5 kept of 8, one of them archived, and two Marks")
	}},
	{name: "AppendPublish/topics are opaque and kept apart from each other (S38)", run: func(e *env) {
		a, b := e.publishers()
		var topics []string
		for _, odd := range oddNames() {
			topics = append(topics, e.prefix+odd)
		}
		topics = append(topics, e.prefix+strings.Repeat("x", 300-len(e.prefix)))
		inboxes, want := make([]*inbox, len(topics)), make([]string, len(topics))
		for i, topic := range topics {
			inboxes[i] = e.listen(b, topic)
		}
		for i, topic := range topics {
			payload := fmt.Sprint("for ", i)
			log, entries := e.appendPublish(a, topic, keep(5), payload, messages(i, i+i%3)...)
			want[i] = framed(log, entries, payload)
		}
		for i, topic := range topics {
			e.hears(inboxes[i], a, topic, want[i:i+1], fmt.Sprintf("what came to %.320q", topic))
		}
	}},
	{name: "AppendPublish/publishes in the order of the offsets, whoever publishes (F28)", run: func(e *env) {
		a, b := e.publishers()
		topic := e.topic()
		here, there := e.listen(a, topic), e.listen(b, topic)
		var mu sync.Mutex
		sent := map[int64]string{} // by first offset
		e.together(func(w int, _ parley.Store) {
			for n := range 25 {
				payload := fmt.Sprintf("%d-%d", w, n)
				entries := counted(1000*w+10*n+1, 1000*w+10*n+1+n%3)
				log, err := []publisher{a, b}[w%2].AppendPublish(context.Background(), topic, keep(100_000), entries, []byte(payload))
				if err != nil {
					e.Errorf("writer %d: %v", w, err)
					return
				}
				mu.Lock()
				sent[entries[0].Offset] = framed(log, entries, payload)
				mu.Unlock()
			}
		})
		var want []string
		top := e.all(topic).Top
		for offset := int64(1); offset <= top; offset++ {
			if p, ok := sent[offset]; ok {
				want = append(want, p)
			}
		}
		require.Len(e, want, writers*25)
		e.hears(here, b, topic, want, "in the order of the offsets, here")
		e.hears(there, a, topic, want, "in the order of the offsets, there")
	}},
	{name: "AppendPublish/does not need subscribers", run: func(e *env) {
		a, _ := e.publishers()
		topic := e.topic()
		_, got := e.appendPublish(a, topic, keep(5), "p", messages(1, 2)...)
		require.Equal(e, span(1, 2), offsets(got))
		e.same(1, 2, e.all(topic).Entries, "the log")
	}},
	// F9: and an error is one of the Append: what was not stored is not published.
	{name: "AppendPublish/honours ctx, and publishes nothing that is not stored (F9)", run: func(e *env) {
		a, b := e.publishers()
		topic := e.topic()
		in := e.listen(b, topic)
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		for n := range 10 {
			_, err := a.AppendPublish(ended, topic, keep(20), counted(n, n), message(n).Data)
			require.Error(e, err, "with a ctx that has ended")
			require.Truef(e, errors.Is(err, context.Canceled), "%v should wrap context.Canceled", err)
		}
		stored := e.all(topic).Entries // after an error nobody knows; usually none
		published := []string{}
		for _, p := range e.heard(in, a, topic) {
			_, body, _ := strings.Cut(p, "\n")
			published = append(published, body)
		}
		require.Equal(e, bodies(stored), published, "published is what is stored")
		log, entries := e.appendPublish(a, topic, keep(20), "good", counted(20, 20)...)
		require.Len(e, entries, 1)
		require.EqualValues(e, len(stored)+1, log.Version, "with a good ctx, after others had ended")
	}},
}
