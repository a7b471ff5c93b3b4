package parley

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// appendsWaitFor returns a Store whose appends stop at the barrier.
func appendsWaitFor(gate *barrier) *hookStore {
	store := newHookStore()
	store.onAppend = func(_ context.Context, _ string, _ []Entry, next func() (Log, error)) (Log, error) {
		gate.pass()
		return next()
	}
	return store
}

// F10, F27: a publication whose caller gave up reaches those who came while
// it was on its way to the Store, and did not find it in the history.
func TestPublicationOutlivesItsContext(t *testing.T) {
	for name, test := range map[string]struct {
		publish func(ctx context.Context, s *server) error
		come    func(c *client) message
		typ     string
	}{
		"Send": {
			publish: func(ctx context.Context, s *server) error { _, err := s.Room("tea").Send(ctx, "late"); return err },
			come:    func(c *client) message { return c.join("tea", "kim") },
			typ:     "message",
		},
		"Notify": {
			publish: func(ctx context.Context, s *server) error { _, err := s.Notify(ctx, "kim", "late"); return err },
			come:    func(c *client) message { return nil },
			typ:     "notification",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				gate := newBarrier()
				s := serve(t, Options{Store: appendsWaitFor(gate)})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				require.ErrorIs(t, test.publish(ctx, s), context.DeadlineExceeded)
				c := s.connect(dialOptions{user: "kim", v1: true})
				require.Empty(t, c.expect("inbox")["messages"])
				require.Empty(t, test.come(c)["messages"])
				gate.open()
				c.skipTo(test.typ)
				time.Sleep(time.Minute)
				for c.drain(); len(c.in) > 0; {
					require.NotEqual(t, test.typ, (<-c.in).str("type"), "it came twice")
				}
			})
		})
	}
}

// F10, F27: likewise for the message of a client that is disconnected, even if
// nothing else kept the room meanwhile.
func TestMessageOutlivesItsSender(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newBarrier()
		s := serve(t, Options{
			Store: appendsWaitFor(gate), LeaveGrace: -1,
			Room: func(string) RoomConfig { return RoomConfig{AnnounceLimit: -1} },
		})
		a := s.connect(dialOptions{user: "kim"})
		a.join("tea", "kim")
		time.Sleep(time.Second) // presence is told
		a.send(`{"type":"message","content":"late","id":"1"}`)
		synctest.Wait()
		require.EqualValues(t, 1, gate.hit.Load())
		require.Equal(t, 1, s.disconnect("kim", ""))
		time.Sleep(time.Second)
		b := s.connect(dialOptions{user: "kim"})
		require.Empty(t, b.join("tea", "kim")["messages"])
		gate.open()
		require.Equal(t, "late", b.expect("message").str("content"))
	})
}

// F4, F28: what collected behind a slow append, more than a queue holds, does
// not overflow the queue of a member who reads.
func TestLargeBatchClosesNobodyWhoReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		store.onAppend = func(_ context.Context, _ string, _ []Entry, next func() (Log, error)) (Log, error) {
			time.Sleep(200 * time.Millisecond)
			return next()
		}
		s := serve(t, Options{Store: store})
		c := s.plain()
		c.join("tea", "kim")
		c.expect("system")
		const messages = 20
		content := strings.Repeat("x", 60<<10)
		require.Greater(t, messages*len(content), s.opts.QueueSize)
		var all sync.WaitGroup
		for range messages {
			all.Go(func() {
				result, err := s.Room("tea").Send(t.Context(), content)
				require.NoError(t, err)
				require.Zero(t, result.Dropped)
			})
		}
		all.Wait()
		for i := range messages {
			require.EqualValues(t, i+1, c.expect("message").num("offset"))
		}
		require.Zero(t, s.Stats().ClosedSlow)
	})
}

// F4: what one client may send within its rate limit closes no member on an
// ordinary link; what is above it is refused.
func TestBurstWithinTheRateLimitClosesNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		member := s.rawSlow(12_500, 10*time.Millisecond) // 10 Mbit/s
		member.text(`{"type":"join","room":"tea","username":"lee"}`)
		member.expect("history")
		a := s.plain()
		a.join("tea", "kim")
		body := strings.Repeat("d", 60<<10)
		for i := range 50 {
			a.send(map[string]any{"type": "message", "content": body, "id": fmt.Sprint(i)})
		}
		acks, refused := 0, 0
		for acks+refused < 50 {
			switch m := a.next(); m.str("type") {
			case "ack":
				acks++
			case "error":
				require.Equal(t, string(CodeRateLimited), m.str("code"))
				refused++
			}
		}
		require.NotZero(t, acks)
		for got := 0; got < acks; {
			if member.next().str("type") == "message" {
				got++
			}
		}
		time.Sleep(time.Minute)
		require.Zero(t, s.Stats().ClosedSlow+s.Stats().ClosedAbuse)
		require.Equal(t, 2, s.Stats().Connections)
	})
}

// F8, F47: a Store that panics while a client joins is like one that fails:
// the join is answered, and nobody stays behind in the room.
func TestStorePanicInAJoin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		var broken atomic.Bool
		store.onRead = func(_ context.Context, topic string, _ Query, next func() (Page, error)) (Page, error) {
			if broken.Load() && strings.HasPrefix(topic, roomPrefix) {
				panic("on purpose")
			}
			return next()
		}
		s := serve(t, Options{Store: store})
		c := s.plain()
		broken.Store(true)
		c.send(`{"type":"join","room":"tea","username":"kim","id":"1"}`)
		require.Equal(t, "1", c.expectError(CodeUnavailable).str("id"))
		_, count, err := s.Room("tea").Members(t.Context(), 10)
		require.NoError(t, err)
		require.Zero(t, count)
		time.Sleep(time.Minute)
		require.Equal(t, 1, s.Stats().Topics, "only the broadcast is left")
		broken.Store(false)
		c.join("tea", "kim")
	})
}

// F25, F26: an offset from another node that is not in the log is not
// believed: it would silence the room.
func TestMadeUpOffsetFromTheBroker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker := NewMemoryBroker()
		s := serve(t, Options{Broker: broker, Store: NewMemoryStore()})
		c := s.plain()
		epoch := c.join("tea", "kim").str("epoch")
		c.expect("system")
		payload, err := json.Marshal(packet{Version: packetVersion, Node: "other", Messages: []packetMessage{
			{Epoch: epoch, Offset: 1 << 50, Data: []byte(`{"type":"message","content":"made up"}`)},
		}})
		require.NoError(t, err)
		require.NoError(t, broker.Publish(t.Context(), "room/tea", payload))
		time.Sleep(2 * patience) // what is missing before it could be on its way
		c.expectNone()
		require.EqualValues(t, 1, s.Stats().BrokerGarbage)
		for i := range 3 {
			c.send(map[string]any{"type": "message", "content": i})
			require.EqualValues(t, i, c.expect("message").num("content"))
		}
	})
}

// F11, F66: a member who joins while the restart of the log is being noticed
// has the new log's history, and gets none of its messages again.
func TestRestartOfTheLogGivesNoDoubles(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, gate := newHookStore(), newBarrier()
		var wiped atomic.Bool
		store.onRead = func(_ context.Context, topic string, q Query, next func() (Page, error)) (Page, error) {
			if wiped.Load() && topic == "room/tea" && q.Limit == 0 {
				gate.pass() // the hub asks which log this is
			}
			return next()
		}
		s := serve(t, Options{Store: store})
		a := s.v1()
		a.join("tea", "kim")
		a.send(`{"type":"message","content":"old","id":"1"}`)
		a.skipTo("ack")
		store.wipe()
		wiped.Store(true)
		a.send(`{"type":"message","content":"new","id":"2"}`)
		synctest.Wait()
		require.EqualValues(t, 1, gate.hit.Load())
		b := s.v1()
		history := b.join("tea", "lee")
		require.Len(t, history["messages"], 1)
		require.Contains(t, fmt.Sprint(history["messages"]), "new")
		gate.open()

		require.Equal(t, false, a.skipTo("history")["recovered"], "kim is told of the gap")
		require.Equal(t, "new", a.skipTo("message").str("content"))
		a.skipTo("ack")
		a.send(`{"type":"message","content":"newer"}`)
		m := b.next()
		for ; m.str("type") != "message"; m = b.next() {
			require.NotEqual(t, "history", m.str("type"))
		}
		require.Equal(t, "newer", m.str("content"))
	})
}

// F4, F27: signals may be lost, but do not close a member whose history is
// still being read.
func TestSignalsNeverCloseAJoiner(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, gate := newHookStore(), newBarrier()
		var slow atomic.Bool
		store.onRead = func(_ context.Context, topic string, q Query, next func() (Page, error)) (Page, error) {
			page, err := next()
			if slow.Load() && strings.HasPrefix(topic, roomPrefix) && q.Limit > 0 {
				gate.pass() // what comes now is not in the page
			}
			return page, err
		}
		s := serve(t, Options{Store: store, RateLimit: -1})
		a := s.v1()
		a.join("tea", "kim")
		slow.Store(true)
		b := s.v1()
		b.send(`{"type":"join","room":"tea","username":"lee"}`)
		synctest.Wait()
		require.EqualValues(t, 1, gate.hit.Load())
		data := strings.Repeat("d", 60<<10)
		for i := range 25 {
			a.send(map[string]any{"type": "signal", "name": fmt.Sprint("cursor", i), "data": data})
		}
		a.send(`{"type":"message","content":"kept"}`)
		synctest.Wait()
		require.NotZero(t, s.Stats().SignalsDropped)
		gate.open()
		b.expect("history")
		b.skipTo("signal")
		require.Equal(t, "kept", b.skipTo("message").str("content"))
		require.Zero(t, s.Stats().ClosedSlow)
	})
}

// F27, F64: joins of one connection read one after the other. If the second one fails, the member that the first one has
// made goes on.
func TestSecondJoinWhoseReadFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, first := newHookStore(), newBarrier()
		var reads atomic.Int32
		store.onRead = func(_ context.Context, topic string, q Query, next func() (Page, error)) (Page, error) {
			if strings.HasPrefix(topic, roomPrefix) && q.Limit > 0 {
				switch reads.Add(1) {
				case 1:
					first.pass()
				case 2:
					return Page{}, errors.New("on purpose")
				}
			}
			return next()
		}
		s := serve(t, Options{Store: store})
		_, err := s.Room("tea").Send(t.Context(), "kept")
		require.NoError(t, err)
		c := s.v1()
		conn := s.Conn(c.id)
		joined := make(chan struct{})
		go func() {
			defer close(joined)
			_ = s.Room("tea").Join(context.Background(), conn)
		}()
		synctest.Wait()
		c.send(`{"type":"join","room":"tea","username":"kim","id":"1"}`)
		synctest.Wait()
		require.EqualValues(t, 1, reads.Load())
		first.open()
		<-joined
		require.Equal(t, "kept", c.skipTo("history").entries()[0].str("content"))
		require.Equal(t, "unavailable", c.skipTo("error").str("code"))
		_, err = s.Room("tea").Send(t.Context(), "live")
		require.NoError(t, err)
		require.Equal(t, "live", c.skipTo("message").str("content"))
	})
}

// F65: a page before a negative offset is one before the newest message.
func TestHistoryBeforeANegativeOffset(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		for i := range 3 {
			_, err := s.Room("tea").Send(t.Context(), i)
			require.NoError(t, err)
		}
		newest, err := s.Room("tea").History(t.Context(), 0, 2)
		require.NoError(t, err)
		require.Len(t, newest.Messages, 2)
		require.True(t, newest.More)
		for _, before := range []int64{-1, -5, -1 << 63} {
			page, err := s.Room("tea").History(t.Context(), before, 2)
			require.NoError(t, err)
			require.Equal(t, newest, page)
		}
	})
}
