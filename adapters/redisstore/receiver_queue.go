package redisstore

import "sync"

// queueLimits bound what waits for calls of deliver.
type queueLimits struct {
	count int   // of payloads of one subscription
	bytes int   // of one subscription
	all   int64 // bytes of all subscriptions
}

var defaultQueueLimits = queueLimits{count: 10_000, bytes: 32 << 20, all: 256 << 20}

// subscription calls deliver with what comes, one at a time, in a goroutine that it
// has as long as there is something to deliver.
type subscription struct {
	receiver *receiver
	skip     func(payload string) bool // what is not wanted; nil: nothing
	deliver  func(payload []byte)

	mu      sync.Mutex // guards the fields below; never held while deliver runs
	queue   [][]byte
	one     [1][]byte // what queue begins in: mostly nothing else waits
	bytes   int
	lost    bool // deliver(nil) comes before the queue
	running bool // a goroutine runs drain, or is about to
	ended   bool
}

// add queues a payload. If too much waits, all that does is dropped, and
// deliver is told that something may be lost.
func (s *subscription) add(payload []byte) {
	r := s.receiver
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if len(s.queue) >= r.limits.count || s.bytes+len(payload) > r.limits.bytes || r.waiting.Load()+int64(len(payload)) > r.limits.all {
		r.dropped.Add(uint64(len(s.queue)))
		s.clear()
		s.losing()
	}
	if r.waiting.Load()+int64(len(payload)) > r.limits.all { // by what waits for others
		r.dropped.Add(1)
		s.start()
		return
	}
	s.queue = append(s.queue, payload)
	s.bytes += len(payload)
	r.waiting.Add(int64(len(payload)))
	s.start()
}

// lose makes deliver be told that something may be lost.
func (s *subscription) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.losing()
	s.start()
}

func (s *subscription) losing() {
	s.lost = true
	s.receiver.losses.Add(1)
}

// end ends the subscription.
func (s *subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.lost = true, false
	s.clear()
}

func (s *subscription) clear() {
	s.receiver.waiting.Add(-int64(s.bytes))
	s.queue, s.one[0], s.bytes = nil, nil, 0
}

func (s *subscription) start() {
	if s.running {
		return
	}
	s.running = true
	select {
	case s.receiver.idle <- s: // a goroutine that has done this before is faster than a new one
	default:
		go s.receiver.work(s)
	}
}

// maxIdle is how many goroutines wait for something to deliver.
const maxIdle = 16

// work delivers what there is for a subscription, and then for others. It ends with the receiver, or when enough others wait.
func (r *receiver) work(s *subscription) {
	for {
		s.drain()
		if r.idlers.Add(1) > maxIdle {
			r.idlers.Add(-1)
			return
		}
		select {
		case s = <-r.idle:
			r.idlers.Add(-1)
		case <-r.ctx.Done():
			return
		}
	}
}

// drain calls deliver as long as there is something.
func (s *subscription) drain() {
	for {
		payload, ok := s.next()
		if !ok {
			return
		}
		s.deliver(payload)
	}
}

// next returns what to deliver. Without anything it says so, and the caller must end.
func (s *subscription) next() (payload []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		s.lost = false
		return nil, true
	}
	if len(s.queue) == 0 {
		s.queue, s.running = s.one[:0], false
		return nil, false
	}
	payload, s.queue[0] = s.queue[0], nil
	s.queue = s.queue[1:]
	s.bytes -= len(payload)
	s.receiver.waiting.Add(-int64(len(payload)))
	return payload, true
}
