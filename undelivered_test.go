package parley

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// told collects what Hooks.Undelivered hears.
type told struct {
	mu   sync.Mutex
	all  []string
	fail bool // the next calls fail
}

func (l *told) hook(_ context.Context, u Undelivered) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail {
		return errors.New("the mail server is away")
	}
	l.all = append(l.all, fmt.Sprintf("%s %s %s unread %d", u.UserID, u.Entry.Kind, u.Entry.Message, u.Inbox.Unread))
	return nil
}

func (l *told) take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

// F34: what no device has received is told once in the whole cluster, and by a node that was not there when it was sent.
func TestUndelivered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l told
		store, broker := NewMemoryStore(), NewMemoryBroker()
		node := func() *Hub {
			return newHub(t, Options{Store: store, Broker: broker, Hooks: Hooks{Undelivered: l.hook}})
		}
		first := node()
		_, err := first.Notify(t.Context(), "kim", "x", WithKind("news"))
		require.NoError(t, err)
		_, err = first.Private(t.Context(), "lee", "y", WithUndeliveredAfter(time.Hour))
		require.NoError(t, err)
		_, err = first.Notify(t.Context(), "max", "z", WithUndeliveredAfter(-1))
		require.NoError(t, err)
		require.NoError(t, first.Shutdown(t.Context()))
		node()
		node()
		elapse(59 * time.Second)
		require.Empty(t, l.take())
		elapse(7 * time.Second)
		require.Equal(t, []string{`kim news "x" unread 1`}, l.take())
		elapse(50 * time.Minute)
		require.Empty(t, l.take())
		elapse(10 * time.Minute)
		require.Equal(t, []string{`lee  "y" unread 1`}, l.take())
		elapse(24 * time.Hour)
		require.Empty(t, l.take())
	})
}

// A hook that fails is called again; a panic is an error like another.
func TestUndeliveredHookFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := told{fail: true}
		panics := 0
		h := newHub(t, Options{UndeliveredAfter: time.Second, Hooks: Hooks{Undelivered: func(ctx context.Context, u Undelivered) error {
			if panics++; panics == 1 {
				panic("in the hook")
			}
			return l.hook(ctx, u)
		}}})
		notify(t, h, 1)
		elapse(3 * time.Minute)
		require.Empty(t, l.take())
		require.GreaterOrEqual(t, panics, 2)
		require.EqualValues(t, 1, h.Stats().Panics)
		l.mu.Lock()
		l.fail = false
		l.mu.Unlock()
		elapse(2 * time.Minute)
		require.Len(t, l.take(), 1)
		require.EqualValues(t, 1, h.Stats().Undelivered)
		elapse(time.Hour)
		require.Empty(t, l.take())
	})
}

// P8.6: a receipt, a mark, or the position of a client that comes back say that a device has it.
func TestReceipts(t *testing.T) {
	for name, say := range map[string]func(t *testing.T, h *Hub, kim *direct, at Result){
		"received": func(t *testing.T, _ *Hub, kim *direct, at Result) {
			require.Empty(t, kim.say(t, map[string]any{"type": "received", "epoch": at.Epoch, "offset": at.Offset}))
		},
		"read": func(t *testing.T, _ *Hub, kim *direct, at Result) {
			kim.do(t, map[string]any{"type": "read", "epoch": at.Epoch, "offset": at.Offset})
		},
		"archive": func(t *testing.T, _ *Hub, kim *direct, at Result) {
			kim.do(t, map[string]any{"type": "archive", "epoch": at.Epoch, "offsets": []int64{1, at.Offset}})
		},
		"read by the application": func(t *testing.T, h *Hub, _ *direct, at Result) {
			_, err := h.Inbox("kim").MarkRead(t.Context(), Selection{UpTo: at.Offset})
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var l told
				h := newHub(t, Options{Hooks: Hooks{Undelivered: l.hook}})
				kim := attach(t, h, directOptions{user: "kim", v1: true})
				require.Equal(t, true, kim.hello[0]["receipts"])
				at := notify(t, h, 2)
				kim.wire.messages(t)
				say(t, h, kim, at)
				notify(t, h, 1)
				elapse(2 * time.Minute)
				require.Len(t, l.take(), 1, "only the third one")
			})
		})
	}
}

// Without the hook nobody is asked for receipts, and none is stored.
func TestNoReceiptsWithoutTheHook(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		store.onMark = func(context.Context, string, Mark, func() (Marked, error)) (Marked, error) {
			t.Error("a receipt was stored")
			return Marked{}, nil
		}
		h := newHub(t, Options{Store: store})
		kim := attach(t, h, directOptions{user: "kim", v1: true})
		require.NotContains(t, kim.hello[0], "receipts")
		at := notify(t, h, 1)
		kim.wire.messages(t)
		require.Equal(t, "ack", kim.say(t, map[string]any{"type": "received", "epoch": at.Epoch, "offset": 1, "id": "r"})[0].str("type"))
	})
}
