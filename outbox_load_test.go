package parley

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// signalFrame returns a signal of n bytes on the wire.
func signalFrame(key string, fill byte, n int) *frame {
	f := textFrame(fill, n)
	f.key = key
	return f
}

// P5.2: a slow receiver gets the newest signal per key, and what lags further
// behind skips signals before it loses a message.
func TestOutboxSignalsUnderBacklog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, conn, stats := box(t, 4000)
		begin(t, o, textFrame('0', 200))
		push := func(f *frame) *frame {
			t.Helper()
			require.Equal(t, pushOK, o.push(nil, []*frame{f}))
			return f
		}
		// Below a quarter of the limit nothing is replaced: it would not help.
		early := push(signalFrame("a", '1', 200))
		push(signalFrame("a", '2', 200))
		push(textFrame('3', 500))
		require.Equal(t, 1100, o.queued())

		// Above it, newer ones take the place of older ones. A new key waits.
		push(signalFrame("a", '4', 300))
		require.Equal(t, 1200, o.queued())
		push(signalFrame("b", '5', 600))
		require.EqualValues(t, 1, stats.signalsReplaced.Load())
		require.Equal(t, 1800, o.queued())

		// Above a half new keys are dropped, but still replaced, with a smaller one, too.
		dropped := push(signalFrame("c", '6', 201))
		require.Equal(t, 1, dropped.dropped)
		require.Zero(t, dropped.delivered)
		push(signalFrame("c", '7', 200))
		require.Equal(t, 2000, o.queued())
		push(signalFrame("b", '8', 150))
		require.Equal(t, 1550, o.queued())
		require.EqualValues(t, 2, stats.signalsReplaced.Load())
		require.EqualValues(t, 1, stats.signalsDropped.Load())

		// Messages are never dropped for signals.
		push(textFrame('9', 2000))
		require.Equal(t, 1, early.delivered)

		conn.take()
		var got strings.Builder
		for p := []byte(conn.take()); len(p) > 0; {
			var payload []byte
			_, payload, p = cutFrame(p)
			got.WriteByte(payload[0])
		}
		require.Equal(t, "143879", got.String(), "the newest of each key comes last")
		require.Zero(t, o.queued())
	})
}

// The queue of an idle connection gives its memory back after a burst.
func TestOutboxFreesItsQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, conn, _ := box(t, 1<<20)
		begin(t, o, textFrame('0', 200))
		for range 10 * keepQueue {
			require.Equal(t, pushOK, o.push(nil, []*frame{textFrame('1', 130)}))
		}
		conn.take()
		for range 10 * keepQueue * 130 / writeChunk {
			conn.take()
		}
		conn.take()
		conn.idle(t)
		o.mu.Lock()
		defer o.mu.Unlock()
		require.LessOrEqual(t, cap(o.queue)+cap(o.spare), 2*keepQueue)
		for _, f := range append(o.queue[:cap(o.queue)], o.spare[:cap(o.spare)]...) {
			require.Nil(t, f, "frames that were written must be garbage")
		}
	})
}

// Any number of goroutines push, close and wait at the same time (F42): the
// stream has whole frames, in order for each pusher, the close frame last.
func TestOutboxConcurrently(t *testing.T) {
	const pushers, each = 8, 500
	for round := range 20 {
		server, client := net.Pipe()
		o := new(outbox)
		o.init(server, 1<<30, false, new(counters))
		stream := make(chan []byte)
		go func() {
			p, _ := io.ReadAll(client)
			stream <- p
		}()
		var wg sync.WaitGroup
		for pusher := range pushers {
			wg.Go(func() {
				for i := range each {
					f := newFrame(append(newBuffer(16), fmt.Sprintf("%d %d", pusher, i)...))
					if o.push(nil, []*frame{f}) != pushOK {
						return
					}
				}
			})
		}
		if round%2 == 0 {
			wg.Wait() // in every other round the close frame comes in between
		}
		for range 3 {
			wg.Go(func() {
				o.finish(closeFrame(CloseNormal, ""), false)
				o.wait()
				require.NoError(t, server.Close())
			})
		}
		wg.Wait()
		next := make([]int, pushers)
		closed := false
		for p := <-stream; len(p) > 0; {
			var op byte
			var payload []byte
			op, payload, p = cutFrame(p)
			require.False(t, closed, "frame after the close frame")
			if op == opClose {
				closed = true
				continue
			}
			var pusher, i int
			_, err := fmt.Sscanf(string(payload), "%d %d", &pusher, &i)
			require.NoError(t, err)
			require.Equal(t, next[pusher], i)
			next[pusher]++
		}
		require.True(t, closed)
		if round%2 == 0 {
			for _, n := range next {
				require.Equal(t, each, n)
			}
		}
	}
}

// nowhere is a socket that takes everything and keeps nothing.
type nowhere struct{ net.Conn }

func (nowhere) Write(p []byte) (int, error)       { return len(p), nil }
func (nowhere) Close() error                      { return nil }
func (nowhere) SetDeadline(time.Time) error       { return nil }
func (nowhere) SetReadDeadline(t time.Time) error { return nil }

// crowd fills a roster with members whose sockets lead nowhere, and returns
// a function that waits until everything is written.
func crowd(r *roster, members int) (settle func()) {
	conns := make([]direct, members)
	for i := range conns {
		c := &Conn{hub: &Hub{opts: Options{QueueSize: 1 << 20}}}
		c.out.init(nowhere{}, 1<<20, false, new(counters))
		conns[i].Conn = c
		r.add(&sub{conn: c})
	}
	return func() {
		for _, d := range conns {
			d.settle()
		}
	}
}

// A delivery allocates nothing: neither a buffer nor a goroutine's closure.
func TestFanOutDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("SKIPPED with -race, which allocates: run without it")
	}
	const members = 1000
	var r roster
	settle := crowd(&r, members)
	frames := []*frame{textFrame('x', 200)}
	batch := []*frame{frames[0], textFrame('y', 200), textFrame('z', 300)}
	for _, frames := range [][]*frame{frames, batch} {
		deliver := func() {
			r.fanOut(frames)
			settle()
		}
		deliver()
		allocs := testing.AllocsPerRun(20, deliver)
		require.Less(t, allocs, float64(members)/100, "allocations for %d deliveries", members*len(frames))
	}
}
