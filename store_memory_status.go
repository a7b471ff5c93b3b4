package parley

import (
	"context"
	"math"
	"sync"
	"time"
)

// memoryStatuses remembers who is online and when everybody was seen last.
type memoryStatuses struct {
	mu    sync.Mutex // guards the fields below
	users memoryMap[string, *memoryStatus]
	swept time.Duration
}

type memoryStatus struct {
	nodes       map[string]time.Duration // by node: when the lease ends; nil when there are none
	since, seen time.Duration
}

// end returns when the last of the leases ends.
func (u *memoryStatus) end() time.Duration {
	last := time.Duration(math.MinInt64)
	for _, end := range u.nodes {
		last = max(last, end)
	}
	return last
}

// Connect implements [Store].
func (s *MemoryStore) Connect(ctx context.Context, node string, userIDs []string, lease time.Duration) error {
	if err := ctx.Err(); err != nil || lease <= 0 {
		return err
	}
	now, st := s.now(), &s.statuses
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, id := range userIDs {
		u := st.users.m[id]
		if u == nil {
			u = new(memoryStatus)
			st.users.set(id, u)
		}
		if u.end() <= now {
			u.nodes, u.since = make(map[string]time.Duration, 1), now
		}
		u.nodes[node], u.seen = memoryAfter(now, lease), now
	}
	st.sweep(now)
	return nil
}

// Disconnect implements [Store].
func (s *MemoryStore) Disconnect(ctx context.Context, node string, userIDs []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now, st := s.now(), &s.statuses
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, id := range userIDs {
		u := st.users.m[id]
		if u == nil || u.nodes[node] <= now {
			continue
		}
		u.seen = now
		if delete(u.nodes, node); len(u.nodes) == 0 {
			u.nodes = nil
		}
	}
	return nil
}

// Status implements [Store].
func (s *MemoryStore) Status(ctx context.Context, userIDs []string) ([]UserStatus, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now, st := s.now(), &s.statuses
	st.mu.Lock()
	defer st.mu.Unlock()
	all := make([]UserStatus, len(userIDs))
	for i, id := range userIDs {
		u := st.users.m[id]
		if u == nil {
			continue
		}
		all[i] = UserStatus{LastSeen: s.start.Add(u.seen).UnixMilli(), Online: u.end() > now}
		if all[i].Online {
			all[i].Since = s.start.Add(u.since).UnixMilli()
		}
	}
	return all, nil
}

// sweep forgets, about once an hour, who was not seen for LastSeenWindow.
func (st *memoryStatuses) sweep(now time.Duration) {
	if now-st.swept < time.Hour {
		return
	}
	st.swept = now
	for id, u := range st.users.m {
		if now-u.seen > LastSeenWindow && u.end() <= now {
			delete(st.users.m, id)
		}
	}
	st.users.shrink()
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
