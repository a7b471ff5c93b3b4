package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/natsstore/natstest"
)

// each runs f b.N times, n at once, which worker does which is fixed.
func each(b *testing.B, n int, f func(worker, i int)) {
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range n {
		wg.Go(func() {
			for i := w; i < b.N; i += n {
				f(w, i)
			}
		})
	}
	wg.Wait()
}

// What it costs that Publish waits until the server confirms.
func BenchmarkPublish(b *testing.B) {
	s := natstest.Start(b)
	payload := make([]byte, 300)
	for _, n := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("confirmed/%d at once", n), func(b *testing.B) {
			broker := dial(b, s.URL, Options{})
			each(b, n, func(w, _ int) {
				if err := broker.Publish(b.Context(), fmt.Sprint("room/", w), payload); err != nil {
					b.Error(err)
				}
			})
		})
		b.Run(fmt.Sprintf("buffered only/%d at once", n), func(b *testing.B) {
			conn := connect(b, s.URL)
			each(b, n, func(w, _ int) {
				if err := conn.Publish(fmt.Sprint("parley.room/", w), payload); err != nil {
					b.Error(err)
				}
			})
			require.NoError(b, conn.Flush())
		})
	}
}

// How to subscribe to 10,000 topics: all into one channel, or each with a goroutine of nats.go.
func BenchmarkSubscriptions(b *testing.B) {
	s := natstest.Start(b)
	const n = 10_000
	for _, way := range []string{"channel", "callback"} {
		b.Run(way, func(b *testing.B) {
			for range b.N {
				conn, in := connect(b, s.URL), make(chan *nats.Msg, inbox)
				before, goroutines := heap(), runtime.NumGoroutine()
				for i := range n {
					var err error
					if subject := fmt.Sprint("parley.room/", i); way == "channel" {
						_, err = conn.ChanSubscribe(subject, in)
					} else {
						_, err = conn.Subscribe(subject, func(m *nats.Msg) { in <- m })
					}
					require.NoError(b, err)
				}
				require.NoError(b, conn.Flush())
				b.ReportMetric(float64(heap()-before)/n, "B/subscription")
				b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/n, "goroutines/subscription")
				conn.Close()
			}
		})
	}
}

// The rest is the prototype of decision 0010: what JetStream costs for what a Store must keep.

func stream(b *testing.B, storage jetstream.StorageType) (jetstream.JetStream, jetstream.Stream) {
	s := natstest.Start(b, natstest.JetStream(b))
	js, err := jetstream.New(connect(b, s.URL))
	require.NoError(b, err)
	st, err := js.CreateStream(b.Context(), jetstream.StreamConfig{
		Name: "LOG", Subjects: []string{"log.*"}, Storage: storage, AllowDirect: true, MaxMsgsPerSubject: 100,
	})
	require.NoError(b, err)
	return js, st
}

var storages = map[string]jetstream.StorageType{"file": jetstream.FileStorage, "memory": jetstream.MemoryStorage}

// A topic is a subject, an Append one message that must follow the newest one of its subject.
func BenchmarkJetStreamAppend(b *testing.B) {
	for name, storage := range storages {
		for _, writers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d topics at once", name, writers), func(b *testing.B) {
				js, _ := stream(b, storage)
				last, payload := make([]uint64, writers), make([]byte, 300)
				each(b, writers, func(w, _ int) {
					ack, err := js.Publish(b.Context(), fmt.Sprint("log.", w), payload, jetstream.WithExpectLastSequencePerSubject(last[w]))
					if err != nil {
						b.Error(err)
						return
					}
					last[w] = ack.Sequence
				})
			})
		}
	}
}

// Several nodes append to one topic: who is late reads what the newest is, and tries again.
func BenchmarkJetStreamAppendContended(b *testing.B) {
	for _, nodes := range []int{2, 8} {
		b.Run(fmt.Sprint(nodes, " nodes"), func(b *testing.B) {
			js, st := stream(b, jetstream.MemoryStorage)
			var attempts atomic.Int64
			last, payload := make([]uint64, nodes), make([]byte, 300)
			each(b, nodes, func(w, _ int) {
				for {
					attempts.Add(1)
					ack, err := js.Publish(b.Context(), "log.one", payload, jetstream.WithExpectLastSequencePerSubject(last[w]))
					if err == nil {
						last[w] = ack.Sequence
						return
					}
					var refused *jetstream.APIError
					if !errors.As(err, &refused) {
						b.Error(err)
						return
					}
					m, err := st.GetLastMsgForSubject(b.Context(), "log.one")
					if err != nil {
						b.Error(err)
						return
					}
					last[w] = m.Sequence
				}
			})
			b.ReportMetric(float64(attempts.Load())/float64(b.N), "attempts/append")
		})
	}
}

// Heads of 512 topics: the newest message of each, in one request.
func BenchmarkJetStreamHeads(b *testing.B) {
	js, _ := stream(b, jetstream.FileStorage)
	var request struct {
		Last []string `json:"multi_last"`
	}
	for i := range 512 {
		subject := fmt.Sprint("log.", i)
		request.Last = append(request.Last, subject)
		for range 10 {
			_, err := js.Publish(b.Context(), subject, make([]byte, 300))
			require.NoError(b, err)
		}
	}
	body, err := json.Marshal(request)
	require.NoError(b, err)
	conn := js.Conn()
	for b.Loop() {
		inbox := conn.NewInbox()
		sub, err := conn.SubscribeSync(inbox)
		require.NoError(b, err)
		require.NoError(b, conn.PublishRequest("$JS.API.DIRECT.GET.LOG", inbox, body))
		for n := 0; ; n++ {
			m, err := sub.NextMsgWithContext(b.Context())
			require.NoError(b, err)
			if len(m.Data) == 0 {
				require.Equal(b, 512, n)
				break
			}
		}
		require.NoError(b, sub.Unsubscribe())
	}
}

// A page of 1000 users of an audience, as keys of a bucket: they come in the order in which they were added, so a page
// in the order of the ids needs all of them.
func BenchmarkJetStreamAudiencePage(b *testing.B) {
	for _, users := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(users, " users"), func(b *testing.B) {
			s := natstest.Start(b, natstest.JetStream(b))
			conn := connect(b, s.URL)
			js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(1000))
			require.NoError(b, err)
			before := heap()
			kv, err := js.CreateKeyValue(b.Context(), jetstream.KeyValueConfig{Bucket: "A", Storage: jetstream.MemoryStorage})
			require.NoError(b, err)
			for i := range users {
				_, err := js.PublishAsync(fmt.Sprintf("$KV.A.news.user-%08d", i*7919%users), []byte("1"))
				require.NoError(b, err)
			}
			<-js.PublishAsyncComplete()
			size := heap() - before
			for b.Loop() {
				page, err := firstKeys(b.Context(), kv, 1000)
				require.NoError(b, err)
				require.Len(b, page, 1000)
				require.True(b, strings.HasSuffix(page[999], "00000999"), page[999])
			}
			b.ReportMetric(float64(size)/float64(users), "B/user")
		})
	}
}

func firstKeys(ctx context.Context, kv jetstream.KeyValue, limit int) ([]string, error) {
	lister, err := kv.ListKeysFiltered(ctx, "news.*")
	if err != nil {
		return nil, err
	}
	var keys []string
	for key := range lister.Keys() {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys[:min(limit, len(keys))], nil
}
