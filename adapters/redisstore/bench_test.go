package redisstore_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

var benchKeep = parley.Retention{Messages: 1000, Bytes: 1 << 20, Age: time.Hour}

var benchData = []byte(`{"id":"01JD3M8Q7W","from":"user-42","text":"hello, this is a message of about a hundred bytes in a room"}`)

// BenchmarkAppend measures Append and AppendPublish with one caller, and with a thousand.
func BenchmarkAppend(b *testing.B) {
	server := redistest.Start(b)
	s, client := newStore(b, server.Client()), server.Client()
	appends := map[string]func(topic string) error{
		"append": func(topic string) error {
			_, err := s.Append(context.Background(), topic, benchKeep, []parley.Entry{{Time: 1, Data: benchData}})
			return err
		},
		"publish": func(topic string) error {
			_, err := s.AppendPublish(context.Background(), topic, benchKeep, []parley.Entry{{Time: 1, Data: benchData}}, benchData)
			return err
		},
	}
	for _, n := range []struct{ callers, topics int }{{1, 1}, {1000, 1}, {1000, 100}, {1000, 1000}} {
		for name, f := range appends {
			b.Run(fmt.Sprintf("%s/callers=%d/topics=%d", name, n.callers, n.topics), func(b *testing.B) {
				benchCallers(b, client, n.callers, func(i int) error { return f(fmt.Sprint("room/", name, n.callers, "-", i%n.topics)) })
			})
		}
	}
}

// serverTime reports how much time of its one core the server takes for each call: that bounds what it can do.
func serverTime(b *testing.B, client *redis.Client) (report func()) {
	used := func() (total float64) {
		info, err := client.Info(context.Background(), "cpu").Result()
		require.NoError(b, err)
		for line := range strings.Lines(info) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if name == "used_cpu_user" || name == "used_cpu_sys" {
				seconds, err := strconv.ParseFloat(value, 64)
				require.NoError(b, err)
				total += seconds
			}
		}
		return total
	}
	before := used()
	return func() { b.ReportMetric((used()-before)*1e6/float64(b.N), "server-µs/op") }
}

// benchCallers calls f b.N times in all, from several goroutines.
func benchCallers(b *testing.B, client *redis.Client, callers int, f func(i int) error) {
	defer serverTime(b, client)()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := f(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// BenchmarkHeads measures what each hub does every few seconds.
func BenchmarkHeads(b *testing.B) {
	server := redistest.Start(b)
	s, client := newStore(b, server.Client()), server.Client()
	topics := benchTopics(b, s, 512)
	defer serverTime(b, client)()
	for b.Loop() {
		_, err := s.Heads(context.Background(), topics)
		require.NoError(b, err)
	}
}

// BenchmarkRead measures what a client costs that joins.
func BenchmarkRead(b *testing.B) {
	server := redistest.Start(b)
	s, client := newStore(b, server.Client()), server.Client()
	topics := benchTopics(b, s, 100)
	for _, callers := range []int{1, 1000} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			benchCallers(b, client, callers, func(i int) error {
				_, err := s.Read(context.Background(), topics[i%100], parley.Query{Limit: 20})
				return err
			})
		})
	}
}

func benchTopics(b *testing.B, s *redisstore.Store, n int) []string {
	topics := make([]string, n)
	for i := range topics {
		topics[i] = fmt.Sprint("room/", i)
		entries := make([]parley.Entry, 20)
		for j := range entries {
			entries[j] = parley.Entry{Time: int64(j), Data: benchData, Unread: i%2 == 0}
		}
		_, err := s.Append(context.Background(), topics[i], benchKeep, entries)
		require.NoError(b, err)
	}
	return topics
}
