package parley

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const slowQueue = 64 << 10

func slowOptions() Options {
	return Options{MaxMessageSize: slowQueue / 4, QueueSize: slowQueue, Room: keepAll, RateLimit: -1}
}

// stall connects a client that does not read, and joins room r.
func (s *server) stall(user string) *client {
	s.t.Helper()
	c, _, err := s.tryDial(dialOptions{v1: true, user: user})
	require.NoError(s.t, err)
	c.send(joinR)
	synctest.Wait()
	return c
}

// F4, S23: one of 200 does not read. All others get everything; it is closed,
// its queue stays within its bounds, and what became of every message is told and counted.
func TestOneStalledReader(t *testing.T) {
	const members, messages, size = 200, 150, 1000
	bubble(t, func(t *testing.T) {
		s := serve(t, slowOptions())
		all := make([]*direct, members-1)
		for i := range all {
			all[i] = attach(t, s.Hub, directOptions{v1: true, discard: i%10 > 0})
			all[i].do(t, joinR)
		}
		slow := s.stall("slow")
		conn := s.User("slow")[0]
		elapse(presenceTick)
		before := s.Stats()
		views := make(map[int]*view)
		for i := 0; i < members-1; i += 10 {
			views[i] = &view{room: "r"}
		}
		var delivered, dropped int
		payload := strings.Repeat("x", size)
		for n := range messages {
			r, err := s.Room("r").Send(t.Context(), payload)
			require.NoError(t, err)
			require.EqualValues(t, n+1, r.Offset)
			require.GreaterOrEqual(t, r.Delivered, members-1)
			require.LessOrEqual(t, r.Delivered+r.Dropped, members)
			delivered += r.Delivered
			dropped += r.Dropped
			require.LessOrEqual(t, conn.out.queued(), slowQueue)
			synctest.Wait()
		}
		require.Equal(t, 1, dropped)
		require.True(t, conn.ended.Load())
		require.Less(t, conn.out.queued(), slowQueue/2, "what waited was given up")
		for i, v := range views {
			v.apply(t, all[i].wire.messages(t))
			require.EqualValues(t, messages, v.offset)
		}
		after := s.Stats()
		require.EqualValues(t, 1, after.ClosedSlow)
		require.EqualValues(t, delivered, after.Delivered-before.Delivered)
		require.EqualValues(t, dropped, after.Dropped-before.Dropped)
		require.Empty(t, s.User("slow"))

		// It reads again: the close code says that it may come back, and it gets what it missed.
		slow.read()
		require.Equal(t, CloseSlow, slow.closeCode())
		v := view{room: "r"}
		for len(slow.in) > 0 {
			v.apply(t, []message{<-slow.in})
		}
		require.Less(t, v.offset, int64(messages))
		kept, err := s.Room("r").History(t.Context(), 0, 1)
		require.NoError(t, err)
		again := attach(t, s.Hub, directOptions{user: "slow", v1: true})
		history := again.joinAt(t, kept.Epoch, messages-20)
		require.Equal(t, true, history["recovered"])
		require.Len(t, history.entries(), 20)
	})
}

// A client that never reads again does not stay for ever.
func TestStalledReaderIsCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, slowOptions())
		s.stall("slow")
		for range 2 * slowQueue / 1000 {
			_, err := s.Room("r").Send(t.Context(), strings.Repeat("x", 1000))
			require.NoError(t, err)
		}
		synctest.Wait()
		require.EqualValues(t, 1, s.Stats().ClosedSlow)
		elapse(time.Minute)
		require.Zero(t, s.Stats().Connections)
	})
}

// F5: nobody reads. Memory stays bounded, all are closed, the hub lives on.
// Each is evicted within a fan-out, and the hooks that follow call the hub again.
func TestEvictionWithinAFanOut(t *testing.T) {
	const stalled = 20
	bubble(t, func(t *testing.T) {
		var hub *Hub
		var gone atomic.Int32
		opts := slowOptions()
		opts.Hooks.Disconnect = func(_ *Conn, code CloseCode) {
			if code == CloseSlow {
				gone.Add(1)
			}
			_, _ = hub.Broadcast(context.Background(), "somebody left")
			_, _ = hub.Room("r").Send(context.Background(), "somebody left")
		}
		opts.Hooks.Leave = func(c *Conn, room *Room) {
			_, _ = room.Send(context.Background(), c.UserID()+" left")
			_ = hub.Room("other").Join(context.Background(), c)
		}
		s := serve(t, opts)
		hub = s.Hub
		watcher := attach(t, hub, directOptions{v1: true})
		watcher.do(t, joinR)
		for i := range stalled {
			s.stall(fmt.Sprint("slow", i))
		}
		for range 3 * slowQueue / 1000 {
			_, err := hub.Room("r").Send(t.Context(), strings.Repeat("x", 1000))
			require.NoError(t, err)
			synctest.Wait() // the watcher reads
		}
		elapse(time.Minute)
		require.EqualValues(t, stalled, gone.Load())
		require.EqualValues(t, stalled, hub.Stats().ClosedSlow)
		require.Equal(t, 1, hub.Stats().Connections)
		v := view{room: "r"}
		v.apply(t, watcher.wire.messages(t))
		require.EqualValues(t, 3*slowQueue/1000+2*stalled, v.offset)
		_, count, err := hub.Room("r").Members(t.Context(), 0)
		require.NoError(t, err)
		require.Equal(t, 1, count)
	})
}

// What comes live while a join waits for a slow Store is bounded, too.
func TestHeldMessagesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, slow := newHookStore(), newBarrier()
		opts := slowOptions()
		opts.Store, opts.StoreTimeout = store, time.Hour
		h := newHub(t, opts)
		d := attach(t, h, directOptions{user: "kim"})
		store.onRead = func(_ context.Context, _ string, _ Query, next func() (Page, error)) (Page, error) {
			slow.pass()
			return next()
		}
		go d.handle([]byte(joinR))
		synctest.Wait()
		dropped := 0
		for range slowQueue/1000 + 1 {
			r, err := h.Room("r").Send(t.Context(), strings.Repeat("x", 1000))
			require.NoError(t, err)
			require.Equal(t, 1, r.Delivered+r.Dropped)
			dropped += r.Dropped
			if r.Dropped > 0 {
				break
			}
		}
		require.Equal(t, 1, dropped)
		require.True(t, d.ended.Load())
		slow.open()
		require.Empty(t, d.wire.messages(t))
		require.Equal(t, CloseSlow, d.wire.closing)
		require.EqualValues(t, 1, h.Stats().ClosedSlow)
	})
}
