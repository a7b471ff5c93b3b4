package parley

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// fill publishes messages to room r: "1", "2", and so on.
func fill(t *testing.T, h *Hub, n int) {
	t.Helper()
	for i := range n {
		_, err := h.Room("r").Send(t.Context(), fmt.Sprint(i+1))
		require.NoError(t, err)
	}
}

// numbers returns the contents that fill gives the offsets from to to.
func numbers(from, to int64) []any {
	list := make([]any, 0)
	for n := from; n <= to; n++ {
		list = append(list, fmt.Sprint(n))
	}
	return list
}

// joinAt joins room r from a position and returns the history.
func (d *direct) joinAt(t *testing.T, epoch string, offset int64) message {
	t.Helper()
	got := d.say(t, map[string]any{"type": "join", "room": "r", "epoch": epoch, "offset": offset})
	all := ofType(got, "history")
	require.Len(t, all, 1, "%v", got)
	return all[0]
}

// F64, F65: a position from first-1 to top gets exactly what was missed, any
// other one is told so and gets the newest history; never a part.
func TestJoinWithPosition(t *testing.T) {
	for _, keep := range []int{1, 2, 5} {
		for published := range 8 {
			bubble(t, func(t *testing.T) {
				h := newHub(t, Options{Room: func(string) RoomConfig { return RoomConfig{History: Retention{Messages: keep}} }})
				fill(t, h, published)
				top := int64(published)
				first := max(top-int64(keep)+1, 1)
				current, err := h.Room("r").History(t.Context(), 0, 1)
				require.NoError(t, err)
				d := attach(t, h, directOptions{})
				for since := range int64(10) {
					for _, epoch := range []string{current.Epoch, "another", ""} {
						got := d.joinAt(t, epoch, since)
						require.Equal(t, current.Epoch, got.str("epoch"))
						require.Equal(t, top, got.num("offset"))
						if epoch == current.Epoch && since >= first-1 && since <= top {
							require.Equal(t, true, got["recovered"], "since %d of [%d,%d]", since, first, top)
							require.Equal(t, numbers(since+1, top), contents(got.entries()))
						} else {
							require.Equal(t, false, got["recovered"], "since %d of [%d,%d]", since, first, top)
							require.Equal(t, numbers(first, top), contents(got.entries()))
						}
						d.do(t, `{"type":"leave"}`)
					}
				}
			})
		}
	}
}

// A position has two parts; one of them is none.
func TestJoinWithHalfAPosition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		fill(t, h, 3)
		d := attach(t, h, directOptions{})
		for _, half := range []string{`"offset":2`, `"epoch":"x"`} {
			got := ofType(d.say(t, `{"type":"join","room":"r",`+half+`}`), "history")[0]
			require.NotContains(t, got, "recovered")
			require.Equal(t, numbers(1, 3), contents(got.entries()))
		}
	})
}

// Who has missed nothing recovers, also when all it ever saw has aged out
// (socket.io#5282).
func TestJoinAtTheTopAlwaysRecovers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Room: func(string) RoomConfig { return RoomConfig{History: Retention{Age: time.Hour}} }})
		d := attach(t, h, directOptions{})
		d.do(t, joinR)
		fill(t, h, 3)
		epoch := ofType(d.wire.messages(t), "history")[0].str("epoch")
		elapse(2 * time.Hour)

		got := d.joinAt(t, epoch, 3)
		require.Equal(t, true, got["recovered"])
		require.Empty(t, got.entries())
		got = d.joinAt(t, epoch, 2)
		require.Equal(t, false, got["recovered"])
		require.EqualValues(t, 3, got.num("offset"))

		fill(t, h, 1)
		require.Equal(t, []any{"1"}, contents(d.joinAt(t, epoch, 3).entries()))
	})
}

// A replayed message is the same as the live one, with its position (P4.6;
// socket.io#5419: without it a second reconnect replayed everything again).
func TestReplayedMessagesAreComplete(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		kim, lee := attach(t, h, directOptions{user: "kim", name: "Kim"}), attach(t, h, directOptions{v1: true})
		kim.say(t, joinR)
		kim.do(t, `{"type":"message","content":{"a":[1,null,"\u2028"]}}`)
		kim.do(t, `{"type":"message","content":"epoch"}`)
		fill(t, h, 1)
		live := ofType(kim.wire.messages(t), "message")
		require.Len(t, live, 3)
		got := ofType(lee.say(t, `{"type":"join","room":"r","id":"1"}`), "history")[0]
		require.Equal(t, live, got.entries())
		require.Equal(t, "kim", live[0].str("userId"))
		require.Equal(t, "Kim", live[0].str("username"))
		require.NotEmpty(t, live[0].str("epoch"))

		again := lee.joinAt(t, got.str("epoch"), 1)
		require.Equal(t, live[1:], again.entries())
		again = lee.joinAt(t, again.str("epoch"), again.num("offset"))
		require.Equal(t, true, again["recovered"])
		require.Empty(t, again.entries(), "the second time nothing is missed")
	})
}

func TestJoinIsAcknowledgedWithThePosition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		fill(t, h, 2)
		got := attach(t, h, directOptions{}).say(t, `{"type":"join","room":"r","id":"j"}`)
		ack := ofType(got, "ack")
		require.Len(t, ack, 1)
		require.Equal(t, "j", ack[0].str("id"))
		require.EqualValues(t, 2, ack[0].num("offset"))
		require.Equal(t, ofType(got, "history")[0].str("epoch"), ack[0].str("epoch"))
	})
}

// F11: the Store lost the log. Members are told and go on, positions of the
// old log do not recover, whatever their offset (F66).
func TestNewEpoch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		h := newHub(t, Options{Store: store})
		kim, lee := attach(t, h, directOptions{}), attach(t, h, directOptions{})
		v := view{room: "r"}
		v.apply(t, kim.say(t, joinR))
		fill(t, h, 3)
		v.apply(t, kim.wire.messages(t))
		old := v.epoch

		store.wipe()
		fill(t, h, 2) // offsets 1 and 2 again
		v.apply(t, kim.wire.messages(t))
		require.NotEqual(t, old, v.epoch)
		require.Equal(t, false, v.recovered, "told, not only noticed")
		v.requireLog(t, numbers(1, 2))

		for since := range int64(4) {
			require.Equal(t, false, lee.joinAt(t, old, since)["recovered"])
		}
		require.Equal(t, true, lee.joinAt(t, v.epoch, 1)["recovered"])
	})
}

// A hole that cannot be filled: what other nodes have stored was not carried,
// and is no longer kept. Everybody is told, whether it has had live messages
// since it joined or not; who joined after the hole is not concerned.
func TestHoleBeyondTheRetention(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := NewMemoryStore()
		keep := Retention{Messages: 5}
		h := newHub(t, Options{Store: store, Room: func(string) RoomConfig { return RoomConfig{History: keep} }})
		old, fresh, late := attach(t, h, directOptions{}), attach(t, h, directOptions{}), attach(t, h, directOptions{})
		views := map[*direct]*view{old: {room: "r"}, fresh: {room: "r"}, late: {room: "r"}}
		old.do(t, joinR)
		fill(t, h, 1)
		fresh.do(t, joinR)
		elsewhere := make([]Entry, 20)
		for i := range elsewhere {
			elsewhere[i].Data = appendRoomMessage(nil, "r", "", "", fmt.Appendf(nil, "%d", i), 1)
		}
		_, err := store.Append(t.Context(), roomPrefix+"r", keep, elsewhere)
		require.NoError(t, err)
		elapse(recentLife) // until then what the others read serves
		late.do(t, joinR)
		fill(t, h, 2)
		for d, v := range views {
			v.apply(t, d.wire.messages(t))
			require.EqualValues(t, 23, v.offset)
			require.Equal(t, v.resets, map[*direct]int{old: 2, fresh: 2, late: 1}[d])
		}
	})
}

// P4.3: a room that keeps nothing has no positions and nothing to recover.
func TestRoomWithoutHistory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Room: func(string) RoomConfig { return RoomConfig{History: Retention{Messages: -1}} }})
		d := attach(t, h, directOptions{})
		got := d.joinAt(t, "x", 1)
		require.Equal(t, false, got["recovered"])
		require.NotContains(t, got, "epoch")
		r, err := h.Room("r").Send(t.Context(), "x")
		require.NoError(t, err)
		require.Equal(t, Result{Delivered: 1}, r)
		m := d.wire.messages(t)[0]
		require.NotContains(t, m, "offset")
		require.NotContains(t, m, "epoch")
		require.Empty(t, d.joinAt(t, "", 0).entries())
	})
}

// The history must not be what overflows the queue of the one who joins, and
// it ends with the newest message in any case.
func TestHistoryFitsIntoTheQueue(t *testing.T) {
	const queue = 64 << 10
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{MaxMessageSize: queue / 4, QueueSize: queue})
		d := attach(t, h, directOptions{})
		epoch := d.joinAt(t, "", 0).str("epoch")
		send := func(size int) {
			t.Helper()
			_, err := h.Room("r").Send(t.Context(), strings.Repeat("x", size))
			require.NoError(t, err)
			d.wire.messages(t)
		}
		for range 6 {
			send(10_000)
		}
		got := d.joinAt(t, "", 0)
		require.Len(t, got.entries(), 3, "half of the queue")
		require.EqualValues(t, 6, got.entries()[2].num("offset"))
		require.Equal(t, true, d.joinAt(t, epoch, 3)["recovered"])
		got = d.joinAt(t, epoch, 2)
		require.Equal(t, false, got["recovered"], "four messages do not fit: no part of what was missed")
		require.Len(t, got.entries(), 3)

		page := d.say(t, `{"type":"history","id":"1","before":4}`)[0]
		require.Len(t, page.entries(), 3)
		require.Equal(t, false, page["more"])
		page = d.say(t, `{"type":"history","id":"1"}`)[0]
		require.Len(t, page.entries(), 3)
		require.Equal(t, true, page["more"], "cut for its size, so there are more")

		send(queue/2 - 2) // the largest that the application may send
		got = d.joinAt(t, epoch, 6)
		require.Equal(t, true, got["recovered"])
		require.Len(t, got.entries(), 1)
		require.Len(t, d.joinAt(t, "", 0).entries(), 1)
		page = d.say(t, `{"type":"history","id":"1"}`)[0]
		require.Len(t, page.entries(), 1)
		require.Equal(t, true, page["more"])
		require.False(t, d.ended.Load())
	})
}

func TestMoreMissedThanAReplayHolds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Room: keepAll})
		d := attach(t, h, directOptions{})
		epoch := d.joinAt(t, "", 0).str("epoch")
		d.do(t, `{"type":"leave"}`)
		fill(t, h, maxReplay+1)
		require.Len(t, d.joinAt(t, epoch, 1).entries(), maxReplay)
		got := d.joinAt(t, epoch, 0)
		require.Equal(t, false, got["recovered"])
		require.Len(t, got.entries(), maxPage)
	})
}

// F9: a join that cannot be answered is refused and leaves nothing behind.
func TestJoinWithoutStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, reading := newHookStore(), newBarrier()
		h := newHub(t, Options{Store: store})
		kim, lee := attach(t, h, directOptions{user: "kim"}), attach(t, h, directOptions{user: "lee", v1: true})
		kim.say(t, joinR)
		topics := h.Stats().Topics
		lee.wire.messages(t)
		store.onRead = func(context.Context, string, Query, func() (Page, error)) (Page, error) {
			reading.pass()
			return Page{}, errors.New("down")
		}
		go lee.do(t, `{"type":"join","room":"r","id":"1"}`)
		synctest.Wait()
		require.EqualValues(t, 1, reading.hit.Load())
		_, err := h.Room("r").Send(t.Context(), "x")
		require.NoError(t, err)
		reading.open()
		got := lee.wire.messages(t)
		require.Len(t, got, 1, "not a member, so no message: %v", got)
		require.Equal(t, "unavailable", got[0].str("code"))
		require.Equal(t, "1", got[0].str("id"))
		require.Empty(t, lee.Rooms())
		elapse(time.Minute)
		require.Empty(t, lee.wire.messages(t))
		require.Equal(t, []any{"x"}, contents(kim.wire.messages(t)), "and nobody was told")
		require.Equal(t, topics, h.Stats().Topics)

		store.onRead = nil
		require.Len(t, ofType(lee.say(t, joinR), "history"), 1)
	})
}
