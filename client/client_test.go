package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

func TestMessagesOnceAndInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		s.publish("lobby", 1, 2)
		var j journal
		c := connect(t, s.network, "kim", j.states())
		r := j.join(t, c, "lobby")
		j.expect(t, "connected", "lobby history [1,2]")
		ack, err := r.Send(t.Context(), "hello")
		require.NoError(t, err)
		require.Equal(t, int64(3), ack.Position.Offset)
		j.expect(t, `lobby "hello"`)
		require.Equal(t, ack.Position, r.Position())

		s.cut()
		s.publish("lobby", 4, 5)
		time.Sleep(time.Second)
		j.expect(t, "waiting", "connecting", "connected", "lobby 4", "lobby 5", "lobby recovered 2")
		s.publish("lobby", 6)
		j.expect(t, "lobby 6")
		require.NoError(t, r.Leave(t.Context()))
		s.publish("lobby", 7)
		c.Close()
		j.expect(t, "closed")
	})
}

// P1.8: an anonymous client keeps its client id, and so what it sent is stored
// once also if the ack was lost (F3, F24).
func TestSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		c := connect(t, s.network, "", Options{})
		opts := j.room()
		opts.Username = "kim"
		r, err := c.Join(t.Context(), "lobby", opts)
		require.NoError(t, err)
		id := c.Identity()
		require.Equal(t, id.ClientID, id.UserID)
		j.take()
		for i := range 3 {
			deafen(s.last())
			sent := background(func() error { _, err := r.Send(t.Context(), i); return err })
			synctest.Wait()
			s.cut()
			require.NoError(t, <-sent)
			synctest.Wait()
			require.Equal(t, Identity{ClientID: id.ClientID, UserID: id.UserID, Resumed: true}, c.Identity())
		}
		j.expect(t, "lobby 0", "lobby recovered 1", "lobby 1", "lobby recovered 1", "lobby 2", "lobby recovered 1")
	})
}

// A session that is too old: another client id, and what was sent is not sent again (P4.13).
func TestSessionIsOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		c := connect(t, s.network, "", Options{
			Timeout: time.Hour, OnError: func(_ context.Context, _ *Client, err error) { j.add("%v", err) },
		})
		r := j.join(t, c, "lobby")
		id := c.Identity()
		deafen(s.last())
		sent := background(func() error { _, err := r.Send(t.Context(), "lost"); return err })
		synctest.Wait()
		s.Refuse(true)
		s.cut()
		time.Sleep(3 * time.Minute)
		s.Refuse(false)
		requireCode(t, CodeDisconnected, <-sent)
		require.NotEqual(t, id.ClientID, c.Identity().ClientID)
		require.False(t, c.Identity().Resumed)
		j.expect(t, "lobby history []", `lobby "lost"`, "lobby recovered 1")
	})
}

func TestConnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		c, err := Connect(t.Context(), "http://parley.test/realtime", Options{Dial: s.dial})
		require.NoError(t, err)
		require.Equal(t, StateConnected, c.State())
		require.NoError(t, c.Err())
		c.Close()
		<-c.Done()

		s.Refuse(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = Connect(ctx, "ws://parley.test/realtime", Options{Dial: s.dial})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		n := len(s.attempts())
		time.Sleep(time.Hour)
		require.Len(t, s.attempts(), n) // it was closed

		s.Refuse(false)
		_, err = Connect(t.Context(), "ws://parley.test/realtime", Options{
			Dial: s.dial, Token: func(context.Context) (string, error) { return "expired", nil },
		})
		require.ErrorIs(t, err, ErrUnauthorized)
	})
}

func TestHTTPClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		own := &http.Client{Transport: &http.Transport{DialContext: s.dial, DisableKeepAlives: true}, Timeout: time.Minute}
		c, err := Connect(t.Context(), "ws://parley.test/realtime", Options{HTTPClient: own})
		require.NoError(t, err)
		time.Sleep(time.Hour)
		require.Equal(t, StateConnected, c.State())
		require.Len(t, s.attempts(), 1)
		require.Nil(t, own.CheckRedirect)
		c.Close()
		<-c.Done()
	})
}

// wss, over a real network.
func TestTLS(t *testing.T) {
	hub, err := parley.New(parley.Options{Authenticator: parley.AllowAnonymous, Logger: quiet()})
	require.NoError(t, err)
	server := httptest.NewTLSServer(hub)
	defer server.Close()
	defer func() { require.NoError(t, hub.Shutdown(t.Context())) }()
	c, err := Connect(t.Context(), strings.Replace(server.URL, "https", "wss", 1), Options{HTTPClient: server.Client()})
	require.NoError(t, err)
	c.Close()
	<-c.Done()
}

func TestBadOptions(t *testing.T) {
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("never") }
	for _, test := range []struct {
		url  string
		opts Options
		want string
	}{
		{"ftp://parley.test", Options{}, "scheme"},
		{"parley.test/realtime", Options{}, "scheme"},
		{"ws:///realtime", Options{}, "no host"},
		{"ws://a b", Options{}, "invalid character"},
		{"ws://parley.test", Options{Dial: dial, HTTPClient: http.DefaultClient}, "Options.Dial"},
		{"ws://parley.test", Options{BackoffMin: -1}, "BackoffMin"},
		{"ws://parley.test", Options{BackoffMin: time.Minute}, "BackoffMax"},
		{"ws://parley.test", Options{Timeout: -1}, "Timeout"},
		{"ws://parley.test", Options{Queue: -1}, "Queue"},
		{"ws://parley.test", Options{Buffer: -1}, "Buffer"},
		{"ws://parley.test", Options{BufferBytes: -1}, "BufferBytes"},
		{"ws://parley.test", Options{ReadLimit: -1}, "ReadLimit"},
	} {
		_, err := New(test.url, test.opts)
		require.ErrorContains(t, err, test.want)
	}
}

// Malformed messages are told and ignored, unknown types ignored (P1.6).
func TestMalformedMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		opts := j.states()
		opts.OnError = func(_ context.Context, _ *Client, err error) { j.add("%s", CodeOf(err)) }
		opts.OnNotification = func(_ context.Context, _ *Client, m Notification) { j.add("%s", m.Data) }
		start(t, f.network, "", opts)
		p := f.accept()
		p.send(`{"type":"notification","data":"before connected"}`)
		p.send(`{"type":"connected","clientId":"c1"}`)
		p.send(`{"type":"connected","clientId":"c2"}`) // once is enough
		for _, text := range []string{`[]`, `nonsense`, `{"type":1}`, `{"type":"notification"}`, `{"type":"bye","code":1}`, `{"type":"notification","data":1,"offset":-1}`} {
			p.send(text)
		}
		require.NoError(t, p.ws.Write(t.Context(), 2, []byte(`{"type":"notification","data":"binary"}`)))
		p.send(`{"type":"future","room":7}`)
		p.send(`{"type":"message","room":"not joined","userId":"u","username":"u","content":1,"timestamp":1}`)
		p.send(`{"type":"inbox","epoch":"e","offset":2,"messages":[{"type":"notification","epoch":"e","offset":1},{"type":"future","epoch":"e","offset":2}]}`)
		p.send(`{"type":"notification","data":"good"}`)
		bad := "bad_message"
		j.expect(t, "connected", bad, bad, bad, bad, bad, bad, bad, bad, `"good"`)
	})
}

// An entry whose type is not known counts for the position: nothing is missing.
func TestUnknownEntries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		_, r, p := joined(t, f, &j)
		p.send(`{"type":"future","room":"lobby","epoch":"e","offset":3}`)
		p.message(4)
		m := p.expect("join")
		p.sendf(`{"type":"history","room":"lobby","epoch":"e","offset":4,"recovered":true,"messages":[{"type":"future","epoch":"e","offset":3},%s]}`, lobby(4))
		p.ack(m, "")
		j.expect(t, "lobby 4", "lobby recovered 2")
		require.Equal(t, int64(4), r.Position().Offset)
	})
}

func TestReadLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var last lastChange
		start(t, f.network, "", Options{ReadLimit: 300, OnState: last.set})
		p := f.welcome("kim")
		p.sendf(`{"type":"notification","data":"%0300d"}`, 1)
		synctest.Wait()
		require.Equal(t, StateWaiting, last.get().State)
		require.ErrorContains(t, last.get().Err, "too big")
		f.welcome("kim")
	})
}

// F42, F43, F46: everything at once, while connections die; nothing is left in the end.
func TestConcurrentUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{ClientBroadcast: true, RateLimit: -1, BroadcastHistory: parley.Retention{Messages: 1000}})
		parley.On(s.hub, "echo", func(_ context.Context, _ *parley.Conn, in int) (int, error) { return in, nil })
		var all sync.WaitGroup
		clients := make([]*Client, 4)
		for i := range clients {
			clients[i] = connect(t, s.network, "kim", Options{Buffer: 50})
		}
		for _, c := range clients {
			for range 3 {
				all.Go(func() {
					for n := range 10 {
						r, err := c.Join(t.Context(), "lobby", JoinOptions{OnMessage: func(context.Context, *Room, Message) { time.Sleep(time.Millisecond) }})
						if err != nil {
							if r = c.Room("lobby"); r == nil {
								continue
							}
						}
						_, _ = r.Send(t.Context(), n)
						_ = r.Signal("s", n)
						_, _ = c.Broadcast(t.Context(), n)
						_, _ = Call[int](t.Context(), c, "echo", n)
						_, _, _, _ = r.Members(), r.Count(), r.Position(), c.State()
						_ = r.Leave(t.Context())
					}
				})
			}
		}
		all.Go(func() {
			for range 20 {
				time.Sleep(300 * time.Millisecond)
				s.cut()
			}
		})
		all.Wait()
		for _, c := range clients {
			all.Go(c.Close)
			all.Go(c.Close)
		}
		all.Wait()
		for _, c := range clients {
			<-c.Done()
			require.Empty(t, c.pending)
			require.Empty(t, c.rooms)
			require.Empty(t, c.leaving)
			require.Nil(t, c.conn)
		}
	})
}
