package redisstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/parley-go/parley"
)

// What is overdue is known to the topics, and an index says when to look at which. Topics and index lie on
// different nodes of a Cluster, so no script changes both. The order in which they are changed, and
// that a topic taken out of the index is looked at once more a minute later, make sure
// that nothing is forgotten, whoever dies in between: see await and lua/take.lua.

// await notes in the index that topic will have something overdue, before it has.
func (s *Store) await(ctx context.Context, topic string, entries []parley.Entry) error {
	first := time.Duration(0)
	for i := range entries {
		if d := entries[i].ReceiveIn; d > 0 && (first == 0 || d < first) {
			first = d
		}
	}
	if first == 0 {
		return ctx.Err()
	}
	return s.note(ctx, "in", map[string]int64{topic: millis(first)})
}

// note puts topics into the index, for times in milliseconds: "in" so many, or "at" these.
func (s *Store) note(ctx context.Context, how string, times map[string]int64) error {
	var shards [overdueShards][]any
	for topic, t := range times {
		shard := overdueShard(topic)
		shards[shard] = append(shards[shard], t, topic)
	}
	_, err := s.index(ctx, scriptAwait, func(shard int) []any {
		if len(shards[shard]) == 0 {
			return nil
		}
		return append([]any{how}, shards[shard]...)
	})
	return err
}

// index runs a script for those parts of the index for which args returns something.
func (s *Store) index(ctx context.Context, sc *script, args func(shard int) []any) (replies map[int]any, err error) {
	var requests []*request
	var shards []int
	for shard := range overdueShards {
		if list := args(shard); list != nil {
			base := s.base(overdueTag(shard))
			keys := []string{base + "topics", base + "again"}
			if sc == scriptAwait {
				keys = keys[:1]
			}
			requests = append(requests, &request{script: sc, keys: keys, args: list})
			shards = append(shards, shard)
		}
	}
	// scriptTake may be repeated, too: what the lost answer would have told is looked at a minute later.
	if err := s.again.doAll(ctx, requests, func(i int) string { return overdueTag(shards[i]) }); err != nil {
		return nil, err
	}
	replies = make(map[int]any, len(requests))
	for i, r := range requests {
		replies[shards[i]] = r.reply
	}
	return replies, nil
}

// overdue is an entry that may be claimed.
type overdue struct {
	topic  string
	offset int64
	since  int64 // in microseconds
}

// Overdue implements [parley.Store].
func (s *Store) Overdue(ctx context.Context, limit int, lease time.Duration) ([]parley.OverdueEntry, error) {
	var all []parley.OverdueEntry
	for len(all) < limit {
		found, more, err := s.claimSome(ctx, limit-len(all), lease)
		all = append(all, found...)
		if err != nil && len(all) == 0 {
			return nil, err
		}
		if err != nil || !more {
			break
		}
	}
	return all, ctx.Err()
}

// claimSome takes topics out of the index, claims what is overdue there, up to limit, and puts the topics back.
// more reports whether it is worth trying again.
func (s *Store) claimSome(ctx context.Context, limit int, lease time.Duration) (found []parley.OverdueEntry, more bool, err error) {
	due, once, err := s.dueTopics(ctx, limit)
	if err != nil {
		return nil, false, err
	}
	if len(due) > 0 {
		if due, err = s.take(ctx, due); err != nil {
			return nil, false, err
		}
	}
	list, err := s.peek(ctx, append(due, once...), limit)
	if err != nil {
		return nil, false, err
	}
	slices.SortStableFunc(list, func(a, b overdue) int {
		return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.topic, b.topic), cmp.Compare(a.offset, b.offset))
	})
	picked := make(map[string][]int64)
	for _, topic := range due {
		picked[topic] = nil // to learn when it has the next one
	}
	for _, topic := range once {
		picked[topic] = nil
	}
	order := make(map[overdue]int)
	for i, o := range list[:min(limit, len(list))] {
		picked[o.topic] = append(picked[o.topic], o.offset)
		o.since = 0
		order[o] = i
	}
	found, next, err := s.claim(ctx, picked, lease)
	if err != nil {
		return nil, false, err
	}
	slices.SortFunc(found, func(a, b parley.OverdueEntry) int {
		return cmp.Compare(order[overdue{topic: a.Topic, offset: a.Entry.Offset}], order[overdue{topic: b.Topic, offset: b.Entry.Offset}])
	})
	// What is found is the caller's, whatever becomes of the rest: that is looked at a minute later.
	if err := s.note(ctx, "at", next); err == nil {
		_ = s.seen(ctx, once)
	}
	return found, len(due)+len(once) > 0, nil
}

// dueTopics returns up to limit topics that may have something overdue, those with the longest overdue first, and
// some that are to be looked at once more.
func (s *Store) dueTopics(ctx context.Context, limit int) (due, once []string, err error) {
	limit = min(limit, chunk)
	replies, err := s.index(ctx, scriptFind, func(int) []any { return []any{limit} })
	if err != nil {
		return nil, nil, err
	}
	type topic struct {
		name string
		at   int64
	}
	var topics []topic
	var p parser
	for shard := range overdueShards {
		list := p.list(replies[shard])
		if len(list) != 2 {
			return nil, nil, errReply
		}
		pairs := p.list(list[0])
		for i := 0; i+1 < len(pairs); i += 2 {
			topics = append(topics, topic{p.text(pairs[i]), p.number(pairs[i+1])})
		}
		for _, name := range p.list(list[1]) {
			once = append(once, p.text(name))
		}
	}
	slices.SortStableFunc(topics, func(a, b topic) int { return cmp.Compare(a.at, b.at) })
	for _, t := range topics[:min(limit, len(topics))] {
		due = append(due, t.name)
	}
	return due, once, p.err
}

// byShard returns the topics of each part of the index, as arguments.
func byShard(topics []string) func(shard int) []any {
	var shards [overdueShards][]any
	for _, topic := range topics {
		shard := overdueShard(topic)
		shards[shard] = append(shards[shard], topic)
	}
	return func(shard int) []any { return shards[shard] }
}

// take takes topics out of the index and returns those that nobody else has taken.
func (s *Store) take(ctx context.Context, topics []string) (mine []string, err error) {
	replies, err := s.index(ctx, scriptTake, byShard(topics))
	if err != nil {
		return nil, err
	}
	var p parser
	for _, reply := range replies {
		for _, topic := range p.list(reply) {
			mine = append(mine, p.text(topic))
		}
	}
	return mine, p.err
}

// seen takes topics out of those to be looked at once more.
func (s *Store) seen(ctx context.Context, topics []string) error {
	of := byShard(topics)
	var requests []*request
	var tags []string
	for shard := range overdueShards {
		if list := of(shard); list != nil {
			tags = append(tags, overdueTag(shard))
			requests = append(requests, &request{args: append([]any{"zrem", s.base(overdueTag(shard)) + "again"}, list...)})
		}
	}
	return s.again.doAll(ctx, requests, func(i int) string { return tags[i] })
}

// peek lists what is overdue in topics, up to limit of each.
func (s *Store) peek(ctx context.Context, topics []string, limit int) (list []overdue, err error) {
	requests, tags := make([]*request, len(topics)), make([]string, len(topics))
	for i, topic := range topics {
		tags[i] = s.tag(topic)
		requests[i] = &request{apart: true, script: scriptDue, keys: s.logKeys(tags[i]), args: []any{limit}}
	}
	if err := s.again.doAll(ctx, requests, func(i int) string { return tags[i] }); err != nil {
		return nil, err
	}
	var p parser
	for i, r := range requests {
		if r.reply == nil {
			continue // the topic cannot be used
		}
		pairs := p.list(r.reply)
		for j := 0; j+1 < len(pairs); j += 2 {
			list = append(list, overdue{topic: topics[i], offset: p.number(pairs[j]), since: p.number(pairs[j+1])})
		}
	}
	return list, p.err
}

// claim puts entries off by lease and returns those that were kept and that nobody else has claimed,
// and for each topic when it has something overdue next.
func (s *Store) claim(ctx context.Context, picked map[string][]int64, lease time.Duration) (found []parley.OverdueEntry, next map[string]int64, err error) {
	var requests []*request
	var topics, tags []string
	for topic, offsets := range picked {
		args := []any{newEpoch(), max(1, millis(min(lease, maxLease)))}
		for _, offset := range offsets {
			args = append(args, offset)
		}
		tag := s.tag(topic)
		topics, tags = append(topics, topic), append(tags, tag)
		requests = append(requests, &request{apart: true, script: scriptClaim, keys: s.logKeys(tag), args: args})
	}
	if err := s.once.doAll(ctx, requests, func(i int) string { return tags[i] }); err != nil {
		return nil, nil, err
	}
	next = make(map[string]int64)
	var p parser
	for i, r := range requests {
		if r.reply == nil {
			continue
		}
		list := p.list(r.reply)
		if len(list) != 3 {
			return nil, nil, errReply
		}
		if at := p.text(list[1]); at != "" {
			next[topics[i]] = p.number(at) / 1000
		}
		for got := p.list(list[2]); len(got) >= 3; got = got[3:] {
			found = append(found, parley.OverdueEntry{
				Topic: topics[i], Epoch: p.text(list[0]), Entry: p.entry(p.number(got[0]), 0, p.text(got[1]), p.text(got[2])),
			})
		}
	}
	return found, next, p.err
}
