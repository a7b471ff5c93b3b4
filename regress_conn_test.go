package parley

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// slowLink passes on so many bytes at a time, and pauses before each of them.
type slowLink struct {
	r     io.Reader
	bytes int
	pause time.Duration
}

func (l slowLink) Read(p []byte) (int, error) {
	time.Sleep(l.pause)
	return l.r.Read(p[:min(len(p), l.bytes)])
}

// rawSlow connects a v1 client that reads over a slow link. It answers pings
// when it gets to read them, behind everything that was queued before.
func (s *server) rawSlow(bytes int, pause time.Duration, headers ...string) *rawClient {
	s.t.Helper()
	headers = append(headers, "Sec-WebSocket-Protocol", subprotocolV1)
	resp, conn, r := s.exchange(request(headers...))
	require.Equal(s.t, http.StatusSwitchingProtocols, resp.StatusCode)
	c := newRawClient(s.t, conn, bufio.NewReader(slowLink{r, bytes, pause}))
	c.readOn()
	c.id = c.expect("connected").str("clientId")
	return c
}

// F7, F46: a handler that waits for its context ends when the client is gone,
// and nothing is left of the connection.
func TestHandlerContextEndsWithTheSocket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		returned := make(chan error, 1)
		On(s.Hub, "wait", func(ctx context.Context, _ *Conn, _ struct{}) (int, error) {
			select {
			case <-ctx.Done():
			case <-time.After(24 * time.Hour):
			}
			returned <- ctx.Err()
			return 0, ctx.Err()
		})
		c := s.raw()
		c.text(`{"type":"join","room":"tea","username":"kim"}`)
		c.text(`{"type":"call","id":"1","method":"wait"}`)
		synctest.Wait()
		require.NoError(t, c.conn.Close())
		time.Sleep(2 * s.opts.PingInterval)
		synctest.Wait()
		require.Len(t, returned, 1, "the handler still waits")
		require.ErrorIs(t, <-returned, context.Canceled)
		require.Zero(t, s.Stats().Connections)
		_, count, err := s.Room("tea").Members(t.Context(), 10)
		require.NoError(t, err)
		require.Zero(t, count)
	})
}

// F7, F46: a user whose connections died inside handlers is not locked out by them.
func TestSlotsOfVanishedClientsAreGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const most = 16
		s := serve(t, Options{MaxPerUser: most})
		On(s.Hub, "wait", func(ctx context.Context, _ *Conn, _ struct{}) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
		for range 2 {
			for range most {
				c := s.raw("X-User", "kim")
				c.text(`{"type":"call","id":"1","method":"wait"}`)
				synctest.Wait()
				require.NoError(t, c.conn.Close())
			}
			status, _, _ := s.status(request("X-User", "kim"))
			require.Equal(t, http.StatusTooManyRequests, status)
			time.Sleep(2 * s.opts.PingInterval)
		}
		s.raw("X-User", "kim")
		require.Equal(t, 1, s.Stats().Connections)
	})
}

// F7: a handler that ends its goroutine gives the slot of its connection back.
func TestGoexitInAHandlerGivesTheSlotBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{MaxPerUser: 1})
		On(s.Hub, "exit", func(context.Context, *Conn, struct{}) (int, error) { runtime.Goexit(); return 0, nil })
		for range 3 {
			c := s.raw("X-User", "kim")
			c.text(`{"type":"call","id":"1","method":"exit"}`)
			c.expectClosed(CloseInternal)
			synctest.Wait()
			require.Zero(t, s.Stats().Connections)
		}
	})
}

// The pauses of a connection credit its client with what it may have sent in
// the last of them, and not for long.
func TestRateCreditDoesNotAccumulate(t *testing.T) {
	const (
		perSecond, burst = 10, 20
		pause            = 10 * time.Second
		credit           = 10*perSecond - burst
	)
	for name, test := range map[string]struct {
		idle time.Duration
		most int
	}{
		"right after the pauses": {0, credit + burst},
		"an hour later":          {time.Hour, burst},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, Options{RateLimit: perSecond, RateBurst: burst})
				On(s.Hub, "pause", func(context.Context, *Conn, struct{}) (int, error) { time.Sleep(pause); return 0, nil })
				c := s.raw()
				for range 100 {
					c.text(`{"type":"call","id":"1","method":"pause"}`)
					c.expect("reply")
				}
				time.Sleep(test.idle)
				answered := 0
				for range 2 * test.most {
					c.text(`{"type":"ping"}`)
					m := c.next()
					if m.str("type") == "error" {
						require.Equal(t, string(CodeRateLimited), m.str("code"))
						break
					}
					answered++
				}
				require.Equal(t, test.most, answered)
			})
		})
	}
}

// F61, F71: a client on a slow link lives as long as it reads, although the
// pings wait behind more than two intervals' worth of messages.
func TestSlowSteadyReaderLives(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c := s.rawSlow(800, 100*time.Millisecond, "X-User", "kim") // 8 KB/s
		c.expect("inbox")
		const messages = 800 // 640 KB: they fit into the queue
		for i := range messages {
			_, err := s.Notify(t.Context(), "kim", fmt.Sprint(i, strings.Repeat(" ", 700)))
			require.NoError(t, err)
		}
		start := time.Now()
		for i := range messages {
			require.Equal(t, fmt.Sprint(i), strings.TrimSpace(c.expect("notification").str("data")))
		}
		require.Greater(t, time.Since(start), 2*s.opts.PingInterval)
		time.Sleep(time.Hour)
		c.text(`{"type":"ping"}`)
		c.expect("pong")
		require.Zero(t, s.Stats().ClosedSlow+s.Stats().ClosedNoHeartbeat)
	})
}

// F61, F71: a history as large as they get, in a single frame, may take longer
// than two heartbeats to cross a slow link.
func TestLargeHistoryOverASlowLink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		const messages = 100
		for range messages {
			_, err := s.Room("tea").Send(t.Context(), strings.Repeat("h", 5000))
			require.NoError(t, err)
		}
		c := s.rawSlow(800, 100*time.Millisecond)
		start := time.Now()
		c.text(`{"type":"join","room":"tea","username":"kim"}`)
		require.Len(t, c.expect("history")["messages"], messages)
		require.Greater(t, time.Since(start), 2*s.opts.PingInterval)
		time.Sleep(time.Hour)
		c.text(`{"type":"ping","id":"alive"}`)
		for m := c.next(); m.str("type") != "pong"; m = c.next() {
		}
		require.Zero(t, s.Stats().ClosedSlow+s.Stats().ClosedNoHeartbeat)
	})
}

// A reply that no queue could hold is an error of that call alone.
func TestLargeReplyIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		On(s.Hub, "big", func(context.Context, *Conn, struct{}) (string, error) { return strings.Repeat("r", 2<<20), nil })
		c := s.plain()
		for i := range 5 {
			id := fmt.Sprint(i)
			c.send(map[string]any{"type": "call", "id": id, "method": "big"})
			require.Equal(t, id, c.expectError(CodeTooLarge).str("id"))
		}
		c.send(`{"type":"ping"}`)
		c.expect("pong")
	})
}

// F52: a name that is made of a long user id is cut between characters.
func TestNamesAreCutBetweenCharacters(t *testing.T) {
	for _, user := range []string{"a" + strings.Repeat("é", 40), strings.Repeat("é", 40), "ab" + strings.Repeat("茶", 30), "abc" + strings.Repeat("🫖", 20)} {
		bubble(t, func(t *testing.T) {
			s := serve(t, Options{})
			c := s.connect(dialOptions{user: user})
			name := s.Conn(c.id).Name()
			require.True(t, utf8.ValidString(name), "%q", name)
			require.True(t, strings.HasPrefix(user, name), "%q", name)
			require.LessOrEqual(t, len(name), maxShortName)
			require.Greater(t, len(name), maxShortName-utf8.UTFMax)
		})
	}
}

// F63: a user who is disconnected between the authentication and the end of
// the handshake is disconnected in the same way as one who was connected.
func TestDisconnectUserDuringAHandshake(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newBarrier()
		s := serve(t, Options{Authenticator: AuthenticatorFunc(func(r *http.Request) (Identity, error) {
			id, err := headerAuth.Authenticate(r)
			if id.ID != "" {
				gate.pass()
			}
			return id, err
		})})
		unharmed := s.bystanders()
		kim, lee := make(chan *rawClient, 1), make(chan *rawClient, 1)
		go func() { kim <- s.rawUnread("X-User", "kim") }()
		go func() { lee <- s.rawUnread("X-User", "lee") }()
		synctest.Wait()
		require.EqualValues(t, 2, gate.hit.Load())
		require.Zero(t, s.disconnect("kim", "banned"))
		gate.open()
		banned, other := <-kim, <-lee
		banned.readOn()
		banned.expectClosed(CloseDisconnected)
		other.readOn()
		other.expect("connected")
		require.Empty(t, s.User("kim"))
		require.Len(t, s.User("lee"), 1, "somebody else's handshake goes on")
		unharmed()
	})
}

type pointerInput struct{ Text string }

func (p *pointerInput) Validate() error {
	if p.Text == "" {
		return errors.New("Text is empty")
	}
	return nil
}

// F54: a handler that takes a pointer never gets nil, nor does its Validate.
func TestMissingInputOfAPointerHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		On(s.Hub, "echo", func(_ context.Context, _ *Conn, in *pointerInput) (string, error) { return in.Text, nil })
		c := s.plain()
		c.send(`{"type":"call","id":"1","method":"echo"}`)
		c.expectError(CodeBadRequest)
		c.send(`{"type":"call","id":"2","method":"echo","data":null}`)
		c.expectError(CodeBadRequest)
		c.send(`{"type":"call","id":"3","method":"echo","data":{}}`)
		c.expectError(CodeInvalid)
		c.send(`{"type":"call","id":"4","method":"echo","data":{"Text":"tea"}}`)
		require.Equal(t, "tea", c.expect("reply").str("data"))
		require.Zero(t, s.Stats().Panics)
	})
}

type internalTenant struct {
	TenantShard struct{ Index int } `json:"k"`
}

// F54: an error about wrong input names fields as the client wrote them, and
// none of the application's types.
func TestInputErrorsDoNotNameTypes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		On(s.Hub, "x", func(context.Context, *Conn, internalTenant) (int, error) { return 0, nil })
		c := s.plain()
		for _, data := range []string{`{"k":{"Index":"a"}}`, `{"k":7}`, `{"k":[]}`, `7`, `"text"`, `[]`, `{"k":{"Index":1.5}}`, `{"k":{"Index":1e99}}`} {
			c.send(map[string]any{"type": "call", "id": "1", "method": "x", "data": json.RawMessage(data)})
			text := c.expectError(CodeBadRequest).str("message")
			for _, secret := range []string{"internalTenant", "TenantShard", "parley", "struct", " int", "Go "} {
				require.NotContains(t, text, secret)
			}
		}
	})
}

// P1.4: "connected" comes before everything that the application does with a
// connection which is still being greeted.
func TestNothingPrecedesTheGreeting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, gate := newHookStore(), newBarrier()
		store.onRead = func(_ context.Context, topic string, _ Query, next func() (Page, error)) (Page, error) {
			if topic == topicBroadcast {
				gate.pass()
			}
			return next()
		}
		s := serve(t, Options{Store: store, BroadcastHistory: Retention{Messages: 10}})
		c := s.rawUnread("X-User", "kim", "Sec-WebSocket-Protocol", subprotocolV1)
		c.readOn()
		synctest.Wait()
		require.Len(t, s.User("kim"), 1)
		conn := s.User("kim")[0]
		require.NoError(t, conn.Send(t.Context(), "early"))
		require.NoError(t, s.Room("tea").Join(t.Context(), conn))
		_, err := s.Room("tea").Send(t.Context(), "early")
		require.NoError(t, err)
		synctest.Wait()
		require.Empty(t, c.in)
		gate.open()
		c.expect("connected")
		require.Equal(t, "early", c.expect("private").str("message"))
		c.expect("history")
	})
}

// P1.4: a connection that ends before it was greeted gets its close frame only.
func TestShutdownBeforeTheGreeting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, gate := newHookStore(), newBarrier()
		store.onRead = func(_ context.Context, topic string, _ Query, next func() (Page, error)) (Page, error) {
			if topic == topicBroadcast {
				gate.pass()
			}
			return next()
		}
		s := serve(t, Options{Store: store, BroadcastHistory: Retention{Messages: 10}})
		c := s.rawUnread("X-User", "kim", "Sec-WebSocket-Protocol", subprotocolV1)
		c.readOn()
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(context.Background()) }()
		synctest.Wait()
		gate.open()
		require.NoError(t, <-done)
		require.EqualValues(t, bitFin|opClose, c.frame().first)
		c.expectEnd()
	})
}

// F42, F70: a message to a connection that is being closed has no receiver;
// the sender's own connection does not end.
func TestPrivateToAnEndingConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{RateLimit: -1})
		resp, conn, r := s.exchange(request())
		require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		greeting, err := readRawFrame(r)
		require.NoError(t, err)
		var connected message
		require.NoError(t, json.Unmarshal(greeting.payload, &connected))
		newRawClient(t, conn, r) // reads no further
		c := s.plain()
		refused := 0
		for i := range 30 {
			c.send(map[string]any{
				"type": "private", "id": fmt.Sprint(i), "targetId": connected.str("clientId"), "message": strings.Repeat("z", 60<<10),
			})
			m := c.next()
			if m.str("type") == "error" {
				require.Equal(t, string(CodeNotFound), m.str("code"))
				refused++
				continue
			}
			require.Equal(t, "ack", m.str("type"))
			require.Zero(t, refused, "it came back")
		}
		require.NotZero(t, refused)
		require.EqualValues(t, 1, s.Stats().ClosedSlow)
	})
}
