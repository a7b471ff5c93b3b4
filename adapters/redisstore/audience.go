package redisstore

import (
	"context"
	"slices"
)

func (s *Store) audience(name string) (tag, key string) {
	tag = kindAudience + encode(name)
	return tag, s.base(tag) + "users"
}

// AddUsers implements [parley.Store].
func (s *Store) AddUsers(ctx context.Context, audience string, userIDs []string) error {
	return s.change(ctx, audience, "zadd", userIDs)
}

// RemoveUsers implements [parley.Store].
func (s *Store) RemoveUsers(ctx context.Context, audience string, userIDs []string) error {
	return s.change(ctx, audience, "zrem", userIDs)
}

// change adds users to an audience, with the same score all, or removes them.
func (s *Store) change(ctx context.Context, audience, verb string, userIDs []string) error {
	tag, key := s.audience(audience)
	var requests []*request
	for part := range slices.Chunk(userIDs, chunk) {
		args := []any{verb, key}
		for _, id := range part {
			if verb == "zadd" {
				args = append(args, 0)
			}
			args = append(args, id)
		}
		requests = append(requests, &request{args: args, size: 50 * len(part)})
	}
	return s.again.doAll(ctx, requests, func(int) string { return tag })
}

// Users implements [parley.Store].
func (s *Store) Users(ctx context.Context, audience, after string, limit int) ([]string, error) {
	tag, key := s.audience(audience)
	r := &request{args: []any{"zrange", key, "(" + after, "+", "BYLEX", "LIMIT", 0, limit}}
	if err := s.again.do(ctx, tag, r); err != nil {
		return nil, err
	}
	var p parser
	list := p.list(r.reply)
	users := make([]string, len(list))
	for i := range list {
		users[i] = p.text(list[i])
	}
	return users, p.err
}
