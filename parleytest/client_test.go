package parleytest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

func TestPair(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		for i, options := range [][]Option{nil, {Plain()}} {
			kim, sam := s.Pair(fmt.Sprint("room", i), options...)
			kim.Send(Message{"type": "message", "content": "hi"})
			want := Message{"type": "message", "username": "kim", "content": "hi", "offset": 1}
			require.Equal(t, kim.ExpectMessage(want), sam.ExpectMessage(want))
			kim.ExpectNone()
			sam.ExpectNone()
			require.Equal(t, i == 0, kim.Connected().Str("session") != "")
		}
	})
}

func TestJoin(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		c := s.Connect()
		c.Send(`{"type":"join","room":"other"}`)
		history := c.Join("tea", Message{"username": "Zoë"})
		require.Equal(t, "tea", history.Str("room"))
		c.ExpectMessage(Message{"type": "history", "room": "other"})
		c.WaitFor(Message{"type": "presence", "room": "tea", "count": 1})
		c.WaitFor(Message{"type": "system", "content": "Zoë joined"})
		sent := c.Request(Message{"type": "message", "content": 1})
		require.Equal(t, "ack", sent.Type())
		c.WaitFor(Message{"type": "message"}) // or presence comes first, after 250 ms
		again := c.Join("tea", Message{"epoch": history.Str("epoch"), "offset": history.Int("offset")})
		require.True(t, again.Bool("recovered"))
		require.Len(t, again.List("messages"), 1)
		require.EqualValues(t, 1, again.List("messages")[0].Int("content"))

		// Of several histories, the one that answers.
		c = s.Connect(Ignore("system", "presence"))
		c.Send(`{"type":"join","room":"tea"}`)
		c.Send(`{"type":"message","content":2}`)
		s.Settle()
		require.Len(t, c.Join("tea").List("messages"), 2)
		require.Len(t, c.Expect("history").List("messages"), 1)
	})
}

func TestRequestAndCall(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		type order struct {
			ID int64 `json:"id"`
		}
		parley.On(s.Hub, "double", func(ctx context.Context, c *parley.Conn, in order) (order, error) {
			if err := c.Send(ctx, "on the way"); err != nil {
				return order{}, err
			}
			return order{2 * in.ID}, nil
		})
		kim := s.Connect(User("kim"))
		reply := kim.Call("double", order{1 << 60})
		var out order
		require.NoError(t, reply.Decode("data", &out))
		require.Equal(t, order{1 << 61}, out, "large numbers are exact")
		kim.ExpectMessage(Message{"type": "private", "senderId": "", "message": "on the way"})
		require.Equal(t, "unknown_method", kim.Call("triple", nil).Str("code"))

		answer := kim.Request(Message{"type": "private", "targetId": "nobody", "message": nil, "id": "mine"})
		require.Equal(t, []string{"error", "mine", "not_found"}, []string{answer.Type(), answer.Str("id"), answer.Str("code")})
		require.Equal(t, "pong", kim.Request(Message{"type": "ping"}).Type())
		// An id of a message that was merely sent is expected like everything.
		kim.Send(Message{"type": "ping", "id": "sent"})
		kim.ExpectMessage(Message{"type": "pong", "id": "sent"})
		kim.Send(Message{"type": "ping", "id": "mine"})
		kim.ExpectMessage(Message{"type": "pong", "id": "mine"})
		kim.ExpectNone()
	})
}

func TestSendText(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		c := s.Connect()
		c.Send("no json")
		c.ExpectMessage(Message{"type": "error", "code": "bad_json"})
		c.Send([]byte(`{"type":"ping"}`))
		c.Expect("pong")
		c.Send(struct {
			Type string `json:"type"`
		}{"nonsense"})
		c.ExpectMessage(Message{"type": "error", "code": "unknown_type"})
		c.Send(json.RawMessage(`{"type":"ping"}`))
		c.Expect("pong")
		long := strings.Repeat("x", 1<<17)
		require.NoError(t, s.Hub.Conn(c.ID()).Send(context.Background(), long))
		require.Equal(t, long, c.Expect("private").Str("message"))
	})
}

func TestWaitForAndDrain(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		c := s.Connect(User("kim"))
		ctx := context.Background()
		for i := range 5 {
			_, err := s.Hub.Notify(ctx, "kim", i)
			require.NoError(t, err)
		}
		require.Equal(t, "2", c.WaitFor(Message{"data": 2})["data"].(json.Number).String())
		require.EqualValues(t, 3, c.Next().Int("data"))
		require.Len(t, c.Drain(), 1)
		require.Empty(t, c.Drain())
		c.ExpectNone()
		// One that comes later.
		parley.On(s.Hub, "start", func(context.Context, *parley.Conn, int) (int, error) {
			go func() { _, _ = s.Hub.Notify(ctx, "kim", "later") }()
			return 0, nil
		})
		c.Call("start", 0)
		c.WaitFor(Message{"data": "later"})
	})
}

// Ignored messages are not there, and nobody waits for them.
func TestIgnore(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		c := s.Connect(User("kim"), Ignore("system", "presence", "history"))
		require.Nil(t, c.Join("tea"))
		s.Connect(User("sam")).Join("tea")
		c.ExpectNone()
	})
}

// Outside of a bubble, ExpectNone finds what is under way: what another
// client has just sent, what a handler sends, what the hub was told to send.
func TestExpectNoneFindsWhatIsUnderWay(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{ClientBroadcast: true})
		parley.On(s.Hub, "work", func(ctx context.Context, c *parley.Conn, _ int) (int, error) {
			_, err := s.Hub.Notify(ctx, "sam", "worked")
			return 0, err
		})
		kim, sam := s.Pair("tea")
		kim.link.Latency(0, time.Millisecond)
		sam.link.Latency(0, time.Millisecond)
		for range 10 {
			for name, cause := range map[string]func(){
				"own message":   func() { sam.Send(Message{"type": "ping"}) },
				"of another":    func() { kim.Send(Message{"type": "private", "targetId": "sam", "message": 1}) },
				"to the room":   func() { kim.Send(Message{"type": "signal", "name": "typing"}) },
				"to everybody":  func() { kim.Send(Message{"type": "broadcast", "message": 1}) },
				"of a handler":  func() { kim.Send(Message{"type": "call", "id": "x", "method": "work", "data": 1}) },
				"of the server": func() { _, _ = s.Hub.Notify(context.Background(), "sam", 1) },
			} {
				cause()
				if s.bubble {
					time.Sleep(10 * time.Millisecond) // latency is time
				}
				text := failure(t, s, sam.ExpectNone)
				require.Contains(t, text, "parleytest: sam: expected no message\nnot taken yet:\n\t{", name)
				require.Len(t, sam.Drain(), 1, name)
				kim.Drain()
				sam.ExpectNone()
			}
		}
	})
}

// Who has ended, or cannot be reached, is not waited for.
func TestExpectNoneWithFaults(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		kim, sam := s.Pair("tea")
		for _, fault := range []func(c *Client){
			func(c *Client) { c.Link().Cut() },
			func(c *Client) { c.Link().Stall(ToServer) },
			func(c *Client) { c.Link().BlackHole(ToClient) },
			func(c *Client) { c.Link().VanishServer() },
			(*Client).Close,
		} {
			max := s.Connect(User("max"))
			max.Send(Message{"type": "ping"})
			fault(max)
			kim.ExpectNone()
			sam.ExpectNone()
			s.Settle()
			max.Drain()
		}
	})
}

// After Settle the application has seen what clients sent.
func TestSettle(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		calls := 0 // without a lock: Settle orders it, says the race detector
		parley.On(s.Hub, "count", func(context.Context, *parley.Conn, int) (int, error) {
			calls++
			return calls, nil
		})
		c := s.Connect()
		for i := range 50 {
			c.Send(Message{"type": "call", "id": fmt.Sprint(i), "method": "count", "data": 0})
			s.Settle()
			require.Equal(t, i+1, calls)
		}
		require.Len(t, c.Drain(), 50)
	})
}

func TestCloses(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		codes := make(chan parley.CloseCode, 1)
		s := newServer(t, parley.Options{Hooks: parley.Hooks{
			Connect: func(_ context.Context, c *parley.Conn) error {
				if c.UserID() == "mallory" {
					return parley.NewError(parley.CodeForbidden, "not you")
				}
				return nil
			},
			Disconnect: func(_ *parley.Conn, code parley.CloseCode) { codes <- code },
		}})
		c := s.Connect()
		c.Close()
		require.Equal(t, parley.CloseNormal, <-codes)
		require.Equal(t, parley.CloseNormal, c.CloseCode())
		c.Close() // again

		c = s.Connect(User("kim"))
		s.Hub.Conn(c.ID()).Close(4150, "enough")
		require.Equal(t, parley.CloseCode(4150), <-codes)
		require.Equal(t, "enough", c.ExpectClose(4150))

		c = s.Connect()
		c.Link().Cut()
		require.Equal(t, parley.CloseAbnormal, <-codes)
		require.Equal(t, parley.CloseAbnormal, c.CloseCode())
		require.Empty(t, c.ExpectClose(parley.CloseAbnormal))

		c = s.Connect(User("mallory"))
		require.Equal(t, "not you", c.ExpectClose(parley.CloseRefused))
		require.Equal(t, parley.CloseRefused, <-codes)
	})
}

// A message that came before the end can still be expected after it.
func TestMessagesBeforeTheEnd(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		c := s.Connect(User("kim"))
		_, err := s.Hub.Notify(context.Background(), "kim", "goodbye")
		require.NoError(t, err)
		s.Hub.Conn(c.ID()).Close(4150, "")
		c.ExpectClose(4150)
		c.ExpectMessage(Message{"type": "notification", "data": "goodbye"})
		c.ExpectNone()
	})
}

// F3: a client that comes back over a half-open connection takes over at once.
func TestReconnect(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		kim := s.Connect(User("kim"), Ignore("system", "presence"))
		kim.Join("tea")
		kim.Link().VanishClient()
		again := kim.Reconnect()
		require.True(t, again.Connected().Bool("resumed"))
		require.Equal(t, kim.ID(), again.ID())
		again.Join("tea")
		again.Send(Message{"type": "message", "content": "back"})
		again.Expect("message")
		// A live one is told.
		third := again.Reconnect()
		require.Equal(t, parley.CloseCode(4103), again.CloseCode())
		require.Equal(t, kim.ID(), third.ID())
		// A plain client has no session.
		plain := s.Connect(Plain())
		require.NotEqual(t, plain.ID(), plain.Reconnect().ID())
	})
}

// F1: the hub finds out by its heartbeat, and presence follows after the grace.
func TestVanishedClientIsFound(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		kim := s.Connect(User("kim"))
		sam := s.Connect(User("sam"), Ignore("presence"))
		sam.Join("tea")
		kim.Join("tea")
		sam.Drain()
		kim.Link().VanishClient()
		start := time.Now()
		s.Timeout = time.Hour
		sam.ExpectMessage(Message{"type": "system", "content": "kim left"})
		require.InDelta(t, 55, time.Since(start).Seconds(), 15.1) // one to two intervals, and the grace
	})
}

// F4: a client that does not read is closed, and nobody waits for it.
func TestStalledClientIsClosed(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := newServer(t, parley.Options{QueueSize: 300_000})
		kim, sam := s.Pair("tea")
		sam.Link().Stall(ToClient)
		for range 100 {
			kim.Send(Message{"type": "message", "content": strings.Repeat("x", 10_000)})
			kim.Expect("message")
		}
		require.Nil(t, s.Hub.Conn(sam.ID()))
		sam.Link().Resume()
		require.Equal(t, parley.CloseSlow, sam.CloseCode())
	})
}

// A connection that dies in the middle of a message gives the client nothing of it.
func TestCutInTheMiddleOfAMessage(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		for n := range int64(40) {
			s := newServer(t, parley.Options{})
			kim := s.Connect(User("kim"))
			kim.Link().CutAfter(n, ToClient)
			_, err := s.Hub.Notify(context.Background(), "kim", strings.Repeat("x", 100))
			require.NoError(t, err)
			require.Equal(t, parley.CloseAbnormal, kim.CloseCode())
			kim.ExpectNone()
			require.Len(t, s.Connect(User("kim")).Inbox().List("messages"), 1)
		}
	})
}

// F61: latency delays, but what is sent meanwhile does not wait for answers.
func TestLatencyIsNotThroughput(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		kim, sam := s.Pair("tea")
		for _, c := range []*Client{kim, sam} {
			c.Link().Latency(200*time.Millisecond, 20*time.Millisecond)
		}
		start := time.Now()
		for i := range 200 {
			kim.Send(Message{"type": "message", "content": i})
		}
		for i := range 200 {
			sam.ExpectMessage(Message{"content": i})
		}
		require.InDelta(t, 0.42, time.Since(start).Seconds(), 0.021)
	})
}

// F60: a client that has shut down its sending side gets what comes until the server has closed.
func TestHalfClosedClient(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		kim := s.Connect(User("kim"))
		_, err := s.Hub.Notify(context.Background(), "kim", "under way")
		require.NoError(t, err)
		require.NoError(t, kim.Link().Client().CloseWrite())
		require.Equal(t, parley.CloseAbnormal, kim.CloseCode())
		kim.ExpectMessage(Message{"data": "under way"})
		require.False(t, kim.Link().Alive())
	})
}

// Outside of a bubble, ExpectNone costs a client with a rate limit no more than a
// ping, and those who have sent nothing since the last one, nothing.
func TestSettleAndRateLimits(t *testing.T) {
	s := NewServer(t, parley.Options{RateLimit: 1e-6, RateBurst: 10})
	kim, sam := s.Connect(), s.Connect()
	for range 10 {
		sam.ExpectNone()
	}
	for range 10 {
		require.Equal(t, "pong", kim.Request(Message{"type": "ping"}).Type())
	}
	sam.ExpectNone() // a refusal is an answer, too
	sam.Send(Message{"type": "ping"})
	sam.ExpectMessage(Message{"code": "rate_limited"})
}
