package client

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

// A handler that is too slow for the buffer: nothing grows, nothing is lost, and
// the client resumes where the handler is.
func TestSlowHandler(t *testing.T) {
	for name, opts := range map[string]Options{
		"events": {Buffer: 10},
		"bytes":  {BufferBytes: 10 * (eventCost + 120)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, parley.Options{})
				var j journal
				opts.OnError = func(_ context.Context, _ *Client, err error) { j.add("%s", CodeOf(err)) }
				c := connect(t, s.network, "kim", opts)
				gate := make(chan struct{})
				room := j.room()
				room.OnMessage = func(_ context.Context, r *Room, m Message) {
					<-gate
					j.add("%s", m.Content)
				}
				r, err := c.Join(t.Context(), "lobby", room)
				require.NoError(t, err)
				j.expect(t, "lobby history []")
				for i := range 50 {
					s.publish("lobby", i)
				}
				synctest.Wait()
				queued := len(c.queue)
				require.Greater(t, queued, 8)
				require.Less(t, queued, 13)
				require.Less(t, r.Position().Offset, int64(2))
				require.Len(t, s.attempts(), 1) // it comes back when the handler has caught up
				begin := time.Now()
				close(gate)
				time.Sleep(10 * time.Second)
				require.Equal(t, int64(50), r.Position().Offset)
				require.WithinRange(t, s.attempts()[1], begin, begin.Add(time.Second))
				var messages []string
				slow := 0
				for _, line := range j.take() {
					switch {
					case line == "slow":
						slow++
					case !strings.Contains(line, "recovered"):
						messages = append(messages, line)
					}
				}
				require.Positive(t, slow)
				require.Len(t, messages, 50)
				for i, m := range messages {
					require.Equal(t, fmt.Sprint(i), m)
				}
			})
		})
	}
}

// While the handlers are behind, everything else goes on: a handler may wait for an ack.
func TestSlowHandlerWaitsForAck(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		c := connect(t, s.network, "kim", Options{Buffer: 5})
		room := j.room()
		room.OnMessage = func(ctx context.Context, r *Room, m Message) {
			if string(m.Content) != "0" {
				return
			}
			time.Sleep(time.Minute) // more than the buffer takes comes meanwhile, and the connection is lost
			_, err := r.Send(ctx, "answer")
			j.add("sent %v", err)
			_, err = r.History(ctx, 0, 10)
			j.add("history %v", err)
			_, err = Call[int](ctx, c, "nothing", nil)
			j.add("call %s", CodeOf(err))
			other, err := c.Join(ctx, "other", JoinOptions{})
			j.add("joined %v", err)
			j.add("left %v", other.Leave(ctx))
		}
		_, err := c.Join(t.Context(), "lobby", room)
		require.NoError(t, err)
		j.take()
		for i := range 20 {
			s.publish("lobby", i)
		}
		time.Sleep(10 * time.Second)
		s.cut()
		time.Sleep(time.Minute)
		require.Subset(t, j.take(), []string{"sent <nil>", "history <nil>", "call unknown_method", "joined <nil>", "left <nil>"})
		require.Equal(t, int64(21), c.Room("lobby").Position().Offset)
	})
}

// Changes of the state do not pile up either.
func TestSlowHandlerOfState(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		gate := make(chan struct{})
		var last State
		c := start(t, f.network, "", Options{Buffer: 3, OnState: func(_ context.Context, _ *Client, s StateChange) {
			<-gate
			last = s.State
		}})
		for range 20 {
			f.welcome("kim").cut()
		}
		f.welcome("kim")
		synctest.Wait()
		require.Less(t, len(c.queue), 8)
		close(gate)
		synctest.Wait()
		require.Equal(t, StateConnected, last)
	})
}

// gated makes a client that gets two notifications, whose handler waits for the gate, is
// written down, and calls then.
func (j *journal) gated(t *testing.T, f *fake, then func(ctx context.Context, c *Client)) (c *Client, p *peer, gate chan struct{}) {
	t.Helper()
	gate = make(chan struct{})
	opts := j.states()
	opts.OnNotification = func(ctx context.Context, c *Client, m Notification) {
		<-gate
		j.add("notification %s", m.Data)
		then(ctx, c)
	}
	c = start(t, f.network, "", opts)
	p = f.welcome("kim")
	p.send(`{"type":"notification","data":1}`)
	p.send(`{"type":"notification","data":2}`)
	return c, p, gate
}

// F45: from a handler.
func TestCloseInHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var j journal
		c, p, gate := j.gated(t, newFake(t), func(ctx context.Context, c *Client) {
			c.Close()
			c.Close()
			j.add("%v %v", c.State(), ctx.Err())
		})
		synctest.Wait()
		close(gate)
		<-c.Done()
		j.expect(t, "connected", "notification 1", "closed context canceled", "closed")
		require.Equal(t, parley.CloseNormal, p.closed())
	})
}

// F45: Close returns while a handler runs that waits for it.
func TestCloseWhileHandlerRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c := start(t, f.network, "", Options{OnNotification: func(ctx context.Context, _ *Client, _ Notification) { <-ctx.Done() }})
		p := f.welcome("kim")
		p.send(`{"type":"notification","data":1}`)
		synctest.Wait()
		c.Close()
		<-c.Done()
	})
}

// Close after the server has ended the client: what still waits for the handlers is not told.
func TestCloseAfterTheServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var j journal
		c, p, gate := j.gated(t, newFake(t), func(context.Context, *Client) {})
		p.close(parley.CloseDisconnected, "")
		synctest.Wait()
		require.Equal(t, StateClosed, c.State())
		c.Close()
		close(gate)
		<-c.Done()
		j.expect(t, "connected", "notification 1", "closed")
	})
}

// Close ends what waits, in every state, and says goodbye if there is somebody to say it to.
func TestCloseInEveryState(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, f *fake, opts *Options){
		"token": func(_ *testing.T, _ *fake, opts *Options) {
			opts.Token = func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
		},
		"dialing":   func(_ *testing.T, f *fake, _ *Options) { f.hang() },
		"connected": func(t *testing.T, f *fake, _ *Options) { go f.welcome("kim") },
		"greeting":  func(*testing.T, *fake, *Options) {},
		"waiting":   func(_ *testing.T, f *fake, _ *Options) { f.Refuse(true) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				var opts Options
				test(t, f, &opts)
				c := start(t, f.network, "", opts)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				joining := background(func() error { _, err := c.Join(ctx, "lobby", JoinOptions{}); return err })
				synctest.Wait()
				begin := time.Now()
				c.Close()
				requireCode(t, CodeClosed, <-joining)
				<-c.Done()
				require.Less(t, time.Since(begin), time.Second)
			})
		})
	}
}

// F58, seen from the other side: a server that does not answer the close frame.
func TestCloseWithoutAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c := start(t, f.network, "", Options{})
		f.welcome("kim")
		synctest.Wait()
		deafen(f.last())
		begin := time.Now()
		c.Close()
		<-c.Done()
		require.Equal(t, closeTimeout, time.Since(begin))
	})
}

// A handler that ends its goroutine, as a failing test does, ends the client.
func TestGoexitInHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c := start(t, f.network, "", Options{OnNotification: func(context.Context, *Client, Notification) { runtime.Goexit() }})
		p := f.welcome("kim")
		p.send(`{"type":"notification","data":1}`)
		<-c.Done()
		require.Equal(t, StateClosed, c.State())
	})
}

// All that a handler calls may wait for answers: nothing of the client waits for handlers.
func TestHandlersMayCallEverything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{ClientBroadcast: true})
		parley.On(s.hub, "echo", func(_ context.Context, _ *parley.Conn, in int) (int, error) { return in, nil })
		var j journal
		connect(t, s.network, "lee", Options{})
		start(t, s.network, "kim", Options{OnConnected: func(ctx context.Context, c *Client, id Identity) {
			j.add("%v", c.WaitConnected(ctx))
			r, err := c.Join(ctx, "lobby", JoinOptions{})
			j.add("%v", err)
			_, err = r.Send(ctx, 1)
			j.add("%v", err)
			_, err = c.Private(ctx, "lee", 1)
			j.add("%v", err)
			_, err = c.Broadcast(ctx, 1)
			j.add("%v", err)
			n, err := Call[int](ctx, c, "echo", 7)
			j.add("%v %v", n, err)
			_, err = c.Ping(ctx)
			j.add("%v %v %v", err, r.Signal("s", 1), r.Leave(ctx))
			j.add("%s %v", id.UserID, c.Identity() == id)
			c.Close()
		}})
		j.expect(t, "<nil>", "<nil>", "<nil>", "<nil>", "<nil>", "7 <nil>", "<nil> <nil> <nil>", "kim true")
	})
}
