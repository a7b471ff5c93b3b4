package parley

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const onPurpose = "a panic on purpose"

// S40, F6: a panic in application code closes the connection that it served
// with 1011, and nothing else; it is counted, and Disconnect runs once.
func TestPanicsInApplicationCode(t *testing.T) {
	const join, say = `{"type":"join","room":"tea"}`, `{"type":"message","content":1}`
	for name, tc := range map[string]struct {
		set  func(o *Options, panics func(c *Conn))
		sent []string
	}{
		"Connect": {set: func(o *Options, panics func(*Conn)) {
			o.Hooks.Connect = func(_ context.Context, c *Conn) error { panics(c); return nil }
		}},
		"Join": {set: func(o *Options, panics func(*Conn)) {
			o.Hooks.Join = func(_ context.Context, c *Conn, _ *Room) { panics(c) }
		}, sent: []string{join}},
		"Leave": {set: func(o *Options, panics func(*Conn)) {
			o.Hooks.Leave = func(c *Conn, _ *Room) { panics(c) }
		}, sent: []string{join, `{"type":"leave"}`}},
		"Message": {set: func(o *Options, panics func(*Conn)) {
			o.Hooks.Message = func(_ context.Context, c *Conn, _ ClientMessage) error { panics(c); return nil }
		}, sent: []string{join, say}},
		"Authorize": {set: func(o *Options, panics func(*Conn)) {
			o.Authorize = func(_ context.Context, c *Conn, _ Access) error { panics(c); return nil }
		}, sent: []string{join}},
		"Authorize with an error as panic": {set: func(o *Options, panics func(*Conn)) {
			o.Authorize = func(_ context.Context, c *Conn, _ Access) error {
				if panics(c); c.UserID() == "victim" {
					panic(NewError(CodeForbidden, "as a panic"))
				}
				return nil
			}
		}, sent: []string{`{"type":"signal","targetId":"x","name":"x"}`, join}},
		"handler":            {sent: []string{`{"type":"call","id":"1","method":"panic"}`}},
		"Validate":           {sent: []string{`{"type":"call","id":"1","method":"validated","data":{}}`}},
		"decoding the input": {sent: []string{`{"type":"call","id":"1","method":"decoded","data":{}}`}},
		"encoding the reply": {sent: []string{`{"type":"call","id":"1","method":"encoded"}`}},
		"Room": {set: func(o *Options, panics func(*Conn)) {
			o.Room = func(name string) RoomConfig {
				if name == "cursed" {
					panic(onPurpose)
				}
				return RoomConfig{}
			}
		}, sent: []string{join, `{"type":"join","room":"cursed"}`}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var ends endings
				opts := Options{Hooks: Hooks{Disconnect: ends.disconnect}}
				if tc.set != nil {
					tc.set(&opts, func(c *Conn) {
						if c.UserID() == "victim" {
							panic(onPurpose)
						}
					})
				}
				s := serve(t, opts)
				registerPanics(s.Hub)
				unharmed := s.bystanders()
				other := s.plain()
				other.join("tea", "other")
				other.expect("system")

				c := s.raw("X-User", "victim")
				for _, text := range tc.sent {
					c.text(text)
				}
				code, reason := c.closeFrame()
				require.Equal(t, CloseInternal, code)
				require.Equal(t, "internal error", reason, "nothing of the panic is told")
				c.expectEnd()
				require.Equal(t, []CloseCode{CloseInternal}, ends.of(c.id))
				require.EqualValues(t, 1, s.Stats().Panics)
				require.Equal(t, 3, s.Stats().Connections)

				// The room has lost a member and nothing else.
				other.drain()
				members, n, err := s.Room("tea").Members(t.Context(), 10)
				require.NoError(t, err)
				require.Equal(t, 1, n, "%v", members)
				other.send(say)
				other.expect("message")
				unharmed()
			})
		})
	}
}

type panicsInValidate struct{}

func (panicsInValidate) Validate() error { panic(onPurpose) }

type panicsInJSON struct{}

func (*panicsInJSON) UnmarshalJSON([]byte) error { panic(onPurpose) }
func (panicsInJSON) MarshalJSON() ([]byte, error) {
	panic(onPurpose)
}

func registerPanics(h *Hub) {
	On(h, "panic", func(context.Context, *Conn, struct{}) (int, error) { panic(onPurpose) })
	On(h, "validated", func(context.Context, *Conn, panicsInValidate) (int, error) { return 0, nil })
	On(h, "decoded", func(context.Context, *Conn, panicsInJSON) (int, error) { return 0, nil })
	On(h, "encoded", func(context.Context, *Conn, struct{}) (panicsInJSON, error) { return panicsInJSON{}, nil })
}

// Application code may end the goroutine it runs in, as FailNow of package
// testing does: the connection ends as after a panic.
func TestGoexitInApplicationCode(t *testing.T) {
	for name, opts := range map[string]Options{
		"handler": {},
		"Connect": {Hooks: Hooks{Connect: func(_ context.Context, c *Conn) error {
			if c.UserID() == "victim" {
				runtime.Goexit()
			}
			return nil
		}}},
		"Authorize": {Authorize: func(_ context.Context, c *Conn, _ Access) error {
			if c.UserID() == "victim" {
				runtime.Goexit()
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, opts)
				On(s.Hub, "exit", func(context.Context, *Conn, struct{}) (int, error) { runtime.Goexit(); return 0, nil })
				unharmed := s.bystanders()
				c := s.raw("X-User", "victim")
				c.text(`{"type":"call","id":"1","method":"exit"}`)
				code, _ := c.closeFrame()
				require.Equal(t, CloseInternal, code)
				c.expectEnd()
				synctest.Wait()
				require.Equal(t, 2, s.Stats().Connections)
				unharmed()
			})
		})
	}
}

// A panic in the Disconnect hook comes too late to close anything, and keeps
// neither the connection nor Shutdown.
func TestPanicInDisconnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var calls atomic.Int32
		s := serve(t, Options{Hooks: Hooks{Disconnect: func(*Conn, CloseCode) { calls.Add(1); panic(onPurpose) }}})
		unharmed := s.bystanders()
		c := s.plain()
		c.close()
		synctest.Wait()
		require.EqualValues(t, 1, calls.Load())
		require.EqualValues(t, 1, s.Stats().Panics)
		require.Equal(t, 2, s.Stats().Connections)
		unharmed()
		require.NoError(t, s.Shutdown(t.Context()))
		require.EqualValues(t, 3, calls.Load())
	})
}

// S40: a panic in a method of the Store is an error of the Store. It ends
// neither the process, from a goroutine of the hub, nor a connection.
func TestPanicsInStore(t *testing.T) {
	var broken atomic.Bool
	check := func() {
		if broken.Load() {
			panic(onPurpose)
		}
	}
	for name, set := range map[string]func(s *hookStore){
		"Append": func(s *hookStore) {
			s.onAppend = func(_ context.Context, _ string, _ []Entry, next func() (Log, error)) (Log, error) {
				check()
				return next()
			}
		},
		"Read": func(s *hookStore) {
			s.onRead = func(_ context.Context, _ string, _ Query, next func() (Page, error)) (Page, error) {
				check()
				return next()
			}
		},
		"Enter": func(s *hookStore) {
			s.onEnter = func(_ context.Context, _, _ string, _ []Member, _ time.Duration, next func() error) error {
				check()
				return next()
			}
		},
		"Leave": func(s *hookStore) {
			s.onLeave = func(_ context.Context, _, _ string, _ []string, next func() error) error {
				check()
				return next()
			}
		},
		"Members": func(s *hookStore) { s.onMembers = func(string) { check() } },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store := newHookStore()
				set(store)
				s := serve(t, Options{Store: store, Broker: NewMemoryBroker()})
				defer broken.Store(false)
				member, v1 := s.plain(), s.v1()
				member.join("tea", "member")
				broken.Store(true)

				// Every use of the Store, from clients and from the application.
				for _, text := range []string{
					`{"type":"join","id":"1","room":"tea"}`, `{"type":"join","id":"2","room":"coffee"}`,
					`{"type":"message","id":"3","room":"tea","content":1}`, `{"type":"history","id":"4","room":"tea"}`,
					`{"type":"presence","id":"5","room":"tea"}`, `{"type":"leave","id":"6","room":"coffee"}`,
				} {
					member.send(text)
					v1.send(text)
					time.Sleep(time.Second) // presence is told after each
				}
				late, _, err := s.tryDial(dialOptions{user: "kim", v1: true})
				require.NoError(t, err)
				late.read()
				late.expect("connected")
				ctx := t.Context()
				_, err = s.Room("tea").Send(ctx, 1)
				require.True(t, err == nil || errors.Is(err, ErrStore), "%v", err)
				_, err = s.Notify(ctx, "kim", 1)
				require.True(t, err == nil || errors.Is(err, ErrStore), "%v", err)
				_, _, err = s.Room("tea").Members(ctx, 10)
				require.True(t, err == nil || errors.Is(err, ErrStore), "%v", err)
				_, err = s.Room("tea").History(ctx, 0, 0)
				require.True(t, err == nil || errors.Is(err, ErrStore), "%v", err)
				time.Sleep(2 * presenceLease) // presence is written and renewed
				require.NotZero(t, s.Stats().Panics)
				require.NotZero(t, s.Stats().StoreErrors)

				broken.Store(false)
				for i, c := range []*client{member, v1, late} {
					c.drain()
					c.send(`{"type":"join","id":"last","room":"tea"}`)
					for m := c.next(); m.str("id") != "last"; m = c.next() {
					}
					c.drain()
					c.send(`{"type":"message","id":"again","content":2}`)
					m := c.next()
					for ; m.str("id") != "again"; m = c.next() {
					}
					require.Equal(t, "ack", m.str("type"), "client %d: %v", i, m)
				}
				require.Equal(t, 3, s.Stats().Connections)
			})
		})
	}
}

// What the Connect hook sends is not lost and comes after "connected" (P1.4),
// also if it refuses the client at the end.
func TestConnectHookSends(t *testing.T) {
	for _, refused := range []error{nil, NewError("beta_only", "come back in May"), errors.New("internal text")} {
		for _, v1 := range []bool{false, true} {
			bubble(t, func(t *testing.T) {
				var ends endings
				s := serve(t, Options{})
				s.opts.Hooks.Disconnect = ends.disconnect
				s.opts.Hooks.Connect = func(ctx context.Context, c *Conn) error {
					require.Same(t, c, s.Conn(c.ID()))
					require.Equal(t, []*Conn{c}, s.User("kim"))
					for i := range 50 {
						require.NoError(t, c.Send(ctx, i))
					}
					require.NoError(t, s.Room("lobby").Join(ctx, c))
					_, err := s.Notify(ctx, "kim", "a notification")
					require.NoError(t, err)
					return refused
				}
				c := s.connect(dialOptions{user: "kim", v1: v1})
				if v1 {
					c.expect("inbox")
				}
				for i := range 50 {
					require.EqualValues(t, i, c.expect("private").num("message"))
				}
				c.expect("history")
				c.skipTo("system")
				require.Equal(t, "a notification", c.expect("notification").str("data"))
				if refused == nil {
					c.send(`{"type":"ping"}`)
					c.expect("pong")
					return
				}
				require.Equal(t, CloseRefused, c.closeCode())
				want := "refused"
				if strings.Contains(refused.Error(), "beta_only") {
					want = "come back in May"
				}
				require.ErrorContains(t, c.err, want)
				require.NotContains(t, c.err.Error(), "internal text")
				require.Equal(t, []CloseCode{CloseRefused}, ends.of(c.id))
			})
		}
	}
}

// P1.4: what is sent to a connection that is not greeted yet, because the
// Store is slow, comes after the greeting; and its user can be disconnected.
func TestConnectionBeforeItIsGreeted(t *testing.T) {
	for _, disconnect := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			store := newHookStore()
			proceed := make(chan struct{})
			store.onRead = func(_ context.Context, _ string, _ Query, next func() (Page, error)) (Page, error) {
				<-proceed
				return next()
			}
			s := serve(t, Options{Store: store, BroadcastHistory: Retention{Messages: 10}})
			c := s.rawUnread("X-User", "kim")
			c.readOn()
			synctest.Wait()
			require.Len(t, s.User("kim"), 1)
			require.NoError(t, s.User("kim")[0].Send(t.Context(), "very early"))
			if disconnect {
				require.Equal(t, 1, s.disconnect("kim", "banned"))
				f := c.frame()
				require.EqualValues(t, bitFin|opClose, f.first, "it was not greeted, so nothing else may come")
				require.Equal(t, string(rawClose(CloseDisconnected, "banned")[6:]), string(f.payload))
				close(proceed)
				c.expectEnd()
				require.Empty(t, s.User("kim"))
				return
			}
			_, err := s.Notify(t.Context(), "kim", "early")
			require.NoError(t, err)
			close(proceed)
			c.expect("connected")
			require.Equal(t, "very early", c.expect("private").str("message"))
			require.Equal(t, "early", c.expect("notification").str("data"))
			require.Len(t, s.User("kim"), 1)
		})
	}
}

// panickyBroker is a Broker that panics once it is told to.
type panickyBroker struct {
	*MemoryBroker
	broken atomic.Bool
}

func (b *panickyBroker) Publish(ctx context.Context, topic string, payload []byte) error {
	if b.broken.Load() {
		panic(onPurpose)
	}
	return b.MemoryBroker.Publish(ctx, topic, payload)
}

func (b *panickyBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	if b.broken.Load() {
		panic(onPurpose)
	}
	end, err := b.MemoryBroker.Subscribe(ctx, topic, deliver)
	return func() { end(); panic(onPurpose) }, err
}

// S40: likewise for a Broker; what it carries is a hint.
func TestPanicsInBroker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker := &panickyBroker{MemoryBroker: NewMemoryBroker()}
		s := serve(t, Options{Broker: broker, Store: NewMemoryStore()})
		c := s.plain()
		c.join("tea", "kim")
		c.expect("system")
		broker.broken.Store(true)
		c.send(`{"type":"message","content":1}`)
		c.expect("message")
		c.join("coffee", "kim")
		c.expect("system")
		c.send(`{"type":"leave","id":"1","room":"tea"}`)
		require.Equal(t, "ack", c.next().str("type"))
		c.send(`{"type":"message","content":2}`)
		c.expect("message")
		time.Sleep(time.Minute)
		stats := s.Stats()
		require.NotZero(t, stats.BrokerErrors)
		require.GreaterOrEqual(t, stats.Panics, stats.BrokerErrors)
		require.Equal(t, 1, stats.Connections)
	})
}
