package redisstore

import (
	"context"
	"time"

	"github.com/parley-go/parley"
)

// Connect implements [parley.Store].
func (s *Store) Connect(ctx context.Context, node string, userIDs []string, lease time.Duration) error {
	if lease <= 0 {
		return ctx.Err()
	}
	_, err := s.status(ctx, "connect", node, userIDs, lease)
	return err
}

// Disconnect implements [parley.Store].
func (s *Store) Disconnect(ctx context.Context, node string, userIDs []string) error {
	_, err := s.status(ctx, "disconnect", node, userIDs, 0)
	return err
}

// Status implements [parley.Store].
func (s *Store) Status(ctx context.Context, userIDs []string) ([]parley.UserStatus, error) {
	requests, err := s.status(ctx, "status", "", userIDs, 0)
	if err != nil {
		return nil, err
	}
	all := make([]parley.UserStatus, len(userIDs))
	var p parser
	for i, r := range requests {
		if r.reply == nil {
			continue // the key is another application's
		}
		list := p.list(r.reply)
		if len(list) != 3 {
			return nil, errReply
		}
		all[i] = parley.UserStatus{Online: p.number(list[0]) == 1, Since: p.number(list[1]), LastSeen: p.number(list[2])}
	}
	return all, p.err
}

// status runs lua/status.lua for each user: each has a key of its own, so that a Cluster spreads them.
func (s *Store) status(ctx context.Context, what, node string, userIDs []string, lease time.Duration) ([]*request, error) {
	requests, tags := make([]*request, len(userIDs)), make([]string, len(userIDs))
	for i, id := range userIDs {
		tags[i] = kindUser + encode(id)
		requests[i] = &request{
			apart:  what == "status",
			script: scriptStatus, keys: []string{s.base(tags[i]) + "status"},
			args: []any{what, node, millis(min(lease, maxLease)), parley.LastSeenWindow.Milliseconds()},
		}
	}
	return requests, s.again.doAll(ctx, requests, func(i int) string { return tags[i] })
}
