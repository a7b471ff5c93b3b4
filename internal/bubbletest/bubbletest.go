// Package bubbletest runs tests in fake time.
package bubbletest

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Test is synctest.Test, under the race detector on one processor.
//
// On several, Go 1.26 may end the process with SIGSEGV in the race detector: a goroutine that receives from the channel of a
// timer that is due runs that timer itself, with the race context of the bubble (runtime/time.go, maybeRunChan), and so does the
// bubble for its other timers at the same time. Without parallelism the detector finds the same races: it compares what
// happens before what, not what happens at once.
func Test(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if raceEnabled {
		defer one()()
	}
	synctest.Test(t, f)
}

var processors struct {
	sync.Mutex
	users  int
	before int
}

// one leaves one processor until the last caller has called what it returns.
func one() (back func()) {
	p := &processors
	p.Lock()
	defer p.Unlock()
	if p.users == 0 {
		p.before = runtime.GOMAXPROCS(1)
	}
	p.users++
	return func() {
		p.Lock()
		defer p.Unlock()
		if p.users--; p.users == 0 {
			runtime.GOMAXPROCS(p.before)
		}
	}
}
