// Package natstest runs NATS servers for tests, in the process of the test, on free ports of the loopback interface.
package natstest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// patience is how long a server may take to start, and a cluster to find together.
const patience = 3 * time.Minute

// Server is a NATS server that ends with its test. Its methods are for the goroutine of the test.
type Server struct {
	// URL is where it is to be found, also after Restart.
	URL string

	t       testing.TB
	opts    *server.Options
	running *server.Server // nil after Shutdown
}

// Option changes how a server starts.
type Option func(*server.Options)

// JetStream makes the server keep streams, in a directory that ends with the test and outlives Restart.
func JetStream(t testing.TB) Option {
	dir := t.TempDir()
	return func(o *server.Options) { o.JetStream, o.StoreDir = true, dir }
}

// Start starts a server and waits until it takes connections.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, NoSystemAccount: true}
	for _, opt := range opts {
		opt(o)
	}
	for _, port := range []*int{&o.Port, &o.Cluster.Port} {
		if *port == server.RANDOM_PORT {
			*port = freePort()
		}
	}
	s := &Server{t: t, opts: o}
	t.Cleanup(s.Shutdown) // before the first start, so that a failed one leaves nothing
	s.Restart()
	return s
}

// given are the ports of this process so far. A server that was shut down may want its own again.
var given sync.Map

// freePort finds a port that is free, and below those that the system gives to outgoing connections: one of these could take
// the port of a server that is down, or connect to itself there.
func freePort() int {
	for {
		port := 3_000 + rand.IntN(7_000)
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			_ = l.Close()
			return port
		}
	}
}

// Restart starts the server anew, on the same port and with the same streams. If it runs, it is shut down first.
func (s *Server) Restart() {
	s.t.Helper()
	s.Shutdown()
	for end := time.Now().Add(patience); ; {
		err := s.start()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("natstest: %v", err)
		}
	}
}

func (s *Server) start() error {
	ns, err := server.NewServer(s.opts.Clone())
	if err != nil {
		return fmt.Errorf("new server: %w", err)
	}
	ns.Start()
	if !ns.ReadyForConnections(patience / 4) {
		ns.Shutdown()
		ns.WaitForShutdown()
		return fmt.Errorf("no server is ready on port %d within %v: is the port taken?", s.opts.Port, patience/4)
	}
	s.running = ns
	if addr, ok := ns.Addr().(*net.TCPAddr); ok {
		s.opts.Port = addr.Port
	}
	if addr := ns.ClusterAddr(); addr != nil {
		s.opts.Cluster.Port = addr.Port
	}
	s.URL = fmt.Sprintf("nats://127.0.0.1:%d", s.opts.Port)
	return nil
}

// Shutdown ends the server and its connections at once. It may be called more than once.
func (s *Server) Shutdown() {
	if s.running != nil {
		s.running.Shutdown()
		s.running.WaitForShutdown()
		s.running = nil
	}
}

// LameDuck ends the server as an orderly maintenance does: it tells its clients that it is going to, and closes
// their connections one by one.
func (s *Server) LameDuck() {
	if s.running != nil {
		s.running.LameDuckShutdown()
		s.running.WaitForShutdown()
		s.running = nil
	}
}

// Server is the server itself; nil after Shutdown.
func (s *Server) Server() *server.Server { return s.running }

// Conn connects to the server. The connection is closed at the end of the test. Without opts it has the defaults
// of nats.go.
func (s *Server) Conn(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect(s.URL, opts...)
	if err != nil {
		t.Fatalf("natstest: connect: %v", err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// StartCluster starts n servers that carry messages to each other, and waits until each knows all others. A client that
// connected to one of them knows all.
func StartCluster(t testing.TB, n int, opts ...Option) []*Server {
	t.Helper()
	var servers []*Server
	for range n {
		servers = append(servers, Start(t, append([]Option{func(o *server.Options) {
			o.Cluster = server.ClusterOpts{Name: "natstest", Host: "127.0.0.1", Port: server.RANDOM_PORT, PoolSize: -1}
			o.LameDuckDuration, o.LameDuckGracePeriod = time.Second, 100*time.Millisecond
			if len(servers) > 0 {
				o.Routes = []*url.URL{{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", servers[0].opts.Cluster.Port)}}
			}
		}}, opts...)...))
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		joined := 0
		for _, s := range servers {
			if s.running.NumRoutes() == n-1 {
				joined++
			}
		}
		if joined == n {
			return servers
		}
		if time.Now().After(end) {
			t.Fatalf("natstest: %d of %d servers have joined the cluster within %v", joined, n, patience)
		}
	}
}
