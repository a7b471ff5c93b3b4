package parley

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// requireOne asserts that exactly one message has come, and of this type.
func requireOne(t *testing.T, d *direct, typ string) message {
	t.Helper()
	got := d.wire.messages(t)
	require.Len(t, got, 1, "%v", got)
	require.Equal(t, typ, got[0].str("type"))
	return got[0]
}

// inboxOf returns what is in the inbox of a user, as a new device gets it.
func inboxOf(t *testing.T, h *Hub, user string) message {
	t.Helper()
	d := attach(t, h, directOptions{user: user, v1: true})
	require.Len(t, d.hello, 2)
	require.Equal(t, "connected", d.hello[0].str("type"))
	require.Equal(t, "inbox", d.hello[1].str("type"))
	d.end(CloseNormal, "")
	synctest.Wait()
	return d.hello[1]
}

// F33: a notification is stored once and reaches every device, plain ones too.
func TestNotifyReachesAllDevices(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		devices := []*direct{
			attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{user: "kim"}),
			attach(t, h, directOptions{user: "kim", v1: true}),
		}
		lee := attach(t, h, directOptions{user: "lee"})
		for n := range int64(3) {
			r, err := h.Notify(t.Context(), "kim", map[string]int64{"n": n})
			require.NoError(t, err)
			require.Equal(t, Result{Delivered: 3, Stored: true, Epoch: r.Epoch, Offset: n + 1, Unread: int(n) + 1}, r)
			for _, d := range devices {
				m := requireOne(t, d, "notification")
				require.Equal(t, map[string]any{"n": float64(n)}, m["data"])
				require.EqualValues(t, time.Now().UnixMilli(), m.num("timestamp")) // P4.9
				require.Equal(t, n+1, m.num("offset"))
				require.Equal(t, r.Epoch, m.str("epoch"))
			}
		}
		require.Empty(t, lee.wire.messages(t))
		require.Len(t, inboxOf(t, h, "kim").entries(), 3)

		devices[0].end(CloseAbnormal, "")
		synctest.Wait()
		r, err := h.Notify(t.Context(), "kim", 1)
		require.NoError(t, err)
		require.Equal(t, 2, r.Delivered)
	})
}

// F34: who was away gets it all at connecting, in order, in the shape in
// which it was first sent; a plain client does not know inboxes (P1.2).
func TestInboxOfAnOfflineUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		for n := range 150 {
			send := h.Notify
			if n%2 == 1 {
				send = h.Private
			}
			r, err := send(t.Context(), "kim", n)
			require.NoError(t, err)
			require.Zero(t, r.Delivered)
			require.True(t, r.Stored)
		}
		inbox := inboxOf(t, h, "kim")
		require.EqualValues(t, 150, inbox.num("offset"))
		entries := inbox.entries()
		require.Len(t, entries, 100, "the newest")
		for i, e := range entries {
			n := 50 + i
			require.EqualValues(t, n+1, e.num("offset"))
			require.Equal(t, inbox.str("epoch"), e.str("epoch"))
			require.NotZero(t, e.num("timestamp"))
			if n%2 == 1 {
				require.Equal(t, "private", e.str("type"))
				require.EqualValues(t, n, e["message"])
				require.Equal(t, "", e["senderId"])
			} else {
				require.Equal(t, "notification", e.str("type"))
				require.EqualValues(t, n, e["data"])
			}
		}
		require.Equal(t, inbox, inboxOf(t, h, "kim"), "getting it takes nothing away")

		plain := attach(t, h, directOptions{user: "kim"})
		require.Len(t, plain.hello, 1)
		anonymous := attach(t, h, directOptions{v1: true})
		require.Len(t, anonymous.hello, 1, "nothing is kept for nobody")
		require.Equal(t, 2, h.Stats().Topics, "broadcast and the inbox of the plain client")

		elapse(7*24*time.Hour + time.Second)
		require.Empty(t, inboxOf(t, h, "kim").entries(), "after a week it is history")
	})
}

// An anonymous connection is its own user, addressed by its client id. So is
// one connection of an identified user; nothing is kept then.
func TestMessagesToAClientID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		nobody, kim, kim2 := attach(t, h, directOptions{v1: true}), attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{user: "kim"})
		for _, d := range []*direct{nobody, kim} {
			r, err := h.Notify(t.Context(), d.ID(), "x")
			require.NoError(t, err)
			require.Equal(t, Result{Delivered: 1}, r)
			require.NotContains(t, requireOne(t, d, "notification"), "offset")
			r, err = h.Private(t.Context(), d.ID(), "x")
			require.NoError(t, err)
			require.Equal(t, Result{Delivered: 1}, r)
			requireOne(t, d, "private")
			kim2.do(t, map[string]any{"type": "private", "targetId": d.ID(), "message": "hi"})
			require.Equal(t, "kim", requireOne(t, d, "private").str("senderId"))
		}
		require.Empty(t, kim2.wire.messages(t))
		require.Empty(t, inboxOf(t, h, "kim").entries())
		require.Empty(t, inboxOf(t, h, kim.ID()).entries())

		kim.end(CloseAbnormal, "")
		got := kim2.say(t, map[string]any{"type": "private", "targetId": kim.ID(), "message": "hi", "id": "1"})
		require.Equal(t, "not_found", got[0].str("code"))
	})
}

// F70: what clients send fills no inbox of somebody who may not exist, and
// says so; what the application sends is kept.
func TestPrivateToSomebodyUnknown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, slow := newHookStore(), newBarrier()
		h := newHub(t, Options{Store: store})
		kim := attach(t, h, directOptions{user: "kim", v1: true})
		private := func(id string) message {
			got := kim.say(t, map[string]any{"type": "private", "targetId": "ghost", "message": "boo", "id": id})
			require.Len(t, got, 1)
			return got[0]
		}
		m := private("1")
		require.Equal(t, "not_found", m.str("code"))
		require.Equal(t, "1", m.str("id"))
		require.Empty(t, inboxOf(t, h, "ghost").entries())

		// Nor while the application is just sending something to the same id.
		store.onAppend = func(_ context.Context, _ string, _ []Entry, next func() (Log, error)) (Log, error) {
			slow.pass()
			return next()
		}
		var sent sync.WaitGroup
		sent.Go(func() {
			r, err := h.Private(t.Context(), "ghost", "real")
			require.NoError(t, err)
			require.True(t, r.Stored)
		})
		synctest.Wait()
		time.AfterFunc(time.Second, slow.open)
		require.Equal(t, "not_found", private("2").str("code"))
		slow.open()
		sent.Wait()
		entries := inboxOf(t, h, "ghost").entries()
		require.Len(t, entries, 1)
		require.Equal(t, "real", entries[0]["message"])
	})
}

// A private message of a client: to all devices of the user, its own too if
// it writes to itself, kept, and once for each id (P4.2).
func TestPrivateBetweenClients(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		kim := attach(t, h, directOptions{user: "kim"})
		lee, lee2 := attach(t, h, directOptions{user: "lee"}), attach(t, h, directOptions{user: "lee", v1: true})
		const toLee = `{"type":"private","targetId":"lee","message":{"a":1},"id":"1"}`
		ack := kim.say(t, toLee)[0]
		require.Equal(t, "ack", ack.str("type"))
		require.EqualValues(t, 1, ack.num("offset"))
		for _, d := range []*direct{lee, lee2} {
			m := requireOne(t, d, "private")
			require.Equal(t, "kim", m.str("senderId"))
			require.Equal(t, map[string]any{"a": 1.0}, m["message"])
		}
		require.Equal(t, true, kim.say(t, toLee)[0]["duplicate"])
		require.Empty(t, lee.wire.messages(t))

		lee.do(t, `{"type":"private","targetId":"lee","message":"note"}`)
		requireOne(t, lee, "private")
		requireOne(t, lee2, "private")
		require.Len(t, inboxOf(t, h, "lee").entries(), 2)
		require.Empty(t, inboxOf(t, h, "kim").entries())
	})
}

// What comes live while the inbox is read is in it or follows it, once.
func TestInboxRacesLiveMessages(t *testing.T) {
	runs := explore(t, func(t *testing.T, choose func(int) int) {
		s := newStage(t)
		attach(t, s.hub, directOptions{user: "kim"}) // a plain device that is there all the time
		s.prefix = userPrefix
		s.slow()
		notify := func(n int) func() {
			return func() {
				_, err := s.hub.Notify(t.Context(), "kim", fmt.Sprint(n))
				require.NoError(t, err)
			}
		}
		var d *direct
		s.actor("app", notify(1), notify(2))
		s.actor("other", notify(3))
		s.actor("kim", func() { d = attach(t, s.hub, directOptions{user: "kim", v1: true}) })
		s.play(choose)
		got := append(d.hello, d.wire.messages(t)...)
		require.Equal(t, "connected", got[0].str("type"))
		require.Equal(t, "inbox", got[1].str("type"))
		all := append(got[1].entries(), got[2:]...)
		require.Len(t, all, 3)
		for i, m := range all {
			require.EqualValues(t, i+1, m.num("offset"))
		}
	})
	t.Logf("%d orders", runs)
	require.Greater(t, runs, 100)
}

// P5.4: without the Store a user is still connected, told what is missing, and
// gets it, with everything since, when the Store is well again.
func TestInboxWithoutStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		var down atomic.Bool
		down.Store(true)
		store.onRead = func(_ context.Context, _ string, _ Query, next func() (Page, error)) (Page, error) {
			if down.Load() {
				return Page{}, errors.New("down")
			}
			return next()
		}
		h := newHub(t, Options{Store: store})
		d := attach(t, h, directOptions{user: "kim", v1: true})
		require.Len(t, d.hello, 2)
		require.Equal(t, "unavailable", d.hello[1].str("code"))
		r, err := h.Notify(t.Context(), "kim", "x")
		require.NoError(t, err)
		require.Equal(t, 1, r.Delivered, "it waits behind the inbox")
		gone := attach(t, h, directOptions{user: "lee", v1: true})
		elapse(10 * rereadMax)
		require.Empty(t, d.wire.messages(t))
		gone.end(CloseAbnormal, "") // and nothing goes on trying for it
		down.Store(false)
		elapse(rereadMax)
		require.Len(t, requireOne(t, d, "inbox").entries(), 1)
		_, err = h.Notify(t.Context(), "kim", "y")
		require.NoError(t, err)
		requireOne(t, d, "notification")
	})
}

// A notification that could not be stored is an error, and is not delivered (F8).
func TestNotifyWithoutStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		h := newHub(t, Options{Store: store})
		d := attach(t, h, directOptions{user: "kim", v1: true})
		store.onAppend = func(context.Context, string, []Entry, func() (Log, error)) (Log, error) {
			return Log{}, errors.New("down")
		}
		_, err := h.Notify(t.Context(), "kim", "x", WithID("1"))
		require.ErrorIs(t, err, ErrStore)
		require.Empty(t, d.wire.messages(t))
		store.onAppend = nil
		for duplicate := range 2 {
			r, err := h.Notify(t.Context(), "kim", "x", WithID("1"))
			require.NoError(t, err)
			require.Equal(t, duplicate == 1, r.Duplicate)
			require.Equal(t, 1-duplicate, r.Delivered)
			require.EqualValues(t, 1, r.Offset)
		}
		requireOne(t, d, "notification")
	})
}

// Names are checked for users, too.
func TestInvalidUserIDs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		for _, id := range []string{"", "a\x00b", "\xff", string(make([]byte, 300))} {
			_, err := h.Notify(t.Context(), id, 1)
			require.ErrorIs(t, err, ErrInvalidName)
			_, err = h.Private(t.Context(), id, 1)
			require.ErrorIs(t, err, ErrInvalidName)
			require.Zero(t, h.disconnect(id, ""))
		}
		require.Equal(t, 1, h.Stats().Topics)
	})
}
