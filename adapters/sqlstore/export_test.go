package sqlstore

import "context"

// SetClock makes s tell the time, in milliseconds, by read alone. It is called before the first use.
func (s *Store) SetClock(read func() int64) { s.clock.read, s.clock.ask = read, false }

// Clean is what the background job does.
func (s *Store) Clean(ctx context.Context) error { return s.clean(ctx) }

// RelaySome is one turn of Relay.
func (s *Store) RelaySome(ctx context.Context, hub Notifier) error {
	_, err := s.relaySome(ctx, hub)
	return err
}

// Waiting is how many writes wait for a transaction, those included that nobody waits for any more.
func (s *Store) Waiting() int {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.waiting)
}

// Closing is not nil as soon as Close was called.
func (s *Store) Closing() error { return s.closing.Err() }

// Age makes s believe that it compared the clocks long ago, when the database was ahead by so many milliseconds.
func (s *Store) Age(ahead int64) {
	s.clock.ahead.Store(ahead)
	s.clock.at.Store(0)
}

// Ahead is by how many milliseconds s believes the clock of the database to be ahead.
func (s *Store) Ahead() int64 { return s.clock.ahead.Load() }
