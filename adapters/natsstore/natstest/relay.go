package natstest

import (
	"net"
	"sync"
	"testing"
)

// Relay is a way to a server that can be blocked: then connections stay open and nothing goes through, as in
// a network that swallows packets, or with a server that hangs.
type Relay struct {
	// URL is where to connect to.
	URL string

	listener net.Listener
	to       string // the server
	wg       sync.WaitGroup

	mu      sync.Mutex
	cond    *sync.Cond // blocked or closed is another now
	blocked bool
	closed  bool
	conns   map[net.Conn]bool
}

// StartRelay starts a relay to s that ends with the test.
func StartRelay(t testing.TB, s *Server) *Relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("natstest: relay: %v", err)
	}
	r := &Relay{URL: "nats://" + listener.Addr().String(), listener: listener, to: s.running.Addr().String(), conns: map[net.Conn]bool{}}
	r.cond = sync.NewCond(&r.mu)
	r.wg.Go(r.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		r.mu.Lock()
		r.closed = true
		for c := range r.conns {
			_ = c.Close()
		}
		r.cond.Broadcast()
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

// Block stops all traffic, that of later connections too; with false it goes on.
func (r *Relay) Block(blocked bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocked = blocked
	r.cond.Broadcast()
}

// Conns returns how many connections go through the relay.
func (r *Relay) Conns() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns) / 2
}

func (r *Relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", r.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		r.mu.Lock()
		r.conns[client], r.conns[server] = true, true
		if r.closed {
			_, _ = client.Close(), server.Close()
		}
		r.mu.Unlock()
		r.wg.Go(func() { r.copy(client, server) })
		r.wg.Go(func() { r.copy(server, client) })
	}
}

func (r *Relay) copy(to, from net.Conn) {
	defer func() {
		_, _ = to.Close(), from.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.conns, to)
		delete(r.conns, from)
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		for r.blocked && !r.closed {
			r.cond.Wait()
		}
		r.mu.Unlock()
		if _, writeErr := to.Write(buf[:n]); err != nil || writeErr != nil {
			return
		}
	}
}
