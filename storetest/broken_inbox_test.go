package storetest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/parley-go/parley"
)

// awaiting breaks ReceiveIn and the like of what is given to Append.
func awaiting(f func(e *parley.Entry)) func(b *broken) {
	return given(func(_ *parley.Retention, entries []parley.Entry) {
		for i := range entries {
			f(&entries[i])
		}
	})
}

// late breaks what is given to Overdue, and what it returns.
func late(ask func(limit *int, lease *time.Duration), answer func(list []parley.OverdueEntry)) func(b *broken) {
	return func(b *broken) {
		b.overdue = func(s parley.Store, ctx context.Context, limit int, lease time.Duration) ([]parley.OverdueEntry, error) {
			if ask != nil {
				ask(&limit, &lease)
			}
			list, err := s.Overdue(ctx, limit, lease)
			if answer != nil {
				answer(list)
			}
			return list, err
		}
	}
}

// deaf ignores one kind of mark.
func deaf(as parley.MarkAs) func(b *broken) {
	return marking(func(m *parley.Mark, _ parley.Page) {
		if m.As == as {
			*m = parley.Mark{As: as}
		}
	})
}

// remembering lets Overdue return, once, also those of all entries ever given to Append that which picks.
func remembering(which func(e parley.Entry, page parley.Page) bool) func(b *broken) {
	return func(b *broken) {
		var all []parley.OverdueEntry
		b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
			log, err := s.Append(ctx, topic, keep, entries)
			for _, e := range entries {
				if e.ReceiveIn > 0 {
					all = append(all, parley.OverdueEntry{Topic: topic, Epoch: log.Epoch, Entry: e})
				}
			}
			return log, err
		}
		b.overdue = func(s parley.Store, ctx context.Context, limit int, lease time.Duration) ([]parley.OverdueEntry, error) {
			list, err := s.Overdue(ctx, limit, lease)
			for _, o := range all {
				if page, _ := s.Read(ctx, o.Topic, parley.Query{}); which(o.Entry, page) {
					list = append(list, o)
				}
			}
			all = nil
			return list, err
		}
	}
}

const (
	whenCase     = "Overdue/returns entries when their ReceiveIn has passed, not before"
	leaseCase    = "Overdue/puts what it returns off by the lease, for all nodes"
	orderDueCase = "Overdue/returns the oldest first, up to limit"
	receivedCase = "Overdue/an entry that was received, read or archived is not returned"
)

var brokenTimers = []flaw{
	{"counts ReceiveIn three times as fast", whenCase, awaiting(func(e *parley.Entry) { e.ReceiveIn /= 3 })},
	{"counts ReceiveIn at half the speed", whenCase, awaiting(func(e *parley.Entry) { e.ReceiveIn *= 2 })},
	{"awaits only what counts as unread", whenCase, awaiting(func(e *parley.Entry) {
		if !e.Unread {
			e.ReceiveIn = 0
		}
	})},
	{"awaits everything", whenCase, awaiting(func(e *parley.Entry) { e.ReceiveIn = cmp.Or(e.ReceiveIn, 1) })},
	{"tells no data of what is overdue", whenCase, late(nil, func(list []parley.OverdueEntry) {
		for i := range list {
			list[i].Entry.Data = nil
		}
	})},
	{"tells no epoch of what is overdue", whenCase, late(nil, func(list []parley.OverdueEntry) {
		for i := range list {
			list[i].Epoch = ""
		}
	})},
	{"forgets the lease", leaseCase, late(func(_ *int, lease *time.Duration) { *lease = 1 }, nil)},
	{"has short leases for what is overdue", leaseCase, late(func(_ *int, lease *time.Duration) { *lease /= 3 }, nil)},
	{"tells what is overdue only once", leaseCase, late(func(_ *int, lease *time.Duration) { *lease = long }, nil)},
	{"ignores the limit of Overdue", orderDueCase, late(func(limit *int, _ *time.Duration) { *limit = 1000 }, nil)},
	{"returns the newest of what is overdue first", orderDueCase, late(nil, func(list []parley.OverdueEntry) { slices.Reverse(list) })},
	{"returns what is overdue in the order of topics", orderDueCase, late(nil, func(list []parley.OverdueEntry) {
		slices.SortStableFunc(list, func(a, b parley.OverdueEntry) int { return cmp.Compare(a.Topic, b.Topic) })
	})},
	{"returns what was received", receivedCase, deaf(parley.MarkReceived)},
	{"returns what was read", receivedCase, deaf(parley.MarkRead)},
	{"returns what was archived", receivedCase, deaf(parley.MarkArchived)},
	{"takes what was received in another epoch for received", receivedCase, marking(func(m *parley.Mark, _ parley.Page) { m.Epoch = "" })},
	{"takes unread for received", "Overdue/an entry that is marked as unread is returned, unless it was received before",
		twice(parley.MarkUnread, parley.MarkReceived)},
	{"awaits duplicates again", "Overdue/a duplicate is not awaited again (F10)",
		remembering(func(e parley.Entry, _ parley.Page) bool { return e.Duplicate })},
	{"returns what has left the log", "Overdue/entries that left the log are not returned",
		remembering(func(e parley.Entry, page parley.Page) bool { return e.Offset < page.First })},
	{"returns what has expired", "Overdue/entries whose TTL has passed are not returned", awaiting(func(e *parley.Entry) { e.TTL = 0 })},
	{"awaits nothing for longer than a day", "Overdue/entries are awaited for days", awaiting(func(e *parley.Entry) {
		e.ReceiveIn = min(e.ReceiveIn, 24*time.Hour)
	})},
	{"looks for what is overdue and puts it off then", "Overdue/each entry goes to one of the nodes, and after the lease to one again (F23)", func(b *broken) {
		b.overdue = func(s parley.Store, ctx context.Context, limit int, lease time.Duration) ([]parley.OverdueEntry, error) {
			list, err := s.Overdue(ctx, limit, 1)
			if err != nil {
				return list, err
			}
			time.Sleep(time.Millisecond)
			_, err = s.Overdue(ctx, limit, lease)
			return list, err
		}
	}},
	{"ignores ctx in Overdue", "Context/every method honours ctx (F9)", func(b *broken) {
		b.overdue = func(s parley.Store, ctx context.Context, limit int, lease time.Duration) ([]parley.OverdueEntry, error) {
			return s.Overdue(context.WithoutCancel(ctx), limit, lease)
		}
	}},
}

// everyone lists an audience.
func everyone(s parley.Store, ctx context.Context, audience string) []string {
	list, _ := s.Users(ctx, audience, "", 100_000)
	return list
}

var brokenAudiences = []flaw{
	{"makes it an error to remove from nothing", "Audience/that nobody was added to is empty", func(b *broken) {
		b.remove = func(s parley.Store, ctx context.Context, audience string, ids []string) error {
			if len(everyone(s, ctx, audience)) == 0 {
				return errors.New("no such audience")
			}
			return s.RemoveUsers(ctx, audience, ids)
		}
	}},
	{"lets nobody go", "Audience/users are in it from AddUsers to RemoveUsers", func(b *broken) {
		b.remove = func(parley.Store, context.Context, string, []string) error { return nil }
	}},
	{"replaces an audience instead of adding to it", "Audience/users are in it from AddUsers to RemoveUsers", func(b *broken) {
		b.add = func(s parley.Store, ctx context.Context, audience string, ids []string) error {
			return errors.Join(s.RemoveUsers(ctx, audience, everyone(s, ctx, audience)), s.AddUsers(ctx, audience, ids))
		}
	}},
	{"has users in no order", "Audience/Users are in ascending byte order", func(b *broken) {
		b.users = func(s parley.Store, ctx context.Context, audience, after string, limit int) ([]string, error) {
			list, err := s.Users(ctx, audience, after, limit)
			slices.SortStableFunc(list, func(a, b string) int { return cmp.Compare(fold(a), fold(b)) })
			return list, err
		}
	}},
	{"begins with after itself", "Audience/after need not be in it", func(b *broken) {
		b.users = func(s parley.Store, ctx context.Context, audience, after string, limit int) ([]string, error) {
			all := everyone(s, ctx, audience)
			i, _ := slices.BinarySearch(all, after)
			return all[i:min(len(all), i+limit)], nil
		}
	}},
	{"knows no after that is not in it", "Audience/after need not be in it", func(b *broken) {
		b.users = func(s parley.Store, ctx context.Context, audience, after string, limit int) ([]string, error) {
			if after != "" && !slices.Contains(everyone(s, ctx, audience), after) {
				return nil, nil
			}
			return s.Users(ctx, audience, after, limit)
		}
	}},
	{"counts pages by position", "Audience/pages miss nobody who stays while others come and go", func(b *broken) {
		position := map[string]int{} // of the last user of a page when it was read
		b.users = func(s parley.Store, ctx context.Context, audience, after string, limit int) ([]string, error) {
			all := everyone(s, ctx, audience)
			from := min(position[after], len(all))
			to := min(from+limit, len(all))
			if to > from {
				position[all[to-1]] = to
			}
			return all[from:to], nil
		}
	}},
	{"takes 500 users at a time", "Audience/of thousands of users, in pages", func(b *broken) {
		b.add = func(s parley.Store, ctx context.Context, audience string, ids []string) error {
			return s.AddUsers(ctx, audience, ids[:min(500, len(ids))])
		}
	}},
	{"folds the case of audiences", "Audience/names are opaque and kept apart from each other (S10, S38)", func(b *broken) {
		b.add = func(s parley.Store, ctx context.Context, audience string, ids []string) error {
			return s.AddUsers(ctx, fold(audience), ids)
		}
		b.users = func(s parley.Store, ctx context.Context, audience, after string, limit int) ([]string, error) {
			return s.Users(ctx, fold(audience), after, limit)
		}
	}},
	{"sorts the users given", "Audience/neither keeps nor changes the slices given", func(b *broken) {
		b.add = func(s parley.Store, ctx context.Context, audience string, ids []string) error {
			slices.Sort(ids)
			return s.AddUsers(ctx, audience, ids)
		}
	}},
	{"keeps audiences in rooms", "Audience/a topic, a room and an audience of one name do not touch each other", func(b *broken) {
		b.add = func(s parley.Store, ctx context.Context, audience string, ids []string) error {
			return errors.Join(s.Enter(ctx, audience, "n", users(ids...), long), s.AddUsers(ctx, audience, ids))
		}
	}},
}

var brokenRaces = []flaw{
	{"marks first and counts then", "Race/Marks and Appends of all nodes make one count (F33)", func(b *broken) {
		b.mark = func(s parley.Store, ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
			got, err := s.Mark(ctx, topic, m)
			time.Sleep(time.Millisecond)
			page, _ := s.Read(ctx, topic, parley.Query{})
			got.Unread = page.Unread
			return got, err
		}
	}},
	{"compares with what was read before", "Race/each change is told by one Mark only", func(b *broken) {
		b.mark = func(s parley.Store, ctx context.Context, topic string, m parley.Mark) (parley.Marked, error) {
			page, _ := s.Read(ctx, topic, standings)
			had := append(numbersIn(page.Read), numbersIn(page.Archived)...)
			time.Sleep(time.Millisecond)
			got, err := s.Mark(ctx, topic, m)
			picked := append(span(1, m.UpTo), m.Offsets...)
			slices.Sort(picked)
			picked = slices.DeleteFunc(slices.Compact(picked), func(n int64) bool { return slices.Contains(had, n) })
			got.Changed = spansOf(picked...)
			return got, err
		}
	}},
	{"writes an audience back as it was read", "Race/audiences end up as the last change of each user says", func(b *broken) {
		b.add = func(s parley.Store, ctx context.Context, audience string, ids []string) error {
			list := append(everyone(s, ctx, audience), ids...)
			time.Sleep(time.Millisecond)
			return errors.Join(s.RemoveUsers(ctx, audience, everyone(s, ctx, audience)), s.AddUsers(ctx, audience, list))
		}
	}},
	{"counts an entry twice that is picked twice", "Model/random marks agree with a simple reference (F27, F33)", func(b *broken) {
		marked(func(got *parley.Marked, m parley.Mark) {
			if m.As == parley.MarkRead && len(m.Offsets) > 0 && m.Offsets[0] <= m.UpTo && len(got.Changed) > 0 {
				got.Unread--
			}
		})(b)
	}},
	{"forgets at times that an entry was read", "Model/random marks agree with a simple reference (F27, F33)", page(func(p *parley.Page, _ parley.Query) {
		if len(p.Read) > 5 {
			p.Read = p.Read[1:]
		}
	})},
	{"takes back a Version", "Model/random marks agree with a simple reference (F27, F33)", page(func(p *parley.Page, _ parley.Query) {
		if p.Version%7 == 6 {
			p.Version--
		}
	})},
}
