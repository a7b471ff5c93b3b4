package parley

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Bugs that others had in recovery, each as a test. The names are those of the
// issues where they were reported.

// socket.io#5419, redis-streams-adapter#39: what is replayed carries its offset, so that a
// second reconnect does not replay it again.
func TestReplayedMessagesCarryOffsets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{BroadcastHistory: Retention{Messages: 10}})
		ctx := t.Context()
		c := s.connect(dialOptions{v1: true, user: "kim"})
		inbox := c.expect("inbox")
		history := c.join("r", "x")
		c.cut()
		for i := range 5 {
			_, err := s.Room("r").Send(ctx, i)
			require.NoError(t, err)
			_, err = s.Notify(ctx, "kim", i)
			require.NoError(t, err)
			_, err = s.Broadcast(ctx, i)
			require.NoError(t, err)
		}
		session, all := c.hello.str("session"), c.hello.str("epoch")
		var room, mail, cast int64
		for round := range 3 {
			c = s.back(session, dialOptions{user: "kim"},
				at(subprotocolInbox, inbox.str("epoch"), mail), at(subprotocolBroadcast, all, cast))
			session = c.hello.str("session")
			want := 5
			if round > 0 {
				want = 0
			}
			take := func(m message, last *int64) {
				require.Equal(t, true, m["recovered"])
				require.Len(t, m.entries(), want)
				for _, e := range m.entries() {
					require.Equal(t, *last+1, e.num("offset"), "%v", e)
					require.Equal(t, m.str("epoch"), e.str("epoch"))
					*last = e.num("offset")
				}
			}
			take(c.expect("history"), &cast)
			take(c.expect("inbox"), &mail)
			c.send(map[string]any{"type": "join", "room": "r", "epoch": history.str("epoch"), "offset": room})
			take(c.expect("history"), &room)
			c.cut()
		}
	})
}

// redis-streams-adapter#26: whoever loses the connection before the first message
// came, and is back at once, has lost nothing.
func TestResumeIsValidAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c := s.v1()
		history := c.join("r", "kim")
		require.NoError(t, c.raw.Close()) // and nobody waits until the server has noticed
		_, err := s.Room("r").Send(t.Context(), "meanwhile")
		require.NoError(t, err)
		again := s.back(c.hello.str("session"), dialOptions{})
		require.Equal(t, c.id, again.id)
		again.send(map[string]any{"type": "join", "room": "r", "epoch": history.str("epoch"), "offset": 0})
		got := again.expect("history")
		require.Equal(t, true, got["recovered"])
		require.Equal(t, []any{"meanwhile"}, contents(got.entries()))
		<-c.done
	})
}

// redis-streams-adapter#27: the server dies without a word; the Store, and the
// key of the sessions, outlive it.
func TestResumeAfterAKill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := NewMemoryStore()
		opts := Options{Store: store, SessionKey: testKey(0)}
		before := serve(t, opts)
		c := before.connect(dialOptions{v1: true, user: "kim"})
		inbox := c.expect("inbox")
		history := c.join("r", "x")
		c.drain()
		_, err := before.Room("r").Send(t.Context(), 1)
		require.NoError(t, err)
		_, err = before.Notify(t.Context(), "kim", 1)
		require.NoError(t, err)
		c.cut() // the hub is not told to end, and is not used any more

		after := serve(t, opts)
		_, err = after.Room("r").Send(t.Context(), 2)
		require.NoError(t, err)
		again := after.back(c.hello.str("session"), dialOptions{user: "kim"}, at(subprotocolInbox, inbox.str("epoch"), 0))
		require.Equal(t, c.id, again.id)
		require.Len(t, again.expect("inbox").entries(), 1)
		again.send(map[string]any{"type": "join", "room": "r", "epoch": history.str("epoch"), "offset": 0})
		require.Equal(t, []any{1.0, 2.0}, contents(again.expect("history").entries()))
	})
}

// socket.io#5282: all that was sent has expired, but this client has seen it
// all: it has missed nothing.
func TestOffsetAtTheTopAlwaysRecovers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{Room: func(string) RoomConfig {
			return RoomConfig{History: Retention{Messages: 10, Age: time.Minute}}
		}})
		c := s.v1()
		epoch := c.join("r", "kim").str("epoch")
		for i := range 3 {
			_, err := s.Room("r").Send(t.Context(), i)
			require.NoError(t, err)
		}
		c.cut()
		time.Sleep(30 * time.Minute)
		back := func(offset int) message {
			c := s.v1()
			c.send(map[string]any{"type": "join", "room": "r", "epoch": epoch, "offset": offset})
			return c.expect("history")
		}
		got := back(3)
		require.Equal(t, true, got["recovered"])
		require.Empty(t, got.entries())
		got = back(2)
		require.Equal(t, false, got["recovered"])
		require.Equal(t, "gone", got["code"])
	})
}

// socket.io PR 5539: a payload that looks like metadata is a payload.
func TestPayloadIsNeverMetadata(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c, other := s.v1(), s.v1()
		epoch := other.join("r", "other").str("epoch")
		c.join("r", "kim")
		c.drain()
		other.drain()
		for i, payload := range []string{
			`"7"`, `7`, `null`, `{"epoch":"x","offset":99,"type":"error","id":"1"}`, `["offset",99]`, `"}],\"offset\":99"`,
		} {
			c.send(fmt.Sprintf(`{"type":"message","content":%s}`, payload))
			m := other.expect("message")
			require.EqualValues(t, i+1, m.num("offset"))
			require.Equal(t, epoch, m.str("epoch"))
			require.Equal(t, c.id, m.str("userId"))
			c.expect("message")
		}
		late := s.v1()
		late.send(map[string]any{"type": "join", "room": "r", "epoch": epoch, "offset": 0})
		for i, e := range late.expect("history").entries() {
			require.EqualValues(t, i+1, e.num("offset"))
		}
	})
}

// centrifuge#595: a slow Store does not keep the sockets of a user who comes back again and again.
func TestTransportIsClosedBeforePresence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		s := serve(t, Options{Store: store, MaxPerUser: 2, LeaveGrace: -1, StoreTimeout: time.Hour})
		c := s.connect(dialOptions{v1: true, user: "kim"})
		c.expect("inbox")
		c.join("r", "x")
		c.drain()
		gate := newBarrier()
		store.onLeave = func(ctx context.Context, _, _ string, _ []string, next func() error) error {
			if err := gate.passCtx(ctx); err != nil {
				return err
			}
			return next()
		}
		for range 10 {
			again := s.back(c.hello.str("session"), dialOptions{user: "kim"})
			again.expect("inbox")
			require.Equal(t, CloseReplaced, c.closeCode())
			synctest.Wait()
			require.Equal(t, 1, s.Stats().Connections)
			c = again
			c.send(`{"type":"join","room":"r"}`)
			c.expect("history")
			c.drain()
		}
		gate.open()
	})
}

// F29: no order is promised between topics: a slow one does not hold up another.
func TestNoOrderBetweenTopics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		gate := newBarrier()
		store.onAppend = func(_ context.Context, topic string, _ []Entry, next func() (Log, error)) (Log, error) {
			if topic == roomPrefix+"slow" {
				gate.pass()
			}
			return next()
		}
		s := serve(t, Options{Store: store})
		c := s.v1()
		c.join("slow", "kim")
		c.drain()
		c.join("fast", "kim")
		c.drain()
		go func() { _, _ = s.Room("slow").Send(t.Context(), "first") }()
		synctest.Wait()
		_, err := s.Room("fast").Send(t.Context(), "second")
		require.NoError(t, err)
		require.Equal(t, "second", c.expect("message")["content"])
		gate.open()
		require.Equal(t, "first", c.expect("message")["content"])
	})
}
