package parleytest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// What an option says is what the hub sees.
func TestConnectOptions(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		type account struct{ plan string }
		requests := make(chan *http.Request, 1)
		s := newServer(t, parley.Options{Authenticator: parley.AuthenticatorFunc(func(r *http.Request) (parley.Identity, error) {
			requests <- r
			return Authenticator.Authenticate(r)
		})})
		c := s.Connect()
		<-requests
		require.NotEmpty(t, c.ID())
		require.Equal(t, c.ID(), c.UserID())
		require.NotEmpty(t, c.Connected().Str("session"))
		require.Nil(t, c.Inbox())

		c = s.Connect(User("kim"))
		<-requests
		require.Equal(t, "kim", c.UserID())
		require.Equal(t, "inbox", c.Inbox().Type())
		require.Equal(t, c.UserID(), s.Hub.Conn(c.ID()).UserID())

		data := &account{plan: "gold"}
		c = s.Connect(Identity(parley.Identity{ID: "42", Name: "Zoë", Data: data}), Plain(), IP("203.0.113.9"),
			Header("X-Test", "one"), Header("X-Test", "two"), Offer("parley.token.c2VjcmV0"))
		r := <-requests
		require.Same(t, data, s.Hub.Conn(c.ID()).Identity().Data)
		require.Equal(t, "Zoë", s.Hub.Conn(c.ID()).Name())
		require.Empty(t, c.Connected().Str("session"), "a plain client has none")
		require.Nil(t, c.Inbox())
		require.Equal(t, []string{"one", "two"}, r.Header.Values("X-Test"))
		require.True(t, strings.HasPrefix(r.RemoteAddr, "203.0.113.9:"))
		require.Equal(t, "secret", parley.Token(r))
		require.Equal(t, "parley.test", r.Host)
		require.Equal(t, "/realtime", r.URL.Path)
		require.Panics(t, func() { IP("localhost") })
	})
}

// The Authenticator is of no use where identities are not made up.
func TestAuthenticatorElsewhere(t *testing.T) {
	_, err := Authenticator.Authenticate(httptest.NewRequest("GET", "/", nil))
	require.Error(t, err)
}

// A service with routes of its own, its own authenticator, and middleware around it.
func TestServe(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		hub, err := parley.New(parley.Options{Authenticator: parley.AuthenticatorFunc(func(r *http.Request) (parley.Identity, error) {
			if token := parley.Token(r); token != "" {
				return parley.Identity{ID: "user-of-" + token}, nil
			}
			return parley.Identity{}, parley.NewError(parley.CodeForbidden, "no token")
		})})
		require.NoError(t, err)
		mux := http.NewServeMux()
		mux.Handle("GET /live", hub)
		mux.HandleFunc("POST /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
			_, err := hub.Notify(r.Context(), r.Header.Get("X-Customer"), map[string]string{"order": r.PathValue("id")})
			if err != nil {
				t.Error(err)
			}
		})
		s := Serve(t, hub, http.StripPrefix("/app", mux))
		s.URL = "ws://shop.example.com/app/live"
		kim := s.Connect(Header("Authorization", "Bearer k1"))
		require.Equal(t, "user-of-k1", kim.UserID())
		require.Equal(t, "user-of-k1", kim.label)
		require.Equal(t, "no token", s.ExpectRefused(http.StatusForbidden))

		web := s.HTTPClient(Header("X-Customer", "user-of-k1"))
		resp, err := web.Post("http://shop.example.com/app/orders/7", "text/plain", strings.NewReader("x"))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		kim.ExpectMessage(Message{"type": "notification", "data": Message{"order": "7"}})
	})
}

func TestHTTPClientHasTheIdentity(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		other := Serve(t, s.Hub, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, err := Authenticator.Authenticate(r)
			if err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, id.ID+" "+r.RemoteAddr)
		}))
		resp, err := other.HTTPClient(User("kim"), IP("2001:db8::1")).Get("http://anything/")
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(text), "kim [2001:db8::1]:"), "%s", text)
		require.NoError(t, resp.Body.Close())
		if other.Settle(); other.bubble {
			require.Empty(t, other.Network.Links())
		}
	})
}

func TestLinks(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		kim, sam, again := s.Connect(User("kim")), s.Connect(User("sam")), s.Connect(User("kim"))
		anonymous := s.Connect()
		require.Equal(t, []*Link{kim.Link(), again.Link()}, s.Links("kim"))
		require.Equal(t, []*Link{sam.Link()}, s.Links("sam"))
		require.Equal(t, []*Link{anonymous.Link()}, s.Links(""))
		require.Empty(t, s.Links("max"))
		kim.Link().Cut()
		require.Equal(t, []*Link{again.Link()}, s.Links("kim"))
		require.Equal(t, []string{"kim", "kim#2", "anonymous"}, []string{kim.label, again.label, anonymous.label})
	})
}

// Neither a stalled client nor a dead one keeps the end of a test waiting, and a refused
// one leaves nothing behind.
func TestCleanup(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		start := time.Now()
		t.Cleanup(func() { require.Zero(t, time.Since(start)) }) // runs last
		s := newServer(t, parley.Options{Authenticator: parley.AuthenticatorFunc(func(r *http.Request) (parley.Identity, error) {
			if r.Header.Get("Stranger") != "" {
				return parley.Identity{}, errors.New("who?")
			}
			return Authenticator.Authenticate(r)
		})})
		for _, fault := range []func(*Link){
			func(*Link) {}, func(l *Link) { l.Stall() }, func(l *Link) { l.BlackHole() }, func(l *Link) { l.Slow(1) },
			func(l *Link) { l.VanishClient() }, func(l *Link) { l.VanishServer() }, func(l *Link) { l.Latency(time.Hour, 0) },
		} {
			c := s.Connect(User("kim"))
			c.Join("tea")
			fault(c.Link())
		}
		s.ExpectRefused(http.StatusUnauthorized, Header("Stranger", "yes"))
	})
}

// Application code that does not return is reported.
func TestCleanupReportsWhoDoesNotReturn(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		fake := &fakeTB{TB: t}
		t.Cleanup(func() {
			require.Len(t, fake.failures, 1)
			require.Contains(t, fake.failures[0], "the hub did not shut down within 10s")
			close(release)
		})
		s := NewServer(t, parley.Options{Hooks: parley.Hooks{Disconnect: func(*parley.Conn, parley.CloseCode) { <-release }}})
		s.Connect()
		s.t = fake
	})
}

// What the hub logs is in the log of the test, and nothing is written to it after its end.
func TestLog(t *testing.T) {
	var out strings.Builder
	l := &testLog{t: &outputTB{TB: t, out: &out}}
	_, err := l.Write([]byte("during"))
	require.NoError(t, err)
	l.end()
	_, err = l.Write([]byte("after"))
	require.NoError(t, err)
	require.Equal(t, "during", out.String())

	out.Reset()
	t.Run("server", func(t *testing.T) {
		s := NewServer(&outputTB{TB: t, out: &out}, parley.Options{})
		parley.On(s.Hub, "fail", func(context.Context, *parley.Conn, struct{}) (struct{}, error) {
			return struct{}{}, errors.New("the reason")
		})
		require.Equal(t, "internal", s.Connect().Call("fail", struct{}{}).Str("code"))
	})
	require.Contains(t, out.String(), "the reason")
}

type outputTB struct {
	testing.TB
	out io.Writer
}

func (o *outputTB) Output() io.Writer { return o.out }

func TestNewServerWithBadOptions(t *testing.T) {
	fake := &fakeTB{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewServer(fake, parley.Options{QueueSize: 1})
	}()
	<-done
	require.Len(t, fake.failures, 1)
	require.Contains(t, fake.failures[0], "Options.QueueSize")
}

func TestInBubble(t *testing.T) {
	require.False(t, inBubble())
	require.Equal(t, 10*time.Second, NewServer(t, parley.Options{}).Timeout)
	bubbletest.Test(t, func(t *testing.T) {
		require.True(t, inBubble())
		require.Equal(t, time.Minute, NewServer(t, parley.Options{}).Timeout)
	})
}
