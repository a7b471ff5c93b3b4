package parley

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// endings records what the Disconnect hook was told.
type endings struct {
	mu    sync.Mutex
	codes map[string][]CloseCode // by client id
}

func (e *endings) disconnect(c *Conn, code CloseCode) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.codes == nil {
		e.codes = make(map[string][]CloseCode)
	}
	e.codes[c.ID()] = append(e.codes[c.ID()], code)
}

func (e *endings) of(id string) []CloseCode {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.codes[id]
}

// F43: closing again changes nothing, however many do it at once.
func TestCloseTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var ends endings
		s := serve(t, Options{Hooks: Hooks{Disconnect: ends.disconnect}})
		c := s.raw()
		conn := s.Conn(c.id)
		conn.Close(4050, "first")
		conn.Close(4150, "second")
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { conn.Close(4151, "many") })
		}
		all.Wait()
		code, reason := c.closeFrame()
		require.EqualValues(t, 4050, code)
		require.Equal(t, "first", reason)
		c.expectEnd()
		conn.Close(4152, "after the end")
		require.Equal(t, []CloseCode{4050}, ends.of(c.id))
		require.Zero(t, s.Stats().Connections)
	})
}

// F42, F45: closing the connection from within every piece of application
// code it calls; synctest finds the deadlocks by itself.
func TestCloseWithinHooks(t *testing.T) {
	for name, opts := range map[string]func(end func(*Conn)) Options{
		"Connect": func(end func(*Conn)) Options {
			return Options{Hooks: Hooks{Connect: func(_ context.Context, c *Conn) error { end(c); return nil }}}
		},
		"Connect with an error": func(end func(*Conn)) Options {
			return Options{Hooks: Hooks{Connect: func(_ context.Context, c *Conn) error { end(c); return errors.New("x") }}}
		},
		"Join": func(end func(*Conn)) Options {
			return Options{Hooks: Hooks{Join: func(_ context.Context, c *Conn, _ *Room) { end(c) }}}
		},
		"Leave": func(end func(*Conn)) Options {
			return Options{Hooks: Hooks{Leave: func(c *Conn, _ *Room) { end(c) }}}
		},
		"Message": func(end func(*Conn)) Options {
			return Options{Hooks: Hooks{Message: func(_ context.Context, c *Conn, _ ClientMessage) error { end(c); return nil }}}
		},
		"Authorize": func(end func(*Conn)) Options {
			return Options{Authorize: func(_ context.Context, c *Conn, _ Access) error { end(c); return nil }}
		},
		"handler": func(func(*Conn)) Options { return Options{} },
	} {
		// Disconnect is called before or after the hook has returned.
		for _, pause := range []time.Duration{0, time.Second} {
			closeWithinHook(t, name, pause, opts)
		}
	}
}

func closeWithinHook(t *testing.T, name string, pause time.Duration, opts func(end func(*Conn)) Options) {
	const join = `{"type":"join","room":"tea"}`
	t.Run(fmt.Sprint(name, " ", pause), func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			var ends endings
			var hub *Hub
			opts := opts(func(c *Conn) {
				c.Close(4050, "within")
				time.Sleep(pause)
				// None of this may block or do harm from in there.
				_ = c.Send(context.Background(), "late")
				_ = hub.Room("tea").Leave(context.Background(), c)
				_ = hub.Room("coffee").Join(context.Background(), c)
				_, _ = hub.Broadcast(context.Background(), "from within")
				hub.disconnect(c.UserID(), "again")
				c.Rooms()
			})
			opts.Hooks.Disconnect = func(c *Conn, code CloseCode) {
				c.Close(4051, "within Disconnect")
				ends.disconnect(c, code)
			}
			s := serve(t, opts)
			hub = s.Hub
			On(hub, "end", func(_ context.Context, c *Conn, _ struct{}) (int, error) {
				c.Close(4050, "within")
				return 0, nil
			})
			c := s.raw()
			conn := s.Conn(c.id)
			if name == "handler" {
				c.text(`{"type":"call","id":"1","method":"end"}`)
			}
			c.text(join)
			c.text(`{"type":"message","content":1}`)
			c.text(`{"type":"leave"}`)
			code, reason := c.closeFrame()
			require.EqualValues(t, 4050, code)
			require.Equal(t, "within", reason)
			c.expectEnd()
			require.Equal(t, []CloseCode{4050}, ends.of(c.id))
			if conn != nil {
				require.Empty(t, conn.Rooms())
			}
			require.Zero(t, s.Stats().Connections)
			time.Sleep(time.Minute) // room presence is told a little later
			require.Equal(t, 1, s.Stats().Topics, "only the broadcast is left")
		})
	})
}

// F42: what is done with a connection that has ended.
func TestOperationsAfterClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := t.Context()
		late := make(chan error, 10)
		s := serve(t, Options{})
		s.opts.Hooks.Disconnect = func(c *Conn, _ CloseCode) {
			late <- c.Send(ctx, "late")
			late <- s.Room("tea").Join(ctx, c)
		}
		c := s.connect(dialOptions{user: "kim"})
		conn := s.Conn(c.id)
		c.join("tea", "kim")
		c.close()
		synctest.Wait()
		require.ErrorIs(t, <-late, ErrConnClosed)
		require.ErrorIs(t, <-late, ErrConnClosed)
		for range 2 {
			require.ErrorIs(t, conn.Send(ctx, "late"), ErrConnClosed)
			require.ErrorIs(t, s.Room("tea").Join(ctx, conn), ErrConnClosed)
			require.ErrorIs(t, s.Room("coffee").Join(ctx, conn), ErrConnClosed)
			require.ErrorIs(t, s.Room("tea").Leave(ctx, conn), ErrNotMember)
			require.Empty(t, conn.Rooms())
			require.Equal(t, "kim", conn.Name())
			require.Error(t, conn.Context().Err())
			require.Nil(t, s.Conn(c.id))
			require.Empty(t, s.User("kim"))
			require.Zero(t, s.disconnect("kim", ""))
			conn.Close(CloseNormal, "")
		}
		result, err := s.Private(ctx, c.id, "late")
		require.NoError(t, err)
		require.Zero(t, result.Delivered)
	})
}

// A client that closes gets its code back, and the application is told it.
func TestPeerCloses(t *testing.T) {
	for sent, want := range map[CloseCode]CloseCode{
		1000: 1000, 1001: 1001, 1011: 1011, 3000: 3000, 4000: 4000, 4001: 4001, 4002: 4002, 4999: 4999, 1002: 1002, 1009: 1009,
	} {
		bubble(t, func(t *testing.T) {
			var ends endings
			s := serve(t, Options{Hooks: Hooks{Disconnect: ends.disconnect}})
			c := s.raw()
			c.write(rawClose(sent, "going"))
			code, reason := c.closeFrame()
			require.Equal(t, sent, code)
			require.Equal(t, "going", reason)
			c.expectEnd()
			require.Equal(t, []CloseCode{want}, ends.of(c.id))
			// The counters say what the hub did, not what a client claims.
			stats := s.Stats()
			require.Zero(t, stats.ClosedSlow+stats.ClosedNoHeartbeat+stats.ClosedAbuse+stats.ProtocolViolations)
		})
	}
	bubble(t, func(t *testing.T) { // without a code
		var ends endings
		s := serve(t, Options{Hooks: Hooks{Disconnect: ends.disconnect}})
		c := s.raw()
		c.write(rawBytes(bitFin|opClose, ""))
		for f := c.frame(); f.first != bitFin|opClose; f = c.frame() {
		}
		c.expectEnd()
		require.Equal(t, []CloseCode{CloseNormal}, ends.of(c.id))
	})
}

// What was queued before a close frame is still written, in either direction
// of the close.
func TestQueuedMessagesComeBeforeTheCloseFrame(t *testing.T) {
	for name, end := range map[string]func(*Conn, *rawClient){
		"server": func(conn *Conn, _ *rawClient) { conn.Close(4050, "") },
		"client": func(_ *Conn, c *rawClient) { c.write(rawClose(4050, "")); synctest.Wait() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, Options{})
				s.opts.Hooks.Connect = func(ctx context.Context, c *Conn) error {
					for i := range 500 {
						require.NoError(t, c.Send(ctx, i))
					}
					return nil
				}
				c := s.rawUnread()
				synctest.Wait()
				s.mu.Lock()
				var conn *Conn
				for _, conn = range s.conns {
				}
				s.mu.Unlock()
				end(conn, c)
				require.ErrorIs(t, conn.Send(t.Context(), "late"), ErrConnClosed)
				c.readOn()
				c.expect("connected")
				for i := range 500 {
					require.EqualValues(t, i, c.expect("private").num("message"))
				}
				c.expectClosed(4050)
			})
		})
	}
}

// F58: a client that never answers the close frame is cut after the close timeout.
func TestPeerNeverAnswersTheCloseFrame(t *testing.T) {
	for name, unread := range map[string]bool{"reads on": false, "does not read": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var ends endings
				s := serve(t, Options{CloseTimeout: 3 * time.Second, Hooks: Hooks{Disconnect: ends.disconnect}})
				c := s.rawUnread()
				synctest.Wait()
				if !unread {
					c.readOn()
				}
				synctest.Wait()
				s.mu.Lock()
				var conn *Conn
				for _, conn = range s.conns {
				}
				s.mu.Unlock()
				start := time.Now()
				conn.Close(4050, "")
				require.Equal(t, []CloseCode{4050}, ends.of(conn.ID()), "the application is told at once")
				for s.Stats().Connections > 0 {
					time.Sleep(time.Millisecond)
					synctest.Wait()
				}
				require.InDelta(t, 3, time.Since(start).Seconds(), 0.01)
			})
		})
	}
}

// A peer that ends the connection without a close frame.
func TestPeerVanishes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var ends endings
		s := serve(t, Options{ClientBroadcast: true, Hooks: Hooks{Disconnect: ends.disconnect}})
		other := s.plain()
		const half = `{"type":"broadcast","message":"cut off"}`
		for _, last := range [][]byte{nil, {bitFin | opText}, rawHead(bitFin|opText, 100), rawHead(bitFin|opPing, 9),
			rawBytes(opText, "x"), rawBytes(opText, half), append(rawHead(bitFin|opText, 1000), half...)} {
			c := s.raw()
			if last != nil {
				c.write(last)
				synctest.Wait()
			}
			require.NoError(t, c.conn.Close())
			require.Equal(t, []CloseCode{CloseAbnormal}, ends.of(c.id))
			c.expectEnd()
		}
		require.Zero(t, s.Stats().ProtocolViolations)
		require.Equal(t, 1, s.Stats().Connections)
		other.expectNone() // a message without its end is none
	})
}

// The library's client, which closes as RFC 6455 says, sees the codes.
func TestCloseHandshakeWithAnotherImplementation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c := s.plain()
		s.Conn(c.id).Close(4150, "because")
		require.EqualValues(t, 4150, c.closeCode())
		var e websocket.CloseError
		require.ErrorAs(t, c.err, &e)
		require.Equal(t, "because", e.Reason)
		s.plain().close()
	})
}
