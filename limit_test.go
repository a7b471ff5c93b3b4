package parley

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// requireRefused asserts that a handshake is refused for a limit.
func (s *server) requireRefused(status int, text string, headers ...string) {
	s.t.Helper()
	got, body, header := s.status(request(headers...))
	require.Equal(s.t, status, got)
	require.Contains(s.t, body, text)
	require.Equal(s.t, "5", header.Get("Retry-After"))
}

// S14: above a limit a handshake is refused by a status before the upgrade, and every
// way in which a connection can end gives its slot back.
func TestMaxConnections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		asked := 0
		s := serve(t, Options{MaxConnections: 3, Authenticator: AuthenticatorFunc(func(*http.Request) (Identity, error) {
			asked++
			return Identity{}, nil
		})})
		kim, lee, joe := s.plain(), s.raw(), s.plain()
		ends := []func(){
			func() { kim.close() },
			func() { _ = lee.conn.Close() },
			func() { s.Conn(joe.id).Close(CloseNormal, ""); joe.closeCode() },
		}
		for i, end := range ends {
			s.requireRefused(http.StatusServiceUnavailable, "too many connections")
			require.Equal(t, 3+i, asked, "nobody is asked about a handshake above the limit")
			end()
			synctest.Wait()
			s.plain()
		}
		s.requireRefused(http.StatusServiceUnavailable, "too many connections")
		require.EqualValues(t, 4, s.Stats().RefusedLimit)
		require.Equal(t, 3, s.Stats().Connections)
	})
}

func TestMaxPerUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{MaxPerUser: 2})
		first := s.connect(dialOptions{user: "kim"})
		s.connect(dialOptions{user: "kim"})
		s.requireRefused(http.StatusTooManyRequests, "this user", "X-User", "kim")
		s.connect(dialOptions{user: "lee"})
		for range 3 {
			s.plain() // anonymous connections are users of their own
		}
		first.close()
		synctest.Wait()
		s.connect(dialOptions{user: "kim"})
		s.requireRefused(http.StatusTooManyRequests, "this user", "X-User", "kim")
		require.EqualValues(t, 2, s.Stats().RefusedLimit)
	})
	for limit, connections := range map[int]int{0: 16, -1: 40} {
		bubble(t, func(t *testing.T) {
			s := serve(t, Options{MaxPerUser: limit})
			for range connections {
				s.connect(dialOptions{user: "kim"})
			}
			if limit == 0 {
				s.requireRefused(http.StatusTooManyRequests, "this user", "X-User", "kim")
			}
		})
	}
}

func TestMaxPerIP(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{MaxPerIP: 2, ClientIP: func(r *http.Request) string { return r.Header.Get("X-Real-IP") }})
		from := func(ip string) dialOptions { return dialOptions{header: http.Header{"X-Real-Ip": {ip}}} }
		first := s.connect(from("192.0.2.1"))
		s.connect(from("192.0.2.1"))
		s.requireRefused(http.StatusTooManyRequests, "this address", "X-Real-IP", "192.0.2.1")
		s.connect(from("192.0.2.2"))
		for range 3 {
			s.plain() // "" is not counted
		}
		first.close()
		synctest.Wait()
		s.connect(from("192.0.2.1"))
		s.requireRefused(http.StatusTooManyRequests, "this address", "X-Real-IP", "192.0.2.1")
	})
	bubble(t, func(t *testing.T) {
		// S41: by default headers that anybody can set do not count.
		s := serve(t, Options{MaxPerIP: 1})
		s.plain()
		s.requireRefused(http.StatusTooManyRequests, "this address", "X-Forwarded-For", "192.0.2.9", "X-Real-IP", "192.0.2.9")
	})
}

func TestClientIP(t *testing.T) {
	hub := originHub(t, Options{MaxPerIP: 1})
	for remote, want := range map[string]string{
		"192.0.2.1:1234": "192.0.2.1", "[2001:db8::1]:1234": "2001:db8::1", "@": "@", "": "",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = remote
		require.Equal(t, want, hub.clientIP(r))
	}
}

// All counts are back at nothing when everybody is gone.
func TestSlotsAreGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{MaxPerIP: 100, MaxConnections: 100})
		for i := range 10 {
			c := s.connect(dialOptions{user: fmt.Sprint("user", i%3)})
			if i%2 == 0 {
				c.close()
			} else {
				_ = c.ws.CloseNow()
			}
			s.status(request("X-Refuse", "1"))
			s.status(request("Sec-WebSocket-Key", "bad", "Connection", "Upgrade, close"))
		}
		time.Sleep(time.Minute)
		s.slots.mu.Lock()
		defer s.slots.mu.Unlock()
		require.Zero(t, s.slots.total)
		require.Empty(t, s.slots.addresses)
		require.Empty(t, s.slots.users)
	})
}

// S16, F50: a message of the largest size is taken, one byte more is not, and
// the client is told why, even if it writes on without reading.
func TestMaxMessageSize(t *testing.T) {
	for option, limit := range map[int]int{0: 64 << 10, 100: 100, 5000: 5000, 128 << 10: 128 << 10} {
		bubble(t, func(t *testing.T) {
			s := serve(t, Options{MaxMessageSize: option})
			unharmed := s.bystanders()
			padded := func(n int) string {
				text := `{"type":"ping","id":"1","data":""}`
				return text[:len(text)-2] + strings.Repeat("x", n-len(text)) + text[len(text)-2:]
			}
			c := s.plain()
			c.send(padded(limit))
			c.expect("pong")
			c.send(padded(limit - 1))
			c.expect("pong")

			for _, size := range []int{limit + 1, limit + 1000, 8 << 20} {
				c := s.rawUnread()
				_, err := c.conn.Write(rawText(padded(size)))
				require.NoError(t, err, "the server has to read on for its answer to arrive")
				c.readOn()
				require.EqualValues(t, limit, c.expect("connected").num("maxMessageSize"))
				m := c.expectError(CodeTooLarge)
				require.Equal(t, fmt.Sprintf("message is larger than %d bytes: send smaller ones", limit), m.str("message"))
				c.expectClosed(CloseTooLarge)
			}
			require.EqualValues(t, 3, s.Stats().ClosedAbuse)
			unharmed()
		})
	}
}

// S16: no limit can be switched off by a negative number or by mistake.
func TestNegativeLimitsAreRefused(t *testing.T) {
	for name, opts := range map[string]Options{
		"MaxMessageSize":  {MaxMessageSize: -1},
		"QueueSize":       {QueueSize: -1},
		"QueueSize ":      {MaxMessageSize: 1 << 20}, // queue of 1 MiB
		"AssemblyTimeout": {AssemblyTimeout: -1},
		"CloseTimeout":    {CloseTimeout: -1},
		"PingInterval":    {PingInterval: time.Millisecond},
		"StoreTimeout":    {StoreTimeout: -1},
		"RetryWindow":     {RetryWindow: -1},
		"RateBurst":       {RateBurst: -1},
		"RateLimit":       {RateLimit: math.NaN()},
		"MaxRooms":        {MaxRooms: -1},
	} {
		opts.Authenticator = AllowAnonymous
		hub, err := New(opts)
		require.Nil(t, hub, name)
		require.ErrorContains(t, err, "parley: Options."+name, name)
		require.ErrorContains(t, err, "is out of range", name)
	}
}

// S25: a connection is in at most so many rooms, and names of rooms that it
// was not let into leave nothing behind.
func TestMaxRooms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{MaxRooms: 3, RateLimit: -1})
		c := s.plain()
		for i := range 3 {
			c.join(fmt.Sprint("room", i), "kim")
			c.expect("system")
		}
		topics := s.Stats().Topics
		for i := range 200 {
			c.send(map[string]any{"type": "join", "id": "1", "room": fmt.Sprint("other", i)})
			m := c.expectError(CodeLimit)
			require.Equal(t, "1", m.str("id"))
			require.Equal(t, "in 3 rooms already: leave one first", m.str("message"))
		}
		require.Equal(t, topics, s.Stats().Topics)
		c.join("room1", "kim") // is joined already
		require.ErrorContains(t, s.Room("other").Join(t.Context(), s.Conn(c.id)), "leave one first")
		c.send(`{"type":"leave","room":"room0"}`)
		c.join("other", "kim")
		require.Equal(t, []string{"room2", "room1", "other"}, s.Conn(c.id).Rooms())
	})
}

// S22, P2.7: a message above the rate is refused with its id, and after a
// while there are new tokens.
func TestRateLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{RateLimit: 2.5, RateBurst: 5})
		unharmed := s.bystanders()
		c := s.plain()
		ping := func(id string) message {
			c.send(map[string]any{"type": "ping", "id": id})
			m := c.next()
			require.Equal(t, id, m.str("id"))
			return m
		}
		for i := range 5 {
			require.Equal(t, "pong", ping(fmt.Sprint(i)).str("type"))
		}
		m := ping("six")
		require.Equal(t, "error", m.str("type"))
		require.Equal(t, string(CodeRateLimited), m.str("code"))
		require.Equal(t, "too many messages: slow down to 2.5 a second", m.str("message"))

		time.Sleep(400 * time.Millisecond)
		require.Equal(t, "pong", ping("refilled").str("type"))
		require.Equal(t, "error", ping("once").str("type"))
		time.Sleep(time.Hour)
		for range 5 {
			require.Equal(t, "pong", ping("rested").str("type"))
		}
		require.Equal(t, "error", ping("no more than the burst").str("type"))
		require.EqualValues(t, 3, s.Stats().RateLimited)
		require.EqualValues(t, 3, s.Stats().Refused)
		time.Sleep(time.Minute)
		unharmed()
	})
}

// S22: who goes on in spite of refusals is disconnected.
func TestRateLimitAbuse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{RateLimit: 10, RateBurst: 5})
		unharmed := s.bystanders()
		c := s.raw()
		for range 11 {
			c.text(`{"type":"ping","id":"1"}`)
		}
		for range 5 {
			c.expect("pong")
		}
		for range 5 {
			c.expectError(CodeRateLimited)
		}
		c.expectClosed(CloseRateLimit)
		require.EqualValues(t, 1, s.Stats().ClosedAbuse)
		unharmed()
	})
}

// S22: what is refused or unknown costs a token too.
func TestRateLimitCountsEverything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{RateLimit: 1, RateBurst: 6})
		c := s.plain()
		c.send(`{"type":"no such type"}`)
		c.expectError(CodeUnknownType)
		c.send(`no json`)
		c.expectError(CodeBadJSON)
		c.send(`{"type":"message","content":1}`)
		c.expectError(CodeNotMember)
		c.send(`{"type":"join","room":""}`)
		c.expectError(CodeBadRequest)
		c.send(`{"type":"call","id":"1","method":"none"}`)
		c.expectError(CodeUnknownMethod)
		c.send(`{"type":"broadcast","message":1}`)
		c.expectError(CodeForbidden)
		c.send(`{"type":"ping","id":"1"}`)
		c.expectError(CodeRateLimited)
		c.send(`{"type":"no such type","id":"2"}`)
		require.Equal(t, "2", c.expectError(CodeRateLimited).str("id"))
	})
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{RateLimit: 1, RateBurst: 3})
		c := s.raw()
		for range 7 {
			c.text(`no json`)
		}
		for range 6 {
			c.expectError(CodeBadJSON)
		}
		c.expectClosed(CloseRateLimit)
	})
}

func TestRateLimitDefaultsAndNone(t *testing.T) {
	for limit, sent := range map[float64]int{0: 200, -1: 3000} {
		bubble(t, func(t *testing.T) {
			s := serve(t, Options{RateLimit: limit})
			c := s.raw()
			for range sent {
				c.text(`{"type":"ping"}`)
			}
			for range sent {
				c.expect("pong")
			}
			c.text(`{"type":"ping"}`)
			if limit == 0 {
				c.expectError(CodeRateLimited)
			} else {
				c.expect("pong")
			}
		})
	}
}
