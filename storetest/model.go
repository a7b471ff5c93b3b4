package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

var modelCases = []storeCase{
	{name: "Model/random calls agree with a simple reference (F64, F65)", run: func(e *env) {
		for round := range 5 {
			m := &model{env: e}
			m.Logf("seed %d (set Config.Seed to repeat), round %d", e.cfg.Seed, round)
			for range 3 {
				m.refs = append(m.refs, &reference{topic: e.topic(), leases: map[string]map[string]lease{}})
			}
			for range 250 {
				m.step()
			}
		}
	}},
}

// model drives a Store with random calls and compares it with references. Time passes only where it is free.
type model struct {
	*env
	passed time.Duration // by sleeping
	refs   []*reference
	count  int
	trace  []string // the calls so far
}

// reference is a topic as the contract has it, in the simplest form. It knows
// every entry ever appended. Where the contract leaves the Store a choice, it
// knows the range: entries may be trimmed late, and keys may be forgotten early
// when their entry has left the log.
type reference struct {
	topic   string
	epoch   string
	entries []stored // offset 1 first
	keep    parley.Retention
	lost    int64 // entries below this offset may be gone for good
	leases  map[string]map[string]lease
}

type stored struct {
	key, data string
	time      int64
	at        time.Duration
}

type lease struct {
	name string
	end  time.Duration
}

func (r *reference) top() int64 { return int64(len(r.entries)) }

// allowed returns the lowest offset that may be returned now.
func (r *reference) allowed(now time.Duration) int64 {
	first := max(1, r.top()-int64(r.keep.Messages)+1)
	for r.keep.Age > 0 && first <= r.top() && now-r.entries[first-1].at >= r.keep.Age {
		first++
	}
	r.lost = max(r.lost, first)
	return first
}

// find returns the newest entry with a key, and whether it must be remembered.
func (r *reference) find(key string, now time.Duration) (offset int64, must bool) {
	for i := range slices.Backward(r.entries) {
		if r.entries[i].key == key {
			offset = int64(i) + 1
			return offset, offset >= r.lost && now-r.entries[i].at < parley.IdempotencyWindow
		}
	}
	return 0, false
}

func (m *model) now() time.Duration { return m.passed }

func (m *model) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

// context describes what led to a failure.
func (m *model) context() lately {
	return func() string {
		last := m.trace[max(0, len(m.trace)-20):]
		return fmt.Sprintf("seed %d, the last calls were:\n%s", m.cfg.Seed, strings.Join(last, "\n"))
	}
}

// lately is a text that is made when a test fails, and only then.
type lately func() string

func (l lately) String() string { return l() }

func (m *model) node() parley.Store {
	if m.rng.IntN(2) == 0 {
		return m.store
	}
	return m.peer
}

func (m *model) step() {
	r := m.refs[m.rng.IntN(len(m.refs))]
	switch n := m.rng.IntN(22); {
	case n < 6:
		m.stepAppend(r)
	case n < 12:
		m.stepRead(r)
	case n < 14:
		m.stepEnter(r)
	case n < 16:
		m.stepLeave(r)
	case n < 18:
		m.stepMembers(r)
	case n < 20:
		m.stepHeads()
	case m.cfg.free():
		units := 1 + m.rng.IntN(6)
		m.note("sleep %d units", units)
		m.sleep(float64(units))
		m.passed += m.cfg.units(float64(units))
	}
}

func (m *model) stepAppend(r *reference) {
	keep := parley.Retention{Messages: []int{1, 2, 5, 20}[m.rng.IntN(4)]}
	if m.cfg.free() {
		// Half units: nothing comes to an end just when it is looked at.
		keep.Age = m.cfg.units([]float64{0, 10.5, 40.5}[m.rng.IntN(3)])
	}
	var entries []parley.Entry
	for range 1 + m.rng.IntN(4) {
		m.count++
		entry := message(m.count)
		if m.rng.IntN(2) == 0 {
			entry.Key = fmt.Sprint("k", m.rng.IntN(12))
		}
		entries = append(entries, entry)
	}
	sent := slices.Clone(entries)
	log, err := m.node().Append(context.Background(), r.topic, keep, entries)
	m.note("%s: Append %+v, offsets %v", r.topic, keep, offsets(entries))
	require.NoError(m, err, m.context())
	m.checkEpoch(r, log.Epoch)

	now := m.now()
	r.allowed(now) // what the old keep has made go may be gone, also if the new one is wider
	for i, entry := range entries {
		known, must := r.find(sent[i].Key, now)
		if sent[i].Key == "" {
			known, must = 0, false
		}
		if must {
			require.Truef(m, entry.Duplicate, "entry %d has the key of offset %d\n%s", i, known, m.context())
		}
		if entry.Duplicate {
			require.NotZerof(m, known, "entry %d has a new key\n%s", i, m.context())
			require.Equalf(m, known, entry.Offset, "entry %d: the offset stored first\n%s", i, m.context())
			continue
		}
		require.Equalf(m, r.top()+1, entry.Offset, "entry %d\n%s", i, m.context())
		r.entries = append(r.entries, stored{sent[i].Key, string(sent[i].Data), sent[i].Time, now})
	}
	require.Equalf(m, r.top(), log.Version, "Version, without Marks\n%s", m.context())
	r.keep = keep
	r.allowed(now)
}

func (m *model) checkEpoch(r *reference, epoch string) {
	if r.epoch == "" {
		r.epoch = epoch
	}
	require.Equalf(m, r.epoch, epoch, "the epoch changes only when the log is lost\n%s", m.context())
}

func (m *model) stepRead(r *reference) {
	q := edge(m.rng.IntN(2) == 0, m.rng.Int64N(r.top()+3), m.rng.IntN(25))
	page, err := m.node().Read(context.Background(), r.topic, q)
	m.note("%s: Read %+v, %d to %d, offsets %v", r.topic, q, page.First, page.Top, offsets(page.Entries))
	require.NoError(m, err, m.context())
	m.checkEpoch(r, page.Epoch)
	require.Equal(m, r.top(), page.Top, m.context())
	require.Equalf(m, r.top(), page.Version, "Version, without Marks\n%s", m.context())
	first := r.allowed(m.now())
	require.GreaterOrEqualf(m, page.First, first, "older entries are not allowed any more\n%s", m.context())
	require.LessOrEqualf(m, page.First, max(r.lost, 1), "entries are gone that were allowed all the time\n%s", m.context())

	want := wanted(page.First, page.Top, q)
	require.Equal(m, append([]int64{}, want...), offsets(page.Entries), m.context())
	for _, entry := range page.Entries {
		known := r.entries[entry.Offset-1]
		require.Equal(m, known.data, string(entry.Data), m.context())
		require.Equal(m, known.time, entry.Time, m.context())
	}
}

func (m *model) stepHeads() {
	var asked []*reference
	var topics []string
	for range m.rng.IntN(6) {
		r := m.refs[m.rng.IntN(len(m.refs))]
		asked, topics = append(asked, r), append(topics, r.topic)
	}
	list, err := m.node().Heads(context.Background(), topics)
	m.note("Heads %v: %+v", topics, list)
	require.NoError(m, err, m.context())
	require.Len(m, list, len(topics), m.context())
	for i, r := range asked {
		if r.top() == 0 && list[i] == (parley.Head{}) {
			continue
		}
		m.checkEpoch(r, list[i].Epoch)
		require.Equal(m, [2]int64{r.top(), r.top()}, [2]int64{list[i].Top, list[i].Version}, m.context())
	}
}

func (m *model) stepEnter(r *reference) {
	node, users := m.someone()
	length := long
	if m.cfg.free() {
		length = m.cfg.units([]float64{5.5, 20.5, 100.5}[m.rng.IntN(3)])
	}
	err := m.node().Enter(context.Background(), r.topic, node, users, length)
	m.note("%s: Enter %s %v for %v", r.topic, node, users, length)
	require.NoError(m, err, m.context())
	for _, u := range users {
		if r.leases[u.UserID] == nil {
			r.leases[u.UserID] = map[string]lease{}
		}
		r.leases[u.UserID][node] = lease{u.Name, m.now() + length}
	}
}

func (m *model) stepLeave(r *reference) {
	node, users := m.someone()
	var ids []string
	for _, u := range users {
		ids = append(ids, u.UserID)
		delete(r.leases[u.UserID], node)
	}
	err := m.node().Leave(context.Background(), r.topic, node, ids)
	m.note("%s: Leave %s %v", r.topic, node, ids)
	require.NoError(m, err, m.context())
}

// someone returns a node and some users, each once.
func (m *model) someone() (node string, users []parley.Member) {
	for _, i := range m.rng.Perm(6)[:1+m.rng.IntN(3)] {
		users = append(users, parley.Member{UserID: fmt.Sprint("u", i), Name: fmt.Sprint("name", m.rng.IntN(100))})
	}
	return fmt.Sprint("n", m.rng.IntN(3)), users
}

func (m *model) stepMembers(r *reference) {
	var ids []string
	for id, nodes := range r.leases {
		for _, l := range nodes {
			if m.now() < l.end && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	limit := m.rng.IntN(8)
	list, count, err := m.node().Members(context.Background(), r.topic, limit)
	m.note("%s: Members up to %d: %v of %d", r.topic, limit, list, count)
	require.NoError(m, err, m.context())
	require.Equal(m, len(ids), count, m.context())
	require.Len(m, list, min(limit, len(ids)), m.context())
	for i, member := range list {
		require.Equal(m, ids[i], member.UserID, m.context())
		var names []string // those of any node are right
		for _, l := range r.leases[ids[i]] {
			if m.now() < l.end {
				names = append(names, l.name)
			}
		}
		require.Contains(m, names, member.Name, m.context())
	}
}
