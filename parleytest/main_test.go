package parleytest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the run if goroutines are left when all tests are done (F46).
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaked(); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines are left after the tests:\n\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leaked returns the stacks of goroutines other than the caller's, those of net/http among
// them. What is about to end gets time for it.
func leaked() string {
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := others()
		if left == "" || time.Now().After(deadline) {
			return left
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
}

func others() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, stack := range strings.Split(string(buf), "\n\n") {
		known := strings.Contains(stack, "testing.(*M)") || strings.Contains(stack, "os/signal.")
		if i > 0 && !known {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}
