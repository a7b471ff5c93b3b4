package parley

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// F1: a client that vanishes without a word is gone within two intervals.
func TestSilentClientIsClosed(t *testing.T) {
	for _, interval := range []time.Duration{30 * time.Second, 5 * time.Second} {
		for _, offset := range []time.Duration{0, 1, interval / 3, interval - 1} {
			bubble(t, func(t *testing.T) {
				ends := make(chan CloseCode, 10)
				s := serve(t, Options{PingInterval: interval, Hooks: Hooks{
					Disconnect: func(_ *Conn, code CloseCode) { ends <- code },
				}})
				unharmed := s.bystanders()
				time.Sleep(offset) // somewhere between two beats
				c := s.raw()
				c.pong.Store(false)
				start := time.Now()
				c.expectClosed(CloseNoHeartbeat)
				took := time.Since(start)
				require.GreaterOrEqual(t, took, interval, "it had one interval to answer a ping")
				require.LessOrEqual(t, took, 2*interval+s.opts.CloseTimeout)
				require.Equal(t, CloseNoHeartbeat, <-ends)
				require.EqualValues(t, 1, s.Stats().ClosedNoHeartbeat)
				unharmed()
			})
		}
	}
}

// F59, F71: who answers pings lives, for hours without a message, and so does
// who says anything at all.
func TestAnsweringClientsLive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		unharmed := s.bystanders()
		mute := s.raw()
		mute.pong.Store(false)
		for range 240 {
			time.Sleep(29 * time.Second)
			mute.text(`{"type":"ping"}`) // a message counts as life
			mute.expect("pong")
		}
		unharmed()
		for range 100 {
			time.Sleep(29 * time.Second)
			mute.write([]byte{bitFin | opText}) // and so does a single byte
			time.Sleep(time.Second)
			mute.write(rawText(`{"type":"ping"}`)[1:])
			mute.expect("pong")
		}
		unharmed()
	})
}

// F59: proxies cut what is idle for 60 s; there is a ping at least each interval.
func TestIdleClientsGetPings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		time.Sleep(7 * time.Second)
		c := s.raw()
		last := time.Now()
		for range 100 {
			f := c.frame()
			require.EqualValues(t, bitFin|opPing, f.first)
			require.LessOrEqual(t, f.at.Sub(last), s.opts.PingInterval)
			last = f.at
		}
	})
}

// S15: the timeouts of the http.Server end with the upgrade; the hub has its own.
func TestServerTimeoutsDoNotApply(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hub, err := New(Options{Authenticator: headerAuth, Logger: quiet()})
		require.NoError(t, err)
		listener := newMemoryListener()
		s := serveOn(t, hub, &http.Server{
			Handler: hub, ReadTimeout: time.Second, ReadHeaderTimeout: time.Second,
			WriteTimeout: time.Second, IdleTimeout: time.Second,
		}, listener, listener)
		c := s.plain()
		time.Sleep(time.Hour)
		c.send(`{"type":"ping"}`)
		c.expect("pong")
	})
}

// Pings of many connections do not come all at once.
func TestPingsAreSpread(t *testing.T) {
	if testing.Short() {
		t.Skip("connects two shards of clients")
	}
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		clients := make([]*rawClient, shardSize+1)
		for i := range clients {
			clients[i] = s.raw()
		}
		first, last := clients[0].frame(), clients[shardSize].frame()
		require.EqualValues(t, bitFin|opPing, first.first)
		require.EqualValues(t, bitFin|opPing, last.first)
		require.NotEqual(t, first.at, last.at)
	})
}

// F7: a handler that blocks stalls its own connection only: others go on, it
// is not closed for want of answers meanwhile, nor afterwards for all that has
// piled up in the time.
func TestBlockingHandlerIsNotKilled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{PingInterval: 5 * time.Second, RateLimit: 10, RateBurst: 20})
		On(s.Hub, "slow", func(context.Context, *Conn, struct{}) (string, error) {
			time.Sleep(10 * time.Minute)
			return "done", nil
		})
		unharmed := s.bystanders()
		c := s.raw()
		c.text(`{"type":"call","id":"slow","method":"slow"}`)
		const sent = 600
		for range sent {
			// What a lively client says in the time: a message a second, and
			// pings of its own beside the answers to ours.
			c.text(`{"type":"ping","id":"queued"}`)
			c.write(rawBytes(bitFin|opPing, "own"))
			time.Sleep(time.Second)
		}
		unharmed()
		m := c.expect("reply")
		require.Equal(t, "slow", m.str("id"))
		require.Equal(t, "done", m.str("data"))
		for range sent {
			require.Equal(t, "queued", c.expect("pong").str("id"))
		}
		time.Sleep(time.Hour)
		c.text(`{"type":"ping","id":"later"}`)
		require.Equal(t, "later", c.expect("pong").str("id"))

		// But it is no way around the limits: a flood is one again.
		for range 20 + 600*10 + 100 {
			c.text(`{"type":"ping","id":"flood"}`)
		}
		code, reason := c.closeFrame()
		require.Equal(t, CloseRateLimit, code, reason)
	})
}

// The same for a Connect hook that takes its time.
func TestBlockingConnectHookIsNotKilled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{Hooks: Hooks{Connect: func(_ context.Context, c *Conn) error {
			if c.UserID() == "slow" {
				time.Sleep(10 * time.Minute)
			}
			return nil
		}}})
		unharmed := s.bystanders()
		c := s.raw("X-User", "slow")
		c.text(`{"type":"ping","id":"1"}`)
		c.expect("pong")
		time.Sleep(time.Hour)
		c.text(`{"type":"ping","id":"2"}`)
		c.expect("pong")
		unharmed()

		// A client that died meanwhile is found out afterwards.
		c = s.raw("X-User", "slow")
		c.pong.Store(false)
		start := time.Now()
		code, _ := c.closeFrame()
		require.Equal(t, CloseNoHeartbeat, code)
		require.Greater(t, time.Since(start), 10*time.Minute)
		require.Less(t, time.Since(start), 12*time.Minute)
	})
}

// A client that sends but does not read is closed when nothing could be
// written for a whole interval (4001: come back).
func TestStalledClientIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ends := make(chan CloseCode, 10)
		s := serve(t, Options{Hooks: Hooks{Disconnect: func(_ *Conn, code CloseCode) { ends <- code }}})
		unharmed := s.bystanders()
		c := s.rawUnread()
		start := time.Now()
		var code CloseCode
		for code == 0 {
			c.text(`{"type":"ping"}`) // alive in that direction
			select {
			case code = <-ends:
			case <-time.After(time.Second):
			}
		}
		require.Equal(t, CloseSlow, code)
		require.LessOrEqual(t, time.Since(start), 3*s.opts.PingInterval)
		require.EqualValues(t, 1, s.Stats().ClosedSlow)
		unharmed()

		// It learns about it if it reads at last.
		c.readOn()
		c.expect("connected")
		require.Equal(t, CloseSlow, func() CloseCode { code, _ := c.closeFrame(); return code }())
		unharmed()
	})
}

// A client that reads slowly but steadily is not stalled.
func TestSlowReaderLives(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		resp, conn, r := s.exchange(request())
		require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		for range 100 {
			_, err := s.Broadcast(t.Context(), "a broadcast")
			require.NoError(t, err)
			_, err = conn.Write(rawBytes(bitFin|opPong, ""))
			require.NoError(t, err)
			time.Sleep(20 * time.Second)
			for {
				f, err := readRawFrame(r)
				require.NoError(t, err)
				if f.first != bitFin|opPing {
					break // one message each 20 s
				}
			}
		}
		require.Equal(t, 1, s.Stats().Connections)
	})
}

// frozenConn is a connection whose bytes the server does not see for a while,
// as in a process that stands still.
type frozenConn struct {
	net.Conn
	freeze *freezer
}

type freezer struct {
	mu     sync.Mutex
	thawed chan struct{} // nil unless frozen
}

func (f *freezer) set(frozen bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if frozen {
		f.thawed = make(chan struct{})
		return
	}
	close(f.thawed)
	f.thawed = nil
}

func (c frozenConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.freeze.mu.Lock()
	thawed := c.freeze.thawed
	c.freeze.mu.Unlock()
	if thawed != nil {
		<-thawed
	}
	return n, err
}

type freezingListener struct {
	*memoryListener
	freeze *freezer
}

func (l freezingListener) Accept() (net.Conn, error) {
	conn, err := l.memoryListener.Accept()
	return frozenConn{conn, l.freeze}, err
}

// standstill is a Store that stops whoever renews presence, and so the
// heartbeat, as a process that is not scheduled would be.
type standstill struct {
	Store
	from, until time.Time
}

func (s *standstill) Enter(ctx context.Context, topic, node string, members []Member, lease time.Duration) error {
	if now := time.Now(); !now.Before(s.from) && now.Before(s.until) {
		time.Sleep(s.until.Sub(now))
	}
	return s.Store.Enter(ctx, topic, node, members, lease)
}

// F71: a process that stood still closes nobody for pongs that it has not
// read yet.
func TestHeartbeatAfterAStandstill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		// 16 beats an interval, each of which renews presence: the beat right
		// after the standstill is that of the only shard.
		const tick = presenceLease / 3
		start := time.Now()
		store := &standstill{Store: NewMemoryStore(), from: start.Add(15*tick + tick/2), until: start.Add(40*tick + tick/2)}
		freeze := new(freezer)
		hub, err := New(Options{Authenticator: headerAuth, Logger: quiet(), Store: store, PingInterval: beatPhases * tick})
		require.NoError(t, err)
		listener := newMemoryListener()
		s := serveOn(t, hub, &http.Server{Handler: hub}, listener, freezingListener{listener, freeze})

		c := s.raw()
		c.text(`{"type":"join","room":"tea"}`) // a room is what presence is renewed for
		c.expect("history")
		c.expect("system")
		synctest.Wait()
		time.Sleep(tick / 2)
		freeze.set(true) // before the first ping
		time.Sleep(time.Until(store.until) + time.Second)
		require.NotNil(t, s.Conn(c.id), "judged right after the standstill")
		freeze.set(false)
		time.Sleep(10 * beatPhases * tick)
		require.NotNil(t, s.Conn(c.id))
		c.text(`{"type":"ping"}`)
		c.expect("pong")

		c.pong.Store(false)
		code, _ := c.closeFrame()
		require.Equal(t, CloseNoHeartbeat, code)
	})
}
