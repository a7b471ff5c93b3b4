package shop

import (
	"context"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/parley-go/parley"
)

// Place is one where a shop can die.
type Place string

// The places on the way of an order to the customer's inbox.
const (
	BeforeCommit Place = "before commit" // everything is written
	AfterCommit  Place = "after commit"  // nobody knows of it yet
	BeforeAppend Place = "before append" // the relay is about to send
	AfterAppend  Place = "after append"  // it was stored, and the hub does not know
)

// Places are all of them.
var Places = []Place{BeforeCommit, AfterCommit, BeforeAppend, AfterAppend}

// fate knows where the process ends. It may be used concurrently.
type fate struct {
	place Place
	times atomic.Int64 // to get there before
}

func newFate(place Place, times int) *fate {
	f := &fate{place: place}
	f.times.Store(int64(times))
	return f
}

// reach ends the process as kill -9 does, if this is the place.
func (f *fate) reach(p Place) {
	if p != f.place || f.times.Add(-1) >= 0 {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // the own process can be killed
	select {}
}

// mortal is a Store whose process dies around an Append.
type mortal struct {
	parley.Store
	fate *fate
}

func (m mortal) Append(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
	m.fate.reach(BeforeAppend)
	log, err := m.Store.Append(ctx, topic, keep, entries)
	if err == nil {
		m.fate.reach(AfterAppend)
	}
	return log, err
}
