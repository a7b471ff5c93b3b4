package redisstore

// Stats are numbers of the receiving side since New, for monitoring.
type Stats struct {
	// Received counts the payloads that came from Redis for a topic subscribed to here.
	Received uint64
	// Dropped counts the payloads dropped because a subscription did not keep up. Its
	// hub was told and has asked the Store.
	Dropped uint64
	// Losses counts how often subscriptions were told that something may be lost.
	Losses uint64
	// Reconnects counts the connections that took the place of one that ended.
	Reconnects uint64
	// Subscriptions is how many there are now.
	Subscriptions int
	// Waiting is how many bytes of payloads wait for the hub now.
	Waiting int64
}

// Stats returns what there is to know of the receiving side. It may be called at any time.
func (s *Store) Stats() Stats {
	r := s.broker.receiver
	r.mu.Lock()
	count := r.count
	r.mu.Unlock()
	return Stats{
		Received: r.received.Load(), Dropped: r.dropped.Load(), Losses: r.losses.Load(), Reconnects: r.reconnects.Load(),
		Subscriptions: count, Waiting: r.waiting.Load(),
	}
}
