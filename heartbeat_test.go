package parley

import (
	"context"
	"net/http"
	"strings"
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
		t.Skip("SKIPPED with -short: connects two shards of clients")
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

// F7: after a handler that blocked, nothing of what the client sent meanwhile
// may have been read when the next beat comes.
func TestNobodyIsJudgedRightAfterBlocking(t *testing.T) {
	for _, block := range []time.Duration{61 * time.Second, 90 * time.Second, 10*time.Minute + 3*time.Second} {
		bubble(t, func(t *testing.T) {
			s := serve(t, Options{})
			On(s.Hub, "slow", func(context.Context, *Conn, struct{}) (int, error) {
				time.Sleep(block)
				return 0, nil
			})
			c := s.raw()
			c.text(`{"type":"call","id":"slow","method":"slow"}`)
			synctest.Wait()
			c.pong.Store(false)
			c.expect("reply")
			c.pong.Store(true)
			time.Sleep(10 * time.Minute)
			c.text(`{"type":"ping"}`)
			c.expect("pong")
		})
	}
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
			// Larger than the buffers in between: what is read is what was written.
			_, err := s.Broadcast(t.Context(), strings.Repeat("b", 20<<10))
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

// F71: after a standstill of the process nobody is judged for pongs that wait
// to be read, but the judgement is only put off.
func TestHeartbeatAfterAStandstill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		tick := s.opts.PingInterval / beatPhases
		require.False(t, s.late(tick))
		require.False(t, s.late(3*tick), "a busy machine")
		require.False(t, s.late(s.opts.PingInterval/2))
		require.True(t, s.late(s.opts.PingInterval))
		require.True(t, s.late(time.Hour))

		c := s.raw()
		c.pong.Store(false)
		synctest.Wait()
		shard, now := s.all.roster.list()[0], time.Now()
		s.beat(shard, now, false) // alive until now
		for range 3 {
			synctest.Wait()
			s.beat(shard, now, true)
			require.NotNil(t, s.Conn(c.id))
		}
		synctest.Wait()
		s.beat(shard, now, false)
		require.Nil(t, s.Conn(c.id))
		code, _ := c.closeFrame()
		require.Equal(t, CloseNoHeartbeat, code)
	})
}
