package parley

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNewNeedsAnAuthenticator(t *testing.T) {
	hub, err := New(Options{})
	require.Nil(t, hub)
	require.EqualError(t, err, "parley: Options.Authenticator is nil: set your own, or parley.AllowAnonymous to let everyone in")
}

// S3: a refusal is an HTTP status before the upgrade, never a 101.
func TestRefusedCredentials(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var verdict error
		s := serve(t, Options{MaxConnections: 2, Authenticator: AuthenticatorFunc(func(*http.Request) (Identity, error) {
			return Identity{ID: "kim"}, verdict
		})})
		for _, tc := range []struct {
			err    error
			status int
			body   string
			retry  bool
		}{
			{errors.New("token of kim expired at noon"), http.StatusUnauthorized, "not authenticated", false},
			{NewError("expired", "token expired: log in again"), http.StatusUnauthorized, "token expired: log in again", false},
			{NewError(CodeForbidden, "banned"), http.StatusForbidden, "banned", false},
			{NewError(CodeUnavailable, "session store down"), http.StatusServiceUnavailable, "session store down", true},
			{errors.Join(errors.New("wrapped"), NewError(CodeForbidden, "banned")), http.StatusForbidden, "banned", false},
		} {
			verdict = tc.err
			for range 3 { // more than MaxConnections: the slot is given back
				status, body, header := s.status(request())
				require.Equal(t, tc.status, status, "%v", tc.err)
				require.Equal(t, tc.body, body)
				require.Equal(t, tc.retry, header.Get("Retry-After") != "")
				require.Empty(t, header.Get("Sec-WebSocket-Accept"))
			}
		}
		stats := s.Stats()
		require.EqualValues(t, 12, stats.RefusedAuth)
		require.EqualValues(t, 3, stats.RefusedLimit)
		require.Zero(t, stats.Accepted)
		require.Zero(t, stats.Connections)
		verdict = nil
		s.plain()
	})
}

// S40: a panic in the Authenticator is an HTTP 500 for that request alone.
func TestAuthenticatorPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{MaxConnections: 3, Authenticator: AuthenticatorFunc(func(r *http.Request) (Identity, error) {
			if r.Header.Get("X-Panic") != "" {
				panic("on purpose")
			}
			return Identity{}, nil
		})})
		unharmed := s.bystanders()
		for range 3 {
			status, body, _ := s.status(request("X-Panic", "1"))
			require.Equal(t, http.StatusInternalServerError, status)
			require.Equal(t, "internal error", body)
		}
		require.EqualValues(t, 3, s.Stats().Panics)
		require.EqualValues(t, 2, s.Stats().Accepted)
		unharmed()
		s.plain()
	})
}

func TestInvalidIdentity(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var identity Identity
		s := serve(t, Options{Authenticator: AuthenticatorFunc(func(*http.Request) (Identity, error) { return identity, nil })})
		for _, identity = range []Identity{
			{ID: "a\nb"}, {ID: strings.Repeat("x", 256)}, {ID: "\xff"}, {ID: "\u0085"},
			{ID: "kim", Name: "a\x00b"}, {ID: "kim", Name: strings.Repeat("x", 65)}, {Name: "a\rb"},
		} {
			status, body, _ := s.status(request())
			require.Equal(t, http.StatusInternalServerError, status, "%+v", identity)
			require.Equal(t, "internal error", body)
		}
		for _, identity = range []Identity{
			{ID: strings.Repeat("x", 255)}, {ID: "ü", Name: strings.Repeat("x", 64)}, {ID: "null"}, {ID: "__proto__"},
		} {
			c := s.raw()
			require.Equal(t, identity.ID, s.Conn(c.id).UserID())
		}
		require.EqualValues(t, 4, s.Stats().Accepted)
	})
}

func TestIdentityOfAConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		data := new(int)
		s := serve(t, Options{Authenticator: AuthenticatorFunc(func(r *http.Request) (Identity, error) {
			return Identity{ID: r.Header.Get("X-User"), Name: r.Header.Get("X-Name"), Data: data}, nil
		})})
		kim := s.Conn(s.connect(dialOptions{user: "u1", name: "Kim"}).id)
		require.Equal(t, "u1", kim.UserID())
		require.Equal(t, "Kim", kim.Name())
		require.Same(t, data, kim.Identity().Data)
		require.Equal(t, "u2", s.Conn(s.connect(dialOptions{user: "u2"}).id).Name())
		anonymous := s.Conn(s.plain().id)
		require.Equal(t, anonymous.ID(), anonymous.UserID())
		require.Equal(t, "guest-"+anonymous.ID()[:6], anonymous.Name())
	})
}

// S7: a connection does not outlive its credentials by more than a ping
// interval, and is told to come back with new ones.
func TestExpiryOfALiveConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var expires time.Time
		s := serve(t, Options{Authenticator: AuthenticatorFunc(func(*http.Request) (Identity, error) {
			return Identity{ID: "kim", ExpiresAt: expires}, nil
		})})
		forever := s.raw()
		expires = time.Now().Add(10 * time.Minute)
		c := s.raw()
		require.Equal(t, CloseExpired, func() CloseCode { code, _ := c.closeFrame(); return code }())
		require.False(t, time.Now().Before(expires), "closed too early")
		require.LessOrEqual(t, time.Since(expires), s.opts.PingInterval)
		c.expectEnd()
		forever.text(`{"type":"ping","id":"1"}`)
		forever.expect("pong")
	})
}

// S3: credentials that have ended already are refused like bad ones.
func TestExpiredCredentials(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var expires time.Time
		s := serve(t, Options{Authenticator: AuthenticatorFunc(func(*http.Request) (Identity, error) {
			return Identity{ID: "kim", ExpiresAt: expires}, nil
		})})
		for _, age := range []time.Duration{0, time.Nanosecond, time.Hour} {
			expires = time.Now().Add(-age)
			status, body, _ := s.status(request())
			require.Equal(t, http.StatusUnauthorized, status)
			require.Equal(t, "credentials expired: get new ones", body)
		}
		expires = time.Now().Add(time.Second)
		s.raw()
	})
}

// S9: who comes back, with a position to resume from, is authenticated and
// authorized again.
func TestResumeIsAuthorizedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var banned, expelled atomic.Bool
		s := serve(t, Options{
			Authenticator: AuthenticatorFunc(func(r *http.Request) (Identity, error) {
				if banned.Load() {
					return Identity{}, NewError(CodeForbidden, "banned")
				}
				return headerAuth(r)
			}),
			Authorize: func(_ context.Context, c *Conn, a Access) error {
				if a.Verb == VerbJoin && expelled.Load() && c.UserID() == "kim" {
					return NewError(CodeForbidden, "expelled")
				}
				return nil
			},
		})
		kim := s.connect(dialOptions{user: "kim", v1: true})
		kim.expect("inbox")
		history := kim.join("tea", "kim")
		require.Equal(t, 1, s.disconnect("kim", "for the test"))
		require.Equal(t, CloseDisconnected, kim.closeCode())
		_, err := s.Room("tea").Send(t.Context(), "secret")
		require.NoError(t, err)

		expelled.Store(true)
		kim = s.connect(dialOptions{user: "kim", v1: true})
		kim.expect("inbox")
		kim.send(map[string]any{"type": "join", "id": "1", "room": "tea", "epoch": history.str("epoch"), "offset": 0})
		require.Equal(t, "1", kim.expectError(CodeForbidden).str("id"))
		kim.expectNone()

		banned.Store(true)
		_, resp, err := s.tryDial(dialOptions{user: "kim", v1: true})
		require.Error(t, err)
		require.Equal(t, http.StatusForbidden, resp.StatusCode)
	})
}

// S5: where tokens are looked for, and that the URL is not among it.
func TestToken(t *testing.T) {
	entry := func(token string) string {
		return subprotocolToken + base64.RawURLEncoding.EncodeToString([]byte(token))
	}
	for _, tc := range []struct{ authorization, protocols, want string }{
		{"", "", ""},
		{"Bearer abc", "", "abc"},
		{"bearer  abc ", "", "abc"},
		{"Basic abc", "", ""},
		{"Bearer", "", ""},
		{"Bearerabc", "", ""},
		{"Bearer abc", "parley.v1, " + entry("other"), "abc"},
		{"Basic abc", "parley.v1, " + entry("t"), "t"},
		{"", "parley.v1," + entry("a.b-c_d/+="), "a.b-c_d/+="},
		{"", entry("first") + ", " + entry("second"), "first"},
		{"", "parley.token.!!!, " + entry("second"), "second"},
		{"", "parley.token., parley.v1", ""},
		{"", "parley.token.YWJj=", ""}, // padded
		{"", "PARLEY.TOKEN.YWJj", ""},
		{"", "token.YWJj", ""},
	} {
		r := httptest.NewRequest(http.MethodGet, "/realtime?token=url&access_token=url&authorization=Bearer+url", nil)
		if tc.authorization != "" {
			r.Header.Set("Authorization", tc.authorization)
		}
		if tc.protocols != "" {
			r.Header.Set("Sec-WebSocket-Protocol", tc.protocols)
		}
		require.Equal(t, tc.want, Token(r), "%+v", tc)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Add("Sec-WebSocket-Protocol", "parley.v1")
	r.Header.Add("Sec-WebSocket-Protocol", entry("second line"))
	require.Equal(t, "second line", Token(r))
}
