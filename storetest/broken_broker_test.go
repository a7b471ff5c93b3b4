package storetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-go/parley"
)

// brokenBroker is a Broker with one flaw; see broken.
type brokenBroker struct {
	parley.Broker
	publish   func(b parley.Broker, ctx context.Context, topic string, payload []byte) error
	subscribe func(b parley.Broker, ctx context.Context, topic string, deliver func([]byte)) (func(), error)
}

func (b *brokenBroker) Publish(ctx context.Context, topic string, payload []byte) error {
	if b.publish != nil {
		return b.publish(b.Broker, ctx, topic, payload)
	}
	return b.Broker.Publish(ctx, topic, payload)
}

func (b *brokenBroker) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	if b.subscribe != nil {
		return b.subscribe(b.Broker, ctx, topic, deliver)
	}
	return b.Broker.Subscribe(ctx, topic, deliver)
}

type brokerFlaw struct {
	flaw, caughtBy string
	breakIt        func(b *brokenBroker)
}

// publishing breaks what is given to Publish.
func publishing(f func(topic string, payload []byte) (string, []byte)) func(b *brokenBroker) {
	return func(broken *brokenBroker) {
		broken.publish = func(b parley.Broker, ctx context.Context, topic string, payload []byte) error {
			topic, payload = f(topic, payload)
			return b.Publish(ctx, topic, payload)
		}
	}
}

var brokenBrokers = []brokerFlaw{
	{"hands everything to the newest subscription only", "Broker/hands a payload to every subscription of the topic", func(broken *brokenBroker) {
		ends := map[string]func(){}
		broken.subscribe = func(b parley.Broker, ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			if end := ends[topic]; end != nil {
				end()
			}
			end, err := b.Subscribe(ctx, topic, deliver)
			ends[topic] = end
			return end, err
		}
	}},
	{"subscribes a little later", "Broker/everything published after Subscribe has returned is underway (F27)", func(broken *brokenBroker) {
		broken.subscribe = func(b parley.Broker, ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			var ready atomic.Bool
			end, err := b.Subscribe(ctx, topic, func(p []byte) {
				if ready.Swap(true) {
					deliver(p)
				}
			})
			return end, err
		}
	}},
	{"ends payloads at a NUL", "Broker/payloads are opaque bytes and stay as they are", publishing(func(topic string, p []byte) (string, []byte) {
		for i := range p {
			if p[i] == 0 {
				return topic, p[:i]
			}
		}
		return topic, p
	})},
	{"takes payloads of up to 1 MiB", "Broker/payloads have up to some MiB", func(broken *brokenBroker) {
		broken.publish = func(b parley.Broker, ctx context.Context, topic string, payload []byte) error {
			if len(payload) > 1<<20 {
				return errors.New("maximum payload exceeded")
			}
			return b.Publish(ctx, topic, payload)
		}
	}},
	{"drops large payloads", "Broker/payloads have up to some MiB", func(broken *brokenBroker) {
		broken.publish = func(b parley.Broker, ctx context.Context, topic string, payload []byte) error {
			if len(payload) > 1<<20 {
				return nil
			}
			return b.Publish(ctx, topic, payload)
		}
	}},
	{"uses the memory of a payload again", "Broker/payloads are opaque bytes and stay as they are", func(broken *brokenBroker) {
		var mu sync.Mutex
		var delivered [][]byte
		broken.subscribe = func(b parley.Broker, ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			return b.Subscribe(ctx, topic, func(p []byte) {
				mu.Lock()
				delivered = append(delivered, p)
				mu.Unlock()
				deliver(p)
			})
		}
		// Done here, not in deliver, because this is where the subtest
		// does not read: else the race detector would be first to see it.
		broken.publish = func(b parley.Broker, ctx context.Context, topic string, payload []byte) error {
			mu.Lock()
			defer mu.Unlock()
			for _, p := range delivered {
				clear(p)
			}
			return b.Publish(ctx, topic, payload)
		}
	}},
	{"folds the case of topics", "Broker/topics are opaque and kept apart from each other (S38)", func(broken *brokenBroker) {
		publishing(func(topic string, p []byte) (string, []byte) { return fold(topic), p })(broken)
		broken.subscribe = func(b parley.Broker, ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			return b.Subscribe(ctx, fold(topic), deliver)
		}
	}},
	{"runs deliver in a goroutine each", "Broker/the calls for one subscription come one at a time", func(broken *brokenBroker) {
		broken.subscribe = func(b parley.Broker, ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			return b.Subscribe(ctx, topic, func(p []byte) { go deliver(p) })
		}
	}},
	{"ignores ctx", "Broker/honours ctx", func(broken *brokenBroker) {
		broken.subscribe = func(b parley.Broker, ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			return b.Subscribe(context.WithoutCancel(ctx), topic, deliver)
		}
	}},
	{"ends a subscription with the ctx of Subscribe", "Broker/ctx of Subscribe does not end the subscription", func(broken *brokenBroker) {
		broken.subscribe = func(b parley.Broker, ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			return b.Subscribe(ctx, topic, func(p []byte) {
				if ctx.Err() == nil {
					deliver(p)
				}
			})
		}
	}},
	{"does not unsubscribe", "Unsubscribe/ends its own subscription, also when called more than once", func(broken *brokenBroker) {
		broken.subscribe = func(b parley.Broker, ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			_, err := b.Subscribe(ctx, topic, deliver)
			return func() {}, err
		}
	}},
	{"goes on with what is queued after unsubscribe", "Unsubscribe/may be called from within deliver", func(broken *brokenBroker) {
		broken.subscribe = func(b parley.Broker, ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			end, err := b.Subscribe(ctx, topic, deliver)
			return func() { time.AfterFunc(time.Second, end) }, err
		}
	}},
	{"waits for deliver in unsubscribe", "Unsubscribe/does not wait for a running deliver", func(broken *brokenBroker) {
		broken.subscribe = func(b parley.Broker, ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			var running sync.WaitGroup
			end, err := b.Subscribe(ctx, topic, func(p []byte) {
				running.Add(1)
				defer running.Done()
				deliver(p)
			})
			return func() { end(); running.Wait() }, err
		}
	}},
	{"counts subscriptions by topic", "Unsubscribe/subscribing again at once works (F30)", func(broken *brokenBroker) {
		broken.subscribe = func(b parley.Broker, ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			end, err := b.Subscribe(ctx, topic, deliver)
			return func() {
				end()
				broken.publish = func(parley.Broker, context.Context, string, []byte) error { return nil }
			}, err
		}
	}},
}
