package redisstore

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// soon is a deadline for what takes a moment, or, after a failure, some seconds. It is no assertion about speed.
const soon = 3 * time.Minute

// brokerOver returns a Store that is closed when the test ends, before its client is.
func brokerOver(t *testing.T, client redis.UniversalClient) *Store {
	s, err := New(client, Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// patient makes s trust servers that are slow to answer, for tests that count: on a busy machine one may be.
func patient(s *Store) *Store {
	s.broker.receiver.pace.ping = soon
	return s
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Since(start) > soon {
			require.FailNow(t, "waited "+soon.String()+" for "+what)
		}
	}
}

// sink is a subscriber.
type sink struct {
	mu     sync.Mutex
	got    map[string]int
	count  int
	losses int
}

func (k *sink) deliver(payload []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if payload == nil {
		k.losses++
		return
	}
	if k.got == nil {
		k.got = map[string]int{}
	}
	k.got[string(payload)]++
	k.count++
}

func (k *sink) has(payload string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.got[payload] > 0
}

func (k *sink) total() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.count
}

func (k *sink) lost() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.losses
}

// listen subscribes a new sink.
func listen(t *testing.T, s *Store, topic string) *sink {
	t.Helper()
	k := &sink{}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	unsubscribe, err := s.Subscribe(ctx, topic, k.deliver)
	require.NoError(t, err)
	t.Cleanup(unsubscribe)
	return k
}

// reaches publishes until a payload arrives, which it does at once when nothing is wrong.
func reaches(t *testing.T, from *Store, topic string, k *sink) {
	t.Helper()
	before := k.total()
	eventually(t, "a payload to arrive", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = from.Publish(ctx, topic, []byte("again")) // what fails does not arrive
		time.Sleep(time.Millisecond)
		return k.total() > before
	})
}

// stream publishes numbers, hardly with a pause, and finds out which of them were lost without deliver(nil).
type stream struct {
	t     *testing.T
	topic string
	from  *Store
	stop  chan struct{}
	done  chan struct{}

	started atomic.Uint64 // the newest number whose publishing has begun

	mu      sync.Mutex
	sent    []uint64 // published without an error
	got     map[uint64]bool
	covered uint64 // deliver(nil) came when this number had been started: nobody misses what is before
	losses  int
}

// startStream returns a stream from one Store to another one.
func startStream(t *testing.T, from, to *Store, topic string) *stream {
	t.Helper()
	s := &stream{t: t, topic: topic, from: from, stop: make(chan struct{}), done: make(chan struct{}), got: map[uint64]bool{}}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	unsubscribe, err := to.Subscribe(ctx, topic, s.deliver)
	require.NoError(t, err)
	t.Cleanup(unsubscribe)
	go s.publish()
	t.Cleanup(s.end)
	return s
}

func (s *stream) deliver(payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if payload == nil {
		s.losses++
		s.covered = s.started.Load()
		return
	}
	s.got[binary.BigEndian.Uint64(payload)] = true
}

func (s *stream) publish() {
	defer close(s.done)
	for {
		select {
		case <-s.stop:
			return
		default:
		}
		n := s.started.Add(1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := s.from.Publish(ctx, s.topic, binary.BigEndian.AppendUint64(nil, n))
		cancel()
		if err == nil {
			s.mu.Lock()
			s.sent = append(s.sent, n)
			s.mu.Unlock()
		}
		time.Sleep(200 * time.Microsecond) // no more than a receiver can take that has other things to do
	}
}

func (s *stream) lost() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.losses
}

// flows waits until what is published now arrives.
func (s *stream) flows() {
	s.t.Helper()
	from := s.started.Load()
	eventually(s.t, "payloads to flow", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for n := from + 1; n <= s.started.Load(); n++ {
			if s.got[n] {
				return true
			}
		}
		return false
	})
}

func (s *stream) end() {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	<-s.done
}

// check ends the stream. Whatever was published must have arrived, or else deliver(nil) must have come afterwards.
func (s *stream) check() {
	s.t.Helper()
	s.end()
	missing := func() (list []uint64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, n := range s.sent {
			if !s.got[n] && n > s.covered {
				list = append(list, n)
			}
		}
		return list
	}
	for start := time.Now(); len(missing()) > 0 && time.Since(start) < soon; {
		time.Sleep(5 * time.Millisecond)
	}
	require.Empty(s.t, missing(), "payloads were lost, and nobody was told")
}

// interrupt ends all connections that receive, as seen by the server, and waits until they are gone.
func interrupt(t *testing.T, client *redis.Client) {
	ctx := context.Background()
	eventually(t, "a connection to end", func() bool { return client.ClientKillByFilter(ctx, "type", "pubsub").Val() > 0 })
}
