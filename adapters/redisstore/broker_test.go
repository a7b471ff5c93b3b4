package redisstore

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
	"github.com/parley-go/parley/storetest"
)

func TestBrokerContract(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	storetest.Config{
		PeerBroker: func(t *testing.T, _ parley.Broker) parley.Broker { return brokerOver(t, server.Client()) },
		Interrupt:  func(t *testing.T, _ parley.Broker) { interrupt(t, server.Client()) },
	}.RunBroker(t, func(t *testing.T) parley.Broker { return brokerOver(t, server.Client()) })
}

// A simulated server, as applications have it in their own tests.
func TestBrokerOnMiniredis(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	broker := func(t *testing.T) parley.Broker {
		c := redis.NewClient(&redis.Options{Addr: server.Addr()})
		t.Cleanup(func() { _ = c.Close() })
		return brokerOver(t, c)
	}
	storetest.Config{
		PeerBroker: func(t *testing.T, _ parley.Broker) parley.Broker { return broker(t) },
		Interrupt: func(t *testing.T, _ parley.Broker) {
			server.Close()
			require.NoError(t, server.Restart())
		},
	}.RunBroker(t, broker)
}

// What another application sends to the channel is the hub's to judge (S38).
func TestBrokerPassesOnWhatOthersSendS38(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := brokerOver(t, server.Client())
	k, other := listen(t, s, "room/a"), listen(t, s, "room/b")
	for _, garbage := range []string{"\x00\xff", "{", "", strings.Repeat("x", 1<<20)} {
		require.NoError(t, server.Client().Publish(context.Background(), s.channel("room/a"), garbage).Err())
		eventually(t, "garbage to arrive", func() bool { return k.has(garbage) })
	}
	require.Zero(t, k.lost(), "an empty payload is no loss")
	require.Zero(t, other.total())
}

func TestPublishRefusesWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := brokerOver(t, server.Client())
	k := listen(t, s, "room/a")
	require.NoError(t, s.Publish(context.Background(), "room/a", make([]byte, maxPayload)))
	require.ErrorContains(t, s.Publish(context.Background(), "room/a", make([]byte, maxPayload+1)), "publish less")
	eventually(t, "the largest payload", func() bool { return k.total() == 1 })
}

// Subscribe returns in time when the server is down, says why, and leaves nothing behind.
func TestSubscribeWithoutServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := brokerOver(t, server.Client())
	server.Kill()
	eventually(t, "an error that says why", func() bool { // the first attempt to connect may take longer than ctx
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		_, err := s.Subscribe(ctx, "room/a", func([]byte) { t.Error("deliver without a subscription") })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, s.Stats().Subscriptions)
		return strings.Contains(err.Error(), "refused")
	})

	k := make(chan *sink)
	go func() { k <- listen(t, s, "room/b") }() // waits for the server
	eventually(t, "the subscription to be wanted", func() bool { return s.Stats().Subscriptions == 1 })
	server.Restart()
	reaches(t, s, "room/b", <-k)
}

// An account that may not subscribe is told so, and works when it may.
func TestSubscribeRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := context.Background()
	require.NoError(t, server.Client().Do(ctx, "acl", "setuser", "default", "resetchannels").Err())
	s := brokerOver(t, server.Client())
	eventually(t, "an error that says why", func() bool { // likewise
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		_, err := s.Subscribe(short, "room/a", func([]byte) {})
		require.Error(t, err)
		return strings.Contains(err.Error(), "NOPERM")
	})
	require.NoError(t, server.Client().Do(ctx, "acl", "setuser", "default", "allchannels").Err())
	reaches(t, s, "room/a", listen(t, s, "room/a"))
}

func TestCloseEndsSubscriptions(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := brokerOver(t, server.Client())
	peer := brokerOver(t, server.Client())
	k := listen(t, s, "room/a")
	var closing sink
	_, err := s.Subscribe(context.Background(), "room/b", func(p []byte) {
		closing.deliver(p)
		require.NoError(t, s.Close(), "Close from within deliver")
	})
	require.NoError(t, err)
	require.NoError(t, peer.Publish(context.Background(), "room/b", []byte("x")))
	eventually(t, "Close", func() bool { return closing.total() == 1 && s.Stats().Subscriptions == 0 })
	require.NoError(t, s.Close())
	require.NoError(t, peer.Publish(context.Background(), "room/a", []byte("x")))
	_, err = s.Subscribe(context.Background(), "room/a", k.deliver)
	require.ErrorIs(t, err, ErrClosed)
	reaches(t, peer, "room/a", listen(t, peer, "room/a"))
	require.Zero(t, k.total())
}

// Close does not wait for a Redis that is silent, nor does a Subscribe outlive it.
func TestCloseWhileSubscribing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := brokerOver(t, server.Client())
	listen(t, s, "room/a")
	server.Stop()
	failed := make(chan error)
	go func() {
		_, err := s.Subscribe(context.Background(), "room/b", func([]byte) {})
		failed <- err
	}()
	eventually(t, "the subscription to be wanted", func() bool { return s.Stats().Subscriptions == 2 })
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-failed, ErrClosed)
	server.Cont()
}

// Ten thousand topics: no goroutine for an idle one, and all of them are told of a loss, and subscribed to again, with few commands.
func TestManySubscriptions(t *testing.T) {
	const many = 10_000
	server := redistest.Start(t)
	client := server.Client()
	s, peer := patient(brokerOver(t, server.Client())), brokerOver(t, server.Client())
	before := goroutines()
	sinks := subscribeMany(t, s, many)
	require.Less(t, goroutines()-before, 50, "goroutines for idle subscriptions")
	require.NoError(t, client.ConfigResetStat(context.Background()).Err())
	interrupt(t, client)
	for i := range sinks {
		eventually(t, "all to be told", func() bool { return sinks[i].lost() > 0 })
	}
	_, stats, found := strings.Cut(client.Info(context.Background(), "commandstats").Val(), "cmdstat_subscribe:calls=")
	require.True(t, found)
	var commands int
	_, err := fmt.Sscan(strings.SplitN(stats, ",", 2)[0], &commands)
	require.NoError(t, err)
	require.Less(t, commands, many/10)
	for i := 0; i < many; i += 997 {
		topic := fmt.Sprint("room/", i)
		require.NoError(t, peer.Publish(context.Background(), topic, []byte(topic)))
		eventually(t, "a payload", func() bool { return sinks[i].has(topic) })
	}
	for i := range sinks {
		require.Equal(t, 1, sinks[i].lost(), "each is told once")
		require.LessOrEqual(t, sinks[i].total(), 1)
	}
	require.EqualValues(t, many, s.Stats().Subscriptions)
	require.EqualValues(t, 1, s.Stats().Reconnects)
}
