package natsstore

import "sync/atomic"

// Stats are counters since New, except where it says otherwise.
type Stats struct {
	// Connected says whether there is a connection now.
	Connected bool
	// Connects is how often the connection was made, again or for the first time after New. After each, all subscriptions are
	// told that something may be lost.
	Connects int64
	// Topics is how many topics are subscribed to now.
	Topics int
	// Published payloads are those that the server has confirmed, PublishErrors the others.
	Published, PublishErrors int64
	// Received payloads have arrived, own ones included.
	Received int64
	// Overflows is how often a subscription was told that something is lost because it, or this process, could not keep up.
	Overflows int64
	// Torn is how often a topic was told that something is lost because a part of a large payload was missing.
	Torn int64
	// Garbage is what arrived and is not of a Broker, or of one of another version. It is ignored.
	Garbage int64
}

type counters struct {
	connects, published, publishErrors, received, overflows, torn, garbage atomic.Int64
}

// Stats returns the counters.
func (b *Broker) Stats() Stats {
	b.out.mu.Lock()
	connected := b.out.connected
	b.out.mu.Unlock()
	b.mu.RLock()
	topics := len(b.topics)
	b.mu.RUnlock()
	return Stats{
		Connected: connected, Connects: b.count.connects.Load(), Topics: topics,
		Published: b.count.published.Load(), PublishErrors: b.count.publishErrors.Load(),
		Received: b.count.received.Load(), Overflows: b.count.overflows.Load(), Torn: b.count.torn.Load(), Garbage: b.count.garbage.Load(),
	}
}
