package parley

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// filteringBroker leaves out what the hub says.
type filteringBroker struct {
	*faultyBroker
	left atomic.Int32
}

func (b *filteringBroker) SubscribeFiltered(ctx context.Context, topic string, skip func(string) bool, deliver func([]byte)) (func(), error) {
	return b.Subscribe(ctx, topic, func(p []byte) {
		if p != nil && skip(string(p)) {
			b.left.Add(1)
			return
		}
		deliver(p)
	})
}

// A Broker that can do so leaves out what a node sent itself, and nothing else.
func TestFilteringBroker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker := &filteringBroker{faultyBroker: newFaultyBroker()}
		opts := Options{Store: NewMemoryStore(), Broker: broker}
		a, b := serve(t, opts), serve(t, opts)
		kim, lee := teaMember(t, a, "kim"), teaMember(t, b, "lee")
		kim.expect("system") // lee joined
		synctest.Wait()
		before := broker.left.Load()
		for n := int64(1); n <= 10; n++ {
			say(t, []*server{a, b}[n%2], n)
		}
		expectOffsets(t, kim, 1, 10)
		expectOffsets(t, lee, 1, 10)
		require.EqualValues(t, 10, broker.left.Load()-before)
	})
}

// An echo is known by how it begins, also behind the line of an AppendPublisher; nothing else is one.
func TestIsEcho(t *testing.T) {
	echo := `{"v":1,"node":"me"`
	for payload, want := range map[string]bool{
		echo + `,"messages":[]}`:             true,
		"0 1 1 epoch\n" + echo + `}`:         true,
		`{"v":1,"node":"you","messages":[]}`: false,
		"0 1 1 epoch\n{\"v\":1}":             false,
		"0 1 1 epoch":                        false,
		"":                                   false,
		"\n":                                 false,
		`{"v":1,"node":"m`:                   false,
		"x" + echo:                           false,
	} {
		require.Equal(t, want, isEcho(payload, echo), payload)
		require.Equal(t, want, isEcho([]byte(payload), echo), payload)
	}
}
