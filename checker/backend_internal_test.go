package checker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/internal/bubbletest"
)

// servers is a Backend whose Stores and Brokers are like real ones: nobody writes down what they take, and they have faults of their own.
type servers struct {
	*world
	only    bool // gives no Stores, as NATS
	one     *oneStep
	dead    atomic.Bool
	faulted int
	wiped   int
}

func newServers(seed uint64, inOneStep bool) *servers {
	s := &servers{world: &world{Recorder: NewRecorder()}}
	s.store = newStore(s.Recorder, rand.New(rand.NewPCG(seed, 10)))
	s.broker = newBroker(rand.New(rand.NewPCG(seed, 11)))
	s.only = !inOneStep
	return s
}

// both is what a client of the servers is: each node has its own.
func (s *servers) both(node int) *oneStep {
	v := &way{}
	v.storeOf = &storeOf{store: s.store, dead: &s.dead}
	v.brokerOf = s.broker.via(node, nil, &s.dead)
	return &oneStep{v}
}

func (s *servers) Store(node int) parley.Store {
	if s.only {
		return nil
	}
	s.one = s.both(node)
	return s.one
}

func (s *servers) Broker(node int) parley.Broker {
	if s.only {
		return s.both(node).brokerOf
	}
	return s.one
}

func (s *servers) Fault(pick int, d time.Duration) string {
	s.faulted++
	if pick%2 == 0 && !s.only {
		s.store.disturb(storeFault(1+pick%4), d)
		return fmt.Sprint("a fault of the Store for ", d)
	}
	fault := []brokerFault{brokerMixed, brokerSilent, brokerFailing}[pick%3]
	s.broker.disturb(fault, 0, true, d)
	return fmt.Sprintf("fault %d of the Broker for %s", fault, d)
}

func (s *servers) Heal() {
	s.store.disturb(storeWell, 0)
	s.broker.disturb(brokerWell, 0, false, 0)
}

func (s *servers) Wipe() {
	s.wiped++
	s.store.wipe()
}

// Stores that do not tell what they take, and Brokers of somebody else, are judged, too: seeds of RunOn, in fake time.
func TestRunOn(t *testing.T) {
	faults, wipes := 0, 0
	for seed := range uint64(12) {
		var h *History
		bubbletest.Test(t, func(*testing.T) {
			s := newServers(seed, seed%3 != 0)
			h = RunOn(context.Background(), NewPlanOn(500+seed, 150, 3), s, RealPace())
			faults, wipes = faults+s.faulted, wipes+s.wiped
		})
		if name := os.Getenv("EVENTS"); name != "" {
			var b strings.Builder
			for _, e := range h.Events {
				fmt.Fprintln(&b, e)
			}
			os.WriteFile(fmt.Sprint(name, seed), []byte(b.String()), 0o644)
		}
		for i, v := range h.Check() {
			if i < 3 {
				t.Errorf("seed %d: %s", seed, v)
			}
		}
	}
	if faults == 0 || wipes == 0 {
		t.Errorf("%d faults, %d wipes: that proves nothing", faults, wipes)
	}
}
