package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-go/parley"
)

func fold(s string) string { return strings.ToLower(s) }

// edgesCase catches several flaws.
const edgesCase = "Read/every query at every edge, forward and backward (F65)"

var brokenReads = []flaw{
	{"includes After", edgesCase, query(func(q *parley.Query) {
		if q.Forward && q.After > 0 {
			q.After--
		}
	})},
	{"includes Before", edgesCase, query(func(q *parley.Query) {
		if !q.Forward && q.Before > 0 {
			q.Before++
		}
	})},
	{"takes Before 0 for an offset", edgesCase, query(func(q *parley.Query) {
		if !q.Forward && q.Before == 0 {
			q.Limit = 0
		}
	})},
	{"gives the oldest entries backward", edgesCase, func(b *broken) {
		b.read = func(s parley.Store, ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
			limit := q.Limit
			q.Limit = 1 << 20
			p, err := s.Read(ctx, topic, q)
			p.Entries = p.Entries[:min(limit, len(p.Entries))]
			return p, err
		}
	}},
	{"gives descending offsets backward", edgesCase, page(func(p *parley.Page, q parley.Query) {
		if !q.Forward {
			slices.Reverse(p.Entries)
		}
	})},
	{"gives one entry too many", edgesCase, query(func(q *parley.Query) { q.Limit++ })},
	{"takes Limit 0 for no limit", "Read/gives the bounds only with Limit 0", query(func(q *parley.Query) {
		if q.Limit == 0 {
			q.Limit = 100
		}
	})},
	{"uses Before forward", "Read/the direction not asked for does not count", page(func(p *parley.Page, q parley.Query) {
		p.Entries = slices.DeleteFunc(p.Entries, func(e parley.Entry) bool { return q.Before > 0 && e.Offset >= q.Before })
	})},
	{"has First 0 while there are no entries", "Read/a topic that nothing was appended to has an epoch, First 1 and Top 0",
		page(func(p *parley.Page, _ parley.Query) {
			if p.Top == 0 {
				p.First = 0
			}
		})},
	{"draws an epoch for each Read of an absent topic", "Read/a topic that nothing was appended to has an epoch, First 1 and Top 0", func(b *broken) {
		var n atomic.Int64
		page(func(p *parley.Page, _ parley.Query) {
			if p.Top == 0 {
				p.Epoch = fmt.Sprint(n.Add(1))
			}
		})(b)
	}},
	{"has no epoch before the first Append", "Read/a topic that nothing was appended to has an epoch, First 1 and Top 0",
		page(func(p *parley.Page, _ parley.Query) {
			if p.Top == 0 {
				p.Epoch = ""
			}
		})},
	{"changes the epoch with the first Append", "Append/returns the epoch of the log",
		page(func(p *parley.Page, _ parley.Query) {
			if p.Top == 0 {
				p.Epoch += "-new"
			}
		})},
	{"uses the memory of a page again", "Read/never changes a page that was returned", func(b *broken) {
		var given []parley.Entry
		page(func(p *parley.Page, _ parley.Query) { given = p.Entries })(b)
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			for i := range given {
				given[i].Data = []byte("{}")
			}
			return s.Append(ctx, topic, keep, entries)
		}
	}},
}

var brokenKeys = []flaw{
	{"ignores keys", "Key/an entry with a known key is not stored and gets the first one's offset (F24)",
		given(func(_ *parley.Retention, entries []parley.Entry) {
			for i := range entries {
				entries[i].Key = ""
			}
		})},
	{"ignores keys within a call", "Key/counts within one call too", func(b *broken) {
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			for i := range entries {
				if i > 0 {
					entries[i].Key = ""
				}
			}
			return s.Append(ctx, topic, keep, entries)
		}
	}},
	{"gives duplicates the offset of the newest entry", "Key/duplicates among new entries leave no holes", func(b *broken) {
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			log, err := s.Append(ctx, topic, keep, entries)
			for i, e := range entries {
				if e.Duplicate {
					entries[i].Offset = entries[len(entries)-1].Offset
				}
			}
			return log, err
		}
	}},
	{"stores duplicates that come again", "Key/an Append repeated as a whole has no further effect (F10)", func(b *broken) {
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			log, err := s.Append(ctx, topic, keep, entries)
			for _, e := range entries {
				if e.Duplicate {
					_, _ = s.Append(ctx, topic, keep, messages(1, 1))
				}
			}
			return log, err
		}
	}},
	{"takes the empty key for one", "Key/an empty key is none", given(func(_ *parley.Retention, entries []parley.Entry) {
		for i := range entries {
			entries[i].Key = cmp.Or(entries[i].Key, "none")
		}
	})},
	{"has one space of keys for all topics", "Key/is known in its topic only", globalKeys},
	{"folds the case of keys", "Key/is opaque", given(func(_ *parley.Retention, entries []parley.Entry) {
		for i := range entries {
			entries[i].Key = fold(entries[i].Key)
		}
	})},
	{"remembers keys for a minute", "Key/is remembered for the whole IdempotencyWindow",
		given(func(_ *parley.Retention, entries []parley.Entry) {
			for i := range entries {
				if entries[i].Key != "" {
					entries[i].Key += fmt.Sprint(time.Now().Unix() / 60)
				}
			}
		})},
	{"looks for a key first and stores it then", "Concurrency/a key is stored once, whoever is first (F24)", func(b *broken) {
		var mu sync.Mutex
		known := map[string]bool{}
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			for i := range entries {
				mu.Lock()
				found := known[topic+entries[i].Key]
				mu.Unlock()
				time.Sleep(time.Millisecond)
				if !found {
					mu.Lock()
					known[topic+entries[i].Key] = true
					mu.Unlock()
					entries[i].Key = ""
				}
			}
			return s.Append(ctx, topic, keep, entries)
		}
	}},
	{"keeps the keys of a log that was lost", "Key/in a log that was lost counts as new", func(b *broken) {
		first := map[string]int64{}
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			log, err := s.Append(ctx, topic, keep, entries)
			for i, e := range entries {
				if offset, ok := first[topic+e.Key]; e.Key != "" && ok {
					entries[i].Offset, entries[i].Duplicate = offset, true
				} else {
					first[topic+e.Key] = e.Offset
				}
			}
			return log, err
		}
	}},
}

func globalKeys(b *broken) {
	known := map[string]bool{}
	b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
		log, err := s.Append(ctx, topic, keep, entries)
		for i, e := range entries {
			entries[i].Duplicate = e.Duplicate || e.Key != "" && known[e.Key]
			known[e.Key] = true
		}
		return log, err
	}
}

// roster breaks what Members returns.
func roster(f func(list []parley.Member, count int, limit int) ([]parley.Member, int)) func(b *broken) {
	return func(b *broken) {
		b.members = func(s parley.Store, ctx context.Context, topic string, limit int) ([]parley.Member, int, error) {
			list, count, err := s.Members(ctx, topic, limit)
			list, count = f(list, count, limit)
			return list, count, err
		}
	}
}

// entering breaks what is given to Enter.
func entering(f func(node *string, members []parley.Member, lease *time.Duration)) func(b *broken) {
	return func(b *broken) {
		b.enter = func(s parley.Store, ctx context.Context, topic, node string, members []parley.Member, lease time.Duration) error {
			members = slices.Clone(members)
			f(&node, members, &lease)
			return s.Enter(ctx, topic, node, members, lease)
		}
	}
}

// limitsCase catches several flaws.
const limitsCase = "Presence/Members returns up to limit and counts all"

var brokenRooms = []flaw{
	{"has one entry for a user on several nodes", "Presence/a user on several nodes is there once, until the last Leave (F32)", func(b *broken) {
		entering(func(node *string, _ []parley.Member, _ *time.Duration) { *node = "one" })(b)
		b.leave = func(s parley.Store, ctx context.Context, topic, _ string, ids []string) error {
			return s.Leave(ctx, topic, "one", ids)
		}
	}},
	{"lists a user once for each node", "Presence/a user on several nodes is there once, until the last Leave (F32)", func(b *broken) {
		entering(func(node *string, members []parley.Member, _ *time.Duration) {
			for i := range members {
				members[i].UserID += "@" + *node
			}
		})(b)
		roster(func(list []parley.Member, count, _ int) ([]parley.Member, int) {
			for i := range list {
				list[i].UserID, _, _ = strings.Cut(list[i].UserID, "@")
			}
			return list, count
		})(b)
	}},
	{"never removes anybody", "Presence/Enter records users until Leave", func(b *broken) {
		b.leave = func(parley.Store, context.Context, string, string, []string) error { return nil }
	}},
	{"keeps the first name", "Presence/a repeated Enter replaces the name", func(b *broken) {
		names := map[string]string{}
		entering(func(_ *string, members []parley.Member, _ *time.Duration) {
			for i, m := range members {
				names[m.UserID] = cmp.Or(names[m.UserID], m.Name)
				members[i].Name = names[m.UserID]
			}
		})(b)
	}},
	{"sorts without regard to case", "Presence/Members are in ascending order of user id",
		roster(func(list []parley.Member, count, _ int) ([]parley.Member, int) {
			slices.SortStableFunc(list, func(a, b parley.Member) int { return cmp.Compare(fold(a.UserID), fold(b.UserID)) })
			return list, count
		})},
	{"counts only what it lists", limitsCase, roster(func(list []parley.Member, _, _ int) ([]parley.Member, int) { return list, len(list) })},
	{"lists any users up to the limit", limitsCase, func(b *broken) {
		b.members = func(s parley.Store, ctx context.Context, topic string, limit int) ([]parley.Member, int, error) {
			list, count, err := s.Members(ctx, topic, 1000)
			return list[len(list)-min(limit, len(list)):], count, err
		}
	}},
	{"takes limit 0 for none", limitsCase, func(b *broken) {
		b.members = func(s parley.Store, ctx context.Context, topic string, limit int) ([]parley.Member, int, error) {
			return s.Members(ctx, topic, cmp.Or(limit, 1000))
		}
	}},
	{"has leases without end", "Presence/ends with the lease",
		entering(func(_ *string, _ []parley.Member, lease *time.Duration) { *lease = long })},
	{"has short leases", "Presence/ends with the lease",
		entering(func(_ *string, _ []parley.Member, lease *time.Duration) { *lease /= 5 })},
	{"does not renew a lease", "Presence/a repeated Enter renews the lease", func(b *broken) {
		seen := map[string]bool{}
		b.enter = func(s parley.Store, ctx context.Context, topic, node string, members []parley.Member, lease time.Duration) error {
			members = slices.DeleteFunc(slices.Clone(members), func(m parley.Member) bool { return seen[m.UserID] })
			for _, m := range members {
				seen[m.UserID] = true
			}
			return s.Enter(ctx, topic, node, members, lease)
		}
	}},
	{"takes the longer lease", "Presence/a repeated Enter may shorten the lease", func(b *broken) {
		longest := map[string]time.Duration{}
		b.enter = func(s parley.Store, ctx context.Context, topic, node string, members []parley.Member, lease time.Duration) error {
			longest[topic] = max(longest[topic], lease)
			return s.Enter(ctx, topic, node, members, longest[topic])
		}
	}},
	{"makes Leave of others an error", "Presence/Leave of users that are not there is no error", func(b *broken) {
		b.leave = func(s parley.Store, ctx context.Context, topic, node string, ids []string) error {
			if _, count, _ := s.Members(ctx, topic, 0); count == 0 {
				return fmt.Errorf("no such room")
			}
			return s.Leave(ctx, topic, node, ids)
		}
	}},
	{"lets a Leave overtake", "Model/random calls agree with a simple reference (F64, F65)", func(b *broken) {
		var late []func()
		b.leave = func(s parley.Store, ctx context.Context, topic, node string, ids []string) error {
			late = append(late, func() { _ = s.Leave(ctx, topic, node, ids) })
			if len(late) > 3 {
				late[0]()
				late = late[1:]
			}
			return nil
		}
	}},
}
