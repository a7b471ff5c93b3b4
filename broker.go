package parley

import "context"

// Broker carries messages of a topic to the other nodes. It is a hint, not the
// truth: a Broker may lose, double and reorder what it carries. The hub drops
// doubles by offset, and fills holes from the Store.
//
// All methods may be called concurrently. Topic names are opaque, as in Store.
type Broker interface {
	// Publish hands payload to every node that subscribed to topic; whether
	// the publishing node gets its own payload back is left open (the hub
	// ignores it). An error means that other nodes may not have got it; it
	// does not undo anything. Publish may keep payload: it is not changed.
	Publish(ctx context.Context, topic string, payload []byte) error

	// Subscribe starts calling deliver with the payloads of topic. When it
	// returns without an error, every payload published from then on by any
	// node is underway. The calls for one subscription come one at a time.
	// deliver returns quickly and must not be given a payload that changes later.
	// ctx bounds the call, not the subscription.
	//
	// The returned function ends the subscription: after it returned no
	// further deliver starts. It does not wait for a running one, may be
	// called from within deliver, and more than once.
	Subscribe(ctx context.Context, topic string, deliver func(payload []byte)) (unsubscribe func(), err error)
}
