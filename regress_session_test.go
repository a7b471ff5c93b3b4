package parley

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// P1.9: a session is used up when the client has answered, however many
// greetings were lost before.
func TestSessionAfterSeveralLostGreetings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c := s.v1()
		c.send(`{"type":"ping"}`)
		c.expect("pong")
		c.cut()
		for i := range 5 {
			lost := s.back(c.hello.str("session"), dialOptions{})
			require.Equal(t, c.id, lost.id, "attempt %d", i)
			lost.cut() // before the client has read or answered anything
		}
	})
}

// Options.SessionKey: nodes with the same key accept each other's sessions, also
// one that has seen the client before.
func TestSessionComesBackToANode(t *testing.T) {
	for name, lost := range map[string]bool{"whose connection has ended": true, "whose connection is half-open": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				a, b := serve(t, Options{SessionKey: testKey(0)}), serve(t, Options{SessionKey: testKey(0)})
				first := a.v1()
				first.send(`{"type":"ping"}`)
				first.expect("pong")
				if lost {
					first.cut()
				}
				second := b.back(first.hello.str("session"), dialOptions{})
				second.send(`{"type":"ping"}`)
				second.expect("pong")
				require.Equal(t, first.id, second.id)
				second.cut()
				third := a.back(second.hello.str("session"), dialOptions{})
				require.Equal(t, first.id, third.id)
				if !lost {
					require.Equal(t, CloseReplaced, first.closeCode())
				}
			})
		})
	}
}

// P1.9: a session of another process ends with its connection, too, and is worth nothing once it was used.
func TestSessionOfAnotherProcessEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		before, after := serve(t, Options{SessionKey: testKey(0)}), serve(t, Options{SessionKey: testKey(0)})
		c := before.v1()
		session := c.hello.str("session")
		again := after.back(session, dialOptions{})
		require.Equal(t, c.id, again.id)
		again.send(`{"type":"ping"}`)
		again.expect("pong")
		require.Equal(t, 1, after.disconnect(again.id, "banned"))
		require.Equal(t, CloseDisconnected, again.closeCode())
		synctest.Wait()
		after.back(session, dialOptions{}).requireRefusedSession()
	})
}

// Conn.ID: the hooks of the old Conn have returned when Connect is called for
// the new one, also if one in between came and went meanwhile.
func TestConnectWaitsPastAConnectionThatIsGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := make(chan struct{})
		var log hookLog
		s := serve(t, Options{Hooks: Hooks{
			Connect: func(_ context.Context, c *Conn) error { log.add("connect ", c.Resumed()); return nil },
			Disconnect: func(c *Conn, _ CloseCode) {
				if !c.Resumed() {
					<-gate
				}
				log.add("disconnect ", c.Resumed())
			},
		}})
		old := s.v1()
		synctest.Wait()
		old.cut()
		between := s.back(old.hello.str("session"), dialOptions{})
		between.cut() // while it waits for the hook of the old one
		time.Sleep(5 * time.Second)
		again := s.back(between.hello.str("session"), dialOptions{})
		require.Equal(t, old.id, again.id)
		synctest.Wait()
		got := log.all()
		close(gate)
		require.Equal(t, []string{"connect false"}, got, "the Disconnect hook of the old one has not returned yet")
		again.send(`{"type":"ping"}`)
		again.expect("pong")
		require.Equal(t, []string{"connect false", "disconnect false", "connect true"}, log.all())
	})
}

// Conn.ID says so of all hooks, of which Join and Leave run in another goroutine than Disconnect.
func TestConnectWaitsForJoinAndLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := make(chan struct{})
		var log hookLog
		s := serve(t, Options{Hooks: Hooks{
			Connect: func(_ context.Context, c *Conn) error { log.add("connect ", c.Resumed()); return nil },
			Join: func(context.Context, *Conn, *Room) {
				<-gate
				log.add("join")
			},
			Leave: func(*Conn, *Room) { log.add("leave") },
		}})
		old := s.v1()
		old.send(joinR)
		old.expect("history")
		synctest.Wait()
		again := s.back(old.hello.str("session"), dialOptions{})
		require.Equal(t, CloseReplaced, old.closeCode())
		synctest.Wait()
		close(gate)
		again.send(`{"type":"ping"}`)
		again.expect("pong")
		require.Equal(t, []string{"connect false", "join", "leave", "connect true"}, log.all())
	})
}

// Application code that ends its goroutine does not keep its successor waiting for ever.
func TestGoexitInAHookOfTheOldConnection(t *testing.T) {
	for _, which := range []string{"Connect", "Disconnect"} {
		t.Run(which, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				gate := make(chan struct{})
				leave := func(c *Conn, hook string) {
					if hook == which && !c.Resumed() {
						<-gate
						runtime.Goexit()
					}
				}
				s := serve(t, Options{Hooks: Hooks{
					Connect:    func(_ context.Context, c *Conn) error { leave(c, "Connect"); return nil },
					Disconnect: func(c *Conn, _ CloseCode) { leave(c, "Disconnect") },
				}})
				old := s.v1()
				again := s.back(old.hello.str("session"), dialOptions{})
				require.Equal(t, old.id, again.id)
				synctest.Wait()
				close(gate)
				time.Sleep(10 * time.Second)
				again.send(`{"type":"ping","id":"alive"}`)
				synctest.Wait()
				require.Len(t, again.in, 1, "it waits for hooks that are over")
			})
		})
	}
}

// Only a session that replaces a connection stands for the slot of that.
func TestUsedSessionIsNoSlot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{MaxPerUser: 1})
		first := s.connect(dialOptions{v1: true, user: "kim"})
		again := s.back(first.hello.str("session"), dialOptions{user: "kim"})
		again.expect("inbox")
		again.send(`{"type":"ping"}`)
		again.expect("pong")
		require.Equal(t, CloseReplaced, first.closeCode())
		time.Sleep(time.Minute)
		_, _, err := s.tryDial(dialOptions{v1: true, user: "kim", protocols: []string{subprotocolSession + first.hello.str("session")}})
		require.Error(t, err, "a second connection where one is allowed")
	})
}

// Options are read once, by New: an application that wipes its copy of the key
// does not make sessions that anybody can forge.
func TestSessionKeyIsCopied(t *testing.T) {
	key := testKey(0)
	h := newHub(t, Options{SessionKey: key})
	session := h.sessions.issue(strings.Repeat("A", clientIDSize), "", 0)
	clear(key)
	_, ok := h.sessions.verify(session, "")
	require.True(t, ok)
}

// P1.11 bounds the whole entry.
func TestLongEntryIsIgnored(t *testing.T) {
	var o offer
	require.False(t, o.read(subprotocolInbox+"1."+strings.Repeat("AAAA", 126)), "%d bytes", len(subprotocolInbox)+2+504)
}

// S14: what a client sends in its handshake is not kept for as long as it is connected.
func TestHandshakeHeadersAreNotKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		const clients, size = 20, 500 << 10
		var perClient []int64 // of plain clients, of which the library keeps nothing, and of v1 clients
		for _, protocol := range []string{"unknown", subprotocolV1} {
			before := heap()
			for range clients {
				s.raw("Sec-WebSocket-Protocol", protocol+", x"+strings.Repeat("x", size))
			}
			synctest.Wait()
			perClient = append(perClient, (heap()-before)/clients)
		}
		require.Less(t, perClient[1]-perClient[0], int64(size/4))
		runtime.KeepAlive(s)
	})
}

// appendDirectly adds messages to a room's log as another node does, of which this one hears nothing.
func appendDirectly(t *testing.T, store Store, n int) {
	t.Helper()
	for i := range n {
		_, err := store.Append(t.Context(), roomPrefix+"r", Retention{Messages: 100_000},
			[]Entry{{Data: appendRoomMessage(nil, "r", "", "", []byte(fmt.Sprint(i)), 1)}})
		require.NoError(t, err)
	}
}

// F27, F39: a member that comes while a long hole is being filled misses nothing:
// what was read before the hole was known does not serve it any more.
func TestJoinWhileAHoleIsFilled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, gate := newHookStore(), newBarrier()
		h := newHub(t, Options{Store: store, QueueSize: 512 << 10, MaxMessageSize: 4 << 10,
			Room: func(string) RoomConfig { return RoomConfig{History: Retention{Messages: 100_000}} }})
		var members []*direct
		for range 2 {
			members = append(members, attach(t, h, directOptions{v1: true}))
			members[len(members)-1].do(t, joinR)
		}
		appendDirectly(t, store.inner.Load(), 2*maxReplay+maxReplay/2) // 2,000 of them are more than a batch
		store.onRead = func(_ context.Context, _ string, q Query, next func() (Page, error)) (Page, error) {
			if q.Forward && q.After == 2*maxReplay {
				gate.pass()
			}
			return next()
		}
		go func() { _, _ = h.Room("r").Send(t.Context(), "last") }()
		synctest.Wait()
		require.EqualValues(t, 1, gate.hit.Load())
		d := attach(t, h, directOptions{v1: true})
		go d.do(t, joinR)
		synctest.Wait()
		gate.open()
		v := view{room: "r"}
		v.apply(t, d.wire.messages(t))
		require.EqualValues(t, 2*maxReplay+maxReplay/2+1, v.offset)
	})
}

// P3.1, P3.2: nothing that was stored is left out for those who get it live,
// because somebody came between its append and its fan-out.
func TestPlainClientBesideAV1Client(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, gate := newHookStore(), newBarrier()
		s := serve(t, Options{Store: store})
		plain := s.connect(dialOptions{user: "kim"})
		synctest.Wait()
		store.onAppend = func(_ context.Context, _ string, _ []Entry, next func() (Log, error)) (Log, error) {
			epoch, err := next()
			gate.pass() // the answer is on its way
			return epoch, err
		}
		done := make(chan Result, 1)
		go func() { r, _ := s.Notify(t.Context(), "kim", "n"); done <- r }()
		synctest.Wait()
		second := s.connect(dialOptions{user: "kim", v1: true})
		require.Len(t, second.expect("inbox")["messages"], 1)
		gate.open()
		<-done
		synctest.Wait()
		second.expectNone()
		require.Len(t, plain.in, 1, "the notification was dropped")
	})
}

// F4, P2.7: a client on an ordinary link that reads, and rejoins its rooms all at once, is not closed for being slow.
func TestRejoinOfLargeRooms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		text := strings.Repeat("x", 4000)
		for i := range 4 {
			for range 100 {
				_, err := s.Room(fmt.Sprint(i)).Send(t.Context(), text)
				require.NoError(t, err)
			}
		}
		c := s.rawSlow(12_500, 10*time.Millisecond) // 10 Mbit/s
		for i := range 4 {
			c.text(fmt.Sprintf(`{"type":"join","room":"%d"}`, i))
		}
		for n := 0; n < 4; {
			if c.next().str("type") == "history" {
				n++
			}
		}
	})
}

// What Shutdown has taken is stored, also if a message that is not to be kept was in front of it.
func TestShutdownWaitsForABatchBehindASystemMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, gate := newHookStore(), newBarrier()
		store.onAppend = func(ctx context.Context, _ string, _ []Entry, next func() (Log, error)) (Log, error) {
			if err := gate.passCtx(ctx); err != nil {
				return Log{}, err
			}
			return next()
		}
		h := newHub(t, Options{Store: store})
		topic := h.acquire(roomPrefix + "r")
		defer topic.release()
		send := topic.system("kim joined") // by roomState.arrived, which sends it when it has unlocked
		sent := make(chan error, 1)
		go func() { _, err := h.Room("r").Send(t.Context(), "x"); sent <- err }()
		synctest.Wait()
		go send()
		synctest.Wait()
		require.EqualValues(t, 1, gate.hit.Load())
		over := make(chan error, 1)
		go func() { over <- h.Shutdown(t.Context()) }()
		time.Sleep(time.Second)
		gate.open()
		require.NoError(t, <-sent)
		require.NoError(t, <-over)
	})
}

// F12: a Store whose page does not reach to the top that it tells of breaks its
// contract, and nobody is told that this is all he missed.
func TestPageThatEndsBeforeTheTop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		h := newHub(t, Options{Store: store})
		for i := range 5 {
			_, err := h.Room("r").Send(t.Context(), i)
			require.NoError(t, err)
		}
		d := attach(t, h, directOptions{v1: true})
		epoch := ofType(d.say(t, joinR), "history")[0].str("epoch")
		d.say(t, `{"type":"leave"}`)
		store.onRead = func(_ context.Context, _ string, q Query, next func() (Page, error)) (Page, error) {
			p, err := next()
			if n := len(p.Entries); n > 0 {
				p.Entries = p.Entries[:n-1] // read before the newest was there, the bounds after
			}
			return p, err
		}
		got := d.say(t, fmt.Sprintf(`{"type":"join","room":"r","epoch":%q,"offset":2}`, epoch))
		for _, m := range ofType(got, "history") {
			v := view{room: "r", joined: true, epoch: epoch, offset: 2, first: 3}
			v.apply(t, []message{m})
		}
	})
}
