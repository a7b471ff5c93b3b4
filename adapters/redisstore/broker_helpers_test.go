package redisstore

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/parley-go/parley/internal/leaktest"
)

// TestMain lets more tests run at a time than there are processors: they wait for servers more than they compute.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "12"); err != nil { // the command line may say otherwise
		panic(err)
	}
	leaktest.Main(m, "")
}

func goroutines() int { return runtime.NumGoroutine() }

// subscribeMany subscribes to room/0, room/1 and so on, several at a time.
func subscribeMany(t *testing.T, s *Store, many int) []sink {
	t.Helper()
	sinks := make([]sink, many)
	ends := make([]func(), many)
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	var wg sync.WaitGroup
	for w := range 100 {
		wg.Go(func() {
			for i := w; i < many; i += 100 {
				unsubscribe, err := s.Subscribe(ctx, fmt.Sprint("room/", i), sinks[i].deliver)
				if err != nil {
					t.Errorf("subscription %d: %v", i, err)
					return
				}
				ends[i] = unsubscribe
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, end := range ends {
			if end != nil {
				end()
			}
		}
	})
	return sinks
}
