package parley

import (
	"context"
	"slices"
	"sync"
	"time"
)

// memoryStatusSweep is how many users each user of a Connect has looked at for being forgotten. With two, there
// are never many more than were seen within LastSeenWindow.
const memoryStatusSweep = 2

// memoryStatuses remembers who is online and when everybody was seen last. One mutex is enough: a Connect of 500
// users, which comes every 20 s from each node, holds it for a tenth of a millisecond.
type memoryStatuses struct {
	mu    sync.Mutex // guards the fields below; taken alone
	users memoryMap[string, *memoryStatus]
	// A ring of all users in the order in which they were seen, so that who is to be forgotten is found
	// without looking at the others. next of this one was seen longest ago.
	ring memoryStatus
}

type memoryStatus struct {
	id          string
	prev, next  *memoryStatus
	leases      []memoryNode // those of a node are there once; some may have ended
	since, seen time.Duration
}

// memoryNode is a lease on a node.
type memoryNode struct {
	node string
	end  time.Duration
}

// online drops the leases that have ended, and reports whether any is left.
func (u *memoryStatus) online(now time.Duration) bool {
	u.leases = slices.DeleteFunc(u.leases, func(l memoryNode) bool { return l.end <= now })
	if len(u.leases) == 0 {
		u.leases = nil // most users are not online
	}
	return u.leases != nil
}

// renew replaces the lease on a node.
func (u *memoryStatus) renew(node string, end time.Duration) {
	for i := range u.leases {
		if u.leases[i].node == node {
			u.leases[i].end = end
			return
		}
	}
	// Most users have a single lease: no room for more.
	u.leases = append(slices.Clip(u.leases), memoryNode{node, end})
}

// Connect implements [Store].
func (s *MemoryStore) Connect(ctx context.Context, node string, userIDs []string, lease time.Duration) error {
	if err := ctx.Err(); err != nil || lease <= 0 {
		return err
	}
	st := &s.statuses
	st.mu.Lock()
	defer st.mu.Unlock()
	now := s.now() // under the lock, so that the ring is in order
	for _, id := range userIDs {
		u := st.users.m[id]
		if u == nil {
			u = &memoryStatus{id: id}
			st.users.set(id, u)
		}
		if !u.online(now) {
			u.since = now
		}
		u.renew(node, memoryAfter(now, lease))
		st.see(u, now)
		st.sweep(now)
	}
	return nil
}

// Disconnect implements [Store].
func (s *MemoryStore) Disconnect(ctx context.Context, node string, userIDs []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	st := &s.statuses
	st.mu.Lock()
	defer st.mu.Unlock()
	now := s.now()
	for _, id := range userIDs {
		u := st.users.m[id]
		if u == nil || !u.online(now) {
			continue
		}
		n := len(u.leases)
		u.leases = slices.DeleteFunc(u.leases, func(l memoryNode) bool { return l.node == node })
		if len(u.leases) < n {
			st.see(u, now)
		}
	}
	return nil
}

// Status implements [Store].
func (s *MemoryStore) Status(ctx context.Context, userIDs []string) ([]UserStatus, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	st := &s.statuses
	st.mu.Lock()
	defer st.mu.Unlock()
	now := s.now()
	all := make([]UserStatus, len(userIDs))
	for i, id := range userIDs {
		u := st.users.m[id]
		if u == nil {
			continue
		}
		all[i] = UserStatus{LastSeen: s.start.Add(u.seen).UnixMilli(), Online: u.online(now)}
		if all[i].Online {
			all[i].Since = s.start.Add(u.since).UnixMilli()
		}
	}
	return all, nil
}

// see records that u was seen. The caller holds st.mu.
func (st *memoryStatuses) see(u *memoryStatus, now time.Duration) {
	u.seen = now
	st.moveToEnd(u)
}

func (st *memoryStatuses) moveToEnd(u *memoryStatus) {
	end := &st.ring
	if end.next == nil {
		end.prev, end.next = end, end
	}
	if u.next != nil {
		u.unlink()
	}
	u.prev, u.next = end.prev, end
	u.prev.next, end.prev = u, u
}

func (u *memoryStatus) unlink() { u.prev.next, u.next.prev = u.next, u.prev }

// sweep forgets some of those who were not seen for LastSeenWindow. The caller holds st.mu.
func (st *memoryStatuses) sweep(now time.Duration) {
	for range memoryStatusSweep {
		u := st.ring.next
		if u == &st.ring || now-u.seen <= LastSeenWindow {
			return
		}
		if u.online(now) {
			st.moveToEnd(u) // has a lease longer than the window
			continue
		}
		u.unlink()
		st.users.delete(u.id)
	}
}

// Heads implements [Store].
func (s *MemoryStore) Heads(ctx context.Context, topics []string) ([]Head, error) {
	heads := make([]Head, len(topics))
	for i, topic := range topics {
		page, err := s.Read(ctx, topic, Query{})
		if err != nil {
			return nil, err
		}
		heads[i] = Head{Log: page.Log, Top: page.Top}
	}
	return heads, ctx.Err()
}
