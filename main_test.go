package parley

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the run if goroutines of the package are left when all tests
// are done (F46).
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := leakedGoroutines(); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines are left after the tests:\n\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// leakedGoroutines returns the stacks of the goroutines that run code of this
// package, except the calling one. What is about to end gets some time for it;
// without leaks the first look suffices, or nearly so.
func leakedGoroutines() string {
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := packageGoroutines()
		if left == "" || time.Now().After(deadline) {
			return left
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
}

func packageGoroutines() string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var left []string
	for i, stack := range strings.Split(string(buf), "\n\n") {
		// The first one is the caller, and TestMain waits for it if it is a
		// test. Other tests must not run at the same time.
		if i > 0 && strings.Contains(stack, "parley-go/parley") && !strings.Contains(stack, "parley.TestMain(") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}
