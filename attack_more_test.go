package parley

import (
	"context"
	"fmt"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAttackSpansReal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{Inbox: Retention{Messages: 10_000}, MaxMessageSize: 8 << 10, QueueSize: 32 << 10})
		h := s.Hub
		epoch := notify(t, h, 1).Epoch
		for i := 2; i <= 10_000; i++ {
			_, err := h.Notify(t.Context(), "kim", 1)
			require.NoError(t, err)
			if i%2 == 0 {
				_, err := h.Inbox("kim").MarkRead(t.Context(), Selection{Epoch: epoch, Offsets: []int64{int64(i)}})
				require.NoError(t, err)
			}
		}
		for range 5 {
			c := s.connect(dialOptions{user: "kim", v1: true})
			synctest.Wait()
			select {
			case <-c.done:
				t.Log("closed", c.err)
				t.Fail()
			case m := <-c.in:
				t.Log(m.str("type"))
			}
		}
	})
}

func TestAttackHookOnOneNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l told
		store, broker := NewMemoryStore(), NewMemoryBroker()
		a := newHub(t, Options{Store: store, Broker: broker, Hooks: Hooks{Undelivered: l.hook}})
		b := newHub(t, Options{Store: store, Broker: broker})
		kim := attach(t, b, directOptions{user: "kim", v1: true})
		at := notify(t, a, 1)
		kim.say(t, map[string]any{"type": "received", "epoch": at.Epoch, "offset": at.Offset})
		elapse(5 * time.Minute)
		require.Empty(t, l.take(), "kim has said that it was received")
	})
}

func TestAttackQuotaOverNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, broker := NewMemoryStore(), NewMemoryBroker()
		a, b := newHub(t, Options{Store: store, Broker: broker}), newHub(t, Options{Store: store, Broker: broker})
		kim, lee := attach(t, a, directOptions{user: "kim", v1: true}), attach(t, b, directOptions{user: "lee", v1: true})
		for i := range 120 {
			elapse(5 * time.Second)
			got := kim.say(t, map[string]any{"type": "private", "targetId": "lee", "message": "hi", "id": fmt.Sprint(i)})
			if got[0].str("type") != "ack" { t.Log(i, got) }
			require.Equal(t, "ack", got[0].str("type"), "message %d of a chat of two users who are connected: %v", i, got)
		}
		lee.wire.messages(t)
	})
}

func TestAttackFlushConnected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{PrivateQuota: 10})
		notify(t, h, 50)
		attach(t, h, directOptions{user: "kim", v1: true})
		eve := attach(t, h, directOptions{v1: true})
		for range 200 {
			eve.do(t, `{"type":"private","targetId":"kim","message":"spam"}`)
		}
		page, err := h.Inbox("kim").Read(t.Context(), 0, 100)
		require.NoError(t, err)
		left := 0
		for _, e := range page.Entries {
			if !e.Private {
				left++
			}
		}
		require.Equal(t, 50, left)
	})
}

func TestAttackResolveStorm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		h := newHub(t, Options{Store: store})
		const n = 2000
		for i := range n {
			_, err := h.Notify(t.Context(), fmt.Sprint("u", i), 1)
			require.NoError(t, err)
		}
		store.onMark = func(context.Context, string, Mark, func() (Marked, error)) (Marked, error) {
			return Marked{}, errors.New("down")
		}
		at, most := 0, 0
		gate := make(chan struct{})
		store.onRead = func(_ context.Context, _ string, _ Query, next func() (Page, error)) (Page, error) {
			at++
			most = max(most, at)
			<-gate
			at--
			return next()
		}
		for i := range n {
			_, err := h.Inbox(fmt.Sprint("u", i)).MarkRead(t.Context(), Selection{IDs: []string{"x"}})
			require.Error(t, err)
		}
		elapse(2 * time.Second)
		close(gate)
		synctest.Wait()
		require.LessOrEqual(t, most, maxReads)
	})
}
