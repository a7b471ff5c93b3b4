package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

var markModelCases = []storeCase{
	{name: "Model/random marks agree with a simple reference (F27, F33)", run: func(e *env) {
		for seed := range uint64(8) { // always the same
			m := &markModel{env: e, seed: seed, rng: rand.New(rand.NewPCG(seed, 8))}
			for _, kept := range []parley.Retention{{Messages: 100_000}, {Messages: 6}, {Messages: 100, Bytes: 70}, {Messages: 6}} {
				m.logs = append(m.logs, &markedLog{topic: e.topic(), keep: kept})
			}
			if e.cfg.free() { // else nothing expires
				m.logs[0].mortal, m.logs[1].mortal = true, true
				m.logs[3].keep.Age = e.cfg.units(20.5)
			}
			e.inboxes(0)
			for range 200 {
				m.step()
			}
		}
	}},
}

// markModel drives a Store with random Appends and Marks and compares it with
// references. Time passes only where it is free.
type markModel struct {
	*env
	seed   uint64
	rng    *rand.Rand // hides that of env
	passed time.Duration
	logs   []*markedLog
	trace  []string
}

// markedLog is a topic as the contract has it, in the simplest form: all
// entries ever appended, and what became of each.
type markedLog struct {
	topic     string
	keep      parley.Retention
	mortal    bool // some entries have a TTL
	entries   []markedEntry
	first     int64 // below it, entries have left the log; 0 for 1
	truncated int64
	changes   int64 // how many Marks have changed something
}

type markedEntry struct {
	key, data string
	state     parley.MarkAs // 0: was never counted
	at        time.Duration
	ttl       time.Duration // 0: none
	awaited   bool
	due       time.Duration
}

func (l *markedLog) top() int64 { return int64(len(l.entries)) }

func (l *markedLog) at(offset int64) *markedEntry { return &l.entries[offset-1] }

// live reports whether an entry has data at a time.
func (l *markedLog) live(offset int64, now time.Duration) bool {
	e := l.at(offset)
	return offset >= l.first && (e.ttl == 0 || now-e.at < e.ttl)
}

// expire lets entries leave by age.
func (l *markedLog) expire(now time.Duration) {
	l.first = max(l.first, 1)
	for l.keep.Age > 0 && l.first <= l.top() && now-l.at(l.first).at >= l.keep.Age {
		l.first++
	}
}

// trim lets entries leave by number and by size. Those of logs with a size have no TTL.
func (l *markedLog) trim(now time.Duration) {
	size := int64(0)
	for offset := l.first; offset <= l.top(); offset++ {
		size += int64(len(l.at(offset).data))
	}
	for l.first < l.top() && (l.top()-l.first+1 > int64(l.keep.Messages) || l.keep.Bytes > 0 && size > l.keep.Bytes) {
		if l.live(l.first, now) && l.at(l.first).state == parley.MarkUnread {
			l.truncated = l.first
		}
		size -= int64(len(l.at(l.first).data))
		l.first++
	}
}

// in lists the entries in a state that live.
func (l *markedLog) in(state parley.MarkAs, now time.Duration) []int64 {
	list := []int64{}
	for offset := l.first; offset <= l.top(); offset++ {
		if l.live(offset, now) && l.at(offset).state == state {
			list = append(list, offset)
		}
	}
	return list
}

// context describes what led to a failure.
func (m *markModel) context() lately {
	return func() string {
		return fmt.Sprintf("seed %d, the last calls were:\n%s", m.seed, strings.Join(m.trace[max(0, len(m.trace)-25):], "\n"))
	}
}

func (m *markModel) node() parley.Store {
	return []parley.Store{m.store, m.peer}[m.rng.IntN(2)]
}

func (m *markModel) step() {
	l := m.logs[m.rng.IntN(len(m.logs))]
	l.expire(m.passed)
	switch n := m.rng.IntN(20); {
	case n < 7:
		m.stepAppend(l)
	case n < 16:
		m.stepMark(l)
	case !m.cfg.free():
	case n < 18:
		m.stepOverdue()
	default:
		units := 1 + m.rng.IntN(4)
		m.trace = append(m.trace, fmt.Sprintf("sleep %d units", units))
		m.sleep(float64(units))
		m.passed += m.cfg.units(float64(units))
		l.expire(m.passed)
	}
	m.check(l)
}

func (m *markModel) stepAppend(l *markedLog) {
	var entries []parley.Entry
	for range 1 + m.rng.IntN(4) {
		entry := message(int(l.top()) + len(entries) + 1)
		entry.Key = fmt.Sprint("key-", l.top()+int64(len(entries))+1)
		entry.Unread = m.rng.IntN(4) > 0
		if m.cfg.free() { // half units: nothing comes to an end just when it is looked at
			entry.ReceiveIn = m.cfg.units([]float64{0, 3.5, 12.5}[m.rng.IntN(3)])
		}
		if l.mortal {
			entry.TTL = m.cfg.units([]float64{0, 0, 5.5, 15.5}[m.rng.IntN(4)])
		}
		entries = append(entries, entry)
	}
	log, err := m.node().Append(context.Background(), l.topic, l.keep, entries)
	m.trace = append(m.trace, fmt.Sprintf("%s: Append %+v to %+v: %+v", l.topic, entries, l.keep, log))
	require.NoError(m, err, m.context())
	for _, entry := range entries {
		known := markedEntry{key: entry.Key, data: string(entry.Data), at: m.passed, ttl: entry.TTL, awaited: entry.ReceiveIn > 0, due: m.passed + entry.ReceiveIn}
		if entry.Unread {
			known.state = parley.MarkUnread
		}
		l.entries = append(l.entries, known)
		require.Equal(m, l.top(), entry.Offset, m.context())
	}
	l.first = max(l.first, 1)
	l.trim(m.passed)
	m.stands(l, log)
}

func (m *markModel) stepMark(l *markedLog) {
	mark := randomMark(m.rng, l.top())
	got, err := m.node().Mark(context.Background(), l.topic, mark)
	m.trace = append(m.trace, fmt.Sprintf("%s: Mark %+v: %+v", l.topic, mark, got))
	require.NoError(m, err, m.context())
	changed := []int64{}
	for offset := l.first; offset <= l.top(); offset++ {
		e := l.at(offset)
		picked := offset <= mark.UpTo || slices.Contains(mark.Offsets, offset) || slices.Contains(mark.Keys, e.key)
		if !picked || !l.live(offset, m.passed) {
			continue
		}
		e.awaited = e.awaited && mark.As == parley.MarkUnread
		archived := e.state == parley.MarkArchived && mark.As == parley.MarkRead
		if mark.As != parley.MarkReceived && e.state != 0 && e.state != mark.As && !archived {
			e.state = mark.As
			changed = append(changed, offset)
		}
	}
	if mark.UpTo >= l.truncated && (mark.As == parley.MarkRead || mark.As == parley.MarkArchived) {
		l.truncated = 0
	}
	require.Equal(m, spansOf(changed...), solid(got.Changed), m.context())
	require.Equal(m, l.top(), got.Top, m.context())
	if len(changed) > 0 {
		l.changes++
	}
	m.stands(l, got.Log)
}

func (m *markModel) stepOverdue() {
	lease := m.cfg.units([]float64{1.5, 6.5}[m.rng.IntN(2)])
	var topics, want []string
	for i, l := range m.logs {
		topics = append(topics, l.topic)
		l.expire(m.passed)
		for offset := max(l.first, 1); offset <= l.top(); offset++ {
			if e := l.at(offset); e.awaited && l.live(offset, m.passed) && e.due <= m.passed {
				want = append(want, fmt.Sprint(i, " ", offset))
				e.due = m.passed + lease
			}
		}
	}
	got := m.overdue(m.node(), topics, 100_000, lease)
	m.trace = append(m.trace, fmt.Sprintf("Overdue for %v: %v", lease, got))
	require.ElementsMatch(m, want, got, m.context())
}

// stands checks what a call says of a log.
func (m *markModel) stands(l *markedLog, log parley.Log) {
	m.Helper()
	require.Lenf(m, l.in(parley.MarkUnread, m.passed), log.Unread, "Unread\n%s", m.context())
	require.Equalf(m, l.truncated, log.Truncated, "Truncated\n%s", m.context())
	require.Equalf(m, l.top()+l.changes, log.Version, "Version\n%s", m.context())
}

func (m *markModel) check(l *markedLog) {
	m.Helper()
	q := parley.Query{Forward: true, Limit: 100_000, Marks: true}
	page := m.env.read(m.node(), l.topic, q)
	m.stands(l, page.Log)
	if l.top() > 0 {
		head := parley.Head{Log: page.Log, Top: page.Top}
		require.Equal(m, []parley.Head{head}, m.heads(m.node(), l.topic), m.context())
	}
	l.first = max(l.first, 1)
	// Entries at the front whose TTL has passed may have been removed.
	alive := l.first
	for alive <= l.top() && !l.live(alive, m.passed) {
		alive++
	}
	require.GreaterOrEqual(m, page.First, l.first, m.context())
	require.LessOrEqual(m, page.First, alive, m.context())
	require.Equal(m, l.top(), page.Top, m.context())
	require.Equal(m, span(page.First, page.Top), offsets(page.Entries), m.context())
	for _, entry := range page.Entries {
		if want := l.at(entry.Offset); l.live(entry.Offset, m.passed) {
			require.Equal(m, want.data, string(entry.Data), m.context())
		} else {
			require.Nil(m, entry.Data, m.context())
		}
	}
	// What the spans say of entries whose TTL has passed is open.
	dead := func(offset int64) bool { return !l.live(offset, m.passed) }
	require.Equal(m, l.in(parley.MarkRead, m.passed), slices.DeleteFunc(numbersIn(page.Read), dead), m.context())
	require.Equal(m, l.in(parley.MarkArchived, m.passed), slices.DeleteFunc(numbersIn(page.Archived), dead), m.context())
}
