package integration

import (
	"sync"
	"testing"
)

// tail keeps the end of a log, for whoever looks into a failure. It may be used concurrently.
type tail struct {
	mu    sync.Mutex // guards lines
	lines []string
}

// newTail returns a tail that is shown if the test fails.
func newTail(t *testing.T) *tail {
	l := &tail{}
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if t.Failed() {
			t.Logf("the end of the log:\n%s", l.lines)
		}
	})
	return l
}

// Write takes a line.
func (l *tail) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == 20 {
		l.lines = l.lines[1:]
	}
	l.lines = append(l.lines, string(line))
	return len(line), nil
}
