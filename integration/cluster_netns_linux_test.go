package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

// F2, F22: the cable between a node and its Redis is pulled out, and nobody is told: connections stay half open. Those of its
// clients stay, too; what it sends is refused, and when the cable is back everything comes.
func TestNodeLosesTheLinkToRedis(t *testing.T) {
	t.Parallel()
	need(t, "ip")
	data, far := newMachine(t), newMachine(t)
	road(data, far, 0)
	server := redistest.Start(t)
	port := forward(t, data.listen(), server.Addr)
	client := redis.NewClient(&redis.Options{
		Addr: fmt.Sprintf("10.0.0.1:%d", port), DialTimeout: time.Second,
		Dialer: far.dial,
	})
	t.Cleanup(func() { _ = client.Close() })
	cut, well := overRedis(t, client), overRedis(t, redisAt(t, server.Addr))
	nodes := []*node{startNode(t, "a", cut, cut), startNode(t, "b", well, well)}
	watchers := watchAll(nodes)
	a, b := speak(nodes[0], "a", 20*time.Millisecond), speak(nodes[1], "b", 20*time.Millisecond)
	a.more(10)
	far.ip("link set road0 down")
	a.fails(1)
	nodes[0].red()
	b.more(50)
	watchers[0].stays()
	far.ip("link set road0 up")
	nodes[0].ready()
	a.more(10)
	a.end()
	b.end()
	require.Zero(t, b.failed())
	epoch, log := logOf(t, well)
	kept(t, epoch, log, a, b)
	for _, w := range watchers {
		w.sawAll(log)
		w.stays()
	}
}

// forward passes connections to a listener on to a server, and returns its port. It ends with the test.
func forward(t *testing.T, ln net.Listener, to string) (port int) {
	t.Helper()
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	running.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_, _ = to.Close(), from.Close()
			}
			running.Go(func() { pass(client, server) })
			running.Go(func() { pass(server, client) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		cancel()
		running.Wait()
	})
	return ln.Addr().(*net.TCPAddr).Port
}
