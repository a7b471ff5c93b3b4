package parley

import (
	"math"
	"slices"
	"strings"
	"time"
)

// memoryRoom is the presence of a topic. It is guarded by the topic's mu.
type memoryRoom struct {
	// users holds the leases of each user, the one entered last at the end.
	// They are one or two: a user's nodes.
	users memoryMap[string, []memoryLease]
	// ends is a time before which no lease ends. Renewing leases makes it too
	// early, and looking through the room brings it up to date again. So
	// nothing needs ordering by time, and as long as leases are renewed
	// the room is looked through less than once per lease.
	ends time.Duration
}

type memoryLease struct {
	node, name string
	end        time.Duration
}

func (r *memoryRoom) empty() bool { return len(r.users.m) == 0 }

func (r *memoryRoom) enter(now time.Duration, node string, members []Member, lease time.Duration) {
	end := memoryAfter(now, lease)
	if r.empty() || end < r.ends {
		r.ends = end
	}
	for _, m := range members {
		l := memoryLease{node: node, name: m.Name, end: end}
		leases := r.users.m[m.UserID]
		i := slices.IndexFunc(leases, func(l memoryLease) bool { return l.node == node })
		if i < 0 {
			r.users.set(m.UserID, append(leases, l))
			continue
		}
		copy(leases[i:], leases[i+1:])
		leases[len(leases)-1] = l
	}
}

// memoryAfter is the time d after now, or the latest that there is.
func memoryAfter(now, d time.Duration) time.Duration {
	return now + min(d, math.MaxInt64-max(now, 0))
}

func (r *memoryRoom) leave(node string, userIDs []string) {
	for _, id := range userIDs {
		r.keep(id, func(l memoryLease) bool { return l.node != node })
	}
	r.users.shrink()
}

// expire removes the leases that have run out.
func (r *memoryRoom) expire(now time.Duration) {
	if r.empty() || now < r.ends {
		return
	}
	r.ends = math.MaxInt64
	for id := range r.users.m {
		r.keep(id, func(l memoryLease) bool {
			if l.end <= now {
				return false
			}
			r.ends = min(r.ends, l.end)
			return true
		})
	}
	r.users.shrink()
}

// keep removes the leases of a user for which ok is false, and the user with
// the last one. The caller shrinks r.users afterwards.
func (r *memoryRoom) keep(id string, ok func(memoryLease) bool) {
	before := r.users.m[id]
	leases := slices.DeleteFunc(before, func(l memoryLease) bool { return !ok(l) })
	switch len(leases) {
	case len(before):
	case 0:
		delete(r.users.m, id)
	default:
		r.users.m[id] = leases
	}
}

// list returns the first users in ascending order of id, and the number of all.
func (r *memoryRoom) list(now time.Duration, limit int) ([]Member, int) {
	r.expire(now)
	count := len(r.users.m)
	limit = min(limit, count)
	if limit <= 0 {
		return nil, count
	}
	// The smallest ids seen so far are the first ones of found; it is sorted
	// and cut when twice as many have come together. In a large room nearly
	// every user is passed over after one comparison.
	found := make([]Member, 0, min(2*limit, count))
	cut := func() {
		slices.SortFunc(found, func(a, b Member) int { return strings.Compare(a.UserID, b.UserID) })
		found = found[:min(limit, len(found))]
	}
	full := false
	for id, leases := range r.users.m {
		if full && id > found[limit-1].UserID {
			continue
		}
		if len(found) == cap(found) {
			cut()
			full = true
		}
		found = append(found, Member{UserID: id, Name: leases[len(leases)-1].name})
	}
	cut()
	return found, count
}
