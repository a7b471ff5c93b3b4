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
