package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

func seeded(seed uint64) func() float64 { return rand.New(rand.NewPCG(seed, 1)).Float64 }

// F38: after a crash the clients come back evenly spread, and later and later.
func TestBackoffSpread(t *testing.T) {
	const clients, buckets = 1000, 10
	windows := []struct{ low, high time.Duration }{
		{0, 500 * time.Millisecond},
		{100 * time.Millisecond, time.Second},
		{100 * time.Millisecond, 2 * time.Second},
		{100 * time.Millisecond, 4 * time.Second},
		{100 * time.Millisecond, 8 * time.Second},
		{100 * time.Millisecond, 16 * time.Second},
		{100 * time.Millisecond, 20 * time.Second},
		{100 * time.Millisecond, 20 * time.Second},
	}
	counts := make([][buckets]int, len(windows))
	jitter := seeded(1)
	bubble(t, func(t *testing.T) {
		for range clients {
			n := newNetwork()
			n.Refuse(true)
			c := start(t, n, "", Options{jitter: jitter})
			for len(n.attempts()) <= len(windows) {
				time.Sleep(5 * time.Second)
			}
			c.Close()
			dials := n.attempts()
			for i, w := range windows {
				wait := dials[i+1].Sub(dials[i])
				require.GreaterOrEqual(t, wait, w.low, "attempt %d", i)
				require.Less(t, wait, w.high, "attempt %d", i)
				counts[i][buckets*(wait-w.low)/(w.high-w.low)]++
			}
		}
	})
	for i, count := range counts {
		for _, n := range count { // 100 are expected, with a deviation of 10
			require.InDelta(t, clients/buckets, n, 40, "attempt %d: %v", i, count)
		}
	}
}

func TestBackoffStartsAnewAfterStableTime(t *testing.T) {
	for _, test := range []struct {
		lived time.Duration
		most  time.Duration
	}{{29 * time.Second, 4 * time.Second}, {30 * time.Second, 500 * time.Millisecond}} {
		bubble(t, func(t *testing.T) {
			f := newFake(t)
			f.Refuse(true)
			var last lastChange
			start(t, f.network, "", Options{
				jitter:  func() float64 { return 0.999 },
				OnState: last.set,
			})
			for len(f.attempts()) < 3 {
				time.Sleep(10 * time.Millisecond)
			}
			f.Refuse(false)
			p := f.welcome("kim")
			time.Sleep(test.lived)
			p.cut()
			synctest.Wait()
			require.InDelta(t, test.most, last.get().RetryIn, float64(test.most)/100)
		})
	}
}

func TestByeWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		jitter := seeded(2)
		var j journal
		opts := j.states()
		opts.jitter = jitter
		opts.OnBye = func(_ context.Context, _ *Client, b Bye) { j.add("%+v", b) }
		start(t, f.network, "", opts)
		p := f.accept()
		for range 100 {
			p.greet("kim")
			p.send(`{"type":"bye","code":4000,"reason":"restart","retryMin":30000,"retryMax":40000}`)
			begin := time.Now()
			p.close(parley.CloseShutdown, "restart")
			next := f.accept()
			require.GreaterOrEqual(t, time.Since(begin), 30*time.Second)
			require.Less(t, time.Since(begin), 40*time.Second)
			j.expect(t, "connected", "{Code:4000 Reason:restart RetryMin:30s RetryMax:40s}", "waiting", "connecting")
			p = next
		}
		p.cut() // it counts for one time
		begin := time.Now()
		f.accept()
		require.Less(t, time.Since(begin), 20*time.Second)
	})
}

// A shutdown of a real hub, and another that takes its place.
func TestServerRestarts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		c := connect(t, s.network, "kim", j.states())
		r := j.join(t, c, "lobby")
		s.publish("lobby", 1)
		j.take()
		old := s.current()
		s.restart(parley.Options{})
		require.NoError(t, old.Shutdown(t.Context()))
		_, err := r.Send(t.Context(), 2)
		require.NoError(t, err)
		// A new process with a new store: the log is lost, and that is told.
		j.expect(t, "waiting", "connecting", "connected", `lobby gap "reset" after 1`, "lobby history []", "lobby 2")
	})
}

func TestCloseCodes(t *testing.T) {
	for code, state := range map[parley.CloseCode]State{
		parley.CloseNormal: StateClosed, parley.CloseProtocol: StateClosed, parley.CloseBinary: StateClosed,
		parley.CloseInvalidUTF8: StateClosed, parley.ClosePolicy: StateClosed, parley.CloseTooLarge: StateClosed,
		1001: StateWaiting, parley.CloseInternal: StateWaiting, 1012: StateWaiting, 1013: StateWaiting, 3000: StateWaiting,
		parley.CloseShutdown: StateWaiting, parley.CloseSlow: StateWaiting, parley.CloseNoHeartbeat: StateWaiting,
		parley.CloseExpired: StateWaiting, parley.CloseResync: StateWaiting, 4050: StateWaiting, 4200: StateWaiting,
		parley.CloseRefused: StateUnauthorized, parley.CloseDisconnected: StateClosed, parley.CloseRateLimit: StateClosed,
		parley.CloseReplaced: StateClosed, 4199: StateClosed,
	} {
		bubble(t, func(t *testing.T) {
			f := newFake(t)
			var last lastChange
			c := start(t, f.network, "", Options{OnState: last.set})
			p := f.welcome("kim")
			sent := background(func() error { _, err := c.Private(t.Context(), "lee", 1); return err })
			p.expect("private")
			p.close(code, "because")
			synctest.Wait()
			require.Equal(t, state, last.get().State, code)
			why, ok := errors.AsType[*ConnError](last.get().Err)
			require.True(t, ok)
			require.Equal(t, code, why.Code)
			require.Equal(t, "because", why.Reason)
			require.Equal(t, state == StateUnauthorized, errors.Is(last.get().Err, ErrUnauthorized))
			if state == StateWaiting {
				require.NoError(t, c.Err())
				f.accept()
				return
			}
			<-c.Done()
			require.Equal(t, last.get().Err, c.Err())
			requireCode(t, CodeClosed, <-sent)
		})
	}
}

func TestKicked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		c := connect(t, s.network, "kim", j.states())
		j.join(t, c, "lobby")
		s.publish("lobby", 1)
		_, _ = s.hub.DisconnectUser(context.Background(), "kim", "go away")
		<-c.Done()
		// What came before is handed out before the end.
		j.expect(t, "connected", "lobby history []", "lobby 1", "closed")
		require.ErrorContains(t, c.Err(), "4101: go away")
	})
}

func TestHandshakeRefused(t *testing.T) {
	for status, state := range map[int]State{
		401: StateUnauthorized, 403: StateUnauthorized,
		302: StateWaiting, 400: StateWaiting, 404: StateWaiting, 426: StateWaiting, 429: StateWaiting, 500: StateWaiting, 503: StateWaiting,
	} {
		bubble(t, func(t *testing.T) {
			f := newFake(t)
			f.refuse = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Location", "http://elsewhere.test/")
				http.Error(w, "because", status)
				return true
			}
			c := start(t, f.network, "", Options{})
			synctest.Wait()
			require.Equal(t, state, c.State(), status)
			if state == StateUnauthorized {
				require.ErrorIs(t, c.Err(), ErrUnauthorized)
				require.ErrorContains(t, c.Err(), "because")
				<-c.Done()
			}
			require.Len(t, f.attempts(), 1)
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		status int
		header http.Header
		want   time.Duration
	}{
		{503, http.Header{"Retry-After": {"90"}}, 90 * time.Second},
		{429, http.Header{"Retry-After": {"90"}}, 90 * time.Second},
		{500, http.Header{"Retry-After": {"90"}}, 0},
		{503, http.Header{"Retry-After": {"-1"}}, 0},
		{503, http.Header{"Retry-After": {"soon"}}, 0},
		{503, nil, 0},
		{503, http.Header{"Retry-After": {"999999"}}, time.Hour},
		// The server's clock counts, whatever ours says (F40).
		{503, http.Header{"Retry-After": {"Fri, 01 Aug 2031 10:00:07 GMT"}, "Date": {"Fri, 01 Aug 2031 10:00:00 GMT"}}, 7 * time.Second},
		{503, http.Header{"Retry-After": {"Fri, 01 Aug 2031 10:00:00 GMT"}, "Date": {"Fri, 01 Aug 2031 10:00:07 GMT"}}, 0},
	} {
		bubble(t, func(t *testing.T) {
			f := newFake(t)
			f.refuse = func(w http.ResponseWriter, r *http.Request) bool {
				for key, values := range test.header {
					w.Header()[key] = values
				}
				w.WriteHeader(test.status)
				return true
			}
			var last lastChange
			start(t, f.network, "", Options{OnState: last.set})
			synctest.Wait()
			retry := last.get().RetryIn
			require.GreaterOrEqual(t, retry, test.want, "%v", test)
			require.LessOrEqual(t, retry, test.want+500*time.Millisecond, "%v", test)
		})
	}
}

// The token is asked for before every attempt, and sent in the header made for it.
func TestToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		n := 0
		c := start(t, f.network, "kim", Options{
			Token: func(context.Context) (string, error) {
				n++
				if n == 2 {
					return "", errors.New("the issuer is down")
				}
				return fmt.Sprint("token-", n), nil
			},
			HeaderFunc: func(context.Context) (http.Header, error) {
				return http.Header{"X-Attempt": {fmt.Sprint(n)}}, nil
			},
		})
		p := f.welcome("kim")
		require.Equal(t, []string{"parley.v1"}, p.protocols)
		require.Equal(t, "Bearer token-1", p.header.Get("Authorization"))
		require.Equal(t, "kim", p.header.Get("X-User"))
		p.close(parley.CloseExpired, "credentials expired")
		p = f.welcome("kim")
		require.Equal(t, "Bearer token-3", p.header.Get("Authorization"))
		require.Equal(t, "2", p.header.Get("X-Attempt"))
		c.Close()
	})
}

func TestTokenFailsForGood(t *testing.T) {
	for name, opts := range map[string]Options{
		"Token": {Token: func(context.Context) (string, error) { return "", fmt.Errorf("log in again: %w", ErrUnauthorized) }},
		"HeaderFunc": {HeaderFunc: func(context.Context) (http.Header, error) {
			return nil, fmt.Errorf("log in again: %w", ErrUnauthorized)
		}},
	} {
		bubble(t, func(t *testing.T) {
			f := newFake(t)
			c := start(t, f.network, "", opts)
			require.ErrorIs(t, c.WaitConnected(t.Context()), ErrUnauthorized)
			require.ErrorContains(t, c.Err(), name)
			require.ErrorContains(t, c.Err(), "log in again")
			require.Equal(t, StateUnauthorized, c.State())
			require.Empty(t, f.attempts())
		})
	}
}

// A hub refuses an expired token, after it took it once.
func TestTokenExpires(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		token := "good"
		c := connect(t, s.network, "kim", Options{Token: func(context.Context) (string, error) { return token, nil }})
		token = "expired"
		s.cut()
		<-c.Done()
		require.Equal(t, StateUnauthorized, c.State())
		require.ErrorContains(t, c.Err(), "401")
	})
}

// Token, handshake and "connected" have 20 seconds together.
func TestConnectTimeout(t *testing.T) {
	for name, test := range map[string]func(f *fake, opts *Options){
		"token": func(_ *fake, opts *Options) {
			opts.Token = func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
		},
		"dial": func(f *fake, _ *Options) { f.hang() },
		"handshake": func(f *fake, _ *Options) {
			f.refuse = func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
		},
		"connected": func(*fake, *Options) {},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				var last lastChange
				opts := Options{OnState: last.set, jitter: func() float64 { return 0.9 }}
				test(f, &opts)
				c := start(t, f.network, "", opts)
				time.Sleep(connectTimeout - time.Millisecond)
				require.Equal(t, StateConnecting, c.State())
				time.Sleep(2 * time.Millisecond)
				synctest.Wait()
				require.Equal(t, StateWaiting, last.get().State)
			})
		})
	}
}

// The same with TLS, whose handshake http.Transport does not end with the request.
func TestConnectTimeoutTLS(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNetwork() // takes connections and says nothing
		listener := n.Listen()
		far := make(chan net.Conn, 1)
		go func() {
			conn, _ := listener.Accept()
			far <- conn
		}()
		c, err := New("wss://parley.test", Options{Dial: n.dial})
		require.NoError(t, err)
		time.Sleep(connectTimeout + time.Millisecond)
		conn := <-far
		_, err = io.Copy(io.Discard, conn) // up to its end, which is there
		require.NoError(t, err)
		c.Close()
		<-c.Done()
		require.NoError(t, conn.Close())
	})
}

// Pings of the server are life; without them, and without an answer to ours, the
// connection is dead (F2).
func TestDeadConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.dead.Store(true)
		var last lastChange
		c := start(t, f.network, "", Options{OnState: last.set})
		p := f.welcome("kim")
		synctest.Wait()
		for range 10 {
			time.Sleep(29 * time.Second)
			require.NoError(t, p.ws.Ping(t.Context()))
		}
		p.expectNone()
		begin := time.Now()
		p.expect("ping")
		require.Equal(t, 30*time.Second, time.Since(begin))
		time.Sleep(probeTimeout)
		synctest.Wait()
		require.ErrorIs(t, last.get().Err, errSilent)
		f.dead.Store(false)
		p = f.welcome("kim")
		synctest.Wait()
		time.Sleep(10 * time.Minute) // this one answers
		require.Equal(t, StateConnected, c.State())
		p.expectNone()
	})
}

// A long message that comes slowly is life, too.
func TestSlowMessageIsLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.dead.Store(true)
		var j journal
		opts := j.states()
		opts.OnNotification = func(_ context.Context, _ *Client, m Notification) { j.add("%s", m.Data) }
		start(t, f.network, "", opts)
		p := f.welcome("kim")
		w, err := p.ws.Writer(t.Context(), 1)
		require.NoError(t, err)
		for _, part := range []string{`{"type":`, `"notification",`, `"data":1`, `}`} {
			time.Sleep(28 * time.Second)
			_, err := w.Write([]byte(part + strings.Repeat(" ", 5000))) // more than is buffered
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		j.expect(t, "connected", "1")
	})
}

// F40: only monotonic time counts. A clock that jumps changes neither timers
// nor the order of messages.
func TestServerClockJumps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		_, _, p := joined(t, f, &j)
		for i, timestamp := range []string{"9007199254740991", "0", "1700000000000"} {
			p.sendf(`{"type":"message","room":"lobby","userId":"u","username":"u","content":%d,"timestamp":%s,"epoch":"e","offset":%d}`,
				i+3, timestamp, i+3)
		}
		j.expect(t, "lobby 3", "lobby 4", "lobby 5")
	})
}

func TestAnotherServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.refuse = func(w http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("Sec-WebSocket-Protocol")
			return false
		}
		var last lastChange
		start(t, f.network, "", Options{OnState: last.set})
		f.accept()
		synctest.Wait()
		require.ErrorContains(t, last.get().Err, "does not speak parley.v1")
	})
}
