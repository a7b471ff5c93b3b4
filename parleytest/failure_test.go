package parleytest

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// What is printed when a test fails is what people look at most.

func TestFailureOfExpect(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		kim := s.Connect(User("kim"), Plain())
		kim.Send(Message{"type": "leave", "id": "1"})
		kim.Send(Message{"type": "nonsense"})
		s.Settle()
		text := failure(t, s, func() { kim.Expect("notification") })
		text = regexp.MustCompile(`{"type":"connected".*}`).ReplaceAllString(text, "CONNECTED")
		require.Equal(t, `parleytest: kim: expected a message of type notification, got
	{"type":"error","id":"1","code":"not_member","message":"not in a room: join one first, with {\"type\":\"join\",\"room\":...}"}
not taken yet:
	{"type":"error","code":"unknown_type","message":"unknown type \"nonsense\": see docs/protocol.md for the types there are"}
taken before, newest last:
	CONNECTED
	{"type":"error","id":"1","code":"not_member","message":"not in a room: join one first, with {\"type\":\"join\",\"room\":...}"}
the connection is open`, text)
	})
}

func TestFailureOfExpectMessage(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		kim := s.Connect(User("kim"), Plain())
		notify := func() {
			_, err := s.Hub.Notify(context.Background(), "kim", map[string]any{"order": 7, "items": []int{1, 2}, "note": nil})
			require.NoError(t, err)
		}
		notify()
		text := failure(t, s, func() {
			kim.ExpectMessage(Message{"type": "notification", "missing": nil, "data": map[string]any{
				"order": 8, "items": []int{1, 3}, "note": "",
			}})
		})
		require.Contains(t, text, `parleytest: kim: expected a message with
	{"data":{"items":[1,3],"note":"","order":8},"missing":null,"type":"notification"}
got
	{"type":"notification","data":{"items":[1,2],"note":null,"order":7},"timestamp":`)
		require.Contains(t, text, `because
	data.items[1] is 2, expected 3
	data.note is null, expected ""
	data.order is 7, expected 8
	missing is missing, expected null
taken before`)
		// The same message matches what it has.
		notify()
		kim.ExpectMessage(Message{"type": "notification", "data": map[string]any{"order": 7.0, "items": []int{1, 2}, "note": nil}})
		require.Contains(t, failure(t, s, func() { kim.ExpectMessage(Message{"x": func() {}}) }), "expected message: json: unsupported type")
	})
}

// Nothing came, in time or before the end.
func TestFailureWhenNothingComes(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		for name, call := range map[string]struct {
			f    func(c *Client)
			want string
		}{
			"Next":          {func(c *Client) { c.Next() }, "expected a message, "},
			"Expect":        {func(c *Client) { c.Expect("reply") }, "expected a message of type reply, "},
			"ExpectMessage": {func(c *Client) { c.ExpectMessage(Message{"a": 1}) }, "expected a message with\n\t{\"a\":1}\n, "},
			"WaitFor":       {func(c *Client) { c.WaitFor(Message{"a": 1}) }, "waited for a message with\n\t{\"a\":1}\n"},
			"Request":       {func(c *Client) { c.Request(Message{"type": "ping", "id": "x"}) }, `expected an answer to {"id":"x","type":"ping"}, `},
			"CloseCode":     {func(c *Client) { c.CloseCode() }, "expected the end of the connection, "},
			"ExpectClose":   {func(c *Client) { c.ExpectClose(4000) }, "expected the end of the connection with code 4000, "},
		} {
			c := s.Connect()
			c.Link().Stall()
			start := time.Now()
			s.Timeout = 5 * time.Second
			text := failure(t, s, func() { call.f(c) })
			require.True(t, strings.HasPrefix(text, "parleytest: "+c.label+": "+call.want+"but nothing more came within 5s\n"), "%s: %s", name, text)
			require.Equal(t, 5*time.Second, time.Since(start))
			c.Link().Resume()
			if strings.Contains(name, "Close") {
				continue
			}
			s.Hub.Conn(c.ID()).Close(4150, "enough")
			if name != "Request" {
				text = failure(t, s, func() { call.f(c) })
				require.Contains(t, text, call.want+"but the connection ended\n")
				require.True(t, strings.HasSuffix(text, `the connection was closed with code 4150, "enough"`), "%s", text)
			}
		}
	})
}

func TestFailureOfSend(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		c := s.Connect()
		require.Contains(t, failure(t, s, func() { c.Send(func() {}) }), "cannot send func()")
		c.Link().Cut()
		c.CloseCode()
		text := failure(t, s, func() { c.Send(Message{"type": "ping"}) })
		require.Contains(t, text, `parleytest: anonymous: cannot send {"type":"ping"}: `)
		require.Contains(t, text, "the connection was lost: ")
		require.Contains(t, text, "connection reset by peer")
	})
}

func TestFailureOfJoin(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{Authorize: func(context.Context, *parley.Conn, parley.Access) error {
			return parley.NewError(parley.CodeForbidden, "members only")
		}})
		text := failure(t, s, func() { s.Connect().Join("tea") })
		require.Contains(t, text, `could not join "tea": {"code":"forbidden","id":"parleytest-`)
		require.Contains(t, text, `"message":"members only"`)
	})
}

func TestFailureOfExpectClose(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		c := s.Connect()
		s.Hub.Conn(c.ID()).Close(4150, "enough")
		text := failure(t, s, func() { c.ExpectClose(4000) })
		require.True(t, strings.HasPrefix(text, "parleytest: anonymous: expected the end of the connection with code 4000\n"), text)
		require.True(t, strings.HasSuffix(text, `the connection was closed with code 4150, "enough"`), text)
	})
}

func TestFailureOfConnect(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{Authenticator: parley.AuthenticatorFunc(func(r *http.Request) (parley.Identity, error) {
			id, err := Authenticator.Authenticate(r)
			if id.ID == "mallory" {
				return id, parley.NewError(parley.CodeForbidden, "not you")
			}
			return id, err
		})})
		require.Equal(t, "parleytest: mallory could not connect: status 403: not you",
			failure(t, s, func() { s.Connect(User("mallory")) }))
		require.Equal(t, "not you", s.ExpectRefused(http.StatusForbidden, User("mallory")))
		require.Equal(t, "parleytest: mallory#3: expected a refusal with status 401, got status 403: not you",
			failure(t, s, func() { s.ExpectRefused(http.StatusUnauthorized, User("mallory")) }))
		require.Equal(t, "parleytest: kim: expected a refusal with status 401, but was let in",
			failure(t, s, func() { s.ExpectRefused(http.StatusUnauthorized, User("kim")) }))
		s.Network.Refuse(true)
		require.Contains(t, failure(t, s, func() { s.Connect(User("kim")) }), "connection refused")
		require.Contains(t, failure(t, s, func() { s.ExpectRefused(403, User("kim")) }), "connection refused")
		s.Network.Refuse(false)
		s.Network.OnDial(func(context.Context, *Link) error { return errors.New("no route") })
		require.Contains(t, failure(t, s, func() { s.Connect(User("kim")) }), "no route")
	})
}

// A server that cannot be reached does not keep a test waiting for ever.
func TestFailureOfConnectInTime(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		s.Network.OnDial(func(ctx context.Context, l *Link) error { l.BlackHole(); return nil })
		start := time.Now()
		require.Contains(t, failure(t, s, func() { s.Connect() }), "anonymous could not connect: ")
		require.Equal(t, time.Minute, time.Since(start))
	})
}

// A handler that does not return is named as the reason why nobody knows whether something is under way.
func TestFailureOfSettle(t *testing.T) {
	s := newServer(t, parley.Options{})
	release := make(chan struct{})
	parley.On(s.Hub, "wait", func(context.Context, *parley.Conn, int) (int, error) { <-release; return 0, nil })
	c := s.Connect()
	c.Send(Message{"type": "call", "id": "1", "method": "wait", "data": 0})
	s.Timeout = 50 * time.Millisecond
	text := failure(t, s, c.ExpectNone)
	require.Contains(t, text, "waited for the answer to a ping, but nothing more came within 50ms: a handler or hook still runs")
	close(release)
}

// Long messages do not bury the point.
func TestFailureIsShort(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		c := s.Connect(User("kim"))
		for range 30 {
			_, err := s.Hub.Notify(context.Background(), "kim", strings.Repeat("ü", 5000))
			require.NoError(t, err)
			c.Expect("notification")
		}
		text := failure(t, s, func() { c.Send(func() {}) })
		require.Less(t, len(text), (reportedBefore+2)*(reportedBytes+50))
		require.Contains(t, text, "... (10")
		require.NotContains(t, text, "\uFFFD")
	})
}
