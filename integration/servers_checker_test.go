package integration

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/natsstore"
	"github.com/parley-go/parley/adapters/natsstore/natstest"
	"github.com/parley-go/parley/adapters/redisstore"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
	"github.com/parley-go/parley/checker"
)

var (
	checkFor   = flag.Duration("check-for", 0, "how long the delivery checker runs on real servers; 0: one round on each")
	checkStart = flag.Uint64("check-start", 1, "the first seed of the delivery checker on real servers")
	checkOps   = flag.Int("check-ops", 150, "operations of each round")
)

const checkedNodes = 3

// TestCheckerOnServers runs the delivery checker over three nodes on real servers:
//
//	go test -run TestCheckerOnServers -check-for 5m -timeout 20m -v .
func TestCheckerOnServers(t *testing.T) {
	t.Parallel()
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		checkOn(t, func(t *testing.T) checker.Backend { return newRedisServers(t) })
	})
	t.Run("NATS", func(t *testing.T) {
		t.Parallel()
		checkOn(t, func(t *testing.T) checker.Backend { return newNATSServers(t) })
	})
}

func checkOn(t *testing.T, servers func(t *testing.T) checker.Backend) {
	ctx := t.Context()
	if *checkFor > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *checkFor)
		defer cancel()
	}
	pace := checker.RealPace()
	pace.Rest, pace.Vanish, pace.Grace, pace.Flush = patience, 6*time.Second, 4*time.Second, 4*time.Second // enough for a machine that is busy
	var totals checker.Totals
	for seed := *checkStart; ctx.Err() == nil; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { // so that the servers end with it
			h := checker.RunOn(ctx, checker.NewPlanOn(seed, *checkOps, checkedNodes), servers(t), pace)
			totals.Add(h)
			var b strings.Builder
			for i, v := range h.Check() {
				if i < 5 {
					fmt.Fprintln(&b, v)
				}
			}
			if b.Len() > 0 {
				t.Errorf("seed %d:\n%s", seed, &b)
			}
		})
		if *checkFor == 0 {
			break
		}
	}
	t.Logf("%+v", totals)
}

// redisServers is a Redis that loses nothing by itself, and a way to it for each node that can be disturbed.
type redisServers struct {
	t       *testing.T
	server  *redistest.Server
	proxies []*redistest.Proxy
	stores  []*redisstore.Store
}

func newRedisServers(t *testing.T) *redisServers {
	r := &redisServers{t: t, server: redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")}
	for range checkedNodes {
		proxy := redistest.NewProxy(t, r.server.Addr)
		client := redis.NewClient(&redis.Options{
			Addr: proxy.Addr, DialTimeout: time.Second, ReadTimeout: time.Second, WriteTimeout: time.Second, MaxRetries: -1,
		})
		store, err := redisstore.New(client, redisstore.Options{Timeout: 2 * time.Second, Durable: true})
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, store.Close())
			_ = client.Close()
		})
		r.proxies, r.stores = append(r.proxies, proxy), append(r.stores, store)
	}
	return r
}

func (r *redisServers) Store(node int) parley.Store   { return r.stores[node] }
func (r *redisServers) Broker(node int) parley.Broker { return r.stores[node] }

// Fault disturbs the way of one node or of all, stops the server, or kills it; what is acknowledged is on the disk then.
func (r *redisServers) Fault(pick int, d time.Duration) string {
	node := pick / 6 % checkedNodes
	proxy := r.proxies[node]
	switch pick % 6 {
	case 0:
		proxy.BlackHole()
		time.AfterFunc(d, proxy.Resume)
		return fmt.Sprintf("black hole of node %d for %s", node, d)
	case 1:
		proxy.Stall()
		time.AfterFunc(d, proxy.Resume)
		return fmt.Sprintf("node %d stalls for %s", node, d)
	case 2:
		proxy.Cut()
		return fmt.Sprintf("connections of node %d cut", node)
	case 3:
		for _, p := range r.proxies {
			p.Cut()
		}
		return "connections of all nodes cut"
	case 4:
		r.server.Stop()
		time.Sleep(d)
		r.server.Cont()
		return fmt.Sprintf("SIGSTOP for %s", d)
	default:
		r.server.Kill()
		time.Sleep(d)
		r.server.Restart()
		return fmt.Sprintf("kill -9, down for %s", d)
	}
}

func (r *redisServers) Heal() {
	for _, p := range r.proxies {
		p.Resume()
	}
	client := r.server.Client()
	require.EventuallyWithT(r.t, func(t *assert.CollectT) {
		require.NoError(t, client.Ping(context.Background()).Err())
	}, time.Minute, 50*time.Millisecond)
}

func (r *redisServers) Wipe() { r.server.Wipe() }

// natsServers is a NATS server, and a connection of each node to it that can be blocked. The Store is that of the checker.
type natsServers struct {
	server  *natstest.Server
	relays  []*natstest.Relay
	brokers []*natsstore.Broker
}

func newNATSServers(t *testing.T) *natsServers {
	n := &natsServers{server: natstest.Start(t)}
	for range checkedNodes {
		relay := natstest.StartRelay(t, n.server)
		conn, err := natsstore.Connect(relay.URL, nats.ReconnectWait(50*time.Millisecond), nats.PingInterval(time.Second))
		require.NoError(t, err)
		broker, err := natsstore.New(conn, natsstore.Options{})
		require.NoError(t, err)
		t.Cleanup(func() {
			broker.Close()
			conn.Close()
		})
		n.relays, n.brokers = append(n.relays, relay), append(n.brokers, broker)
	}
	return n
}

func (n *natsServers) Store(int) parley.Store        { return nil }
func (n *natsServers) Broker(node int) parley.Broker { return n.brokers[node] }

func (n *natsServers) Fault(pick int, d time.Duration) string {
	node := pick / 3 % checkedNodes
	switch pick % 3 {
	case 0:
		n.relays[node].Block(true)
		time.AfterFunc(d, func() { n.relays[node].Block(false) })
		return fmt.Sprintf("black hole of node %d for %s", node, d)
	case 1:
		for _, r := range n.relays {
			r.Block(true)
		}
		time.AfterFunc(d, n.Heal)
		return fmt.Sprintf("black hole of all nodes for %s", d)
	default:
		n.server.Shutdown()
		time.Sleep(d)
		n.server.Restart()
		return fmt.Sprintf("server down for %s", d)
	}
}

func (n *natsServers) Heal() {
	for _, r := range n.relays {
		r.Block(false)
	}
}

func (n *natsServers) Wipe() {}
