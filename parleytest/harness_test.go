package parleytest

import (
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// fakeTB records failures instead of failing.
type fakeTB struct {
	testing.TB
	failures []string
}

func (f *fakeTB) Helper()           {}
func (f *fakeTB) Output() io.Writer { return io.Discard }

func (f *fakeTB) Errorf(format string, args ...any) {
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

// failure returns how the only failure in f reads.
func failure(t *testing.T, s *Server, f func()) string {
	t.Helper()
	fake := &fakeTB{TB: t}
	s.t = fake
	for _, c := range s.everybody() {
		c.t = fake
	}
	done, returned := make(chan struct{}), false
	go func() {
		defer close(done)
		f()
		returned = true
	}()
	<-done
	s.t = t
	for _, c := range s.everybody() {
		c.t = t
	}
	require.Len(t, fake.failures, 1)
	require.False(t, returned, "the test went on after a failure")
	return fake.failures[0]
}

// newServer is NewServer without a rate limit: tests here do in no time what takes people hours.
func newServer(t *testing.T, opts parley.Options) *Server {
	t.Helper()
	opts.RateLimit = -1
	return NewServer(t, opts)
}
