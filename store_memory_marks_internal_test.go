package parley

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"
)

// audit holds what is counted up against what is there. Nobody else uses the store meanwhile.
func (s *MemoryStore) audit(t testing.TB) {
	t.Helper()
	dues := 0
	for i := range s.shards {
		for _, topic := range s.shards[i].order {
			dues += auditTopic(t, topic)
		}
	}
	require.Len(t, s.overdue.queue, dues, "those that wait to be received, and no others")
	for i, d := range s.overdue.queue {
		require.Equal(t, i+1, d.place)
		require.False(t, d.topic.dropped)
		require.Same(t, d, d.topic.log.marks.at(d.offset, d.topic.log.top).due)
	}
	require.Equal(t, s.recount(), s.Bytes())
}

func auditTopic(t testing.TB, topic *memoryTopic) (dues int) {
	t.Helper()
	l, k := &topic.log, topic.log.marks
	data := int64(0)
	for i := range l.entries.len() {
		data += int64(len(l.entries.at(i).data))
	}
	require.Equal(t, data, l.bytes)
	require.True(t, l.keep.Bytes == 0 || data <= l.keep.Bytes || l.entries.len() == 1, "Bytes")
	if k == nil {
		return 0
	}
	require.LessOrEqual(t, k.entries.len(), l.entries.len())
	unread, keys := 0, int64(0)
	for i := range k.entries.len() {
		m := k.entries.at(i)
		e := l.entries.at(l.entries.len() - k.entries.len() + i)
		require.Equal(t, m.expired, e.data == nil)
		require.True(t, m.expires == 0 || m.expires >= k.expiry, "would be overlooked")
		if m.state == memoryUnread {
			unread++
		}
		if m.due != nil {
			dues++
		}
		keys += int64(len(m.key))
	}
	require.Equal(t, [2]int{unread, dues}, [2]int{k.unread, k.dues})
	require.Equal(t, keys, k.keyBytes)
	return dues
}

// inboxWalk makes random calls, and knows which entries were appended with Unread.
type inboxWalk struct {
	t       *testing.T
	s       *MemoryStore
	rng     *rand.Rand
	counted map[string]map[int64]bool // topic and epoch
	version map[string]int64
	found   int // by Overdue
}

func (w *inboxWalk) step() {
	topic, ctx := fmt.Sprint("user/", w.rng.IntN(6)), context.Background()
	switch n := w.rng.IntN(20); {
	case n < 8:
		w.append(topic)
	case n < 14:
		w.mark(topic)
	case n < 16:
		found, err := w.s.Overdue(ctx, w.rng.IntN(4), time.Duration(w.rng.IntN(20))*time.Second)
		require.NoError(w.t, err)
		w.found += len(found)
	case n < 18:
		time.Sleep(time.Duration(w.rng.IntN(8)) * time.Second)
	default:
		w.look(topic)
	}
}

func (w *inboxWalk) append(topic string) {
	keep := Retention{Messages: 1 + w.rng.IntN(20)}
	if w.rng.IntN(3) == 0 {
		keep.Bytes = w.rng.Int64N(500)
	}
	if w.rng.IntN(3) == 0 {
		keep.Age = time.Duration(1+w.rng.IntN(100)) * time.Second
	}
	entries := make([]Entry, 1+w.rng.IntN(4))
	for i := range entries {
		e := &entries[i]
		e.Data = make([]byte, w.rng.IntN(100))
		e.Unread = w.rng.IntN(4) > 0
		e.TTL = max(0, time.Duration(w.rng.IntN(60)-30)*time.Second)
		e.ReceiveIn = max(0, time.Duration(w.rng.IntN(40)-20)*time.Second)
		if w.rng.IntN(2) == 0 {
			e.Key = fmt.Sprint("k", w.rng.IntN(30))
		}
	}
	log, err := w.s.Append(context.Background(), topic, keep, entries)
	require.NoError(w.t, err)
	id := topic + log.Epoch
	if w.counted[id] == nil {
		w.counted[id] = map[int64]bool{}
	}
	added := int64(0)
	for _, e := range entries {
		if !e.Duplicate {
			w.counted[id][e.Offset] = e.Unread
			added++
		}
	}
	require.GreaterOrEqual(w.t, log.Version, w.version[id]+added)
	w.version[id] = log.Version
}

func (w *inboxWalk) mark(topic string) {
	before := w.look(topic)
	m := Mark{As: MarkAs(1 + w.rng.IntN(4))}
	if w.rng.IntN(2) == 0 {
		m.UpTo = w.rng.Int64N(before.Top + 2)
	}
	for range w.rng.IntN(3) {
		m.Offsets = append(m.Offsets, w.rng.Int64N(before.Top+2))
		m.Keys = append(m.Keys, fmt.Sprint("k", w.rng.IntN(30)))
	}
	got, err := w.s.Mark(context.Background(), topic, m)
	require.NoError(w.t, err)
	want := before.Version
	if len(got.Changed) > 0 {
		want++
	}
	require.Equal(w.t, want, got.Version)
	after := w.look(topic)
	require.Equal(w.t, after.Log, got.Log)
	states := func(p Page) map[int64]string {
		at := map[int64]string{}
		for _, s := range p.Read {
			for o := s.From; o <= s.To; o++ {
				at[o] = "read"
			}
		}
		for _, s := range p.Archived {
			for o := s.From; o <= s.To; o++ {
				at[o] = "archived"
			}
		}
		return at
	}
	old, now, changed := states(before), states(after), map[int64]bool{}
	for _, s := range got.Changed {
		for o := s.From; o <= s.To; o++ {
			changed[o] = true
		}
	}
	for o := range before.Top + 1 {
		require.Equal(w.t, old[o] != now[o], changed[o], "offset %d after %+v", o, m)
	}
}

// look compares the number of unread entries with what the entries say.
func (w *inboxWalk) look(topic string) Page {
	page, err := w.s.Read(context.Background(), topic, Query{Limit: 1000, Marks: true})
	require.NoError(w.t, err)
	unread := 0
	for _, e := range page.Entries {
		marked := false
		for _, s := range append(page.Read[:len(page.Read):len(page.Read)], page.Archived...) {
			marked = marked || s.From <= e.Offset && e.Offset <= s.To
		}
		if w.counted[topic+page.Epoch][e.Offset] && e.Data != nil && !marked {
			unread++
		}
	}
	require.Equal(w.t, unread, page.Unread)
	require.Less(w.t, page.Truncated, page.First)
	return page
}

// What is counted up while entries come, are marked, run out and go is what counting them gives,
// with and without want of space, and it comes back to nothing.
func TestMemoryStoreMarksRandom(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, 4, 5, 6} {
		bubbletest.Test(t, func(t *testing.T) {
			s := limited(-1)
			if seed%2 == 0 {
				s = limited(10_000)
			}
			w := &inboxWalk{t: t, s: s, rng: rand.New(rand.NewPCG(seed, 11)),
				counted: map[string]map[int64]bool{}, version: map[string]int64{}}
			for i := range 3000 {
				w.step()
				if i%10 == 0 {
					s.audit(t)
				}
			}
			require.Greater(t, w.found, 50)
			require.Equal(t, seed%2 == 0, s.Evicted() > 0)

			for i := range 6 { // so that no log stays for good
				put(t, s, fmt.Sprint("user/", i), Retention{Messages: 5, Age: time.Minute})
			}
			time.Sleep(2 * time.Hour)
			for range 1000 {
				require.NoError(t, s.Enter(t.Context(), "room", "n", []Member{{UserID: "u"}}, time.Hour))
			}
			s.audit(t)
			require.Zero(t, s.Bytes())
			require.Empty(t, s.overdue.queue)
		})
	}
}

// What inboxes need costs rooms nothing.
func TestMemoryStoreRoomsHaveNoMarks(t *testing.T) {
	require.EqualValues(t, 40, unsafe.Sizeof(memoryEntry{}))
	s := NewMemoryStore()
	put(t, s, "room", usual, "a", "b", "a")
	got, err := s.Mark(t.Context(), "room", Mark{As: MarkRead, UpTo: 2, Keys: []string{"a"}})
	require.NoError(t, err)
	require.Equal(t, Marked{Log: Log{Epoch: s.topic("room").epoch, Version: 2}, Top: 2}, got)
	require.Nil(t, s.topic("room").log.marks)

	entries := []Entry{{Data: make([]byte, 128)}}
	allocs := testing.AllocsPerRun(1000, func() {
		if _, err := s.Append(context.Background(), "room", Retention{Messages: 100, Bytes: 10_000}, entries); err != nil {
			t.Error(err)
		}
	})
	require.LessOrEqual(t, allocs, 1.0, "the data")
}

// A topic may have been a room before its first entry that counts.
func TestMemoryStoreMarksBeginLate(t *testing.T) {
	s, ctx := NewMemoryStore(), context.Background()
	keep := Retention{Messages: 6}
	put(t, s, "t", keep, "a", "b", "c")
	for i := range 3 {
		_, err := s.Append(ctx, "t", keep, []Entry{{Data: []byte("1"), Unread: i != 1}})
		require.NoError(t, err)
	}
	got, err := s.Mark(ctx, "t", Mark{As: MarkArchived, UpTo: 4, Keys: []string{"a", ""}})
	require.NoError(t, err)
	require.Equal(t, []Span{{4, 4}}, got.Changed, "an entry without a key does not have the empty one")
	require.Equal(t, 1, got.Unread)
	for range 3 {
		put(t, s, "t", keep)
	}
	page, err := s.Read(ctx, "t", Query{Limit: 10, Marks: true})
	require.NoError(t, err)
	require.Equal(t, []Span{{4, 4}}, page.Archived)
	s.audit(t)
	for range 3 {
		put(t, s, "t", keep)
	}
	page = readAll(t, s, "t")
	require.EqualValues(t, [3]int64{7, 6, 0}, [3]int64{page.First, page.Truncated, int64(page.Unread)})
	s.audit(t)
}

// Who loses unread entries for want of space is told so, like who loses them to the Retention.
func TestMemoryStoreEvictionTruncates(t *testing.T) {
	s, ctx := limited(50_000), context.Background()
	for range 5 {
		_, err := s.Append(ctx, "inbox", usual, []Entry{{Data: []byte("1"), Unread: true, ReceiveIn: time.Hour}})
		require.NoError(t, err)
	}
	_, err := s.Mark(ctx, "inbox", Mark{As: MarkRead, Offsets: []int64{5}})
	require.NoError(t, err)
	for i := 0; readAll(t, s, "inbox").First <= 5; i++ {
		putSized(t, s, fmt.Sprint("flood", i), 1000)
	}
	page := readAll(t, s, "inbox")
	require.Zero(t, page.Unread)
	require.EqualValues(t, 4, page.Truncated, "5 was read")
	s.audit(t)
	require.Empty(t, s.overdue.queue)
}

// A TTL frees the data at once, also in a topic that nobody uses.
func TestMemoryStoreTTLFreesData(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := NewMemoryStore()
		for i := range 20 {
			e := Entry{Key: fmt.Sprint("key-", i), Data: make([]byte, 10_000), Unread: true, ReceiveIn: time.Hour}
			if i%2 == 0 {
				e.TTL = time.Minute
			}
			_, err := s.Append(t.Context(), "inbox", Retention{Messages: 100}, []Entry{e})
			require.NoError(t, err)
		}
		require.Greater(t, s.Bytes(), int64(200_000))
		time.Sleep(time.Hour - 1)
		for range 200 {
			require.NoError(t, s.Enter(t.Context(), "room", "n", []Member{{UserID: "u"}}, time.Hour))
		}
		require.Less(t, s.Bytes(), int64(110_000))
		require.Len(t, s.overdue.queue, 10)
		s.audit(t)
		page := readAll(t, s, "inbox")
		require.Equal(t, [2]int{20, 10}, [2]int{len(page.Entries), page.Unread})
	})
}

// Marks that find nothing to do, which is most of them, do not look through the log.
func TestMemoryMarksIdle(t *testing.T) {
	s := NewMemoryStore()
	entries := []Entry{{Data: []byte("1"), Unread: true, ReceiveIn: time.Hour}, {Data: []byte("2"), Unread: true}}
	_, err := s.Append(t.Context(), "inbox", usual, entries)
	require.NoError(t, err)
	k := s.topic("inbox").log.marks
	for _, tc := range []struct {
		m                Mark
		received, isRead bool // idle after m
	}{
		{Mark{As: MarkReceived, UpTo: 2}, true, false},
		{Mark{As: MarkRead, UpTo: 2}, true, true},
		{Mark{As: MarkUnread, UpTo: 1}, true, false},
		{Mark{As: MarkArchived, UpTo: 2}, true, true},
	} {
		_, err := s.Mark(t.Context(), "inbox", tc.m)
		require.NoError(t, err)
		require.Equal(t, [2]bool{tc.received, tc.isRead}, [2]bool{k.idle(MarkReceived), k.idle(MarkRead)}, "%+v", tc.m)
	}
}

// An Append without entries leaves everything as it was, the Retention too.
func TestMemoryStoreAppendOfNothing(t *testing.T) {
	s := NewMemoryStore()
	put(t, s, "t", usual, "a", "b", "c")
	log, err := s.Append(t.Context(), "t", Retention{Messages: 1, Bytes: 1}, nil)
	require.NoError(t, err)
	require.Equal(t, readAll(t, s, "t").Log, log)
	require.Len(t, readAll(t, s, "t").Entries, 3)
	require.Equal(t, usual, s.topic("t").log.keep)
}

func TestMemoryStoreRefusesBadMark(t *testing.T) {
	for _, as := range []MarkAs{0, -1, MarkReceived + 1} {
		_, err := NewMemoryStore().Mark(t.Context(), "t", Mark{As: as})
		require.ErrorContains(t, err, "Mark needs As")
	}
}

// The largest durations are bounds like any other.
func TestMemoryMarksHugeDurations(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := NewMemoryStore()
		time.Sleep(time.Hour)
		_, err := s.Append(t.Context(), "t", Retention{Messages: 1, Bytes: math.MaxInt64},
			[]Entry{{Data: []byte("1"), Unread: true, TTL: math.MaxInt64, ReceiveIn: math.MaxInt64}})
		require.NoError(t, err)
		time.Sleep(50 * 365 * 24 * time.Hour)
		require.Equal(t, 1, readAll(t, s, "t").Unread)
		found, err := s.Overdue(t.Context(), 1, math.MaxInt64)
		require.NoError(t, err)
		require.Empty(t, found)
		s.audit(t)
	})
}

// An inbox of 1,000 entries: what a notification and a device that reads it cost.
func BenchmarkMemoryStoreInbox(b *testing.B) {
	s, ctx, keep := NewMemoryStore(), context.Background(), Retention{Messages: 1000, Bytes: 1 << 20}
	top := int64(0)
	add := func(b *testing.B) {
		entries := []Entry{{Key: fmt.Sprint("n", top), Data: make([]byte, 128), Unread: true, TTL: time.Hour, ReceiveIn: time.Hour}}
		if _, err := s.Append(ctx, "inbox", keep, entries); err != nil {
			b.Fatal(err)
		}
		top = entries[0].Offset
	}
	mark := func(b *testing.B, m Mark) {
		if _, err := s.Mark(ctx, "inbox", m); err != nil {
			b.Fatal(err)
		}
	}
	for range 1000 {
		add(b)
	}
	for name, do := range map[string]func(*testing.B){
		"append":                   add,
		"append and read up to it": func(b *testing.B) { add(b); mark(b, Mark{As: MarkRead, UpTo: top}) },
		"append and read by key":   func(b *testing.B) { add(b); mark(b, Mark{As: MarkRead, Keys: []string{fmt.Sprint("n", top-1)}}) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				do(b)
			}
		})
	}
}
