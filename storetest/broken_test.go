package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/parley-go/parley"
)

// broken is a Store with one flaw: each function, if set, takes the place of
// the method and gets the right store.
type broken struct {
	parley.Store
	append  func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error)
	read    func(s parley.Store, ctx context.Context, topic string, q parley.Query) (parley.Page, error)
	enter   func(s parley.Store, ctx context.Context, topic, node string, members []parley.Member, lease time.Duration) error
	leave   func(s parley.Store, ctx context.Context, topic, node string, ids []string) error
	members func(s parley.Store, ctx context.Context, topic string, limit int) ([]parley.Member, int, error)
	mark    func(s parley.Store, ctx context.Context, topic string, m parley.Mark) (parley.Marked, error)
	overdue func(s parley.Store, ctx context.Context, limit int, lease time.Duration) ([]parley.OverdueEntry, error)
	add     func(s parley.Store, ctx context.Context, audience string, ids []string) error
	remove  func(s parley.Store, ctx context.Context, audience string, ids []string) error
	heads   func(s parley.Store, ctx context.Context, topics []string) ([]parley.Head, error)
	connect func(s parley.Store, ctx context.Context, node string, ids []string, lease time.Duration) error
	// disconnect and status are those of users, not of rooms.
	disconnect func(s parley.Store, ctx context.Context, node string, ids []string) error
	status     func(s parley.Store, ctx context.Context, ids []string) ([]parley.UserStatus, error)
	users      func(s parley.Store, ctx context.Context, audience, after string, limit int) ([]string, error)
}

func (b *broken) Append(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
	if b.append != nil {
		return b.append(b.Store, ctx, topic, keep, entries)
	}
	return b.Store.Append(ctx, topic, keep, entries)
}

func (b *broken) Read(ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
	if b.read != nil {
		return b.read(b.Store, ctx, topic, q)
	}
	return b.Store.Read(ctx, topic, q)
}

func (b *broken) Enter(ctx context.Context, topic, node string, members []parley.Member, lease time.Duration) error {
	if b.enter != nil {
		return b.enter(b.Store, ctx, topic, node, members, lease)
	}
	return b.Store.Enter(ctx, topic, node, members, lease)
}

func (b *broken) Leave(ctx context.Context, topic, node string, ids []string) error {
	if b.leave != nil {
		return b.leave(b.Store, ctx, topic, node, ids)
	}
	return b.Store.Leave(ctx, topic, node, ids)
}

func (b *broken) Members(ctx context.Context, topic string, limit int) ([]parley.Member, int, error) {
	if b.members != nil {
		return b.members(b.Store, ctx, topic, limit)
	}
	return b.Store.Members(ctx, topic, limit)
}

func (b *broken) Mark(ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
	if b.mark != nil {
		return b.mark(b.Store, ctx, topic, m)
	}
	return b.Store.Mark(ctx, topic, m)
}

func (b *broken) Overdue(ctx context.Context, limit int, lease time.Duration) ([]parley.OverdueEntry, error) {
	if b.overdue != nil {
		return b.overdue(b.Store, ctx, limit, lease)
	}
	return b.Store.Overdue(ctx, limit, lease)
}

func (b *broken) Heads(ctx context.Context, topics []string) ([]parley.Head, error) {
	if b.heads != nil {
		return b.heads(b.Store, ctx, topics)
	}
	return b.Store.Heads(ctx, topics)
}

func (b *broken) Connect(ctx context.Context, node string, ids []string, lease time.Duration) error {
	if b.connect != nil {
		return b.connect(b.Store, ctx, node, ids, lease)
	}
	return b.Store.Connect(ctx, node, ids, lease)
}

func (b *broken) Disconnect(ctx context.Context, node string, ids []string) error {
	if b.disconnect != nil {
		return b.disconnect(b.Store, ctx, node, ids)
	}
	return b.Store.Disconnect(ctx, node, ids)
}

func (b *broken) Status(ctx context.Context, ids []string) ([]parley.UserStatus, error) {
	if b.status != nil {
		return b.status(b.Store, ctx, ids)
	}
	return b.Store.Status(ctx, ids)
}

func (b *broken) AddUsers(ctx context.Context, audience string, ids []string) error {
	if b.add != nil {
		return b.add(b.Store, ctx, audience, ids)
	}
	return b.Store.AddUsers(ctx, audience, ids)
}

func (b *broken) RemoveUsers(ctx context.Context, audience string, ids []string) error {
	if b.remove != nil {
		return b.remove(b.Store, ctx, audience, ids)
	}
	return b.Store.RemoveUsers(ctx, audience, ids)
}

func (b *broken) Users(ctx context.Context, audience, after string, limit int) ([]string, error) {
	if b.users != nil {
		return b.users(b.Store, ctx, audience, after, limit)
	}
	return b.Store.Users(ctx, audience, after, limit)
}

// flaw is what is wrong with a broken store, and the subtest that must see it.
type flaw struct {
	flaw, caughtBy string
	breakIt        func(b *broken)
}

// page breaks what Read returns.
func page(f func(p *parley.Page, q parley.Query)) func(b *broken) {
	return func(b *broken) {
		b.read = func(s parley.Store, ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
			p, err := s.Read(ctx, topic, q)
			f(&p, q)
			return p, err
		}
	}
}

// query breaks what Read is asked.
func query(f func(q *parley.Query)) func(b *broken) {
	return func(b *broken) {
		b.read = func(s parley.Store, ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
			f(&q)
			return s.Read(ctx, topic, q)
		}
	}
}

// given breaks what is given to Append.
func given(f func(keep *parley.Retention, entries []parley.Entry)) func(b *broken) {
	return func(b *broken) {
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			f(&keep, entries)
			return s.Append(ctx, topic, keep, entries)
		}
	}
}

// renamed breaks the names of topics.
func renamed(f func(topic string) string) func(b *broken) {
	return func(b *broken) {
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			return s.Append(ctx, f(topic), keep, entries)
		}
		b.read = func(s parley.Store, ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
			return s.Read(ctx, f(topic), q)
		}
	}
}

// orderCase catches several flaws.
const orderCase = "Append/adds to the end, a batch in its order"

var brokenLogs = []flaw{
	{"loses an entry", orderCase, given(func(_ *parley.Retention, entries []parley.Entry) {
		if len(entries) > 5 {
			entries[5] = entries[4] // the first one is lost, the other is there twice
		}
	})},
	{"returns a log with a hole", orderCase, page(func(p *parley.Page, _ parley.Query) {
		if len(p.Entries) > 2 {
			p.Entries = slices.Delete(p.Entries, 1, 2)
		}
	})},
	{"doubles entries", orderCase, func(b *broken) {
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			_, _ = s.Append(ctx, topic, keep, slices.Clone(entries))
			return s.Append(ctx, topic, keep, entries)
		}
	}},
	{"stores a batch in reverse", orderCase, given(func(_ *parley.Retention, entries []parley.Entry) {
		slices.Reverse(entries)
	})},
	{"appends a batch entry by entry", "Concurrency/an Append is seen as a whole or not at all", func(b *broken) {
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (log parley.Log, err error) {
			for i := range entries {
				log, err = s.Append(ctx, topic, keep, entries[i:i+1])
				time.Sleep(time.Millisecond)
			}
			return log, err
		}
	}},
	{"reads bounds and entries in two steps", "Concurrency/a page and its bounds are read in one step", func(b *broken) {
		b.read = func(s parley.Store, ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
			bounds, err := s.Read(ctx, topic, parley.Query{})
			if err != nil {
				return bounds, err
			}
			time.Sleep(2 * time.Millisecond)
			p, err := s.Read(ctx, topic, q)
			bounds.Entries = p.Entries
			return bounds, err
		}
	}},
	{"keeps the slices given", "Append/neither keeps nor changes the slices given", keepsSlices},
	{"writes to the slices given", "Append/neither keeps nor changes the slices given", func(b *broken) {
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			log, err := s.Append(ctx, topic, keep, entries)
			for _, e := range entries {
				e.Data[0] = '['
			}
			return log, err
		}
	}},
	{"leaves Duplicate as it was", "Append/sets Offset and Duplicate of each entry and nothing else", func(b *broken) {
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			old := slices.Clone(entries)
			log, err := s.Append(ctx, topic, keep, entries)
			for i := range entries {
				entries[i].Duplicate = entries[i].Duplicate || old[i].Duplicate
			}
			return log, err
		}
	}},
	{"forgets Time", "Append/keeps Data and Time as they are", page(func(p *parley.Page, _ parley.Query) {
		for i := range p.Entries {
			p.Entries[i].Time = 0
		}
	})},
	{"keeps one too many", "Retention/keeps the newest Messages, neither more nor fewer",
		given(func(keep *parley.Retention, _ []parley.Entry) { keep.Messages++ })},
	{"keeps one too few", "Retention/keeps the newest Messages, neither more nor fewer",
		given(func(keep *parley.Retention, _ []parley.Entry) { keep.Messages = max(1, keep.Messages-1) })},
	{"ignores Age", "Retention/entries are returned until Age, and never after it",
		given(func(keep *parley.Retention, _ []parley.Entry) { keep.Age = 0 })},
	{"counts Age twice as fast", "Retention/entries are returned until Age, and never after it",
		given(func(keep *parley.Retention, _ []parley.Entry) { keep.Age /= 3 })},
	{"takes Age 0 for some bound", "Retention/Age 0 is no bound in the long run either",
		given(func(keep *parley.Retention, _ []parley.Entry) {
			if keep.Age == 0 {
				keep.Age = 24 * time.Hour
			}
		})},
	{"lets Top fall when all entries have expired", "Retention/entries that left the log by age do not lower Top",
		page(func(p *parley.Page, _ parley.Query) {
			if p.First > p.Top {
				p.First, p.Top = 1, 0
			}
		})},
	{"uses an epoch again", "Retention/a log that was lost has an epoch never used before (F66)", func(b *broken) {
		page(func(p *parley.Page, _ parley.Query) { p.Epoch = "same" })(b)
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			log, err := s.Append(ctx, topic, keep, entries)
			log.Epoch = "same"
			return log, err
		}
	}},
	{"folds the case of topics", "Topic/names are opaque and kept apart from each other (S10, S38)", renamed(fold)},
	{"cuts topics at 255 bytes", "Topic/names have up to 300 bytes",
		renamed(func(topic string) string { return topic[:min(255, len(topic))] })},
	{"keeps presence under a name that is a topic, too", "Topic/names are kept apart from the store's own keys (S38)", func(b *broken) {
		b.enter = func(s parley.Store, ctx context.Context, topic, node string, members []parley.Member, lease time.Duration) error {
			_, err := s.Append(ctx, topic+":members", keep(1), messages(1, 1))
			return errors.Join(err, s.Enter(ctx, topic, node, members, lease))
		}
	}},
	{"ignores ctx", "Context/every method honours ctx (F9)", func(b *broken) {
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			return s.Append(context.WithoutCancel(ctx), topic, keep, entries)
		}
	}},
}

// keepsSlices returns the very slices that were given to Append.
func keepsSlices(b *broken) {
	var mu sync.Mutex
	kept := map[string][]byte{}
	b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
		log, err := s.Append(ctx, topic, keep, entries)
		mu.Lock()
		defer mu.Unlock()
		for _, e := range entries {
			kept[fmt.Sprint(topic, e.Offset)] = e.Data
		}
		return log, err
	}
	b.read = func(s parley.Store, ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
		p, err := s.Read(ctx, topic, q)
		mu.Lock()
		defer mu.Unlock()
		for i, e := range p.Entries {
			p.Entries[i].Data = kept[fmt.Sprint(topic, e.Offset)]
		}
		return p, err
	}
}
