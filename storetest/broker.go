package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// RunBroker checks the Brokers that newBroker returns. It is called once in
// each subtest, as for [Config.Run].
//
// A Broker may lose, double and reorder; but the suite expects that it does
// not lose what it carries while nothing is wrong, and gives it 10 s. It may call
// deliver(nil) at any time. One that is a [parley.Resetter] is reset in some subtests.
func (c Config) RunBroker(t *testing.T, newBroker func(t *testing.T) parley.Broker) {
	t.Helper()
	c = c.withDefaults()
	for _, tc := range allBrokerCases() {
		t.Run(tc.name, func(t *testing.T) {
			if tc.needs == interrupting && c.Interrupt == nil {
				t.Skip("set Config.Interrupt if the Broker knows of losses")
			}
			c.Bubble(t, func(t *testing.T) { tc.run(c.newBrokerEnv(t, t, newBroker(t))) })
		})
	}
}

type brokerCase struct {
	name  string
	run   func(e *brokerEnv)
	needs need
}

func allBrokerCases() []brokerCase { return slices.Concat(brokerCases, lossCases, resetCases) }

type brokerEnv struct {
	testing.TB
	broker parley.Broker // the node that publishes
	peer   parley.Broker // the node that subscribes
	unit   time.Duration
	prefix string
	topics int

	interrupt func() // breaks the connection of peer, for subtests that need interrupting
}

func (c Config) newBrokerEnv(t *testing.T, tb testing.TB, b parley.Broker) *brokerEnv {
	peer := b
	if c.PeerBroker != nil {
		peer = c.PeerBroker(t, b)
	}
	e := &brokerEnv{TB: tb, broker: b, peer: peer, unit: c.Unit, prefix: rand.Text()[:8]}
	e.interrupt = func() { c.Interrupt(t, peer) }
	return e
}

func (e *brokerEnv) topic() string {
	e.topics++
	return fmt.Sprintf("room/%s-%d", e.prefix, e.topics)
}

// inbox collects what a subscription gets. Several goroutines may read it.
type inbox struct {
	mu   sync.Mutex
	list [][]byte
}

func (in *inbox) add(payload []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.list = append(in.list, payload)
}

func (in *inbox) has(payload string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, p := range in.list {
		if string(p) == payload {
			return true
		}
	}
	return false
}

func (in *inbox) all() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	list := []string{}
	for _, p := range in.list {
		list = append(list, string(p))
	}
	return list
}

func (e *brokerEnv) publish(topic, payload string) {
	e.Helper()
	require.NoErrorf(e, e.broker.Publish(context.Background(), topic, []byte(payload)), "Publish to %q", topic)
}

// subscribe passes over what the Broker says of losses, which it may do at any time.
func (e *brokerEnv) subscribe(topic string, deliver func([]byte)) (unsubscribe func()) {
	e.Helper()
	unsubscribe, err := e.peer.Subscribe(context.Background(), topic, payloadsOnly(deliver))
	require.NoErrorf(e, err, "Subscribe to %q", topic)
	e.Cleanup(unsubscribe)
	return unsubscribe
}

// until waits for ok.
func (e *brokerEnv) until(what string, ok func() bool) {
	e.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			require.FailNow(e, "waited a minute for "+what)
		}
	}
}

// settle waits until what was published before has arrived where it would,
// as far as that can be known: a payload published after it has, and some time has passed.
func (e *brokerEnv) settle() {
	e.Helper()
	var in inbox
	topic := e.topic()
	unsubscribe := e.subscribe(topic, in.add)
	e.publish(topic, "marker")
	e.until("a marker to arrive", func() bool { return in.has("marker") })
	unsubscribe()
	time.Sleep(2 * e.unit)
}

var brokerCases = []brokerCase{
	{name: "Broker/hands a payload to every subscription of the topic", run: func(e *brokerEnv) {
		topic := e.topic()
		var a, b, other inbox
		e.subscribe(topic, a.add)
		e.subscribe(topic, b.add)
		e.subscribe(e.topic(), other.add)
		for i := range 20 {
			e.publish(topic, fmt.Sprint("p", i))
		}
		for i := range 20 {
			e.until("every payload to reach both subscriptions", func() bool {
				return a.has(fmt.Sprint("p", i)) && b.has(fmt.Sprint("p", i))
			})
		}
		e.settle()
		require.Empty(e, other.all(), "a subscription of another topic")
	}},
	// Join, then send: the message must not fall between the two.
	{name: "Broker/everything published after Subscribe has returned is underway (F27)", run: func(e *brokerEnv) {
		for range 50 {
			var in inbox
			topic := e.topic()
			e.subscribe(topic, in.add)
			e.publish(topic, "at once")
			e.until("a payload published right after Subscribe", func() bool { return in.has("at once") })
		}
	}},
	{name: "Broker/payloads are opaque bytes and stay as they are", run: func(e *brokerEnv) {
		var binary []byte
		for i := range 256 {
			binary = append(binary, byte(i))
		}
		payloads := []string{string(binary), "{}", "\r\n", "\x00", strings.Repeat("x", 200<<10)}
		topic := e.topic()
		var in inbox
		e.subscribe(topic, in.add)
		for _, p := range payloads {
			e.publish(topic, p)
			e.until("a payload byte for byte", func() bool { return in.has(p) })
		}
		for i := range 100 {
			e.publish(topic, strings.Repeat(fmt.Sprint(i%10), 300))
		}
		e.settle()
		for _, p := range payloads {
			require.Truef(e, in.has(p), "payload %.40q was changed after deliver had got it", p)
		}
	}},
	{name: "Broker/payloads have up to some MiB", run: func(e *brokerEnv) {
		topic := e.topic()
		var in inbox
		e.subscribe(topic, in.add)
		for i, size := range []int{1 << 20, 4 << 20, 1<<20 + 1} {
			large := strings.Repeat(string(rune('a'+i)), size)
			e.publish(topic, large)
			e.until(fmt.Sprintf("a payload of %d bytes", size), func() bool { return in.has(large) })
		}
	}},
	{name: "Broker/topics are opaque and kept apart from each other (S38)", run: func(e *brokerEnv) {
		var topics []string
		for _, odd := range oddNames() {
			topics = append(topics, e.prefix+odd, odd+e.prefix)
		}
		for _, end := range []string{"1", "2", ""} {
			topics = append(topics, e.prefix+strings.Repeat("x", 300-len(e.prefix)-len(end))+end)
		}
		inboxes := make([]inbox, len(topics))
		for i, topic := range topics {
			e.subscribe(topic, inboxes[i].add)
		}
		for i, topic := range topics {
			e.publish(topic, fmt.Sprint("for ", i))
		}
		for i, topic := range topics {
			e.until(fmt.Sprintf("the payload of %.50q", topic), func() bool { return inboxes[i].has(fmt.Sprint("for ", i)) })
		}
		e.settle()
		for i, topic := range topics {
			for _, p := range inboxes[i].all() {
				require.Equalf(e, fmt.Sprint("for ", i), p, "a payload of another topic came to %.320q", topic)
			}
		}
	}},
	{name: "Broker/the calls for one subscription come one at a time", run: func(e *brokerEnv) {
		topic := e.topic()
		var running, overlaps, calls atomic.Int32
		e.subscribe(topic, func([]byte) {
			if running.Add(1) > 1 {
				overlaps.Add(1)
			}
			time.Sleep(e.unit / 50)
			running.Add(-1)
			calls.Add(1)
		})
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := range 10 {
					if err := e.broker.Publish(context.Background(), topic, fmt.Append(nil, w, i)); err != nil {
						e.Errorf("Publish: %v", err)
					}
				}
			})
		}
		wg.Wait()
		e.until("40 payloads", func() bool { return calls.Load() >= 40 })
		require.Zero(e, overlaps.Load(), "calls of deliver while another one was running")
	}},
	{name: "Broker/Publish without subscriptions is no error", run: func(e *brokerEnv) {
		e.publish(e.topic(), "nobody is there")
	}},
	{name: "Broker/honours ctx", run: func(e *brokerEnv) {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		topic := e.topic()
		err := e.broker.Publish(ended, topic, []byte("x"))
		require.Truef(e, errors.Is(err, context.Canceled), "Publish with a ctx that has ended: %v should wrap context.Canceled", err)
		_, err = e.peer.Subscribe(ended, topic, func([]byte) {})
		require.Truef(e, errors.Is(err, context.Canceled), "Subscribe with a ctx that has ended: %v should wrap context.Canceled", err)
	}},
	{name: "Broker/ctx of Subscribe does not end the subscription", run: func(e *brokerEnv) {
		ctx, cancel := context.WithCancel(context.Background())
		topic := e.topic()
		var in inbox
		unsubscribe, err := e.peer.Subscribe(ctx, topic, payloadsOnly(in.add))
		require.NoError(e, err)
		e.Cleanup(unsubscribe)
		cancel()
		e.publish(topic, "later")
		e.until("a payload after the ctx given to Subscribe has ended", func() bool { return in.has("later") })
	}},
	{name: "Unsubscribe/ends its own subscription, also when called more than once", run: func(e *brokerEnv) {
		topic := e.topic()
		var ended, stays inbox
		unsubscribe := e.subscribe(topic, ended.add)
		e.subscribe(topic, stays.add)
		e.publish(topic, "one")
		e.until("the first payload", func() bool { return ended.has("one") && stays.has("one") })
		unsubscribe()
		unsubscribe()
		e.publish(topic, "two")
		e.until("the other subscription to go on", func() bool { return stays.has("two") })
		e.settle()
		require.False(e, ended.has("two"), "a payload published after unsubscribe returned")
	}},
	{name: "Unsubscribe/may be called from within deliver", run: func(e *brokerEnv) {
		topic := e.topic()
		var in inbox
		var unsubscribe func()
		ready, returned := make(chan struct{}), make(chan struct{})
		unsubscribe = e.subscribe(topic, func(payload []byte) {
			<-ready
			in.add(payload)
			if len(in.all()) == 1 {
				unsubscribe()
				close(returned)
			}
		})
		close(ready)
		for i := range 10 {
			e.publish(topic, fmt.Sprint("p", i))
		}
		e.until("unsubscribe to return within deliver", func() bool {
			select {
			case <-returned:
				return true
			default:
				return false
			}
		})
		e.settle()
		require.Len(e, in.all(), 1, "payloads after deliver had unsubscribed")
	}},
	{name: "Unsubscribe/does not wait for a running deliver", run: func(e *brokerEnv) {
		topic := e.topic()
		running, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		unsubscribe := e.subscribe(topic, func([]byte) {
			once.Do(func() { close(running) })
			<-release
		})
		e.publish(topic, "x")
		select {
		case <-running:
		case <-time.After(time.Minute):
			require.FailNow(e, "waited a minute for a payload")
		}
		returned := make(chan struct{})
		go func() {
			unsubscribe()
			close(returned)
		}()
		select {
		case <-returned:
			close(release)
		case <-time.After(5 * time.Second):
			close(release) // or else it could never end
			require.FailNow(e, "unsubscribe waits for deliver, which may wait for whoever unsubscribes")
		}
	}},
	// F30: the last action wins. Others lost the last subscription of join, leave, join.
	{name: "Unsubscribe/subscribing again at once works (F30)", run: func(e *brokerEnv) {
		topic := e.topic()
		for i := range 30 {
			var in inbox
			unsubscribe := e.subscribe(topic, in.add)
			unsubscribe()
			unsubscribe = e.subscribe(topic, in.add)
			payload := fmt.Sprint("p", i)
			e.publish(topic, payload)
			e.until("a payload after join, leave, join", func() bool { return in.has(payload) })
			unsubscribe()
		}
	}},
	{name: "Concurrency/Publish, Subscribe and unsubscribe at once", run: func(e *brokerEnv) {
		topics := []string{e.topic(), e.topic(), e.topic()}
		var stays inbox
		e.subscribe(topics[0], stays.add)
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for i := range 30 {
					topic := topics[(w+i)%len(topics)]
					unsubscribe, err := e.peer.Subscribe(context.Background(), topic, func(p []byte) { _ = bytes.Clone(p) })
					if err == nil {
						err = e.broker.Publish(context.Background(), topic, fmt.Appendf(nil, "%d-%d", w, i))
						unsubscribe()
					}
					if err != nil {
						e.Errorf("worker %d: %v", w, err)
					}
				}
			})
		}
		wg.Wait()
		e.publish(topics[0], "after all")
		e.until("a payload after all others have unsubscribed", func() bool { return stays.has("after all") })
	}},
}
