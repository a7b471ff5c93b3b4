package storetest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// cutBroker is a Broker in memory whose connection can be cut. flawed does, instead of the right thing, what it does wrong
// when a subscription comes back.
type cutBroker struct {
	parley.Broker
	flawed func(s *cutSubscription)
	newest bool // only the newest subscription comes back
	zombie bool // subscriptions come back after their end, too

	mu   sync.Mutex // guards subs
	subs []*cutSubscription
}

type cutSubscription struct {
	broker  *cutBroker
	topic   string
	deliver func([]byte)
	ended   atomic.Bool

	mu  sync.Mutex // guards end
	end func()
}

func (b *cutBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	var one sync.Mutex // deliver is called by one at a time
	s := &cutSubscription{broker: b, topic: topic, deliver: func(p []byte) {
		one.Lock()
		defer one.Unlock()
		deliver(p)
	}}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs = append(b.subs, s)
	return func() { s.ended.Store(true); s.cut() }, s.again(ctx)
}

// again subscribes.
func (s *cutSubscription) again(ctx context.Context) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end, err = s.broker.Broker.Subscribe(ctx, s.topic, s.deliver)
	return err
}

func (s *cutSubscription) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
}

// interrupt ends all subscriptions, and has them back some time later.
func (b *cutBroker) interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, s := range b.subs {
		if s.ended.Load() && !b.zombie {
			continue
		}
		s.cut()
		if b.newest && i < len(b.subs)-1 {
			continue
		}
		time.AfterFunc(100*time.Millisecond, func() {
			if b.flawed != nil {
				b.flawed(s)
				return
			}
			_ = s.again(context.Background())
			s.deliver(nil)
		})
	}
}

var brokenLosses = []struct {
	flaw, caughtBy string
	breakIt        func(b *cutBroker)
}{
	{"says nothing of losses", lossTold, func(b *cutBroker) {
		b.flawed = func(s *cutSubscription) { _ = s.again(context.Background()) }
	}},
	{"does not subscribe again", lossTold, func(b *cutBroker) {
		b.flawed = func(s *cutSubscription) { s.deliver(nil) }
	}},
	{"tells of losses before it has subscribed again", lossTold, func(b *cutBroker) {
		b.flawed = func(s *cutSubscription) {
			s.deliver(nil)
			time.AfterFunc(20*time.Millisecond, func() { _ = s.again(context.Background()) })
		}
	}},
	{"tells one of the subscriptions", lossTold, func(b *cutBroker) { b.newest = true }},
	{"brings back who has unsubscribed", "Loss/is not told to who has unsubscribed", func(b *cutBroker) { b.zombie = true }},
	{"takes no new subscriptions after a loss", "Loss/who subscribes afterwards gets what is published then", func(b *cutBroker) {
		closed := &unheard{Broker: b.Broker}
		b.Broker = closed
		b.flawed = func(s *cutSubscription) {
			closed.after.Store(true)
			s.deliver(nil)
		}
	}},
}

// Reset is interrupt in another word.
func (b *cutBroker) Reset() { b.interrupt() }

var brokenResets = []struct {
	flaw, caughtBy string
	breakIt        func(b *cutBroker)
}{
	{"loses its subscriptions", resetAll, func(b *cutBroker) { b.flawed = func(*cutSubscription) {} }},
	{"has one of its subscriptions again", resetAll, func(b *cutBroker) { b.newest = true }},
	{"brings back who has unsubscribed", "Reset/has none of those that have ended", func(b *cutBroker) { b.zombie = true }},
	{"loses its subscriptions, after a Reset from within deliver", "Reset/returns at once, also from within deliver", func(b *cutBroker) {
		b.flawed = func(*cutSubscription) {}
	}},
}

const resetAll = "Reset/has all subscriptions again (F17)"

const lossTold = "Loss/is told to every subscription, as soon as it is there again (F16)"

// unheard is a Broker whose subscriptions get nothing after a loss.
type unheard struct {
	parley.Broker
	after atomic.Bool
}

func (b *unheard) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	if b.after.Load() {
		return func() {}, nil
	}
	return b.Broker.Subscribe(ctx, topic, deliver)
}

func runLossCase(t *testing.T, name string, breakIt func(b *cutBroker)) []string {
	t.Helper()
	cases := slices.Concat(lossCases, resetCases)
	i := slices.IndexFunc(cases, func(tc brokerCase) bool { return tc.name == name })
	require.GreaterOrEqualf(t, i, 0, "no subtest has the name %q", name)
	c := config().withDefaults()
	c.Interrupt = func(_ *testing.T, b parley.Broker) { b.(*cutBroker).interrupt() }
	return failuresOf(t, func(t *testing.T, r *recorder) {
		b := &cutBroker{Broker: parley.NewMemoryBroker()}
		breakIt(b)
		cases[i].run(c.newBrokerEnv(t, r, b))
	})
}

func TestLosses(t *testing.T) {
	for _, tc := range slices.Concat(lossCases, resetCases) {
		require.Empty(t, runLossCase(t, tc.name, func(*cutBroker) {}), tc.name)
	}
	caught := map[string]bool{}
	for _, m := range slices.Concat(brokenLosses, brokenResets) {
		caught[m.caughtBy] = true
		t.Run(m.flaw, func(t *testing.T) {
			failures := runLossCase(t, m.caughtBy, m.breakIt)
			require.NotEmptyf(t, failures, "a broker that %s passed %q", m.flaw, m.caughtBy)
			t.Logf("%s", failures[0])
		})
	}
	for _, tc := range slices.Concat(lossCases, resetCases) {
		require.Truef(t, caught[tc.name], "no broken broker is to be caught by %q", tc.name)
	}
}

// A Broker may tell of losses whenever it likes.
func TestBrokerThatTellsLossesPasses(t *testing.T) {
	for _, tc := range brokerCases {
		got := runBrokerCase(t, tc.name, func() parley.Broker {
			return &brokenBroker{
				Broker: parley.NewMemoryBroker(),
				subscribe: func(b parley.Broker, ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
					return b.Subscribe(ctx, topic, func(p []byte) {
						deliver(nil)
						deliver(p)
					})
				},
			}
		})
		require.Empty(t, got, tc.name)
	}
}
