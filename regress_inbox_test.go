package parley

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A payload that is not UTF-8 would end every connection that it is replayed to, for as long as it is kept.
func TestPayloadsAreUTF8(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		broken := json.RawMessage("\"caf\xe9\"")
		kim := attach(t, h, directOptions{user: "kim", v1: true})
		for name, send := range map[string]func() error{
			"notify":    func() error { _, err := h.Notify(t.Context(), "kim", broken); return err },
			"all":       func() error { _, err := h.NotifyAll(t.Context(), broken); return err },
			"private":   func() error { _, err := h.Private(t.Context(), "kim", broken); return err },
			"broadcast": func() error { _, err := h.Broadcast(t.Context(), broken); return err },
			"room":      func() error { _, err := h.Room("r").Send(t.Context(), broken); return err },
			"send":      func() error { return kim.Send(t.Context(), broken) },
		} {
			require.ErrorIs(t, send(), errPayloadText, name)
		}
		On(h, "broken", func(context.Context, *Conn, struct{}) (json.RawMessage, error) { return broken, nil })
		require.Equal(t, "internal", kim.say(t, `{"type":"call","id":"1","method":"broken","data":{}}`)[0].str("code"))
		require.Empty(t, inboxOf(t, h, "kim").entries())
	})
}

// A panic in Options.UserExists is an error, also in the goroutines of NotifyEach.
func TestUserExistsPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{UserExists: func(context.Context, string) (bool, error) { panic("in UserExists") }})
		require.NoError(t, h.Audience("a").Add(t.Context(), "kim"))
		n, err := h.Audience("a").Notify(t.Context(), 1)
		require.Error(t, err)
		require.Equal(t, Notified{Failed: 1}, n)
		require.EqualValues(t, 1, h.Stats().Panics)
	})
}

// P4.2: what was let through once is answered the same way again, whoever has come or gone and however much else was sent.
func TestResendBeyondTheQuota(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{PrivateQuota: 1, UserExists: func(context.Context, string) (bool, error) { return true, nil }})
		kim := attach(t, h, directOptions{user: "kim"})
		send := func(id string) message {
			return requireAnswer(t, kim, `{"type":"private","targetId":"lee","message":"hi","id":"`+id+`"}`)
		}
		first := send("1")
		require.Equal(t, "ack", first.str("type"))
		require.Equal(t, "limit", send("2").str("code"))
		again := send("1")
		require.Equal(t, true, again["duplicate"])
		require.Equal(t, first.num("offset"), again.num("offset"))

		plain := newHub(t, Options{})
		kim = attach(t, plain, directOptions{user: "kim"})
		lee := attach(t, plain, directOptions{user: "lee"})
		send("1")
		lee.end(CloseNormal, "")
		synctest.Wait()
		require.Equal(t, true, send("1")["duplicate"], "lee has gone since")
		require.Equal(t, "not_found", send("2").str("code"))
	})
}

// F27: anonymous users of one address share a quota, and refused calls push nobody's out.
func TestQuotaOfAnonymousUsers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{PrivateQuota: 3, UserExists: func(context.Context, string) (bool, error) { return true, nil }})
		stored := 0
		for range 10 {
			nobody := attach(t, h, directOptions{})
			if nobody.say(t, `{"type":"private","targetId":"lee","message":"spam","id":"1"}`)[0].str("type") == "ack" {
				stored++
			}
			nobody.end(CloseNormal, "")
		}
		require.Equal(t, 3, stored)
		for range 100 {
			h.quota.allow("kim")
		}
		require.LessOrEqual(t, len(h.quota.senders.order), 6, "once for each that was let through")
	})
}

// One hook that hangs does not stop the others.
func TestUndeliveredHookHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := make(chan struct{})
		var l told
		h := newHub(t, Options{UndeliveredAfter: time.Second, Hooks: Hooks{Undelivered: func(ctx context.Context, u Undelivered) error {
			if u.UserID == "hangs" {
				<-gate
			}
			return l.hook(ctx, u)
		}}})
		_, err := h.Notify(t.Context(), "hangs", 1)
		require.NoError(t, err)
		elapse(5 * time.Second)
		for i := range 3 * overdueCalls {
			_, err := h.Notify(t.Context(), fmt.Sprint("u", i), 1)
			require.NoError(t, err)
		}
		elapse(20 * time.Second)
		require.Len(t, l.take(), 3*overdueCalls)
		close(gate)
	})
}

// That the hook was called is not forgotten because the Store was away for a moment.
func TestUndeliveredIsConfirmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l told
		var fails atomic.Int32
		fails.Store(5)
		store := newHookStore()
		store.onMark = func(_ context.Context, _ string, _ Mark, next func() (Marked, error)) (Marked, error) {
			if fails.Add(-1) >= 0 {
				return Marked{}, errors.New("away")
			}
			return next()
		}
		h := newHub(t, Options{Store: store, UndeliveredAfter: time.Second, Hooks: Hooks{Undelivered: l.hook}})
		notify(t, h, 1)
		elapse(time.Hour)
		require.Len(t, l.take(), 1)
	})
}

// Pages in which everything has expired are passed.
func TestPagesOfExpiredEntries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Inbox: Retention{Messages: 1000}})
		notify(t, h, 5)
		notify(t, h, 250, WithTTL(time.Second))
		elapse(time.Minute)
		page, err := h.Inbox("kim").Read(t.Context(), 0, 100)
		require.NoError(t, err)
		require.Len(t, page.Entries, 5)
		require.False(t, page.More)
		require.Equal(t, 5, page.Unread)
	})
}

// A Mark of which nobody knows whether it was made is told by what the Store says when it is well, once for all that failed.
func TestUncertainMarksAreResolved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		reads := 0
		h := newHub(t, Options{Store: store})
		kim := attach(t, h, directOptions{user: "kim", v1: true})
		notify(t, h, 3)
		kim.wire.messages(t)
		store.onMark = func(_ context.Context, _ string, _ Mark, next func() (Marked, error)) (Marked, error) {
			_, _ = next()
			return Marked{}, errors.New("the answer was lost")
		}
		store.onRead = func(_ context.Context, _ string, _ Query, next func() (Page, error)) (Page, error) {
			reads++
			return next()
		}
		for range 100 {
			_, err := h.Inbox("kim").MarkRead(t.Context(), Selection{UpTo: 2})
			require.ErrorIs(t, err, ErrStore)
		}
		elapse(2 * time.Second)
		require.Equal(t, 1, reads)
		got := kim.wire.messages(t)
		require.Len(t, got, 2)
		require.Equal(t, []string{"read 1-2", "unread 3"}, []string{got[0].str("as") + " " + got[0].spans("offsets"), got[1].str("as") + " " + got[1].spans("offsets")})
		require.EqualValues(t, 1, got[1].num("unread"))
	})
}
