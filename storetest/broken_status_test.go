package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/parley-go/parley"
)

// told breaks what Status returns.
func told(f func(list []parley.UserStatus, ids []string) []parley.UserStatus) func(b *broken) {
	return func(b *broken) {
		b.status = func(s parley.Store, ctx context.Context, ids []string) ([]parley.UserStatus, error) {
			list, err := s.Status(ctx, ids)
			return f(list, ids), err
		}
	}
}

// coming breaks what is given to Connect.
func coming(f func(node *string, ids []string, lease *time.Duration) []string) func(b *broken) {
	return func(b *broken) {
		b.connect = func(s parley.Store, ctx context.Context, node string, ids []string, lease time.Duration) error {
			ids = f(&node, slices.Clone(ids), &lease)
			return s.Connect(ctx, node, ids, lease)
		}
	}
}

// leaving breaks what is given to Disconnect.
func leaving(f func(s parley.Store, ctx context.Context, node string, ids []string) error) func(b *broken) {
	return func(b *broken) { b.disconnect = f }
}

// all applies several breaks.
func all(breaks ...func(b *broken)) func(b *broken) {
	return func(b *broken) {
		for _, f := range breaks {
			f(b)
		}
	}
}

const (
	statusOrder  = "Status/is in the order of userIDs, also if some are named twice or not known"
	statusAbsent = "Status/Disconnect of users who are not connected is no error, and not a sign of them"
	statusOwn    = "Status/each node has a lease of its own, and Since outlives that of the first (F23)"
	statusMany   = "Status/of 500 users who come and go together, some named twice"
)

// oneNode has all nodes for the same one.
var oneNode = all(
	coming(func(node *string, ids []string, _ *time.Duration) []string { *node = "one"; return ids }),
	leaving(func(s parley.Store, ctx context.Context, _ string, ids []string) error {
		return s.Disconnect(ctx, "one", ids)
	}))

// stickySince keeps the first Since of each user; Disconnect ends it if that is said.
func stickySince(ends bool) func(b *broken) {
	known := map[string]int64{}
	return all(
		told(func(list []parley.UserStatus, ids []string) []parley.UserStatus {
			for i, u := range list {
				if u.Online && known[ids[i]] == 0 {
					known[ids[i]] = u.Since
				} else if u.Online {
					list[i].Since = known[ids[i]]
				}
			}
			return list
		}),
		leaving(func(s parley.Store, ctx context.Context, node string, ids []string) error {
			for _, id := range ids {
				if ends {
					delete(known, id)
				}
			}
			return s.Disconnect(ctx, node, ids)
		}))
}

// lateDisconnect has a Disconnect come later than the next Connect of the same user.
func lateDisconnect(b *broken) {
	var mu sync.Mutex
	waiting := map[string]func(){}
	b.disconnect = func(s parley.Store, ctx context.Context, node string, ids []string) error {
		mu.Lock()
		defer mu.Unlock()
		for _, id := range ids {
			waiting[id] = func() { _ = s.Disconnect(ctx, node, []string{id}) }
		}
		return nil
	}
	b.connect = func(s parley.Store, ctx context.Context, node string, ids []string, lease time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		err := s.Connect(ctx, node, ids, lease)
		for _, id := range ids {
			if f := waiting[id]; f != nil {
				f()
				delete(waiting, id)
			}
		}
		return err
	}
}

// sinceOfNodesLeft has a Since for each node, and forgets that of nodes that the user has left.
func sinceOfNodesLeft(b *broken) {
	var mu sync.Mutex
	order := map[string][]string{} // id -> nodes
	b.connect = func(s parley.Store, ctx context.Context, node string, ids []string, lease time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		for _, id := range ids {
			order[id] = append(order[id], node)
		}
		return s.Connect(ctx, node, ids, lease)
	}
	b.disconnect = func(s parley.Store, ctx context.Context, node string, ids []string) error {
		mu.Lock()
		defer mu.Unlock()
		for _, id := range ids {
			for i, n := range order[id] {
				if n == node {
					order[id][i] = ""
				}
			}
		}
		return s.Disconnect(ctx, node, ids)
	}
	told(func(list []parley.UserStatus, ids []string) []parley.UserStatus {
		for i := range list {
			list[i].LastSeen += 10
			if list[i].Online {
				list[i].Since += int64(slices.IndexFunc(order[ids[i]], func(n string) bool { return n != "" }))
			}
		}
		return list
	})(b)
}

var brokenStatuses = []flaw{
	{"has seen everybody", "Status/of users who are not known is nothing", told(func(list []parley.UserStatus, _ []string) []parley.UserStatus {
		for i := range list {
			list[i].LastSeen = max(list[i].LastSeen, time.Now().UnixMilli())
		}
		return list
	})},
	{"counts in seconds", "Status/users are online from Connect to Disconnect", told(func(list []parley.UserStatus, _ []string) []parley.UserStatus {
		for i := range list {
			list[i].Since, list[i].LastSeen = list[i].Since/1000, list[i].LastSeen/1000
		}
		return list
	})},
	{"never disconnects anybody", "Status/users are online from Connect to Disconnect",
		leaving(func(parley.Store, context.Context, string, []string) error { return nil })},
	{"keeps Since of who is not online", "Status/users are online from Connect to Disconnect", told(func(list []parley.UserStatus, _ []string) []parley.UserStatus {
		for i, u := range list {
			if !u.Online {
				list[i].Since = u.LastSeen
			}
		}
		return list
	})},
	{"leaves out users who are not known", statusOrder, told(func(list []parley.UserStatus, _ []string) []parley.UserStatus {
		return slices.DeleteFunc(list, func(u parley.UserStatus) bool { return u.LastSeen == 0 })
	})},
	{"answers in another order", statusOrder, func(b *broken) {
		b.status = func(s parley.Store, ctx context.Context, ids []string) ([]parley.UserStatus, error) {
			ids = slices.Clone(ids)
			slices.Sort(ids)
			return s.Status(ctx, ids)
		}
	}},
	{"takes 100 users at once", statusMany, coming(func(_ *string, ids []string, _ *time.Duration) []string { return ids[:min(100, len(ids))] })},
	{"fails over a user named twice", statusMany, func(b *broken) {
		b.connect = func(s parley.Store, ctx context.Context, node string, ids []string, lease time.Duration) error {
			sorted := slices.Sorted(slices.Values(ids))
			if len(slices.Compact(sorted)) < len(ids) {
				return errors.New("cannot affect row a second time")
			}
			return s.Connect(ctx, node, ids, lease)
		}
	}},
	{"fails without users", "Status/Connect and Disconnect of nobody are no error",
		leaving(func(s parley.Store, ctx context.Context, node string, ids []string) error {
			if len(ids) == 0 {
				return errors.New("wrong number of arguments")
			}
			return s.Disconnect(ctx, node, ids)
		})},
	{"makes Disconnect of others an error", statusAbsent, leaving(func(s parley.Store, ctx context.Context, node string, ids []string) error {
		if list, err := s.Status(ctx, ids); err == nil && !list[0].Online {
			return errors.New("not connected")
		}
		return s.Disconnect(ctx, node, ids)
	})},
	{"takes a Disconnect of anybody for a sign", statusAbsent, leaving(func(s parley.Store, ctx context.Context, node string, ids []string) error {
		return errors.Join(s.Connect(ctx, node, ids, time.Minute), s.Disconnect(ctx, node, ids))
	})},
	{"has all nodes for one", "Status/a user on several nodes is online until the last Disconnect, with one Since (F32)", oneNode},
	{"disconnects from all nodes", "Status/a user on several nodes is online until the last Disconnect, with one Since (F32)",
		leaving(func(s parley.Store, ctx context.Context, _ string, ids []string) error {
			return errors.Join(s.Disconnect(ctx, "n1", ids), s.Disconnect(ctx, "n2", ids), s.Disconnect(ctx, "n3", ids))
		})},
	{"takes the newest Connect for Since", "Status/a user on several nodes is online until the last Disconnect, with one Since (F32)",
		told(func(list []parley.UserStatus, _ []string) []parley.UserStatus {
			for i, u := range list {
				if u.Online {
					list[i].Since = u.LastSeen
				}
			}
			return list
		})},
	{"takes Since for LastSeen", "Status/LastSeen is the time of the last Connect or Disconnect", told(func(list []parley.UserStatus, _ []string) []parley.UserStatus {
		for i, u := range list {
			if u.Online {
				list[i].LastSeen = u.Since
			}
		}
		return list
	})},
	{"takes now for LastSeen", "Status/LastSeen is the time of the last Connect or Disconnect", told(func(list []parley.UserStatus, _ []string) []parley.UserStatus {
		for i, u := range list {
			if u.Online {
				list[i].LastSeen = time.Now().UnixMilli()
			}
		}
		return list
	})},
	{"keeps Since for good", "Status/who comes back is online anew", stickySince(false)},
	{"folds the case of users", "Status/users and nodes have opaque names and do not mix (S38)",
		coming(func(_ *string, ids []string, _ *time.Duration) []string {
			for i := range ids {
				ids[i] = fold(ids[i])
			}
			return ids
		})},
	{"takes who is in a room for online", "Status/being in a room and being online do not touch each other", func(b *broken) {
		b.enter = func(s parley.Store, ctx context.Context, topic, node string, members []parley.Member, lease time.Duration) error {
			for _, m := range members {
				_ = s.Connect(ctx, node, []string{m.UserID}, lease)
			}
			return s.Enter(ctx, topic, node, members, lease)
		}
	}},
	{"lets a Disconnect come late", "Status/ends up as the last Connect and Disconnect of each user say (F30)", lateDisconnect},
	{"has the Since of the nodes that are left", "Status/Since is that of the first node, also if several come at once", sinceOfNodesLeft},

	{"has leases without end", "Status/ends with the lease (F23)",
		coming(func(_ *string, ids []string, lease *time.Duration) []string { *lease = long; return ids })},
	{"has short leases", "Status/ends with the lease (F23)",
		coming(func(_ *string, ids []string, lease *time.Duration) []string { *lease /= 5; return ids })},
	{"does not renew a lease", "Status/a repeated Connect renews the lease, and keeps Since", func(b *broken) {
		seen := map[string]bool{}
		coming(func(_ *string, ids []string, _ *time.Duration) []string {
			ids = slices.DeleteFunc(ids, func(id string) bool { return seen[id] })
			for _, id := range ids {
				seen[id] = true
			}
			return ids
		})(b)
	}},
	{"begins anew with each Connect", "Status/a repeated Connect renews the lease, and keeps Since", func(b *broken) {
		b.connect = func(s parley.Store, ctx context.Context, node string, ids []string, lease time.Duration) error {
			return errors.Join(s.Disconnect(ctx, node, ids), s.Connect(ctx, node, ids, lease))
		}
	}},
	{"takes the longer lease", "Status/a repeated Connect may shorten the lease", func(b *broken) {
		var longest time.Duration
		coming(func(_ *string, ids []string, lease *time.Duration) []string {
			longest = max(longest, *lease)
			*lease = longest
			return ids
		})(b)
	}},
	{"has one lease for all nodes", statusOwn, func(b *broken) {
		least := long
		coming(func(node *string, ids []string, lease *time.Duration) []string {
			least = min(least, *lease)
			*lease = least
			return ids
		})(b)
	}},
	{"keeps Since until a Disconnect", "Status/a lease that has ended does not keep Since", stickySince(true)},
	{"forgets after a week", "Status/LastSeen is kept for LastSeenWindow", told(func(list []parley.UserStatus, _ []string) []parley.UserStatus {
		for i, u := range list {
			if !u.Online && time.Now().UnixMilli()-u.LastSeen > (7*24*time.Hour).Milliseconds() {
				list[i] = parley.UserStatus{}
			}
		}
		return list
	})},
	{"lets a Disconnect come late", "Model/random Connects and Disconnects agree with a simple reference (F23, F32)", lateDisconnect},
	{"keeps Since until a Disconnect", "Model/random Connects and Disconnects agree with a simple reference (F23, F32)", stickySince(true)},

	{"ignores ctx", "Context/every method honours ctx (F9)", func(b *broken) {
		b.heads = func(s parley.Store, ctx context.Context, topics []string) ([]parley.Head, error) {
			return s.Heads(context.WithoutCancel(ctx), topics)
		}
	}},
	{"ignores ctx", "Context/every method honours ctx (F9)", func(b *broken) {
		b.connect = func(s parley.Store, ctx context.Context, node string, ids []string, lease time.Duration) error {
			return s.Connect(context.WithoutCancel(ctx), node, ids, lease)
		}
	}},
	{"ignores ctx", "Context/every method honours ctx (F9)", leaving(func(s parley.Store, ctx context.Context, node string, ids []string) error {
		return s.Disconnect(context.WithoutCancel(ctx), node, ids)
	})},
	{"ignores ctx", "Context/every method honours ctx (F9)", func(b *broken) {
		b.status = func(s parley.Store, ctx context.Context, ids []string) ([]parley.UserStatus, error) {
			return s.Status(context.WithoutCancel(ctx), ids)
		}
	}},
}
