package redisstore

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-go/parley"
)

// touchBefore is how long before its end a log that is asked for gets more time; lua/log.lua has the same.
const touchBefore = 30 * time.Minute

// Heads implements [parley.Store]. It is one round trip, unless something has grown too old since the last write.
func (s *Store) Heads(ctx context.Context, topics []string) ([]parley.Head, error) {
	if len(topics) == 0 {
		return nil, ctx.Err()
	}
	heads := make([]parley.Head, len(topics))
	all := make([]int, len(topics))
	for i := range all {
		all[i] = i
	}
	if _, ok := s.client.(*redis.ClusterClient); ok {
		return heads, s.readHeads(ctx, topics, all, heads) // each node has a clock and a history of its own
	}
	unsure, err := s.lookHeads(ctx, topics, heads)
	if err != nil {
		return nil, err
	}
	if err := s.readHeads(ctx, topics, unsure, heads); err != nil {
		return nil, err
	}
	return heads, nil
}

// lookHeads fills in heads by the fields of the logs alone, which takes a quarter of the time of a Read. It returns
// the indexes of those for which that is not enough.
func (s *Store) lookHeads(ctx context.Context, topics []string, heads []parley.Head) (unsure []int, err error) {
	requests, tags := make([]*request, len(topics)), make([]string, len(topics))
	for i, topic := range topics {
		tags[i] = s.tag(topic)
		requests[i] = &request{apart: true, args: []any{
			"hmget", s.base(tags[i]) + "log", "epoch", "top", "unread", "changes", "truncated", "stale", "dies", "server",
		}}
	}
	clock, info := &request{args: []any{"time"}}, &request{args: []any{"info", "replication"}, optional: true}
	requests = append(requests, clock, info)
	if err := s.again.doAll(ctx, requests, func(i int) string { return tags[min(i, len(tags)-1)] }); err != nil {
		return nil, err
	}
	var p parser
	seconds := p.list(clock.reply)
	if len(seconds) != 2 {
		return nil, errReply
	}
	now := p.number(seconds[0])*1000 + p.number(seconds[1])/1000
	history := historyOf(info.reply)
	for i := range topics {
		sure := false
		if requests[i].reply == nil {
			continue // the topic cannot be used
		}
		if heads[i], sure = p.head(requests[i].reply, now, history); !sure {
			unsure = append(unsure, i)
		}
	}
	return unsure, p.err
}

// historyOf does what server does in lua/log.lua.
func historyOf(reply any) string {
	info, _ := reply.(string)
	for line := range strings.Lines(info) {
		if id, ok := strings.CutPrefix(line, "master_replid:"); ok {
			return strings.TrimSpace(id)
		}
	}
	return ""
}

// head makes a Head of some fields of a log. sure reports whether it is right at the time now on a server with this history,
// and the log needs nothing done to live on.
func (p *parser) head(reply any, now int64, history string) (head parley.Head, sure bool) {
	fields := p.list(reply)
	if len(fields) != 8 {
		p.err = errReply
		return head, false
	}
	if fields[0] == nil {
		return head, true // the zero Head: nothing was appended
	}
	head.Epoch, head.Top = p.text(fields[0]), p.number(fields[1])
	head.Unread, head.Version, head.Truncated = int(p.number(fields[2])), head.Top+p.number(fields[3]), p.number(fields[4])
	stale, dies := p.number(fields[5]), p.number(fields[6])
	sure = (head.Unread == 0 || stale == 0 || now < stale) && (dies == 0 || now < dies-touchBefore.Milliseconds())
	return head, sure && p.text(fields[7]) == history
}

// readHeads fills in the heads with some indexes by reading the logs.
func (s *Store) readHeads(ctx context.Context, topics []string, which []int, heads []parley.Head) error {
	requests, tags := make([]*request, len(which)), make([]string, len(which))
	for i, n := range which {
		tags[i] = s.tag(topics[n])
		requests[i] = &request{apart: true, script: scriptRead, keys: s.logKeys(tags[i]), args: []any{newEpoch(), "b", 0, 0, 0}}
	}
	if err := s.again.doAll(ctx, requests, func(i int) string { return tags[i] }); err != nil {
		return err
	}
	for i, n := range which {
		if requests[i].reply == nil {
			continue
		}
		page, err := parsePage(requests[i].reply)
		if err != nil {
			return err
		}
		heads[n] = parley.Head{Log: page.Log, Top: page.Top}
	}
	return nil
}
