package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// answers collects the Logs that concurrent calls return. Nothing may expire meanwhile.
type answers struct {
	mu     sync.Mutex // guards the fields below
	unread map[int64]int
	flaws  []string
}

func (a *answers) add(log parley.Log) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.unread[log.Version]; ok && known != log.Unread {
		a.flaws = append(a.flaws, fmt.Sprintf("Version %d was told with Unread %d and with Unread %d", log.Version, known, log.Unread))
	}
	a.unread[log.Version] = log.Unread
}

// randomMark picks some of the entries up to top.
func randomMark(rng *rand.Rand, top int64) parley.Mark {
	m := parley.Mark{As: []parley.MarkAs{parley.MarkRead, parley.MarkArchived, parley.MarkUnread, parley.MarkReceived}[rng.IntN(4)]}
	if rng.IntN(3) == 0 {
		m.UpTo = rng.Int64N(top + 1)
	}
	for range rng.IntN(4) {
		if top > 0 {
			m.Offsets = append(m.Offsets, 1+rng.Int64N(top))
		}
	}
	for range rng.IntN(3) {
		m.Keys = append(m.Keys, fmt.Sprint("key-", 1+rng.Int64N(top+3)))
	}
	return m
}

var raceCases = []storeCase{
	// P8.1: whoever gets counts from several nodes keeps the one with the highest version.
	{name: "Race/Marks and Appends of all nodes make one count (F33)", run: func(e *env) {
		for _, kept := range []int{100_000, 20} {
			topic := e.topic()
			told := &answers{unread: map[int64]int{}}
			var changes atomic.Int64
			e.log(topic, keep(kept), counted(1, 10)...)
			e.together(func(w int, s parley.Store) {
				rng := rand.New(rand.NewPCG(33, uint64(w)))
				top := int64(10)
				for n := range 40 {
					if w < 4 {
						from := 100*(1+w) + 1 + 2*n
						log, err := s.Append(context.Background(), topic, keep(kept), counted(from, from+1))
						if err != nil {
							e.Errorf("writer %d: %v", w, err)
							return
						}
						told.add(log)
						continue
					}
					got, err := s.Mark(context.Background(), topic, randomMark(rng, top))
					if err != nil {
						e.Errorf("writer %d: %v", w, err)
						return
					}
					told.add(got.Log)
					if len(got.Changed) > 0 {
						changes.Add(1)
					}
					page, err := s.Read(context.Background(), topic, standings)
					if err != nil {
						e.Errorf("writer %d: %v", w, err)
						return
					}
					told.add(page.Log)
					if want := unmarked(page); page.Unread != want {
						e.Errorf("writer %d: Unread is %d, but %d entries of the same page are not marked", w, page.Unread, want)
					}
					top = page.Top
				}
			})
			require.Emptyf(e, told.flaws, "%d kept: one Version stands for one count", kept)
			e.agrees(topic, told)
			if page := e.all(topic); kept > int(page.Top) { // else some may have changed nothing but Truncated
				require.Equal(e, page.Top+changes.Load(), page.Version, "Version is Top and one for each Mark that has changed something")
			}
		}
	}},
	{name: "Race/each change is told by one Mark only", run: func(e *env) {
		for _, as := range []parley.MarkAs{parley.MarkRead, parley.MarkArchived} {
			topic := e.topic()
			e.log(topic, keep(1000), counted(1, 300)...)
			var changed [writers][]int64
			e.together(func(w int, s parley.Store) {
				for n := int64(1); n <= 30; n++ {
					got, err := s.Mark(context.Background(), topic, parley.Mark{As: as, UpTo: 10 * n, Offsets: []int64{301 - n}})
					if err != nil {
						e.Errorf("writer %d: %v", w, err)
						return
					}
					changed[w] = append(changed[w], numbersIn(got.Changed)...)
				}
			})
			all := slices.Concat(changed[:]...)
			slices.Sort(all)
			require.Equal(e, span(1, 300), all, "each of 300 entries changed once")
			require.Zero(e, e.all(topic).Unread)
		}
	}},
	{name: "Race/audiences end up as the last change of each user says", run: func(e *env) {
		name := e.topic()
		const own = 5
		var in [writers][own]bool
		e.together(func(w int, s parley.Store) {
			rng := rand.New(rand.NewPCG(30, uint64(w)))
			for range 60 {
				u := rng.IntN(own)
				id := []string{fmt.Sprintf("u-%d-%d", w, u)}
				in[w][u] = !in[w][u]
				change := s.RemoveUsers
				if in[w][u] {
					change = s.AddUsers
				}
				err := change(context.Background(), name, id)
				if err == nil {
					_, err = s.Users(context.Background(), name, "u-3", 1+rng.IntN(10))
				}
				if err != nil {
					e.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
		var want []string
		for w := range writers {
			for u := range own {
				if in[w][u] {
					want = append(want, fmt.Sprintf("u-%d-%d", w, u))
				}
			}
		}
		e.audience(name, want, "after 60 random steps of each of 8 writers")
	}},
}

// unmarked counts the entries of a log in which all count and that are neither read nor archived.
func unmarked(page parley.Page) int {
	return int(page.Top-page.First+1) - len(numbersIn(page.Read)) - len(numbersIn(page.Archived))
}

// agrees expects the nodes to agree on a topic now that all is quiet, with the newest of what was told.
func (e *env) agrees(topic string, told *answers) {
	e.Helper()
	here, there := e.read(e.store, topic, standings), e.read(e.peer, topic, standings)
	require.Equal(e, here, there, "both nodes see the same")
	require.Equal(e, unmarked(here), here.Unread, "Unread is the number of entries that are neither read nor archived")
	newest := here.Version
	for version := range told.unread {
		newest = max(newest, version)
	}
	require.Equal(e, newest, here.Version, "no call told a newer Version than the log has")
}
