package checker

import (
	"context"
	"time"

	"github.com/parley-go/parley"
)

// Backend is what the nodes of a run share: real Stores and Brokers, and what can be done to them. Its
// methods are called by one goroutine at a time.
type Backend interface {
	// Store and Broker return those of a node, numbered from 0. They are called again whenever a hub is started there, and
	// may return the same ones as before. If one value is both, and a parley.AppendPublisher, hubs use it as that. With a nil Store
	// all nodes share a parley.MemoryStore, which writes down all that it takes, so that more can be judged; with a nil
	// Broker they share a parley.MemoryBroker. It has to be the same for all nodes. The run adds its own faults to any of them.
	Store(node int) parley.Store
	Broker(node int) parley.Broker
	// Fault begins a fault of the servers, which ends by itself after a time, and returns what it is, for the record. pick, a
	// number from 0 on, picks one; take it modulo the number of faults that there are. What a Store has acknowledged must not be
	// lost by it: that is for Wipe. It may return before the fault has ended.
	Fault(pick int, d time.Duration) string
	// Heal ends all faults, and returns when the servers answer again.
	Heal()
	// Wipe loses all data of the Stores, or does nothing if they are nil.
	Wipe()
}

// Pace is how long things take in a run, for real time. The zero value is that of a bubble, where
// hubs have their default options and nothing is in a hurry.
type Pace struct {
	// Scale is the factor for the times of a plan, but for those of messages. Default 1.
	Scale float64
	// PingInterval, LeaveGrace, SyncInterval and StoreTimeout are the options of the hubs.
	PingInterval, LeaveGrace, SyncInterval, StoreTimeout time.Duration
	// Silence is how long after the ping interval a client of the protocol waits for a sign of life. Default 15 s.
	Silence time.Duration
	// Rest is how long it may take until everybody is back after the last fault. Default 5 min.
	Rest time.Duration
	// Vanish is how long it takes a hub to notice that a client has vanished and to give up its rooms: so long
	// a run waits after the end of all faults. Default 80 s.
	Vanish time.Duration
	// Impatient cuts connections of which only one end is left, instead of waiting until that is noticed.
	Impatient bool
	// Grace is longer than the leave grace and what follows it. Default 15 s.
	Grace time.Duration
	// Lease is longer than the leases of a dead node and the renewals of the living. Default 100 s. If it is less than that, the
	// presence of rooms is not judged for 100 s after a node was killed, and for 30 s after the Store was in trouble.
	Lease time.Duration
	// Flush is how long the last messages may take. Default 5 s.
	Flush time.Duration
	// Slack is by how much clocks may differ. Default 0.
	Slack time.Duration
}

// RealPace is a Pace for rounds of some 15 s on real servers.
func RealPace() Pace {
	return Pace{
		Scale: 0.03, PingInterval: time.Second, LeaveGrace: 500 * time.Millisecond, SyncInterval: time.Second, StoreTimeout: time.Second,
		Silence: 2 * time.Second, Rest: time.Minute, Vanish: 3 * time.Second, Impatient: true,
		Grace: 2 * time.Second, Lease: time.Millisecond, Flush: 1500 * time.Millisecond, Slack: 50 * time.Millisecond,
	}
}

func (p Pace) orDefaults() Pace {
	or := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	if p.Scale == 0 {
		p.Scale = 1
	}
	or(&p.SyncInterval, 3*time.Second)
	or(&p.StoreTimeout, 5*time.Second)
	or(&p.Silence, 15*time.Second)
	or(&p.Rest, 5*time.Minute)
	or(&p.Vanish, 80*time.Second)
	or(&p.Grace, 15*time.Second)
	or(&p.Lease, leaseTime)
	or(&p.Flush, 5*time.Second)
	return p
}

// times is d at this pace.
func (p Pace) times(d time.Duration) time.Duration { return time.Duration(float64(d) * p.Scale) }

// RunOn carries out a plan in real time, on servers that the caller provides, and returns what happened. Clients are in this
// process, on networks in memory; faults of these, of the nodes and of what they hear of Store and Broker are those of the
// plan, and some of those of Store and Broker are the Backend's. When ctx ends, the rest of the plan is left out;
// RunOn settles and judges all the same. Goroutines of hubs are not looked for at its end.
func RunOn(ctx context.Context, plan Plan, backend Backend, pace Pace) *History {
	plan.Plain = false
	if backend.Store(0) == nil { // what is judged by what the Store writes down is judged by the millisecond
		plan = plan.lasting()
	}
	return run(ctx, newWorld(plan, backend, pace.orDefaults()))
}
