package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/parley-go/parley"
)

// ends breaks what Heads returns.
func ends(f func(list []parley.Head, topics []string) []parley.Head) func(b *broken) {
	return func(b *broken) {
		b.heads = func(s parley.Store, ctx context.Context, topics []string) ([]parley.Head, error) {
			list, err := s.Heads(ctx, topics)
			return f(list, topics), err
		}
	}
}

// asked breaks what Heads is asked.
func asked(f func(topics []string) []string) func(b *broken) {
	return func(b *broken) {
		b.heads = func(s parley.Store, ctx context.Context, topics []string) ([]parley.Head, error) {
			return s.Heads(ctx, f(slices.Clone(topics)))
		}
	}
}

var brokenHeads = []flaw{
	{"leaves out topics that are not known", headsOrder, ends(func(list []parley.Head, _ []string) []parley.Head {
		return slices.DeleteFunc(list, func(h parley.Head) bool { return h.Top == 0 })
	})},
	{"answers for each topic once", headsOrder, asked(func(topics []string) []string {
		slices.Sort(topics)
		return slices.Compact(topics)
	})},
	{"answers in another order", headsOrder, asked(func(topics []string) []string {
		slices.Sort(topics)
		return topics
	})},
	{"forgets Truncated", "Heads/say what a Read would say", ends(func(list []parley.Head, _ []string) []parley.Head {
		for i := range list {
			list[i].Truncated = 0
		}
		return list
	})},
	{"has the Unread of the last Append", "Heads/of logs whose entries have grown too old, or whose TTL has passed", func(b *broken) {
		last := map[string]int{}
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			log, err := s.Append(ctx, topic, keep, entries)
			last[topic] = log.Unread
			return log, err
		}
		ends(func(list []parley.Head, topics []string) []parley.Head {
			for i := range list {
				list[i].Unread = last[topics[i]]
			}
			return list
		})(b)
	}},
	{"answers for 500 topics at most", "Heads/of 512 topics at once", ends(func(list []parley.Head, _ []string) []parley.Head {
		clear(list[min(500, len(list)):])
		return list
	})},
	{"fails without topics", "Heads/of no topics are none", func(b *broken) {
		b.heads = func(s parley.Store, ctx context.Context, topics []string) ([]parley.Head, error) {
			if len(topics) == 0 {
				return nil, errors.New("syntax error near )")
			}
			return s.Heads(ctx, topics)
		}
	}},
	{"creates what it is asked for", "Heads/create nothing", func(b *broken) {
		b.heads = func(s parley.Store, ctx context.Context, topics []string) ([]parley.Head, error) {
			for _, topic := range topics {
				_, _ = s.Append(ctx, topic, keep(1), messages(1, 1))
			}
			return s.Heads(ctx, topics)
		}
	}},
	{"remembers the heads of logs that were lost", "Heads/of a log that was lost are of the new one, or nothing (F16, F66)", func(b *broken) {
		known := map[string]parley.Head{}
		ends(func(list []parley.Head, topics []string) []parley.Head {
			for i, topic := range topics {
				if list[i].Top < known[topic].Top {
					list[i] = known[topic]
				}
				known[topic] = list[i]
			}
			return list
		})(b)
	}},
	{"folds the case of topics", "Heads/keep odd names of topics apart (S38)", asked(func(topics []string) []string {
		for i := range topics {
			topics[i] = fold(topics[i])
		}
		return topics
	})},
	{"reads a head in two steps", "Heads/tell of each topic in one step", func(b *broken) {
		b.heads = func(s parley.Store, ctx context.Context, topics []string) ([]parley.Head, error) {
			list, err := s.Heads(ctx, topics)
			if err != nil {
				return nil, err
			}
			time.Sleep(time.Millisecond)
			later, err := s.Heads(ctx, topics)
			for i := range later {
				list[i].Top = later[i].Top
			}
			return list, err
		}
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			time.Sleep(time.Millisecond)
			return s.Append(ctx, topic, keep, entries)
		}
	}},
}

const headsOrder = "Heads/are in the order of topics, also if some are named twice or not known"

// miscounting adds to the Version of a topic what appending and marking say, in every answer.
func miscounting(appending func(stored, duplicates int) int, marking func(changed bool) int) func(b *broken) {
	return func(b *broken) {
		var mu sync.Mutex
		extra := map[string]int64{}
		add := func(topic string, n int) int64 {
			mu.Lock()
			defer mu.Unlock()
			extra[topic] += int64(n)
			return extra[topic]
		}
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			log, err := s.Append(ctx, topic, keep, entries)
			duplicates := 0
			for _, e := range entries {
				if e.Duplicate {
					duplicates++
				}
			}
			log.Version += add(topic, appending(len(entries)-duplicates, duplicates))
			return log, err
		}
		b.mark = func(s parley.Store, ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
			got, err := s.Mark(ctx, topic, m)
			got.Version += add(topic, marking(len(got.Changed) > 0))
			return got, err
		}
		b.read = func(s parley.Store, ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
			p, err := s.Read(ctx, topic, q)
			p.Version += add(topic, 0)
			return p, err
		}
		ends(func(list []parley.Head, topics []string) []parley.Head {
			for i := range list {
				list[i].Version += add(topics[i], 0)
			}
			return list
		})(b)
	}
}

var (
	noExtra = func(bool) int { return 0 }

	brokenVersions = []flaw{
		{"counts Appends, not entries", "Version/is the offset of the newest entry, however they were appended",
			miscounting(func(stored, _ int) int { return min(stored, 1) - stored }, noExtra)},
		{"counts two for each entry", "Model/random calls agree with a simple reference (F64, F65)",
			miscounting(func(stored, _ int) int { return stored }, noExtra)},
		{"counts duplicates", "Version/does not count duplicates (F24)",
			miscounting(func(_, duplicates int) int { return duplicates }, noExtra)},
		{"counts Marks that change nothing", "Version/counts Marks that change something, each once",
			miscounting(func(int, int) int { return 0 }, func(changed bool) int { return map[bool]int{true: 0, false: 1}[changed] })},
		{"counts no Marks", "Version/counts Marks that change something, each once",
			miscounting(func(int, int) int { return 0 }, func(changed bool) int { return map[bool]int{true: -1, false: 0}[changed] })},
		{"counts Marks twice", "Model/random marks agree with a simple reference (F27, F33)",
			miscounting(func(int, int) int { return 0 }, func(changed bool) int { return map[bool]int{true: 1, false: 0}[changed] })},
		{"counts Marks twice", "Race/Marks and Appends of all nodes make one count (F33)",
			miscounting(func(int, int) int { return 0 }, func(changed bool) int { return map[bool]int{true: 1, false: 0}[changed] })},
		{"counts entries that leave", "Version/stays when entries leave by age or TTL", page(func(p *parley.Page, _ parley.Query) {
			p.Version += p.First - 1
		})},
	}
)
