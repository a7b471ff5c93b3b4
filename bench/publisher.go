package main

import (
	"errors"
	"fmt"
	"time"
)

// publisher sends messages through the first clients of a fleet, in turn, and
// watches over their delivery: each to every receiver once, and those of one
// sender in the order in which they were sent. Anything else fails the run.
type publisher struct {
	fleet   *fleet
	window  *window
	senders int
	ignored int // a client that does not count, -1 for none
	stuck   time.Duration
	spin    bool // ask for data without ever sleeping

	transmit   func(seq uint64) error // sends a message
	latency    histogram
	deliveries int
	frame      []byte
	seqAt      int
	idle       time.Duration // spent on asking for data when there was none
	expected   []uint64      // the next number for each client from each sender
	last       time.Duration
}

var errStuck = errors.New("deliveries stopped")

// newPublisher makes the publisher of a connected (and joined) fleet. A room
// message comes back to its sender, a broadcast does not.
func newPublisher(f *fleet, spec loadSpec, ignored int) *publisher {
	receivers := len(f.clients)
	if !spec.Room {
		receivers--
	}
	if ignored >= 0 {
		receivers--
	}
	p := &publisher{
		fleet: f, window: newWindow(max(spec.Window, 1), receivers), senders: spec.Senders, ignored: ignored,
		stuck: spec.Stuck, spin: spec.Spin,
	}
	p.frame, p.seqAt = template(spec.Room, spec.Size)
	p.expected = make([]uint64, len(f.clients)*spec.Senders)
	for i := range p.expected {
		p.expected[i] = uint64(i % spec.Senders)
	}
	f.onMessage = p.onMessage
	p.transmit = p.transmitFrame
	return p
}

func (p *publisher) onMessage(id int, seq uint64, now time.Duration) {
	if id == p.ignored {
		return
	}
	sender := int(seq % uint64(p.senders))
	next := &p.expected[id*p.senders+sender]
	if seq != *next {
		p.fleet.fail(id, fmt.Errorf("message %d arrived where %d was due", seq, *next))
		return
	}
	*next += uint64(p.senders)
	d, err := p.window.arrived(seq, now)
	if err != nil {
		p.fleet.fail(id, err)
		return
	}
	p.latency.record(d)
	p.deliveries++
	p.last = now
}

// run keeps the window full for the given time, at most limit messages, then
// waits until all have arrived. It returns how long that took altogether.
func (p *publisher) run(d time.Duration, limit int) (time.Duration, error) {
	return p.runWhile(limit, func(elapsed time.Duration) bool { return elapsed < d })
}

// runWhile is run for as long as more says; it is asked before each message.
func (p *publisher) runWhile(limit int, more func(elapsed time.Duration) bool) (time.Duration, error) {
	p.latency.reset()
	p.deliveries, p.idle = 0, 0
	begin := p.fleet.now()
	p.last = begin
	for sent := 0; ; {
		for sent < limit && p.window.open() && more(p.fleet.now()-begin) {
			if err := p.send(); err != nil {
				return 0, err
			}
			sent++
		}
		if p.window.empty() {
			return p.fleet.now() - begin, nil
		}
		if err := p.poll(); err != nil {
			return 0, err
		}
		if p.fleet.now()-p.last > p.stuck {
			return 0, fmt.Errorf("%w for %v, %d clients gone", errStuck, p.stuck, p.fleet.gone)
		}
	}
}

func (p *publisher) poll() error {
	if !p.spin {
		return p.fleet.poll(100 * time.Millisecond)
	}
	begin := p.fleet.now()
	err := p.fleet.poll(0)
	if p.fleet.lastData < begin {
		p.idle += p.fleet.now() - begin
	}
	return err
}

func (p *publisher) send() error {
	seq := p.window.send(p.fleet.now())
	if err := p.transmit(seq); err != nil {
		return fmt.Errorf("sending message %d: %w", seq, err)
	}
	return nil
}

func (p *publisher) transmitFrame(seq uint64) error {
	putSequence(p.frame[p.seqAt:], seq)
	return p.fleet.sockets.write(int(seq%uint64(p.senders)), p.frame)
}
