package parley

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// keepAll is a RoomConfig for tests that look at everything that was sent.
func keepAll(string) RoomConfig { return RoomConfig{History: Retention{Messages: 100_000}} }

// requireFIFO asserts that the messages of each publisher ("name number")
// came in order, and returns how many there are of each.
func requireFIFO(t *testing.T, log []any) map[string]int {
	t.Helper()
	next := make(map[string]int)
	for _, content := range log {
		name, number, _ := strings.Cut(content.(string), " ")
		require.Equal(t, strconv.Itoa(next[name]), number, "of publisher %s", name)
		next[name]++
	}
	return next
}

// F28, with the properties P5 and P6: many publishers, one order for all
// members, no hole, and first in first out for each publisher.
func TestConcurrentPublishers(t *testing.T) {
	const members, servers, clients, each = 20, 5, 5, 30
	slow := newHookStore()
	var batched atomic.Int32
	slow.onAppend = func(_ context.Context, _ string, entries []Entry, next func() (Log, error)) (Log, error) {
		if len(entries) > 1 {
			batched.Add(1)
		}
		time.Sleep(time.Millisecond) // fake time, in which others collect
		return next()
	}
	for name, store := range map[string]Store{"fast": NewMemoryStore(), "slow": slow} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHub(t, Options{Store: store, Room: keepAll, RateLimit: -1})
				all := make([]*direct, members)
				for i := range all {
					all[i] = attach(t, h, directOptions{v1: i%2 == 0})
					all[i].do(t, `{"type":"join","room":"r"}`)
				}
				var wg sync.WaitGroup
				for p := range servers {
					wg.Go(func() {
						for i := range each {
							r, err := h.Room("r").Send(t.Context(), fmt.Sprintf("server%d %d", p, i))
							require.NoError(t, err)
							require.Equal(t, members, r.Delivered)
							require.True(t, r.Stored)
						}
					})
				}
				for p := range clients {
					wg.Go(func() {
						for i := range each {
							all[p].do(t, map[string]any{"type": "message", "content": fmt.Sprintf("client%d %d", p, i)})
						}
					})
				}
				wg.Wait()
				var log []any
				for i, d := range all {
					v := view{room: "r"}
					v.apply(t, d.wire.messages(t))
					if i == 0 {
						log = v.seen
						require.Len(t, requireFIFO(t, log), servers+clients)
					}
					require.Len(t, log, (servers+clients)*each)
					v.requireLog(t, log)
				}
			})
		})
	}
	require.Positive(t, batched.Load(), "the slow Store is given batches")
}

// F8: a failing Store is an error to the caller; what is not stored is not
// delivered, and the next message is.
func TestStoreError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		h := newHub(t, Options{Store: store})
		kim := attach(t, h, directOptions{})
		kim.say(t, `{"type":"join","room":"r"}`)

		var fault func() (Log, error)
		store.onAppend = func(context.Context, string, []Entry, func() (Log, error)) (Log, error) { return fault() }
		for i, f := range []func() (Log, error){
			func() (Log, error) { return Log{}, context.Canceled },
			func() (Log, error) { panic("in the Store") },
		} {
			fault = f
			r, err := h.Room("r").Send(t.Context(), "lost")
			require.ErrorIs(t, err, ErrStore)
			require.Equal(t, Result{}, r)
			got := kim.say(t, `{"type":"message","content":"lost","id":"1"}`)
			require.Len(t, got, 1, "only the error: %v", got)
			require.Equal(t, "error", got[0].str("type"))
			require.Equal(t, "unavailable", got[0].str("code"))
			require.Equal(t, "1", got[0].str("id"))
			require.EqualValues(t, 2*(i+1), h.Stats().StoreErrors)
		}
		require.EqualValues(t, 2, h.Stats().Panics)

		store.onAppend = nil
		r, err := h.Room("r").Send(t.Context(), "stored")
		require.NoError(t, err)
		require.EqualValues(t, 1, r.Offset)
		got := kim.wire.messages(t)
		require.Equal(t, []any{"stored"}, contents(got))
	})
}

// F9: a Store that blocks holds up one room, and for no longer than ctx or StoreTimeout.
func TestSlowStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, stuck := newHookStore(), newBarrier()
		store.onAppend = func(ctx context.Context, topic string, _ []Entry, next func() (Log, error)) (Log, error) {
			if topic == "room/slow" {
				if err := stuck.passCtx(ctx); err != nil {
					return Log{}, err
				}
			}
			return next()
		}
		h := newHub(t, Options{Store: store, StoreTimeout: 3 * time.Second})
		kim, lee := attach(t, h, directOptions{}), attach(t, h, directOptions{})
		for _, room := range []string{"slow", "fine"} {
			kim.do(t, map[string]any{"type": "join", "room": room})
			lee.do(t, map[string]any{"type": "join", "room": room})
		}
		kim.wire.messages(t)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var asked sync.WaitGroup
		asked.Go(func() {
			lee.do(t, `{"type":"message","room":"slow","content":"x","id":"1"}`)
			require.Equal(t, 3*time.Second, time.Since(start), "StoreTimeout")
		})
		synctest.Wait()
		_, err := h.Room("slow").Send(ctx, "x")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "outcome unknown")
		require.Equal(t, time.Second, time.Since(start), "ctx")

		r, err := h.Room("fine").Send(t.Context(), "y")
		require.NoError(t, err)
		require.Equal(t, 2, r.Delivered)
		require.Equal(t, []any{"y"}, contents(kim.wire.messages(t)))
		require.Equal(t, time.Second, time.Since(start), "another room waits for nothing")

		asked.Wait()
		got := ofType(lee.wire.messages(t), "error")
		require.Len(t, got, 1)
		require.Equal(t, "unavailable", got[0].str("code"))
		stuck.open()
	})
}

// F9: whoever stops waiting does not take the message back. It is stored and
// delivered once, and repeating it with the same id says so.
func TestSendOutlivesItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, stuck := newHookStore(), newBarrier()
		store.onAppend = func(_ context.Context, _ string, _ []Entry, next func() (Log, error)) (Log, error) {
			stuck.pass()
			return next()
		}
		h := newHub(t, Options{Store: store})
		kim := attach(t, h, directOptions{})
		kim.say(t, `{"type":"join","room":"r"}`)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := h.Room("r").Send(ctx, "late", WithID("1"))
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, kim.wire.messages(t))
		stuck.open()
		require.Equal(t, []any{"late"}, contents(kim.wire.messages(t)))
		r, err := h.Room("r").Send(t.Context(), "late", WithID("1"))
		require.NoError(t, err)
		require.True(t, r.Duplicate)
		require.EqualValues(t, 1, r.Offset)
		require.Empty(t, kim.wire.messages(t))
	})
}

// F10: the Store did its work, but the answer was lost. The retry with the
// same id stores nothing, and members get the message all the same, once (P4.2).
func TestStoreFailsAfterAppending(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		h := newHub(t, Options{Store: store})
		kim := attach(t, h, directOptions{user: "kim"})
		v := view{room: "r"}
		v.apply(t, kim.say(t, `{"type":"join","room":"r"}`))
		for i, id := range []string{"a", "b"} {
			store.onAppend = func(_ context.Context, _ string, _ []Entry, next func() (Log, error)) (Log, error) {
				_, _ = next()
				return Log{}, context.DeadlineExceeded
			}
			message := map[string]any{"type": "message", "content": id, "id": id}
			got := kim.say(t, message)
			require.Equal(t, "unavailable", got[0].str("code"), "%v", got)
			store.onAppend = nil
			got = kim.say(t, message)
			v.apply(t, got)
			ack := ofType(got, "ack")
			require.Len(t, ack, 1)
			require.Equal(t, true, ack[0]["duplicate"])
			require.EqualValues(t, i+1, ack[0].num("offset"))
			require.EqualValues(t, i+1, v.offset, "the members have it now")
		}
		kim.do(t, `{"type":"message","content":"c"}`)
		v.apply(t, kim.wire.messages(t))
		v.requireLog(t, []any{"a", "b", "c"})
		history, err := h.Room("r").History(t.Context(), 0, 0)
		require.NoError(t, err)
		require.Len(t, history.Messages, 3)
	})
}

// F24: an id counts once for its sender and topic, for two minutes at least.
func TestDuplicates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		kim, lee := attach(t, h, directOptions{user: "kim"}), attach(t, h, directOptions{user: "lee"})
		kim2 := attach(t, h, directOptions{user: "kim"})
		for _, d := range []*direct{kim, kim2, lee} {
			d.do(t, `{"type":"join","room":"r"}`)
		}
		synctest.Wait()
		for _, d := range []*direct{kim, kim2, lee} {
			d.wire.messages(t)
		}
		send := func(d *direct, room string) message {
			t.Helper()
			ack := ofType(d.say(t, map[string]any{"type": "message", "room": room, "content": "x", "id": "1"}), "ack")
			require.Len(t, ack, 1)
			require.Equal(t, "1", ack[0].str("id"))
			require.NotEmpty(t, ack[0].str("epoch"))
			return ack[0]
		}
		first := send(kim, "r")
		require.EqualValues(t, 1, first.num("offset"))
		require.NotContains(t, first, "duplicate")
		for _, d := range []*direct{kim, kim2} { // another connection of the same user, too
			again := send(d, "r")
			require.EqualValues(t, 1, again.num("offset"))
			require.Equal(t, true, again["duplicate"])
			require.Equal(t, first.str("epoch"), again.str("epoch"))
		}
		require.NotContains(t, send(lee, "r"), "duplicate", "the id of somebody else is another")
		r, err := h.Room("r").Send(t.Context(), "x", WithID("1"))
		require.NoError(t, err)
		require.False(t, r.Duplicate, "nor is it that of the application")
		kim.do(t, `{"type":"join","room":"other"}`)
		require.NotContains(t, send(kim, "other"), "duplicate", "nor that of another room")

		elapse(IdempotencyWindow - time.Second)
		require.Equal(t, true, send(kim, "r")["duplicate"])
		require.Len(t, ofType(kim2.wire.messages(t), "message"), 2, "those of lee and of the application")
	})
}
