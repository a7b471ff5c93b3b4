package integration

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// host is a machine on which chatd runs, dies and starts again, always on the
// same port and with the same store.
type host struct {
	t     *testing.T
	store string
	port  string

	mu      sync.Mutex // guards running
	running *program
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, store: filepath.Join(t.TempDir(), "store"), port: quietPort(t)}
	h.start()
	return h
}

// quietPorts are the ports of servers, which are down at times.
var quietPorts sync.Map

// quietPort returns a port that stays free while the server is down: it is
// below those that systems give to outgoing connections, above those that
// redistest takes, and of no other test.
func quietPort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := fmt.Sprint(31_000 + rand.IntN(1_700))
		if _, taken := quietPorts.LoadOrStore(port, true); taken {
			continue
		}
		if ln, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			require.NoError(t, ln.Close())
			return port
		}
	}
	require.FailNow(t, "no free port")
	return ""
}

func (h *host) start() {
	h.t.Helper()
	self, err := os.Executable()
	require.NoError(h.t, err)
	p := start(h.t, self, h.port, chatdStore+"="+h.store)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = p
}

// server returns the process that runs, or ran last.
func (h *host) server() *program {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.running
}

// crash ends the server as kill -9 does.
func (h *host) crash() { h.server().kill() }

// lose removes the store of a server that is down: the database, its
// write-ahead log and the index of that.
func (h *host) lose() {
	h.t.Helper()
	files, err := filepath.Glob(h.store + "*")
	require.NoError(h.t, err)
	require.Contains(h.t, files, h.store)
	for _, file := range files {
		require.NoError(h.t, os.Remove(file))
	}
}
