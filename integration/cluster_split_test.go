package integration

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

// F18: Redis ends the connection of a subscriber that does not keep up with a flood. Nothing is lost.
func TestRedisDropsASlowSubscriber(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--client-output-buffer-limit", "pubsub", "64kb", "32kb", "1")
	proxy := redistest.NewProxy(t, server.Addr)
	far, near := overRedis(t, redisAt(t, proxy.Addr)), overRedis(t, redisAt(t, server.Addr))
	large := func(o *parley.Options) { o.QueueSize, o.QueueBudget = 256<<20, 256<<20 } // it is not about slow clients
	a, b := startNode(t, "a", near, far, large), startNode(t, "b", near, near, large)
	lee := watch(a, "lee")
	before := far.Stats().Reconnects
	proxy.Stall() // until the buffers of the system are full, and that of Redis is, too
	flood(t, b, 8, 100, 30_000)
	proxy.Resume()
	b.say("the end")
	epoch, log := logOf(t, near)
	lee.knows(place{epoch, log[len(log)-1].Offset})
	lee.sawAll(log)
	lee.stays()
	await(t, func() bool { return far.Stats().Reconnects > before }, "Redis to have ended the connection")
	require.Len(t, log, 801)
	a.ready()
}

// flood sends messages of a size to the lobby by several goroutines.
func flood(t *testing.T, n *node, senders, each, size int) {
	t.Helper()
	var all sync.WaitGroup
	for s := range senders {
		all.Go(func() {
			for i := range each {
				text := fmt.Sprint(s, " ", i, " ", strings.Repeat("x", size))
				if _, err := n.hub.Room(lobby).Send(t.Context(), text); err != nil {
					t.Errorf("flood: %v", err)
				}
			}
		})
	}
	all.Wait()
}

// F22: each node has its own way to Redis, and that of one is cut for some seconds. Its connections stay, what it sends
// is refused, the other goes on. Afterwards both have the same, without a gap.
func TestNodeIsCutOff(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var nodes []*node
	var proxies []*redistest.Proxy
	for _, name := range []string{"a", "b"} {
		proxy := redistest.NewProxy(t, server.Addr)
		store := overRedis(t, redisAt(t, proxy.Addr))
		nodes = append(nodes, startNode(t, name, store, store))
		proxies = append(proxies, proxy)
	}
	lee, kim := watch(nodes[0], "lee"), watch(nodes[1], "kim")
	a, b := speak(nodes[0], "a", 10*time.Millisecond), speak(nodes[1], "b", 10*time.Millisecond)
	a.more(20)
	proxies[0].BlackHole()
	b.more(50)
	a.fails(1)
	nodes[0].red()
	lee.stays()
	b.more(50)
	lee.stays()
	nodes[1].ready()
	proxies[0].Resume()
	nodes[0].ready()
	a.more(20)
	a.end()
	b.end()
	require.Zero(t, b.failed(), "that node was well")
	epoch, log := logOf(t, nodes[1].store)
	kept(t, epoch, log, a, b)
	for _, w := range []*watcher{lee, kim} {
		w.sawAll(log)
		w.stays()
	}
	acquainted(t, nodes...) // again
}

// F67: a client resumes on a node that has not heard of the newest messages, because its backplane stands still.
func TestResumeOnANodeThatLags(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	far, near := overRedis(t, redisAt(t, proxy.Addr)), overRedis(t, redisAt(t, server.Addr))
	seldom := func(o *parley.Options) { o.SyncInterval = time.Hour } // the node hears of nothing by asking
	a, b := startNode(t, "a", near, far, seldom), startNode(t, "b", near, near)
	lee := watch(a, "lee")
	var last place
	for i := range 10 {
		last = b.say(fmt.Sprint("before ", i))
	}
	lee.knows(last)
	proxy.Stall()
	first := last
	for i := range 20 {
		last = b.say(fmt.Sprint("stalled ", i))
	}
	// One has seen some of them, the other has seen all, on the other node: more than this node knows.
	half := place{last.epoch, first.offset + 10}
	kim, max := resumeAt(a, "kim", half), resumeAt(a, "max", last)
	_, log := logOf(t, near)
	same(t, log[half.offset:], kim.story().shown, "what kim has missed")
	require.Empty(t, max.story().shown, "max has missed nothing")
	for _, w := range []*watcher{kim, max} {
		require.Equal(t, new(true), w.next("history").Recovered, w.name)
	}
	end := a.say("while it stands still") // by the node that lags
	proxy.Resume()
	end2 := b.say("afterwards")
	require.Equal(t, end.offset+1, end2.offset)
	_, log = logOf(t, near)
	for w, from := range map[*watcher]int64{lee: 0, kim: half.offset, max: last.offset} {
		w.knows(end2)
		w.sawAll(log[from:])
		w.stays()
	}
}

// resumeAt connects a watcher that comes back to the lobby with a position.
func resumeAt(n *node, user string, at place) *watcher {
	n.t.Helper()
	w := listenAs(n, user)
	w.say(`{"type":"join","room":%q,"id":"j","epoch":%q,"offset":%d}`, lobby, at.epoch, at.offset)
	w.next("history")
	return w
}
