package redisstore

import (
	"context"
	"fmt"

	"github.com/parley-go/parley"
)

// maxPayload is the largest payload that Publish takes. The queues of a hub are far smaller; a
// payload that is larger still is a mistake that would slow down everything else that Redis does.
const maxPayload = 8 << 20

var (
	_ parley.Broker          = (*Store)(nil)
	_ parley.FilteringBroker = (*Store)(nil)
	_ parley.Resetter        = (*Store)(nil)
)

// brokerState is what the Store has for being a Broker.
type brokerState struct {
	receiver *receiver
}

// startBroker prepares; nothing runs before the first Subscribe.
func (s *Store) startBroker() { s.broker.receiver = newReceiver(s.client, s.opts.Logger) }

// stopBroker ends what runs.
func (s *Store) stopBroker() { s.broker.receiver.close() }

// Publish implements [parley.Broker]. A payload has at most 8 MiB. It waits for the answer of Redis; what is published
// meanwhile goes in one round trip. No error means that Redis has sent the payload to those connected; who they were is not told.
func (s *Store) Publish(ctx context.Context, topic string, payload []byte) error {
	if len(payload) > maxPayload {
		return fmt.Errorf("redisstore: a payload to publish has %d bytes, and may have %d: publish less at once", len(payload), maxPayload)
	}
	tag := s.tag(topic)
	return s.once.do(ctx, tag, &request{
		args: []any{s.publishCommand(), s.base(tag) + live, payload},
		size: len(payload) + 64,
	})
}

// Subscribe implements [parley.Broker]. What waits for deliver is bounded, by 10,000 payloads and 32 MiB for one
// subscription, and 256 MiB for all; beyond that all that waits for the subscription is dropped, counted
// (Stats), and told by deliver(nil).
func (s *Store) Subscribe(ctx context.Context, topic string, deliver func(payload []byte)) (unsubscribe func(), err error) {
	return s.broker.receiver.subscribe(ctx, s.channel(topic), nil, deliver)
}

// SubscribeFiltered implements [parley.FilteringBroker].
func (s *Store) SubscribeFiltered(ctx context.Context, topic string, skip func(payload string) bool, deliver func(payload []byte)) (unsubscribe func(), err error) {
	return s.broker.receiver.subscribe(ctx, s.channel(topic), skip, deliver)
}

// Reset implements [parley.Resetter].
func (s *Store) Reset() { s.broker.receiver.reset() }
