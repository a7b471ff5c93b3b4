package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// payloadsOnly passes over deliver(nil).
func payloadsOnly(deliver func([]byte)) func([]byte) {
	return func(p []byte) {
		if p != nil {
			deliver(p)
		}
	}
}

// watch is a subscription that counts what it is told of losses.
type watch struct {
	inbox
	losses atomic.Int32
}

func (e *brokerEnv) watch(topic string) (w *watch, unsubscribe func()) {
	e.Helper()
	w = new(watch)
	unsubscribe, err := e.peer.Subscribe(context.Background(), topic, func(p []byte) {
		if p == nil {
			w.losses.Add(1)
			return
		}
		w.add(p)
	})
	require.NoErrorf(e, err, "Subscribe to %q", topic)
	e.Cleanup(unsubscribe)
	return w, unsubscribe
}

// published publishes as soon as the Broker can.
func (e *brokerEnv) published(topic, payload string) {
	e.Helper()
	e.until("Publish to succeed", func() bool {
		return e.broker.Publish(context.Background(), topic, []byte(payload)) == nil
	})
}

// F16, F17: whoever loses its connection comes back by itself, and says so.
var lossCases = []brokerCase{
	{name: "Loss/is told to every subscription, as soon as it is there again (F16)", needs: interrupting, run: func(e *brokerEnv) {
		topics := []string{e.topic(), e.topic()}
		var watches []*watch
		for _, topic := range append(topics, topics[0]) {
			w, _ := e.watch(topic)
			watches = append(watches, w)
		}
		for round := range 3 {
			before := make([]int32, len(watches))
			for i, w := range watches {
				before[i] = w.losses.Load()
			}
			e.interrupt()
			for i, w := range watches {
				e.until("deliver(nil) after the connection was lost", func() bool { return w.losses.Load() > before[i] })
			}
			for i, topic := range topics {
				e.published(topic, fmt.Sprint("after ", round))
				e.until("what is published after deliver(nil)", func() bool { return watches[i].has(fmt.Sprint("after ", round)) })
			}
			e.until("what is published after deliver(nil)", func() bool { return watches[2].has(fmt.Sprint("after ", round)) })
		}
	}},
	{name: "Loss/is not told to who has unsubscribed", needs: interrupting, run: func(e *brokerEnv) {
		topic := e.topic()
		gone, unsubscribe := e.watch(topic)
		stays, _ := e.watch(topic)
		unsubscribe()
		e.interrupt()
		e.until("deliver(nil) after the connection was lost", func() bool { return stays.losses.Load() > 0 })
		e.published(topic, "after")
		e.until("what is published after deliver(nil)", func() bool { return stays.has("after") })
		e.settle()
		require.Zero(e, gone.losses.Load(), "deliver(nil) of a subscription that has ended")
		require.Empty(e, gone.all(), "payloads of a subscription that has ended")
	}},
	{name: "Loss/who subscribes afterwards gets what is published then", needs: interrupting, run: func(e *brokerEnv) {
		first, _ := e.watch(e.topic())
		e.interrupt()
		e.until("deliver(nil) after the connection was lost", func() bool { return first.losses.Load() > 0 })
		topic := e.topic()
		w, _ := e.watch(topic)
		e.published(topic, "new")
		e.until("a payload for a new subscription", func() bool { return w.has("new") })
	}},
}

// resetter returns peer, if it can be reset.
func (e *brokerEnv) resetter() parley.Resetter {
	e.Helper()
	r, ok := e.peer.(parley.Resetter)
	if !ok {
		e.Skip("not a parley.Resetter")
	}
	return r
}

// arrives publishes again and again until something of that arrives: while a Broker starts anew it may lose what it carries.
func (e *brokerEnv) arrives(what, topic string, in *inbox, prefix string) {
	e.Helper()
	n := 0
	e.until(what, func() bool {
		n++
		_ = e.broker.Publish(context.Background(), topic, fmt.Appendf(nil, "%s-%d", prefix, n))
		return slices.ContainsFunc(in.all(), func(p string) bool { return strings.HasPrefix(p, prefix) })
	})
}

// F17: connected, but silent.
var resetCases = []brokerCase{
	{name: "Reset/has all subscriptions again (F17)", run: func(e *brokerEnv) {
		r := e.resetter()
		topics := []string{e.topic(), e.topic()}
		var watches []*watch
		for _, topic := range topics {
			w, _ := e.watch(topic)
			watches = append(watches, w)
		}
		for round := range 3 {
			r.Reset()
			for i, topic := range topics {
				e.arrives("a payload after Reset", topic, &watches[i].inbox, fmt.Sprint("round ", round))
			}
		}
		topic := e.topic()
		late, _ := e.watch(topic)
		e.arrives("a payload for a new subscription", topic, &late.inbox, "late")
	}},
	{name: "Reset/has none of those that have ended", run: func(e *brokerEnv) {
		r := e.resetter()
		topic := e.topic()
		gone, unsubscribe := e.watch(topic)
		stays, _ := e.watch(topic)
		unsubscribe()
		r.Reset()
		e.arrives("a payload after Reset", topic, &stays.inbox, "after")
		e.settle()
		require.Empty(e, gone.all(), "payloads of a subscription that has ended")
	}},
	{name: "Reset/returns at once, also from within deliver", run: func(e *brokerEnv) {
		r := e.resetter()
		topic := e.topic()
		var in inbox
		var once sync.Once
		e.subscribe(topic, func(p []byte) {
			once.Do(r.Reset)
			in.add(p)
		})
		// Its confirmation may be lost with the connection; that it was delivered is what counts.
		_ = e.broker.Publish(context.Background(), topic, []byte("first"))
		e.until("Reset to return", func() bool { return in.has("first") })
		for range 5 {
			r.Reset()
		}
		e.arrives("a payload after Resets", topic, &in, "after")
	}},
}
