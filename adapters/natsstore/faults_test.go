package natsstore

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/natsstore/natstest"
)

// losses publishes n payloads or more, 8 at a time, until fault is over, which runs after a third of them, and checks what F20 asks: whatever is not delivered has
// failed with an error, or a deliver(nil) comes after it was begun, upon which the hub asks the Store.
func losses(t *testing.T, from, to *Broker, n int, fault func()) {
	t.Helper()
	var mu sync.Mutex
	told := 0                 // calls of deliver(nil)
	begun := map[string]int{} // told when the payload was in the Store, say
	got, failed := map[string]bool{}, map[string]bool{}
	subscribe(t, to, "room/f20", func(p []byte) {
		mu.Lock()
		defer mu.Unlock()
		if p == nil {
			told++
		} else {
			got[string(p)] = true
		}
	})
	faulted := make(chan struct{})
	goesOn := func() bool {
		select {
		case <-faulted:
			return false
		default:
			return true
		}
	}
	var started, done atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := int(started.Add(1)); i <= n || goesOn(); i = int(started.Add(1)) {
				payload := fmt.Sprint(i)
				mu.Lock()
				begun[payload] = told
				mu.Unlock()
				if err := from.Publish(t.Context(), "room/f20", []byte(payload)); err != nil {
					mu.Lock()
					failed[payload] = true
					mu.Unlock()
				}
				if done.Add(1) == int32(n/3) {
					go func() {
						defer close(faulted)
						fault()
					}()
				}
				if i > n/3 {
					time.Sleep(8 * time.Millisecond) // so that some come after the fault, too
				}
			}
		})
	}
	wg.Wait()
	publishes(t, from, to)
	missing := func() (list []string) {
		mu.Lock()
		defer mu.Unlock()
		for p, before := range begun {
			if !got[p] && !failed[p] && told == before {
				list = append(list, p)
			}
		}
		return list
	}
	until(t, "every loss to be told", func() bool { return len(missing()) == 0 })
	mu.Lock()
	defer mu.Unlock()
	lostInSilence := 0
	for p := range begun {
		if !got[p] && !failed[p] {
			lostInSilence++
		}
	}
	t.Logf("of %d payloads %d were delivered, %d failed, %d were lost and told of; deliver(nil) was called %d times", len(begun), len(got), len(failed), lostInSilence, told)
}

// F20: 100 of 800 were lost over a reconnect, without an error.
func TestF20ServerRestarts(t *testing.T) {
	s := natstest.Start(t)
	from, to := dial(t, s.URL, Options{}), dial(t, s.URL, Options{})
	losses(t, from, to, 800, func() {
		s.Shutdown()
		until(t, "a payload to fail", func() bool { return from.Stats().PublishErrors > 0 })
		s.Restart()
	})
	until(t, "the new connection to count", func() bool { return to.Stats().Connects > 0 })
}

// F20: only the subscriber's server restarts, so that the publisher sees nothing of it.
func TestF20SubscriberLosesItsServer(t *testing.T) {
	servers := natstest.StartCluster(t, 2)
	here := nats.DontRandomize()
	from, to := over(t, connect(t, servers[0].URL, here), Options{}), over(t, connect(t, servers[1].URL, here), Options{})
	publishes(t, from, to)
	losses(t, from, to, 800, servers[1].Restart)
	require.Zero(t, from.Stats().PublishErrors)
}

// F27: a server hears of a subscription at another one a little later. What it has not sent until then is told, too.
func TestF27SubscribeInCluster(t *testing.T) {
	servers := natstest.StartCluster(t, 2)
	from, to := dial(t, servers[0].URL, Options{}), dial(t, servers[1].URL, Options{})
	publishes(t, from, to)
	var records [300]record
	for i := range records {
		topic := fmt.Sprint("room/", i)
		subscribe(t, to, topic, records[i].add)
		publish(t, from, topic, "at once")
	}
	missed := 0
	for i := range records {
		until(t, "the loss to be told", func() bool { return records[i].count(lost) > 0 })
		missed += 1 - records[i].count("at once")
	}
	t.Logf("%d of %d payloads were not sent", missed, len(records))
}

func TestF20LameDuck(t *testing.T) {
	servers := natstest.StartCluster(t, 2)
	from, to := dial(t, servers[0].URL, Options{}), dial(t, servers[1].URL, Options{})
	publishes(t, from, to)
	losses(t, from, to, 800, servers[1].LameDuck)
	until(t, "the new connection to count", func() bool { return to.Stats().Connects > 0 })
}

// F20: connections that are cut again and again.
func TestF20ResetAgainAndAgain(t *testing.T) {
	s := natstest.Start(t)
	from, to := dial(t, s.URL, Options{}), dial(t, s.URL, Options{})
	losses(t, from, to, 800, func() {
		for range 20 {
			n := to.Stats().Connects
			from.Reset()
			to.Reset()
			until(t, "a new connection", func() bool { return to.Stats().Connects > n })
		}
	})
}

// A publish without a connection fails at once, and is not sent later, when it would be a surprise.
func TestPublishWithoutConnection(t *testing.T) {
	s := natstest.Start(t)
	from, to := dial(t, s.URL, Options{Timeout: time.Hour}), dial(t, s.URL, Options{})
	var r record
	subscribe(t, to, "t", r.add)
	s.Shutdown()
	until(t, "the loss to be noticed", func() bool { return !from.Stats().Connected })
	for range 100 {
		require.ErrorIs(t, from.Publish(t.Context(), "t", []byte("too early")), errDisconnected)
	}
	s.Restart()
	publishes(t, from, to)
	until(t, "the loss to be told", func() bool { return r.count(lost) == 1 })
	publish(t, from, "t", "in time")
	until(t, "a payload", func() bool { return r.count("in time") == 1 })
	require.Equal(t, []string{lost, "in time"}, r.all())
}

// A hub may start before its NATS server.
func TestStartWithoutServer(t *testing.T) {
	s := natstest.Start(t)
	s.Shutdown()
	b := dial(t, s.URL, Options{})
	require.ErrorIs(t, b.Publish(t.Context(), "t", []byte("x")), errDisconnected)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Subscribe(ended, "t", func([]byte) {})
	require.ErrorIs(t, err, context.Canceled)
	var r record
	subscribed := make(chan error)
	go func() {
		_, err := b.Subscribe(t.Context(), "t", r.add)
		subscribed <- err
	}()
	s.Restart()
	require.NoError(t, <-subscribed)
	publish(t, b, "t", "x")
	until(t, "a payload", func() bool { return r.count("x") == 1 })
}

// A server that is silent: publishing fails within Timeout, then at once; the connection is made anew, and what was lost is told.
func TestSilentServer(t *testing.T) {
	s := natstest.Start(t)
	relay := natstest.StartRelay(t, s)
	from := over(t, connect(t, relay.URL, nats.PingInterval(time.Second)), Options{Timeout: 50 * time.Millisecond})
	to := over(t, connect(t, relay.URL, nats.PingInterval(time.Second)), Options{})
	var r record
	subscribe(t, to, "t", r.add)
	publishes(t, from, to)
	relay.Block(true)
	require.ErrorIs(t, from.Publish(t.Context(), "t", []byte("x")), errSilent)
	require.ErrorIs(t, from.Publish(t.Context(), "t", []byte("x")), errSilent)
	until(t, "the connection to notice", func() bool { return !from.Stats().Connected && !to.Stats().Connected })
	require.ErrorIs(t, from.Publish(t.Context(), "t", []byte("x")), errDisconnected)
	relay.Block(false)
	publishes(t, from, to)
	until(t, "the loss to be told", func() bool { return r.count(lost) > 0 })
}

// F20: credentials that are refused for a while end nothing. The default of nats.go gives up at the second refusal.
func TestF20CredentialsRefused(t *testing.T) {
	var settings *server.Options
	s := natstest.Start(t, func(o *server.Options) { o.Username, o.Password, settings = "u", "right", o })
	var refused atomic.Int32
	b := over(t, connect(t, s.URL, nats.UserInfo("u", "right"), nats.ReconnectErrHandler(func(*nats.Conn, error) { refused.Add(1) }),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) { refused.Add(1) })), Options{})
	var r record
	subscribe(t, b, "t", r.add)
	settings.Password = "another"
	s.Restart()
	until(t, "several refusals", func() bool { return refused.Load() > 5 })
	settings.Password = "right"
	s.Restart()
	publishes(t, b, b)
	until(t, "the loss to be told", func() bool { return r.count(lost) == 1 })
}

// Reset helps when the connection has not noticed yet.
func TestResetOfSilentConnection(t *testing.T) {
	s := natstest.Start(t)
	dead := natstest.StartRelay(t, s)
	b := over(t, connect(t, dead.URL+","+s.URL, nats.DontRandomize()), Options{})
	var r record
	subscribe(t, b, "t", r.add)
	dead.Block(true)
	b.Reset()
	b.Reset()
	until(t, "the loss to be told", func() bool { return r.count(lost) > 0 })
	publishes(t, b, b)
}

// Handlers of the connection are the application's.
func TestHandlersStayTheApplications(t *testing.T) {
	s := natstest.Start(t)
	var down, up atomic.Int32
	conn := connect(t, s.URL,
		nats.DisconnectErrHandler(func(*nats.Conn, error) { down.Add(1) }), nats.ReconnectHandler(func(*nats.Conn) { up.Add(1) }))
	listener := conn.StatusChanged(nats.CONNECTED)
	b := over(t, conn, Options{})
	var r record
	subscribe(t, b, "t", r.add)
	app, err := conn.SubscribeSync("app")
	require.NoError(t, err)
	s.Restart()
	until(t, "handlers and Broker to be told", func() bool { return down.Load() == 1 && up.Load() == 1 && r.count(lost) == 1 })
	require.Equal(t, nats.CONNECTED, <-listener)
	require.NoError(t, b.Close())
	require.NoError(t, conn.Publish("app", []byte("x")))
	_, err = app.NextMsg(patience)
	require.NoError(t, err, "the application's subscription outlives the Broker")
	require.Equal(t, 1, conn.NumSubscriptions())
}

// F30: the last of subscribing and ending counts, also without a connection in between.
func TestF30JoinLeaveJoin(t *testing.T) {
	s := natstest.Start(t)
	b := dial(t, s.URL, Options{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			topic := fmt.Sprint("room/", w%3)
			for range 100 {
				ctx, cancel := context.WithCancel(context.Background())
				if w == 0 {
					cancel() // gives up at once, or nearly so
				}
				if end, err := b.Subscribe(ctx, topic, func([]byte) {}); err == nil {
					end()
				}
				cancel()
			}
		})
	}
	for range 5 {
		b.Reset()
		publishes(t, b, b)
	}
	wg.Wait()
	until(t, "nothing to be left", func() bool { return b.Stats().Topics == 0 && b.conn.NumSubscriptions() == 0 })
	for w := range 3 {
		var r record
		subscribe(t, b, fmt.Sprint("room/", w), r.add)
		publish(t, b, fmt.Sprint("room/", w), "x")
		until(t, "a payload", func() bool { return r.count("x") == 1 })
	}
}

// 10,000 topics, as of a large node: no goroutine for any of them, one message each, and all are told of a loss.
func TestManySubscriptions(t *testing.T) {
	const n = 10_000
	s := natstest.Start(t)
	b := dial(t, s.URL, Options{})
	var got, told atomic.Int32
	before, goroutines := heap(), runtime.NumGoroutine()
	start := time.Now()
	var wg sync.WaitGroup
	for w := range 100 {
		wg.Go(func() {
			for i := w; i < n; i += 100 {
				_, err := b.Subscribe(t.Context(), fmt.Sprint("room/", i), func(p []byte) {
					if p == nil {
						told.Add(1)
					} else {
						got.Add(1)
					}
				})
				if err != nil {
					t.Errorf("Subscribe %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d subscriptions in %v, %d bytes each, with those of the server", n, time.Since(start).Round(time.Millisecond), (heap()-before)/n)
	require.Less(t, runtime.NumGoroutine(), goroutines+50)
	for i := range n {
		publish(t, b, fmt.Sprint("room/", i), "x")
	}
	until(t, "a payload in each", func() bool { return got.Load() == n })
	s.Restart()
	until(t, "all to be told", func() bool { return told.Load() == n })
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}
