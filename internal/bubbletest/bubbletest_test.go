package bubbletest

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// What ends the process when several processors run a bubble under the race detector, nearly every time.
func TestTimersThatAreReadWhenDue(t *testing.T) {
	for range 10 {
		Test(t, func(*testing.T) {
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					for range 50 {
						done := make(chan struct{})
						timer := time.NewTimer(time.Second)
						time.AfterFunc(time.Second, func() {
							select {
							case <-timer.C:
							default:
							}
							close(done)
						})
						<-done
					}
				})
			}
			all.Wait()
		})
	}
}

func TestProcessorsComeBack(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	first, second := one(), one()
	first()
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Errorf("%d processors while a bubble runs", n)
	}
	second()
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Errorf("%d processors after the bubbles, %d before", n, before)
	}
}
