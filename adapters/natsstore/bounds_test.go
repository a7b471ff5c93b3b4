package natsstore

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/natsstore/natstest"
)

// F21: a subscription that cannot keep up loses what waits, and is told, first of all.
func TestF21SlowDeliver(t *testing.T) {
	s := natstest.Start(t)
	b := dial(t, s.URL, Options{PendingMessages: 10})
	var r, other record
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	subscribe(t, b, "slow", func(p []byte) {
		once.Do(func() { close(entered) })
		<-release
		r.add(p)
	})
	subscribe(t, b, "quick", other.add)
	publish(t, b, "slow", "first")
	<-entered
	for i := range 15 {
		publish(t, b, "slow", fmt.Sprint(i))
	}
	publish(t, b, "quick", "x")
	until(t, "all to arrive", func() bool { return b.Stats().Received == 17 })
	close(release)
	until(t, "the rest", func() bool { return len(r.all()) == 7 })
	require.Equal(t, []string{"first", lost, "10", "11", "12", "13", "14"}, r.all())
	require.Zero(t, other.count(lost))
	require.EqualValues(t, 1, b.Stats().Overflows)
}

// F21: bytes count, too, but a single payload is always taken.
func TestF21SlowDeliverBytes(t *testing.T) {
	var got record
	s := &subscription{maxMessages: 100, maxBytes: 10, draining: true, deliver: got.add} // nobody drains
	require.False(t, s.add(make([]byte, 20)))
	require.True(t, s.add([]byte("12345")))
	require.False(t, s.add([]byte("67890")))
	require.True(t, s.add([]byte("x")))
	s.drain()
	require.Equal(t, []string{lost, "x"}, got.all())
	require.Zero(t, s.bytes)
}

// F21: NATS drops in silence when the process cannot keep up: the subscriptions that it concerns are told, no others.
func TestF21InboxOverflows(t *testing.T) {
	s := natstest.Start(t)
	b, err := newBroker(connect(t, s.URL), Options{Logger: quiet}, 4)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	from := dial(t, s.URL, Options{})
	var r, other record
	subscribe(t, b, "busy", r.add)
	subscribe(t, b, "other", other.add)
	publish(t, from, "busy", "first")
	until(t, "the first payload", func() bool { return r.count("first") == 1 })
	b.mu.Lock() // what receives stands still
	for i := range 20 {
		publish(t, from, "busy", fmt.Sprint(i))
	}
	require.NoError(t, b.conn.FlushTimeout(patience)) // all have come, and NATS has dropped what did not fit
	dropped, err := b.topics["parley.busy"].sub.Dropped()
	b.mu.Unlock()
	require.NoError(t, err)
	require.GreaterOrEqual(t, dropped, 15)
	until(t, "the loss to be told", func() bool { return r.count(lost) == 1 })
	publish(t, from, "busy", "last")
	until(t, "the last payload", func() bool { return r.count("last") == 1 })
	require.Equal(t, 1, r.count(lost))
	require.Empty(t, other.all())
}

// Publishers that wait for space get it, or leave with their ctx; what the queue holds is bounded.
func TestQueueIsBounded(t *testing.T) {
	o := &outgoing{connected: true, timeout: time.Hour}
	o.wake.L = &o.mu
	large := make([]byte, queueBytes/2)
	var queued []*publication
	add := func() <-chan struct{} {
		p := &publication{payload: large, done: make(chan error, 1)}
		full, err := o.add(p)
		require.NoError(t, err)
		if full == nil {
			queued = append(queued, p)
		}
		return full
	}
	require.Nil(t, add())
	require.Nil(t, add())
	full := add()
	require.NotNil(t, full)
	o.abandon(queued[0])
	b, ok := o.take()
	require.True(t, ok)
	require.Equal(t, queued[1:], b.publishes, "who has left is not sent")
	<-full
	o.finish(b, nil, func(string) error { return nil })
	require.NoError(t, <-queued[1].done)
	require.Nil(t, add())
	require.Nil(t, add())
	full = add()
	o.status(false)
	<-full
	require.ErrorIs(t, <-queued[3].done, errDisconnected)
	_, err := o.add(&publication{})
	require.ErrorIs(t, err, errDisconnected)
	require.Zero(t, o.bytes)
}

// While a batch has waited too long for the server, others do not begin to wait.
func TestSilenceIsToldAtOnce(t *testing.T) {
	o := &outgoing{connected: true, timeout: time.Minute, begun: time.Now()}
	o.wake.L = &o.mu
	_, err := o.add(&publication{})
	require.NoError(t, err)
	o.begun = time.Now().Add(-time.Hour)
	_, err = o.add(&publication{})
	require.ErrorIs(t, err, errSilent)
}

func TestSubjects(t *testing.T) {
	for topic, want := range map[string]string{
		"room/lobby": "p.room/lobby", "": "p.%", "%": "p.%25", "a.b*c>d e\n": "p.a%2Eb%2Ac%3Ed%20e%0A", "ü\xff": "p.%C3%BC%FF", "_-": "p._-",
	} {
		got, err := subject("p", topic)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	got, err := subject("p", strings.Repeat("\x00", maxTopic))
	require.NoError(t, err)
	require.Less(t, len(got), 1000)
	_, err = subject("p", strings.Repeat("x", maxTopic+1))
	require.ErrorContains(t, err, "at most 300")
}

func TestPuzzles(t *testing.T) {
	var z puzzles
	add := func(publisher, number uint64, index, count uint32, data string) (string, []string) {
		payload, lost := z.add("s", part{publisher, number, index, count}, []byte(data))
		return string(payload), lost
	}
	expect := func(want string, lost bool) func(string, []string) {
		return func(got string, told []string) {
			t.Helper()
			require.Equal(t, want, got)
			require.Equal(t, lost, len(told) > 0)
		}
	}
	expect("", false)(add(1, 1, 0, 3, "a"))
	expect("", false)(add(2, 1, 0, 2, "x")) // another publisher in between
	expect("", false)(add(1, 1, 1, 3, "b"))
	expect("xy", false)(add(2, 1, 1, 2, "y"))
	expect("abc", false)(add(1, 1, 2, 3, "c"))
	require.Empty(t, z.open)
	require.Zero(t, z.bytes)

	expect("", true)(add(1, 2, 1, 2, "b")) // the first part is missing
	expect("", false)(add(1, 3, 0, 3, "a"))
	expect("", true)(add(1, 3, 2, 3, "c")) // the second
	expect("", false)(add(1, 4, 0, 2, "a"))
	expect("", true)(add(1, 5, 0, 2, "a")) // the last, and the next payload is whole
	expect("ab", false)(add(1, 5, 1, 2, "b"))
	require.Empty(t, z.open)
	require.Zero(t, z.bytes)

	half := string(make([]byte, maxPayload/2))
	expect("", false)(add(1, 6, 0, 9, half)) // more than any payload has
	expect("", false)(add(1, 6, 1, 9, half))
	expect("", true)(add(1, 6, 2, 9, "x"))
	require.Zero(t, z.bytes)

	var told []string // publishers that die within a payload
	for p := range uint64(5) {
		_, lost := add(p, 1, 0, 2, half)
		told = append(told, lost...)
	}
	require.Len(t, slices.Compact(told), 1)
	require.Len(t, told, 5)
	require.Zero(t, z.bytes)
	require.Empty(t, z.open)
}
