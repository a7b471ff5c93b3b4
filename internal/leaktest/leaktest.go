// Package leaktest finds goroutines that are left when tests are done (F46).
package leaktest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience is how long what is about to end gets for it.
const patience = 10 * time.Second

// Main runs the tests and ends the process; it is for TestMain. The run fails if goroutines are left
// that Left finds.
func Main(m *testing.M, only string) {
	code := m.Run()
	if code == 0 {
		if left := Left(only); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines are left after the tests:\n\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// Left returns the stacks of the goroutines, other than the caller's and those that every test process has, that have only
// in their stack: the path of a module, or "" for all. What is about to end gets some time
// for it; without leaks the first look suffices, or nearly so. Tests must not run at the same time.
func Left(only string) string {
	deadline := time.Now().Add(patience)
	for {
		left := others(only)
		if left == "" || time.Now().After(deadline) {
			return left
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
}

func others(only string) string {
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
		// The first one is the caller. TestMain waits for it if it is a test; os/signal never ends.
		usual := i == 0 || strings.Contains(stack, "testing.(*M)") || strings.Contains(stack, "os/signal.")
		if !usual && strings.Contains(stack, only) {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}
