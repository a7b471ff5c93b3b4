package redisstore

import (
	"context"
	"slices"
	"time"

	"github.com/parley-go/parley"
)

// chunk is how many users one script deals with at most: nothing else runs meanwhile.
const chunk = 500

// maxLease keeps times within what scripts compute exactly.
const maxLease = 100 * 365 * 24 * time.Hour

func (s *Store) roomKeys(tag string) []string {
	base := s.base(tag)
	return []string{base + "members", base + "users", base + "leases", base + "ends", base + "log"}
}

// Enter implements [parley.Store].
func (s *Store) Enter(ctx context.Context, topic, node string, members []parley.Member, lease time.Duration) error {
	if lease <= 0 {
		return ctx.Err()
	}
	tag := s.tag(topic)
	keys := s.roomKeys(tag)
	var requests []*request
	for part := range slices.Chunk(members, chunk) {
		args := make([]any, 0, 2+2*len(part))
		args = append(args, node, millis(min(lease, maxLease)))
		for _, m := range part {
			args = append(args, m.UserID, m.Name)
		}
		requests = append(requests, &request{script: scriptEnter, keys: keys, args: args, size: 100 * len(part)})
	}
	return s.again.doAll(ctx, requests, func(int) string { return tag })
}

// Leave implements [parley.Store].
func (s *Store) Leave(ctx context.Context, topic, node string, userIDs []string) error {
	tag := s.tag(topic)
	keys := s.roomKeys(tag)
	var requests []*request
	for part := range slices.Chunk(userIDs, chunk) {
		args := []any{node}
		for _, id := range part {
			args = append(args, id)
		}
		requests = append(requests, &request{script: scriptLeave, keys: keys, args: args, size: 50 * len(part)})
	}
	return s.again.doAll(ctx, requests, func(int) string { return tag })
}

// Members implements [parley.Store].
func (s *Store) Members(ctx context.Context, topic string, limit int) ([]parley.Member, int, error) {
	tag := s.tag(topic)
	reply, err := s.again.call(ctx, tag, scriptMembers, s.roomKeys(tag), max(limit, 0))
	if err != nil {
		return nil, 0, err
	}
	list, ok := reply.([]any)
	if !ok || len(list) != 2 {
		return nil, 0, errReply
	}
	var p parser
	count, pairs := p.number(list[0]), p.list(list[1])
	var members []parley.Member
	for i := 0; i+1 < len(pairs); i += 2 {
		members = append(members, parley.Member{UserID: p.text(pairs[i]), Name: p.text(pairs[i+1])})
	}
	return members, int(count), p.err
}
