package natsstore

import "sync"

// subscription is one call of Subscribe. Its goroutine lives while something waits for deliver.
type subscription struct {
	deliver               func(payload []byte)
	maxMessages, maxBytes int

	mu       sync.Mutex // guards the fields below; never held while deliver runs
	queue    [][]byte
	bytes    int  // in queue
	lost     bool // deliver(nil) comes next
	draining bool // a goroutine runs drain
	ended    bool
}

// add queues a payload. If too much waits already, all of that is dropped, which it reports: what waits is old, and
// deliver(nil) makes the hub ask for it.
func (s *subscription) add(payload []byte) (overflow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	if len(s.queue) > 0 && (len(s.queue) >= s.maxMessages || s.bytes+len(payload) > s.maxBytes) {
		s.queue, s.bytes, s.lost, overflow = nil, 0, true, true
	}
	s.queue = append(s.queue, payload)
	s.bytes += len(payload)
	s.wake()
	return overflow
}

// lose has deliver(nil) called next.
func (s *subscription) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.lost = true
		s.wake()
	}
}

// end ends the subscription.
func (s *subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.lost, s.queue, s.bytes = true, false, nil, 0
}

func (s *subscription) wake() {
	if !s.draining {
		s.draining = true
		go s.drain()
	}
}

func (s *subscription) drain() {
	for {
		payload, ok := s.take()
		if !ok {
			return
		}
		s.deliver(payload)
	}
}

// take returns what to deliver next. Without anything it says so, and the caller must end.
func (s *subscription) take() (payload []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lost:
		s.lost = false
		return nil, true
	case len(s.queue) == 0:
		s.queue, s.draining = nil, false
		return nil, false
	}
	payload, s.queue[0] = s.queue[0], nil
	s.queue = s.queue[1:]
	s.bytes -= len(payload)
	return payload, true
}
