package parley

import "context"

// Broker carries messages of a topic to the other nodes. It is a hint, not the
// truth: a Broker may lose, double and reorder what it carries. The hub drops
// doubles by offset, puts in order what is early, and fills holes from the Store. What comes last
// before a silence it finds there within Options.SyncInterval.
//
// All methods may be called concurrently. Topic names are opaque, as in Store. A
// Broker limits neither: payloads are up to some MiB (Options.QueueSize).
type Broker interface {
	// Publish hands payload to every node that subscribed to topic, the
	// publishing one included (by which the hub knows that it arrives; what else is its own it
	// ignores). An error means that other nodes may not have got it; it
	// does not undo anything. Publish may keep payload: it is not changed. It
	// returns soon after ctx ended; should the Broker be slow, the caller is to feel it.
	Publish(ctx context.Context, topic string, payload []byte) error

	// Subscribe starts calling deliver with the payloads of topic. When it
	// returns without an error, every payload published from then on by any
	// node is underway. The calls for one subscription come one at a time.
	// deliver returns quickly, does not change the payload, and must not be given one that changes later.
	// ctx bounds the call, not the subscription, which outlives losses of the connection: the Broker connects and
	// subscribes again by itself, for ever.
	//
	// A Broker that knows that payloads of topic may have been lost, because it was disconnected or
	// could not keep up, calls deliver(nil) as soon as it is subscribed again; the hub then asks the Store.
	//
	// The returned function ends the subscription: after it returned no
	// further deliver starts. It does not wait for a running one, may be
	// called from within deliver, and more than once.
	Subscribe(ctx context.Context, topic string, deliver func(payload []byte)) (unsubscribe func(), err error)
}

// Resetter is a [Broker] that can start anew. The hub sends itself a payload every few seconds; when it does
// not arrive, although the Broker knows of no trouble, the hub calls Reset.
type Resetter interface {
	// Reset drops the connections that receive, and makes new ones, with all
	// subscriptions. It returns at once. The hub calls it at most every 10 s.
	Reset()
}

// FilteringBroker is a [Broker] that can leave out payloads before they cost anything. In a cluster of two nodes half of
// what comes is a node's own, which it has no use for.
type FilteringBroker interface {
	// SubscribeFiltered does what Subscribe does, but does not call deliver with payloads for which skip returns true. skip
	// returns at once, and is called as payloads come, possibly from several goroutines.
	SubscribeFiltered(ctx context.Context, topic string, skip func(payload string) bool, deliver func(payload []byte)) (unsubscribe func(), err error)
}

// AppendPublisher is a [Broker] and a [Store] in one, which can append to a log and publish in a
// single step. Where Options.Store and Options.Broker are the same AppendPublisher, the hub uses it for what is stored.
type AppendPublisher interface {
	// AppendPublish does what Store.Append does, and, if that has stored at least one entry, publishes to the
	// subscribers of topic, in the order of the offsets of all calls for this topic, the payload
	//
	//	<unread> <version> <offset>,<offset>,... <epoch>\n<payload>
	//
	// where unread, version and epoch are those of the Log that it returns, and each offset, in
	// decimal, is that of an entry, in order; that of a duplicate is 0. An error is one of the Append; that the
	// publishing part failed alone is none.
	AppendPublish(ctx context.Context, topic string, keep Retention, entries []Entry, payload []byte) (Log, error)
}
