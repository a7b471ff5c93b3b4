package parley

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// A1: a Broker may lose; a lost "marked" is never told to the devices of the other node.
type lossyB struct {
	Broker
	lose bool
}

func (b *lossyB) Publish(ctx context.Context, topic string, p []byte) error {
	if b.lose {
		return errors.New("lost")
	}
	return b.Broker.Publish(ctx, topic, p)
}

func TestAttackLostMark(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, broker := NewMemoryStore(), &lossyB{Broker: NewMemoryBroker()}
		a, b := newHub(t, Options{Store: store, Broker: broker}), newHub(t, Options{Store: store, Broker: broker})
		attach(t, a, directOptions{user: "kim", v1: true})
		there := attach(t, b, directOptions{user: "kim", v1: true})
		notify(t, a, 2)
		there.wire.messages(t)
		broker.lose = true
		_, err := a.Inbox("kim").MarkRead(t.Context(), Selection{UpTo: 1})
		require.NoError(t, err)
		broker.lose = false
		elapse(time.Hour)
		notify(t, a, 1) // the next message that gets through
		_, err = a.Inbox("kim").MarkRead(t.Context(), Selection{Offsets: []int64{3}})
		require.NoError(t, err)
		elapse(time.Hour)
		got := there.wire.messages(t)
		t.Log(got)
		told := false
		for _, m := range got {
			if m.str("type") == "marked" && m.spans("offsets") == "1-1" || m.str("type") == "inbox" {
				told = true
			}
		}
		require.True(t, told, "device on b never hears that entry 1 is read")
	})
}

// A2: marks on the wire in another order than in the Store.
func TestAttackMarkOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		h := newHub(t, Options{Store: store})
		epoch := notify(t, h, 1).Epoch
		kim := attach(t, h, directOptions{user: "kim", v1: true})
		gate := make(chan struct{})
		store.onMark = func(_ context.Context, _ string, m Mark, next func() (Marked, error)) (Marked, error) {
			done, err := next()
			if m.As == MarkRead {
				<-gate // the answer is slow
			}
			return done, err
		}
		go func() { _, _ = h.Inbox("kim").MarkRead(context.Background(), Selection{Epoch: epoch, UpTo: 1}) }()
		synctest.Wait()
		_, err := h.Inbox("kim").MarkUnread(t.Context(), Selection{Epoch: epoch, UpTo: 1})
		require.NoError(t, err)
		close(gate)
		synctest.Wait()
		got := ofType(kim.wire.messages(t), "marked")
		t.Log(got)
		require.Equal(t, "unread", got[len(got)-1].str("as"), "the Store says unread; last on the wire")
	})
}

// A3: one error of the Store after the hook: hook called twice.
func TestAttackUndeliveredTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		fails := 1
		store.onMark = func(_ context.Context, _ string, m Mark, next func() (Marked, error)) (Marked, error) {
			if fails > 0 {
				fails--
				return Marked{}, errors.New("a hiccup")
			}
			return next()
		}
		var l told
		h := newHub(t, Options{Store: store, Hooks: Hooks{Undelivered: l.hook}})
		notify(t, h, 1)
		elapse(time.Hour)
		require.Len(t, l.take(), 1)
	})
}

// A4: a hook that hangs for one user stops it for all.
func TestAttackUndeliveredHang(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l told
		gate := make(chan struct{})
		h := newHub(t, Options{Hooks: Hooks{Undelivered: func(ctx context.Context, u Undelivered) error {
			if u.UserID == "hangs" {
				<-gate
			}
			return l.hook(ctx, u)
		}}})
		defer close(gate)
		_, err := h.Notify(t.Context(), "hangs", 1)
		require.NoError(t, err)
		elapse(2 * time.Minute)
		notify(t, h, 1)
		elapse(24 * time.Hour)
		require.Len(t, l.take(), 1, "the others must hear of it")
	})
}

// A5: quota forgotten by hammering.
func TestAttackQuotaFlush(t *testing.T) {
	var q quota
	q.init(60)
	for range 60 {
		require.True(t, q.allow("b"))
	}
	require.False(t, q.allow("b"))
	for range maxAging + 1 {
		q.allow("a") // refused nearly always
	}
	require.False(t, q.allow("b"), "b has its quota again")
}

// A6: anonymous: a new connection is a new quota.
func TestAttackQuotaAnonymous(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{PrivateQuota: 2, UserExists: func(context.Context, string) (bool, error) { return true, nil }})
		sent := 0
		for range 50 {
			c := attach(t, h, directOptions{v1: true})
			for range 2 {
				got := c.say(t, map[string]any{"type": "private", "targetId": "victim", "message": "spam", "id": fmt.Sprint("x", sent)})
				if got[0].str("type") == "ack" {
					sent++
				}
			}
			c.end(CloseNormal, "")
		}
		require.LessOrEqual(t, sent, 2)
	})
}

// A7: P4.2: a resend is acknowledged again; here it is refused though it is stored.
func TestAttackResendLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{PrivateQuota: 1, UserExists: func(context.Context, string) (bool, error) { return true, nil }})
		kim := attach(t, h, directOptions{user: "kim", v1: true})
		say := `{"type":"private","targetId":"lee","message":"hi","id":"1"}`
		require.Equal(t, "ack", kim.say(t, say)[0].str("type"))
		require.Equal(t, true, kim.say(t, say)[0]["duplicate"])
	})
}

func TestAttackResendNotFound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		kim := attach(t, h, directOptions{user: "kim", v1: true})
		lee := attach(t, h, directOptions{user: "lee", v1: true})
		say := `{"type":"private","targetId":"lee","message":"hi","id":"1"}`
		require.Equal(t, "ack", kim.say(t, say)[0].str("type"))
		lee.end(CloseNormal, "")
		synctest.Wait()
		got := kim.say(t, say)[0]
		require.Equal(t, true, got["duplicate"], "%v", got)
	})
}

// A8: UserExists that panics in NotifyEach.
func TestAttackNotifyEachPanic(t *testing.T) {
	h := newHub(t, Options{UserExists: func(context.Context, string) (bool, error) { panic("nil map") }})
	defer func() { t.Log("recovered:", recover()) }()
	_, err := h.NotifyEach(t.Context(), func(yield func(string, error) bool) { yield("kim", nil) }, 1)
	t.Log(err)
}

// A9: invalid UTF-8 by RawMessage.
func TestAttackRawUTF8(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		kim := attach(t, h, directOptions{user: "kim", v1: true})
		_, err := h.Notify(t.Context(), "kim", json.RawMessage("\"caf\xe9\""))
		t.Log(err)
		synctest.Wait()
		kim.wire.mu.Lock()
		written := kim.wire.written
		kim.wire.mu.Unlock()
		if len(written) > 0 {
			_, payload, _ := cutFrame(written)
			require.True(t, utf8.Valid(payload), "%q", payload)
		}
	})
}

// A10: spans are larger than the queue.
func TestAttackSpans(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Inbox: Retention{Messages: 10_000}, MaxMessageSize: 8 << 10, QueueSize: 32 << 10})
		epoch := notify(t, h, 1).Epoch
		for i := 2; i <= 10_000; i++ {
			_, err := h.Notify(t.Context(), "kim", 1)
			require.NoError(t, err)
			if i%2 == 0 {
				_, err := h.Inbox("kim").MarkRead(t.Context(), Selection{Epoch: epoch, Offsets: []int64{int64(i)}})
				require.NoError(t, err)
			}
		}
		for range 3 {
			kim := attachAny(t, h, "kim")
			synctest.Wait()
			require.False(t, kim.ended.Load(), "code %d", kim.code.Load())
		}
	})
}

func attachAny(t *testing.T, h *Hub, user string) *direct {
	return attach(t, h, directOptions{user: user, v1: true, discard: true})
}

// A11: notify to an anonymous client that has gone.
func TestAttackAnonymousGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l told
		h := newHub(t, Options{Hooks: Hooks{Undelivered: l.hook}})
		c := attach(t, h, directOptions{v1: true})
		id := c.ID()
		c.end(CloseNormal, "")
		synctest.Wait()
		r, err := h.Notify(t.Context(), id, "x")
		t.Log(r, err)
		elapse(2 * time.Minute)
		require.Empty(t, l.take())
	})
}

func TestAttackAnonymousOtherNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, broker := NewMemoryStore(), NewMemoryBroker()
		a, b := newHub(t, Options{Store: store, Broker: broker}), newHub(t, Options{Store: store, Broker: broker})
		c := attach(t, b, directOptions{v1: true})
		r, err := a.Notify(t.Context(), c.ID(), "x")
		t.Log(r, err, c.wire.messages(t))
		require.True(t, err != nil)
	})
}

// A12: pages of expired entries cannot be passed.
func TestAttackExpiredPage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Inbox: Retention{Messages: 1000}})
		notify(t, h, 5)
		notify(t, h, 100, WithTTL(time.Minute))
		elapse(2 * time.Minute)
		page, err := h.Inbox("kim").Read(t.Context(), 0, 100)
		require.NoError(t, err)
		require.Equal(t, 5, page.Unread)
		require.False(t, len(page.Entries) == 0 && page.More, "nothing to go on from")
	})
}

// A13: truncated is told off on one device only.
func TestAttackTruncated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Inbox: Retention{Messages: 3}})
		epoch := notify(t, h, 5).Epoch
		one, two := attachT(t, h), attachT(t, h)
		_, err := h.Inbox("kim").MarkRead(t.Context(), Selection{Epoch: epoch, Offsets: []int64{3, 4, 5}})
		require.NoError(t, err)
		one.wire.messages(t)
		two.wire.messages(t)
		one.do(t, map[string]any{"type": "read", "epoch": epoch, "offset": 5, "id": "r"})
		t.Log(one.wire.messages(t))
		got := two.wire.messages(t)
		require.NotEmpty(t, got, "two still shows truncated")
	})
}
func attachT(t *testing.T, h *Hub) *direct { return attach(t, h, directOptions{user: "kim", v1: true}) }

// A14: after Shutdown, duplicates.
func TestAttackAfterShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		notify(t, h, 1)
		require.NoError(t, h.Shutdown(t.Context()))
		_, e1 := h.Inbox("kim").Read(t.Context(), 0, 0)
		_, e2 := h.Inbox("kim").Unread(t.Context())
		e3 := h.Audience("x").Add(t.Context(), "kim")
		_, e4 := h.Inbox("kim").MarkRead(t.Context(), Selection{UpTo: 1})
		t.Log(e1, e2, e3, e4)
	})
}

func TestAttackDupUsers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		users := iter.Seq2[string, error](func(yield func(string, error) bool) {
			for range 3 {
				if !yield("kim", nil) {
					return
				}
			}
		})
		n, err := h.NotifyEach(t.Context(), users, 1, WithID("x"))
		t.Logf("%+v %v", n, err)
		require.Equal(t, 1, n.Stored, "is in how many inboxes it is now")
	})
}
