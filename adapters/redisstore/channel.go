package redisstore

import (
	"context"
	"time"
)

// live is what the name of a channel ends with.
const live = "live"

// channel is the channel that carries the payloads of topic. It has the hash
// tag of the topic's keys, so that a script may publish to it where pub/sub is sharded.
func (s *Store) channel(topic string) string { return s.base(s.tag(topic)) + live }

// sharded reports whether SPUBLISH takes the place of PUBLISH. While a Cluster cannot be
// asked it is false, soon; what is published then reaches nobody, as it would not anyway.
func (s *Store) sharded() bool {
	r := s.broker.receiver
	if _, ok := r.client.(router); !ok {
		return false
	}
	if known := r.mode.answer.Load(); known != nil {
		return *known
	}
	ctx, cancel := context.WithTimeout(r.ctx, time.Second)
	defer cancel()
	sharded, err := r.sharded(ctx)
	return err == nil && sharded
}
