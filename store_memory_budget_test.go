package parley_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/storetest"
)

// A store that is full of what nobody uses any more keeps the whole contract
// for what is in use.
func TestMemoryStoreFull(t *testing.T) {
	newStore := func(t *testing.T) parley.Store {
		s := parley.NewMemoryStore()
		s.MaxBytes = 4 << 20 // the largest batch of the suite has more than 1 MiB
		for i := 0; s.Evicted() == 0; i++ {
			appendOne(t, s, fmt.Sprint("unused-", i), parley.Retention{Messages: 10})
		}
		return s
	}
	cfg := storetest.Config{Bubble: bubbletest.Test, Wipe: func(t *testing.T, s parley.Store) {
		time.Sleep(3 * time.Hour)
		busy(t, s)
		busy(t, s)
		for range 10_000 {
			appendOne(t, s, "filler", parley.Retention{Messages: 1})
		}
	}}
	cfg.Run(t, newStore)
}

// auditor holds the answers of a store that evicts against what the contract
// says whatever was evicted. Its methods may be called concurrently.
type auditor struct {
	*parley.MemoryStore
	t testing.TB

	mu   sync.Mutex // guards the fields below
	data map[position]string
	tops map[string]map[string]int64 // topic -> epoch -> Top
	n    int
}

type position struct {
	topic, epoch string
	offset       int64
}

func newAuditor(t testing.TB, maxBytes int64) *auditor {
	s := parley.NewMemoryStore()
	s.MaxBytes = maxBytes
	return &auditor{MemoryStore: s, t: t, data: map[position]string{}, tops: map[string]map[string]int64{}}
}

func (a *auditor) see(p position, data string) {
	if known, ok := a.data[p]; ok && known != data {
		a.t.Errorf("%+v names two messages", p)
	}
	a.data[p] = data
	if a.tops[p.topic] == nil {
		a.tops[p.topic] = map[string]int64{}
	}
	a.tops[p.topic][p.epoch] = max(a.tops[p.topic][p.epoch], p.offset)
}

func (a *auditor) add(topic string, keep parley.Retention, size int, key string) {
	a.mu.Lock()
	a.n++
	data := fmt.Sprintf("%d %0*d", a.n, size, 0)
	a.mu.Unlock()
	entries := []parley.Entry{{Data: []byte(data), Key: key}}
	log, err := a.Append(context.Background(), topic, keep, entries)
	if err != nil {
		a.t.Error(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !entries[0].Duplicate {
		a.see(position{topic, log.Epoch, entries[0].Offset}, data)
	}
}

func (a *auditor) look(topic string, q parley.Query) {
	a.mu.Lock()
	tops := maps.Clone(a.tops[topic])
	a.mu.Unlock()
	page, err := a.Read(context.Background(), topic, q)
	if err != nil {
		a.t.Error(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if page.Top < tops[page.Epoch] || page.First < 1 || page.First > page.Top+1 {
		a.t.Errorf("%s: First %d, Top %d, Top was %d", topic, page.First, page.Top, tops[page.Epoch])
	}
	for i, e := range page.Entries {
		if e.Offset != page.Entries[0].Offset+int64(i) || e.Offset < page.First || e.Offset > page.Top {
			a.t.Errorf("%s: entry %d has offset %d, First %d, Top %d", topic, i, e.Offset, page.First, page.Top)
		}
		a.see(position{topic, page.Epoch, e.Offset}, string(e.Data))
	}
	if n := len(page.Entries); n > 0 && q == (parley.Query{Limit: 1000}) &&
		(page.Entries[0].Offset != page.First || page.Entries[n-1].Offset != page.Top) {
		a.t.Errorf("%s: entries %d to %d, bounds %d to %d", topic, page.Entries[0].Offset, page.Entries[n-1].Offset, page.First, page.Top)
	}
}

// step is one random call, on one of a few topics, so that they live, starve and are dropped.
func (a *auditor) step(rng *rand.Rand) {
	topic, ctx := fmt.Sprint("t", int(rng.ExpFloat64()*20)), context.Background()
	keep := parley.Retention{Messages: 1 + rng.IntN(20), Age: time.Duration(rng.IntN(2)) * time.Hour}
	var err error
	switch rng.IntN(10) {
	case 0:
		err = a.Enter(ctx, topic, "n", []parley.Member{{UserID: "u"}}, time.Hour)
	case 1:
		err = a.Leave(ctx, topic, "n", []string{"u"})
	case 2:
		a.look(topic, parley.Query{Forward: true, After: rng.Int64N(50), Limit: rng.IntN(10)})
	case 3, 4:
		a.look(topic, parley.Query{Limit: 1000})
	case 5, 6:
		a.add(topic, keep, rng.IntN(500), fmt.Sprint("key-", rng.IntN(100)))
	default:
		a.add(topic, keep, rng.IntN(500), "")
	}
	if err != nil {
		a.t.Error(err)
	}
}

// F66: whatever is evicted, clients are told by First and the epoch.
func TestMemoryStoreEvictionKeepsInvariants(t *testing.T) {
	for _, maxBytes := range []int64{1, 3000, 20_000, 60_000} {
		bubbletest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(maxBytes), 7))
			a := newAuditor(t, maxBytes)
			for i := range 20_000 {
				a.step(rng)
				if i%100 == 0 {
					time.Sleep(time.Minute)
				}
			}
			require.NotZero(t, a.Evicted())
			most := 0
			for _, epochs := range a.tops {
				most = max(most, len(epochs))
			}
			require.Greater(t, most, 3, "the test should see topics dropped")
		})
	}
}

func TestMemoryStoreEvictionConcurrent(t *testing.T) {
	const maxBytes = 100_000
	a := newAuditor(t, maxBytes)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 8))
			for range 3000 {
				a.step(rng)
			}
		})
	}
	wg.Wait()
	require.NotZero(t, a.Evicted())
	for i := range 20 { // whoever was too busy to be evicted is not any more
		a.add(fmt.Sprint("last-", i), parley.Retention{Messages: 1}, 10, "")
	}
	require.LessOrEqual(t, a.Bytes(), int64(maxBytes))
}

// Every Append creates a topic, and evicts on average as much as it adds: in the
// tiny store at once, in the other in steps of its slack.
func BenchmarkMemoryStoreAppendFull(b *testing.B) {
	for name, maxBytes := range map[string]int64{"tiny": 10_000, "16 MiB": 16 << 20} {
		b.Run(name, func(b *testing.B) {
			s, keep := parley.NewMemoryStore(), parley.Retention{Messages: 100, Age: 24 * time.Hour}
			s.MaxBytes = maxBytes
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				n++
				entries := []parley.Entry{{Data: payload128}}
				if _, err := s.Append(context.Background(), fmt.Sprint("room/", n), keep, entries); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
