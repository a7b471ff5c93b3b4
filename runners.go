package parley

import "sync/atomic"

// maxIdleRunners is how many goroutines wait for a topic to run.
const maxIdleRunners = 16

// runners run topics, each in a goroutine. One that has done so before is cheaper than a new one, whose stack
// has to grow first. They end with the hub, or when enough others wait.
type runners struct {
	idle    chan *topic  // to those that wait
	waiting atomic.Int64 // how many wait, or are about to
	ended   <-chan struct{}
}

func newRunners(ended <-chan struct{}) *runners {
	return &runners{idle: make(chan *topic), ended: ended}
}

// run runs t until nothing is pending. It does not block.
func (r *runners) run(t *topic) {
	select {
	case r.idle <- t:
	default:
		go r.work(t)
	}
}

func (r *runners) work(t *topic) {
	for {
		t.run()
		if r.waiting.Add(1) > maxIdleRunners {
			r.waiting.Add(-1)
			return
		}
		select {
		case t = <-r.idle:
			r.waiting.Add(-1)
		case <-r.ended:
			return
		}
	}
}
