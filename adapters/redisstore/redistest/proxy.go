package redistest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy passes TCP connections on to a server, until it is told to do worse.
type Proxy struct {
	// Addr is where it listens.
	Addr string

	to       string
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	change *sync.Cond // of the fields below
	mode   mode
	pipes  map[*pipe]bool
}

type mode int

const (
	passing    mode = iota
	stalled         // nothing passes, it waits
	swallowing      // nothing passes, it is lost
	closed
)

// pipe is a connection through the proxy.
type pipe struct {
	client, server net.Conn // server is nil if it was made in a black hole
	torn           bool     // some of it was lost: it cannot go on
}

// NewProxy starts a proxy for the server at addr. It ends with the test.
func NewProxy(t testing.TB, addr string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	p := &Proxy{Addr: l.Addr().String(), to: addr, listener: l, pipes: map[*pipe]bool{}}
	p.change = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.set(closed)
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// Stall lets nothing pass in either direction; what was sent waits. New connections are made, and stall, too.
func (p *Proxy) Stall() { p.set(stalled) }

// BlackHole loses what is sent in either direction from now on, also on new connections, and tells nobody.
func (p *Proxy) BlackHole() { p.set(swallowing) }

// Cut closes all connections. New ones are served as before.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pipes {
		c.close()
	}
}

// Resume ends Stall and BlackHole. Connections that lost something in a black hole are closed.
func (p *Proxy) Resume() {
	p.set(passing)
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pipes {
		if c.torn || c.server == nil {
			c.close()
		}
	}
}

// Lost returns how many of the connections were made in a black hole, or have lost something there.
func (p *Proxy) Lost() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pipes {
		if c.torn || c.server == nil {
			n++
		}
	}
	return n
}

// Connections returns how many connections there are.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pipes)
}

func (p *Proxy) set(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode != closed {
		p.mode = m
	}
	p.change.Broadcast()
}

func (c *pipe) close() {
	_ = c.client.Close()
	if c.server != nil {
		_ = c.server.Close()
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // the listener was closed
		}
		c := &pipe{client: client}
		p.mu.Lock()
		swallow := p.mode == swallowing
		p.pipes[c] = true
		p.mu.Unlock()
		p.wg.Go(func() { p.serve(c, swallow) })
	}
}

func (p *Proxy) serve(c *pipe, swallow bool) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		c.close()
		delete(p.pipes, c)
	}()
	if swallow {
		_, _ = io.Copy(io.Discard, c.client)
		return
	}
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return // the client sees a connection that ends
	}
	p.mu.Lock()
	c.server = server
	ended := p.mode == closed
	p.mu.Unlock()
	if ended {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.pass(c, c.client, server) })
	wg.Go(func() { p.pass(c, server, c.client) })
	wg.Wait()
}

// pass copies from one side to the other as the mode allows, and closes both at the end.
func (p *Proxy) pass(c *pipe, from, to net.Conn) {
	defer c.close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && p.lets(c) {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// lets waits while the proxy is stalled, and reports whether what was read is to be passed on.
func (p *Proxy) lets(c *pipe) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.mode == stalled {
		p.change.Wait()
	}
	if p.mode == swallowing {
		c.torn = true
	}
	return p.mode == passing && !c.torn
}
