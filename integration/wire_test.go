package integration

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// wire is a TCP connection between a browser and a server that can fail as
// networks do. It may be used concurrently.
type wire struct {
	url    string
	target string

	mu     sync.Mutex // guards the fields below
	broken bool
	pairs  map[*pair]bool
}

// pair is one connection through the wire.
type pair struct {
	client, server net.Conn
	silent         chan struct{} // closed when it goes silent
}

// newWire returns a wire to the server at a URL.
func newWire(t *testing.T, server *program) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{
		url:    "http://" + ln.Addr().String() + "/",
		target: net.JoinHostPort("127.0.0.1", server.port),
		pairs:  map[*pair]bool{},
	}
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			w.connect(conn)
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-accepted
		w.cut()
	})
	return w
}

func (w *wire) connect(client net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	server, err := net.Dial("tcp", w.target)
	if err != nil || w.broken {
		reset(client)
		if err == nil {
			reset(server)
		}
		return
	}
	p := &pair{client: client, server: server, silent: make(chan struct{})}
	w.pairs[p] = true
	go p.copy(client, server) // both end with the connections
	go p.copy(server, client)
}

// copy passes on what comes, until one side ends or the wire goes silent.
// Silent, it swallows everything, the end of the connection included.
func (p *pair) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-p.silent:
			if err == nil {
				_, _ = io.Copy(io.Discard, from)
			}
			return
		default:
		}
		if _, failed := to.Write(buf[:n]); err != nil || failed != nil {
			_ = to.Close()
			_ = from.Close()
			return
		}
	}
}

// reset ends a connection as a crash does.
func reset(conn net.Conn) {
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// silence makes all open connections go dead without a word: both ends still
// believe in them. New connections work.
func (w *wire) silence() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.pairs {
		select {
		case <-p.silent:
		default:
			close(p.silent)
		}
	}
}

// cut resets all connections, and new ones until mend.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = true
	for p := range w.pairs {
		reset(p.client)
		reset(p.server)
	}
	clear(w.pairs)
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = false
}
