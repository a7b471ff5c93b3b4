package natsstore

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/natsstore/natstest"
	"github.com/parley-go/parley/storetest"
)

func TestBroker(t *testing.T) {
	s := natstest.Start(t)
	cfg := storetest.Config{
		PeerBroker: func(t *testing.T, _ parley.Broker) parley.Broker { return dial(t, s.URL, Options{}) },
		Interrupt: func(t *testing.T, b parley.Broker) {
			conn := b.(*Broker).conn
			id, err := conn.GetClientID()
			require.NoError(t, err)
			before := conn.Stats().Reconnects
			require.NoError(t, s.Server().DisconnectClientByID(id))
			until(t, "another connection", func() bool { return conn.Stats().Reconnects > before })
		},
	}
	cfg.RunBroker(t, func(t *testing.T) parley.Broker { return dial(t, s.URL, Options{}) })
}

// The publishing node gets its own payloads, too: hubs probe delivery in this way.
func TestBrokerAlone(t *testing.T) {
	s := natstest.Start(t)
	b := dial(t, s.URL, Options{})
	storetest.RunBroker(t, func(*testing.T) parley.Broker { return b })
	until(t, "all topics to be left", func() bool { return b.Stats().Topics == 0 })
	until(t, "all subscriptions to end", func() bool { return b.conn.NumSubscriptions() == 0 })
}

// With parts of 64 KiB instead of 1 MiB, the suite's 200 KiB come in four.
func TestBrokerSplits(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) { o.MaxPayload = 64 << 10 })
	b := dial(t, s.URL, Options{})
	storetest.RunBroker(t, func(*testing.T) parley.Broker { return b })
}

func TestLargePayloads(t *testing.T) {
	s := natstest.Start(t) // max_payload is 1 MiB
	b, other := dial(t, s.URL, Options{}), dial(t, s.URL, Options{})
	var r record
	subscribe(t, b, "t", r.add)
	for _, size := range []int{1<<20 - wholeHeader, 1<<20 - wholeHeader + 1, 1 << 20, 5<<20 + 7} {
		payload := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		publish(t, other, "t", payload)
		until(t, fmt.Sprint(size, " bytes"), func() bool { return r.count(payload) == 1 })
	}
	require.ErrorContains(t, b.Publish(t.Context(), "t", make([]byte, maxPayload+1)), "parley.Options.QueueSize")
	require.Zero(t, r.count(lost))
}

func TestMaxPayloadTooSmall(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) { o.MaxPayload = 512 })
	b := dial(t, s.URL, Options{})
	require.ErrorContains(t, b.Publish(t.Context(), "t", make([]byte, 600)), "raise max_payload")
	publishes(t, b, b)
}

func TestSubscribersOfOneTopic(t *testing.T) {
	s := natstest.Start(t)
	b := dial(t, s.URL, Options{})
	var first, second record
	end := subscribe(t, b, "t", first.add)
	subscribe(t, b, "t", second.add)
	require.Equal(t, 1, b.conn.NumSubscriptions(), "they share one")
	end()
	publish(t, b, "t", "x")
	until(t, "the payload", func() bool { return second.count("x") == 1 })
	require.Empty(t, first.all())
}

// A slow deliver holds up no other topic.
func TestSlowDeliver(t *testing.T) {
	s := natstest.Start(t)
	b := dial(t, s.URL, Options{})
	release := make(chan struct{})
	var slow, quick record
	subscribe(t, b, "slow", func(p []byte) {
		<-release
		slow.add(p)
	})
	subscribe(t, b, "quick", quick.add)
	for i := range 100 {
		publish(t, b, "slow", fmt.Sprint(i))
		publish(t, b, "quick", fmt.Sprint(i))
	}
	until(t, "the other topic", func() bool { return len(quick.all()) == 100 })
	require.Empty(t, slow.all())
	close(release)
	until(t, "the slow one", func() bool { return len(slow.all()) == 100 })
	require.Equal(t, quick.all(), slow.all())
}

// S38: what others send to our subjects is counted, told once and ignored.
func TestGarbage(t *testing.T) {
	s := natstest.Start(t)
	var log strings.Builder
	conn := connect(t, s.URL)
	b, err := New(conn, Options{Logger: textLogger(&log)})
	require.NoError(t, err)
	var r record
	subscribe(t, b, "room/a", r.add)
	app := s.Conn(t)
	garbage := []string{"", "hello", "pl", "pl\x01", "pl\x02\x00future", "pl\x01\x07x", "pl\x01\x01short",
		string(appendPart(nil, part{1, 1, 3, 3}, []byte("x"))), string(appendPart(nil, part{1, 1, 0, 1}, []byte("x"))), string(appendPart(nil, part{1, 1, 0, 0}, []byte("x")))}
	for _, g := range garbage {
		require.NoError(t, app.Publish("parley.room/a", []byte(g)))
	}
	// Subjects of an application that are near to ours.
	for _, subject := range []string{"parley", "parley.room", "parley.room.a", "parleyroom/a", "other.room/a"} {
		require.NoError(t, app.Publish(subject, appendWhole(nil, []byte("not ours"))))
	}
	require.NoError(t, app.Flush())
	publish(t, b, "room/a", "ours")
	until(t, "our payload", func() bool { return r.count("ours") == 1 })
	require.Equal(t, []string{"ours"}, r.all())
	require.EqualValues(t, len(garbage), b.Stats().Garbage)
	require.NoError(t, b.Close())
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
}

func TestPrefixes(t *testing.T) {
	s := natstest.Start(t)
	a, b := dial(t, s.URL, Options{Prefix: "app.one"}), dial(t, s.URL, Options{Prefix: "app.two"})
	var one, two record
	subscribe(t, a, "t", one.add)
	subscribe(t, b, "t", two.add)
	publish(t, a, "t", "x")
	publish(t, b, "t", "y")
	until(t, "both payloads", func() bool { return len(one.all()) == 1 && len(two.all()) == 1 })
	require.Equal(t, []string{"x", "y"}, append(one.all(), two.all()...))
}

func TestNewRefuses(t *testing.T) {
	s := natstest.Start(t)
	_, err := New(nil, Options{})
	require.ErrorContains(t, err, "see Connect")
	_, err = New(s.Conn(t), Options{}) // F20: the default ends for good after two minutes
	require.ErrorContains(t, err, "nats.MaxReconnects(-1)")
	_, err = New(s.Conn(t, nats.MaxReconnects(-1), nats.NoReconnect()), Options{})
	require.ErrorContains(t, err, "nats.MaxReconnects(-1)")
	_, err = New(connect(t, s.URL, nats.NoEcho()), Options{})
	require.ErrorContains(t, err, "nats.NoEcho")
	closed := connect(t, s.URL)
	closed.Close()
	_, err = New(closed, Options{})
	require.ErrorContains(t, err, "closed")
	for _, prefix := range []string{"a b", "a.", ".a", "a..b", "a.*", "a.>", "ü", strings.Repeat("a", 65)} {
		_, err = New(connect(t, s.URL), Options{Prefix: prefix})
		require.ErrorContains(t, err, "Options.Prefix")
	}
	_, err = New(connect(t, s.URL), Options{Timeout: -1})
	require.ErrorContains(t, err, "Options.Timeout")
	_, err = Connect("nats://[")
	require.ErrorContains(t, err, "natsstore: connect")

	var log strings.Builder
	b, err := New(s.Conn(t, nats.MaxReconnects(-1)), Options{Logger: textLogger(&log)})
	require.NoError(t, err)
	require.NoError(t, b.Close())
	for _, setting := range []string{"nats.PingInterval", "nats.FlusherTimeout", "nats.IgnoreAuthErrorAbort"} {
		require.Contains(t, log.String(), setting)
	}
}

// What the server does not allow is an error, not silence.
func TestPermissions(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"parley.>"}, Deny: []string{"parley.secret"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"parley.>"}, Deny: []string{"parley.secret"}},
		}}}
	})
	b := over(t, connect(t, s.URL, nats.UserInfo("u", "p"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})), Options{})
	for range 3 {
		require.ErrorContains(t, b.Publish(t.Context(), "secret", []byte("x")), "allow to publish")
	}
	_, err := b.Subscribe(t.Context(), "secret", func([]byte) {})
	require.ErrorContains(t, err, "allow to publish and subscribe")
	publishes(t, b, b)
}

// Whatever ends first, nothing hangs, and what comes after fails.
func TestClosing(t *testing.T) {
	s := natstest.Start(t)
	for name, end := range map[string]func(b *Broker){
		"the Broker":                    func(b *Broker) { require.NoError(t, b.Close()) },
		"the connection":                func(b *Broker) { b.conn.Close() },
		"the connection, drained":       func(b *Broker) { require.NoError(t, b.conn.Drain()) },
		"the Broker without the server": func(b *Broker) { s.Shutdown(); require.NoError(t, b.Close()); s.Restart() },
	} {
		t.Run(name, func(t *testing.T) {
			b := dial(t, s.URL, Options{})
			unsubscribe := subscribe(t, b, "t", func([]byte) {})
			end(b)
			until(t, "publishing to fail", func() bool { return b.Publish(t.Context(), "t", []byte("x")) != nil })
			until(t, "subscribing to fail for good", func() bool {
				_, err := b.Subscribe(t.Context(), "t", func([]byte) {})
				return err != nil && strings.Contains(err.Error(), "closed")
			})
			unsubscribe()
			b.Reset()
			require.NoError(t, b.Close())
			require.NoError(t, b.Close())
		})
	}
}

// A publisher that gives up is gone at once, and its payload takes no space for long.
func TestPublishHonoursContext(t *testing.T) {
	s := natstest.Start(t)
	relay := natstest.StartRelay(t, s)
	b := over(t, connect(t, relay.URL), Options{Timeout: time.Hour})
	publishes(t, b, b)
	relay.Block(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Publish(ctx, "t", []byte("x")) }()
	go func() {
		_, err := b.Subscribe(ctx, "t", func([]byte) {})
		done <- err
	}()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.ErrorIs(t, <-done, context.Canceled)
	relay.Block(false)
	publishes(t, b, b)
}
