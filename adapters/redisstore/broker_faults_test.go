package redisstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

// through returns a client that reaches the server by a proxy.
func through(t *testing.T, p *redistest.Proxy) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: p.Addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// F13: what is sent vanishes, both ways, and nobody closes the connection.
func TestBlackHoleF13(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	to := brokerOver(t, through(t, proxy))
	s := startStream(t, brokerOver(t, server.Client()), to, "room/a")
	s.flows()
	proxy.BlackHole()
	eventually(t, "the silence to be noticed", func() bool { return troubled(to) })
	proxy.Resume()
	eventually(t, "the loss to be told", func() bool { return s.lost() > 0 })
	s.flows()
	s.check()

	// What only waits, and comes after all, is no reason to miss anything either.
	s = startStream(t, s.from, to, "room/b")
	s.flows()
	proxy.Stall()
	eventually(t, "the silence to be noticed", func() bool { return troubled(to) })
	proxy.Resume()
	s.flows()
	proxy.Cut()
	s.flows()
	s.check()
}

// troubled reports whether a connection has ended, and no other one works yet.
func troubled(s *Store) bool {
	r := s.broker.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lanes {
		if l.lastErr != nil {
			return true
		}
	}
	return false
}

// F14: the server is killed and comes back, again and again.
func TestKillF14(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := startStream(t, brokerOver(t, server.Client()), brokerOver(t, server.Client()), "room/a")
	chance := rand.New(rand.NewPCG(14, 20))
	for i := range 20 {
		s.flows()
		time.Sleep(time.Duration(chance.IntN(5000)) * time.Microsecond) // any moment will do
		server.Kill()
		server.Restart()
		eventually(t, "the loss to be told", func() bool { return s.lost() > i })
	}
	s.flows()
	s.check()
}

// F15: the server stands still, with all its connections open.
func TestStandstillF15(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	to := brokerOver(t, server.Client())
	s := startStream(t, brokerOver(t, server.Client()), to, "room/a")
	s.flows()
	server.Stop()
	eventually(t, "the standstill to be noticed", func() bool { return troubled(to) })
	server.Cont()
	eventually(t, "the loss to be told", func() bool { return s.lost() > 0 })
	s.flows()
	s.check()
}

// F16: the primary stands still, another server takes its place, and the old one comes back.
func TestFailoverF16(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t, 1)
	to := brokerOver(t, sentinel.Client())
	s := startStream(t, brokerOver(t, sentinel.Client()), to, "room/a")
	idle := listen(t, to, "room/idle")
	s.flows()
	old := sentinel.Primary()
	old.Stop()
	now := sentinel.AwaitFailover(old)
	eventually(t, "the loss to be told", func() bool { return s.lost() > 0 && idle.lost() > 0 })
	s.flows()
	require.Positive(t, now.Client().PubSubNumSub(context.Background(), to.channel("room/idle")).Val()[to.channel("room/idle")],
		"the subscription is not at the new primary")
	old.Cont()
	s.flows()
	reaches(t, s.from, "room/idle", idle)
	s.check()
}

// F18: Redis closes connections that do not read as fast as it sends.
func TestOutputBufferF18(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := context.Background()
	client := server.Client()
	to := brokerOver(t, server.Client())
	s := startStream(t, brokerOver(t, server.Client()), to, "room/a")
	s.flows()
	require.NoError(t, client.ConfigSet(ctx, "client-output-buffer-limit", "pubsub 100kb 50kb 1").Err())
	k := listen(t, to, "room/flood")
	eventually(t, "Redis to close the connection", func() bool {
		// All of it in one step of Redis, which writes to its clients afterwards: so it is too much for any buffer.
		_, err := client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			for range 50 {
				p.Publish(ctx, to.channel("room/flood"), make([]byte, 50_000))
			}
			return nil
		})
		require.NoError(t, err)
		return to.Stats().Reconnects > 0
	})
	eventually(t, "the loss to be told", func() bool { return s.lost() > 0 && k.lost() > 0 })
	s.flows()
	s.check()
}

// F19: a subscriber that is too slow loses, is told, and holds up nobody.
func TestSlowSubscriberF19(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	from, to := brokerOver(t, server.Client()), patient(brokerOver(t, server.Client()))
	to.broker.receiver.limits = queueLimits{count: 100, bytes: 100_000, all: 1 << 20}
	ctx := context.Background()
	release, running := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var slow sink
	unsubscribe, err := to.Subscribe(ctx, "room/slow", func(p []byte) {
		once.Do(func() { close(running) })
		<-release
		slow.deliver(p)
	})
	require.NoError(t, err)
	defer unsubscribe()
	fast := listen(t, to, "room/fast")
	const many = 1234
	for i := range many {
		require.NoError(t, from.Publish(ctx, "room/slow", fmt.Append(nil, i)))
	}
	<-running
	reaches(t, from, "room/fast", fast)
	eventually(t, "all to be received", func() bool { return to.Stats().Received >= many+uint64(fast.total()) })
	require.Zero(t, slow.total())
	require.Zero(t, fast.lost())
	require.LessOrEqual(t, to.Stats().Waiting, int64(100_000))
	close(release)
	eventually(t, "the rest", func() bool { return slow.has(fmt.Sprint(many - 1)) })
	stats := to.Stats()
	require.EqualValues(t, many, uint64(slow.total())+stats.Dropped, "each was delivered or counted as dropped")
	require.Positive(t, slow.lost())
	require.Positive(t, stats.Dropped)
	eventually(t, "nothing to wait", func() bool { return to.Stats().Waiting == 0 })
}

// The bounds in bytes hold for one subscription, and for all of them.
func TestQueueBytesF19(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	from, to := brokerOver(t, server.Client()), patient(brokerOver(t, server.Client()))
	to.broker.receiver.limits = queueLimits{count: 1000, bytes: 9_500, all: 9_900}
	release := make(chan struct{})
	var sinks [3]sink
	sent := uint64(0)
	publish := func(i int) {
		topic := fmt.Sprint("room/", i)
		for range 10 {
			require.NoError(t, from.Publish(context.Background(), topic, make([]byte, 1000)))
			sent++
			eventually(t, "it to be received", func() bool { return to.Stats().Received == sent })
			require.LessOrEqual(t, to.Stats().Waiting, int64(9_900))
			if sent == 1 {
				eventually(t, "deliver to have it", func() bool { return to.Stats().Waiting == 0 })
			}
		}
	}
	for i := range sinks {
		unsubscribe, err := to.Subscribe(context.Background(), fmt.Sprint("room/", i), func(p []byte) {
			<-release
			sinks[i].deliver(p)
		})
		require.NoError(t, err)
		defer unsubscribe()
		publish(i)
		if i == 0 {
			require.Zero(t, to.Stats().Dropped, "the first one is with deliver, and nine fit")
		}
	}
	require.GreaterOrEqual(t, to.Stats().Dropped, uint64(18), "the first one has taken what all may have")
	publish(0)
	close(release)
	for i := range sinks {
		eventually(t, "the loss to be told", func() bool { return sinks[i].lost() > 0 })
	}
	eventually(t, "nothing to wait", func() bool { return to.Stats().Waiting == 0 })
}

// F30: subscriptions come and go fast while connections end; the last action wins.
func TestLastActionWinsF30(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	from, to := brokerOver(t, server.Client()), brokerOver(t, server.Client())
	done := make(chan struct{})
	var breaking sync.WaitGroup
	client := server.Client()
	breaking.Go(func() {
		for pause := 20 * time.Millisecond; ; pause += pause / 20 { // sooner or later it is enough for a slow machine, too
			select {
			case <-done:
				return
			case <-time.After(pause):
				client.ClientKillByFilter(context.Background(), "type", "pubsub")
			}
		}
	})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			topics := rand.New(rand.NewPCG(1, uint64(w)))
			for range 300 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(topics.IntN(10))*time.Millisecond)
				unsubscribe, err := to.Subscribe(ctx, fmt.Sprint("room/", topics.IntN(5)), func([]byte) {})
				cancel()
				if err == nil {
					unsubscribe()
				}
			}
		})
	}
	wg.Wait()
	sinks := make([]*sink, 5)
	for i := range sinks {
		sinks[i] = listen(t, to, fmt.Sprint("room/", i))
	}
	close(done)
	breaking.Wait()
	for i, k := range sinks {
		reaches(t, from, fmt.Sprint("room/", i), k)
	}
	require.Equal(t, 5, to.Stats().Subscriptions)
	for i := range sinks {
		channel := to.channel(fmt.Sprint("room/", i))
		eventually(t, "connections of the past to be gone", func() bool {
			return client.PubSubNumSub(context.Background(), channel).Val()[channel] == 1
		})
	}
}

// What nobody wants any more, the server does not send.
func TestUnsubscribeReachesTheServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client()
	s := brokerOver(t, server.Client())
	_ = subscribeMany(t, s, 10)
	ctx := context.Background()
	unsubscribe, err := s.Subscribe(ctx, "room/1", func([]byte) {})
	require.NoError(t, err)
	gone, err := s.Subscribe(ctx, "room/gone", func([]byte) {})
	require.NoError(t, err)
	require.Len(t, client.PubSubChannels(ctx, "parley:*").Val(), 11)
	unsubscribe()
	gone()
	gone()
	eventually(t, "the subscription to end", func() bool { return len(client.PubSubChannels(ctx, "parley:*").Val()) == 10 })
	r := s.broker.receiver
	known := func() (channels, count int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.channels), r.count
	}
	// The server's answer comes after the server has done it.
	eventually(t, "the channel to be forgotten", func() bool { channels, _ := known(); return channels == 10 })
	_, count := known()
	require.Equal(t, 10, count)
}

// The hub resets a Broker whose connections are there, but silent.
func TestReset(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	to := patient(brokerOver(t, through(t, proxy)))
	to.Reset() // before there is anything
	s := startStream(t, brokerOver(t, server.Client()), to, "room/a")
	for i := range 5 {
		s.flows()
		to.Reset()
		eventually(t, "the loss to be told", func() bool { return s.lost() > i })
	}
	s.flows()
	require.EqualValues(t, 5, to.Stats().Reconnects)
	s.check()
}

// When the client has subscribed again without telling, something is missing.
func TestUnexpectedConfirmation(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := patient(brokerOver(t, server.Client()))
	k := listen(t, s, "room/a")
	require.Zero(t, k.lost())
	s.broker.receiver.lanes[""].subscribed(s.channel("room/a")) // as after an answer that nobody has asked for
	eventually(t, "the loss to be told", func() bool { return k.lost() == 1 })
}
