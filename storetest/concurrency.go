package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

const writers = 8

// together runs f for each writer at once, half of them on either node. f
// must not end its goroutine: it reports by Errorf.
func (e *env) together(f func(w int, s parley.Store)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for w := range writers {
		wg.Go(func() {
			<-start
			f(w, []parley.Store{e.store, e.peer}[w%2])
		})
	}
	close(start)
	wg.Wait()
}

var concurrencyCases = []storeCase{
	// The witness sees to it that each batch is contiguous.
	{name: "Concurrency/Appends of all nodes make one log, the same for all (F28)", run: func(e *env) {
		topic := e.topic()
		const batches = 25
		var mu sync.Mutex
		total := 0
		sent := map[int64]string{} // offset -> data
		e.together(func(w int, s parley.Store) {
			rng := rand.New(rand.NewPCG(e.cfg.Seed, uint64(w)))
			for b := range batches {
				var entries []parley.Entry
				for i := range 1 + rng.IntN(4) {
					entries = append(entries, parley.Entry{Data: fmt.Appendf(nil, `{"w":%d,"b":%d,"i":%d}`, w, b, i)})
				}
				if _, err := s.Append(context.Background(), topic, keep(100_000), entries); err != nil {
					e.Errorf("writer %d: %v", w, err)
					return
				}
				mu.Lock()
				total += len(entries)
				for _, entry := range entries {
					sent[entry.Offset] = string(entry.Data)
				}
				mu.Unlock()
			}
		})
		require.Lenf(e, sent, total, "%d entries were appended; fewer offsets means that some were given twice", total)
		for node, s := range e.nodes() {
			page := e.read(s, topic, everything)
			require.Equalf(e, span(1, int64(total)), offsets(page.Entries), "contiguous over all Appends, on %s", node)
			last := map[int]int{}
			for _, entry := range page.Entries {
				require.Equalf(e, sent[entry.Offset], string(entry.Data), "offset %d on %s", entry.Offset, node)
				var w, b, i int
				_, err := fmt.Sscanf(string(entry.Data), `{"w":%d,"b":%d,"i":%d}`, &w, &b, &i)
				require.NoError(e, err)
				require.GreaterOrEqualf(e, b*10+i, last[w], "writer %d: one writer's entries stay in its order", w)
				last[w] = b*10 + i
			}
		}
	}},
	{name: "Concurrency/an Append is seen as a whole or not at all", run: func(e *env) {
		topic := e.topic()
		const size = 5
		e.together(func(w int, s parley.Store) {
			for n := range 25 {
				if w < 4 {
					if _, err := s.Append(context.Background(), topic, keep(50), messages(n*size, n*size+size-1)); err != nil {
						e.Errorf("writer %d: %v", w, err)
					}
					continue
				}
				page, err := s.Read(context.Background(), topic, everything)
				if err != nil {
					e.Errorf("reader %d: %v", w, err)
				}
				if page.Top%size != 0 || (page.First-1)%size != 0 {
					e.Errorf("reader %d: the log goes from %d to %d, but all batches have %d entries", w, page.First, page.Top, size)
				}
			}
		})
	}},
	{name: "Concurrency/a page and its bounds are read in one step", run: func(e *env) {
		topic := e.topic()
		e.append(topic, keep(20), message(0))
		e.together(func(w int, s parley.Store) {
			for n := range 40 {
				if w < 4 {
					if _, err := s.Append(context.Background(), topic, keep(20), messages(n, n)); err != nil {
						e.Errorf("writer %d: %v", w, err)
					}
					time.Sleep(time.Millisecond) // lets readers of any speed come between
					continue
				}
				page, err := s.Read(context.Background(), topic, everything)
				if err != nil {
					e.Errorf("reader %d: %v", w, err)
					continue
				}
				if got, want := int64(len(page.Entries)), page.Top-page.First+1; got != want {
					e.Errorf("reader %d: %d entries, but the bounds %d to %d of the same page make %d", w, got, page.First, page.Top, want)
				}
			}
		})
	}},
	{name: "Concurrency/a key is stored once, whoever is first (F24)", run: func(e *env) {
		for range 10 {
			topic := e.topic()
			got := make([]parley.Entry, writers)
			e.together(func(w int, s parley.Store) {
				entries := []parley.Entry{message(2 * w), keyed(2*w+1, "k")}
				if _, err := s.Append(context.Background(), topic, keep(100), entries); err != nil {
					e.Errorf("writer %d: %v", w, err)
				}
				got[w] = entries[1]
			})
			stored := 0
			for w, entry := range got {
				require.Equalf(e, got[0].Offset, entry.Offset, "writer %d: all get the offset of the one stored", w)
				if !entry.Duplicate {
					stored++
				}
			}
			require.Equal(e, 1, stored, "one of the entries with the same key is stored")
			require.EqualValues(e, writers+1, e.all(topic).Top)
		}
	}},
	{name: "Concurrency/new topics do not hinder each other", run: func(e *env) {
		var topics []string
		for range 20 {
			topics = append(topics, e.topic())
		}
		e.together(func(w int, s parley.Store) {
			for _, topic := range topics {
				if _, err := s.Append(context.Background(), topic, keep(100), messages(w, w)); err != nil {
					e.Errorf("writer %d: %v", w, err)
				}
			}
		})
		for _, topic := range topics {
			require.Equal(e, span(1, writers), offsets(e.all(topic).Entries), "every writer appended one entry to each topic")
		}
	}},
	// F30: the last action of each user counts, whatever others do meanwhile.
	{name: "Concurrency/presence ends up as the last Enter and Leave of each user say (F30)", run: func(e *env) {
		room := e.topic()
		const own = 5
		var here [writers][own]bool
		e.together(func(w int, s parley.Store) {
			rng := rand.New(rand.NewPCG(e.cfg.Seed, uint64(w)))
			node := fmt.Sprint("n", w%3)
			for range 60 {
				u := rng.IntN(own)
				id := fmt.Sprintf("u-%d-%d", w, u)
				here[w][u] = !here[w][u]
				var err error
				if here[w][u] {
					err = s.Enter(context.Background(), room, node, users(id), long)
				} else {
					err = s.Leave(context.Background(), room, node, []string{id})
				}
				if err == nil {
					_, _, err = s.Members(context.Background(), room, rng.IntN(10))
				}
				if err != nil {
					e.Errorf("writer %d: %v", w, err)
				}
			}
		})
		var want []parley.Member
		for w := range writers {
			for u := range own {
				if here[w][u] {
					want = append(want, users(fmt.Sprintf("u-%d-%d", w, u))...)
				}
			}
		}
		e.expect(room, want, "after 60 random steps of each of 8 writers")
	}},
}
