package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// machine is a computer of its own, as far as the network is concerned: a
// network namespace that lives as long as its thread, and sockets made in it.
// So nothing of it is left behind, and nothing of the host is touched.
type machine struct {
	t      *testing.T
	thread int // by which others find the namespace
	jobs   chan func()
}

// newMachine makes a machine, or skips the test if PARLEY_REQUIRE does not
// forbid it: namespaces need root.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, jobs: make(chan func())}
	started := make(chan error)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with the goroutine, and nobody else gets into this namespace.
		runtime.LockOSThread()
		m.thread = syscall.Gettid()
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		started <- err
		for job := range m.jobs {
			job()
		}
	}()
	t.Cleanup(func() {
		close(m.jobs)
		<-done
	})
	if err := <-started; err != nil {
		if slices.Contains(strings.Split(os.Getenv("PARLEY_REQUIRE"), ","), "netns") {
			t.Fatalf("no network namespaces (%v), and PARLEY_REQUIRE=%s needs them", err, os.Getenv("PARLEY_REQUIRE"))
		}
		t.Skipf("SKIPPED: no network namespaces (%v: be root); this test did not run", err)
	}
	return m
}

// do runs f on the machine.
func (m *machine) do(f func()) {
	done := make(chan struct{})
	m.jobs <- func() {
		defer close(done)
		f()
	}
	<-done
}

// ip configures the network of the machine.
func (m *machine) ip(args ...any) {
	m.t.Helper()
	words := strings.Fields(fmt.Sprintln(args...))
	m.do(func() {
		out, err := exec.Command("ip", words...).CombinedOutput()
		require.NoError(m.t, err, "ip %v: %s", words, out)
	})
}

// road joins two machines by a cable, whose ends have the addresses
// 10.0.<n>.1 and 10.0.<n>.2.
func road(a, b *machine, n int) {
	name := fmt.Sprint("road", n)
	a.ip("link add", name, "type veth peer name", name, "netns", b.thread)
	for i, m := range []*machine{a, b} {
		m.ip(fmt.Sprintf("addr add 10.0.%d.%d/24 dev %s", n, i+1, name))
		m.ip("link set", name, "up")
	}
}

// dial connects from the machine.
func (m *machine) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	m.do(func() { conn, err = new(net.Dialer).DialContext(ctx, network, address) })
	return conn, err
}

// listen listens on all addresses of the machine.
func (m *machine) listen() (ln net.Listener) {
	m.t.Helper()
	var err error
	m.do(func() { ln, err = net.Listen("tcp", "0.0.0.0:0") })
	require.NoError(m.t, err)
	return ln
}
