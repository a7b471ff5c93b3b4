package parley

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// scriptedConn is a net.Conn on which each write lasts until the test takes it.
type scriptedConn struct {
	net.Conn // nil: what is not overridden is not called

	writes chan []byte
	taken  chan struct{} // ends a write that was received
	over   chan struct{} // closed at the end of the test
	fail   error         // of the next writes

	mu     sync.Mutex
	closes int
}

func (s *scriptedConn) Write(p []byte) (n int, err error) {
	if s.fail != nil {
		return 0, s.fail
	}
	select {
	case s.writes <- p:
	case <-s.over:
		return 0, net.ErrClosed
	}
	select {
	case <-s.taken:
		return len(p), nil
	case <-s.over:
		return 0, net.ErrClosed
	}
}

func (s *scriptedConn) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closes++
	return nil
}

// take returns what is being written, and lets the writer go on to the next write.
func (s *scriptedConn) take() string {
	p := string(<-s.writes)
	s.taken <- struct{}{}
	synctest.Wait()
	return p
}

// idle asserts that nobody is writing.
func (s *scriptedConn) idle(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case p := <-s.writes:
		require.FailNow(t, "unexpected write", "%q", p)
	default:
	}
}

// box returns an outbox over a scriptedConn.
func box(t *testing.T, limit int) (*outbox, *scriptedConn, *counters) {
	stats := new(counters)
	conn := &scriptedConn{writes: make(chan []byte), taken: make(chan struct{}), over: make(chan struct{})}
	t.Cleanup(func() { close(conn.over) })
	o := new(outbox)
	o.init(conn, limit, false, stats)
	return o, conn, stats
}

// textFrame returns a frame of n bytes on the wire, 4 of which are the header.
func textFrame(fill byte, n int) *frame {
	f := newFrame(append(newBuffer(n), bytes.Repeat([]byte{fill}, n-4)...))
	if len(f.wire) != n {
		panic("textFrame: 130 to 65,539 bytes only")
	}
	return f
}

// begin pushes a frame and waits until it is being written.
func begin(t *testing.T, o *outbox, f *frame) {
	t.Helper()
	require.Equal(t, pushOK, o.push(nil, []*frame{f}))
	synctest.Wait()
}

func TestOutboxJoinsWhatCollectsDuringAWrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, conn, stats := box(t, 1<<20)
		frames := make([]*frame, 5)
		want := ""
		for i := range frames {
			frames[i] = newFrame(append(newBuffer(8), fmt.Sprintf("frame %d", i)...))
			if i > 0 {
				want += string(frames[i].wire)
			}
		}
		begin(t, o, frames[0])
		require.Equal(t, pushOK, o.push(nil, frames[1:3]))
		require.Equal(t, pushOK, o.push(nil, frames[3:4]))
		require.Equal(t, pushOK, o.push(nil, frames[4:]))
		require.Equal(t, string(frames[0].wire), conn.take(), "one write is not changed while it is under way")
		require.Equal(t, want, conn.take(), "all others in one write, in order")
		conn.idle(t)
		require.Zero(t, o.queued())
		require.EqualValues(t, 5, stats.writtenFrames.Load())
		require.EqualValues(t, 2, stats.writes.Load())
		require.EqualValues(t, len(want)+len(frames[0].wire), stats.writtenBytes.Load())

		begin(t, o, frames[0])
		require.Equal(t, string(frames[0].wire), conn.take(), "it starts again after it was idle")
		conn.idle(t)
	})
}

func TestOutboxWritesChunks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, conn, _ := box(t, 1<<20)
		first, half := textFrame('0', 200), writeChunk/2
		sizes := []int{
			half, half, // fit exactly
			half, half + 1, // do not
			writeChunk + 1,   // larger than a chunk: alone, without a copy
			200, 200, 50_000, // two small ones, then a large one
			200,
		}
		var frames []*frame
		for i, n := range sizes {
			frames = append(frames, textFrame('a'+byte(i), n))
		}
		begin(t, o, first)
		require.Equal(t, pushOK, o.push(nil, frames))
		conn.take()
		for _, want := range [][]*frame{
			frames[0:2], frames[2:3], frames[3:4], frames[4:5], frames[5:7], frames[7:8], frames[8:9],
		} {
			p := conn.take()
			for _, f := range want {
				require.LessOrEqual(t, len(f.wire), len(p))
				require.Equal(t, string(f.wire), p[:len(f.wire)])
				p = p[len(f.wire):]
			}
			require.Empty(t, p)
		}
		conn.idle(t)
		require.Zero(t, o.queued())
	})
}

// Frames are shared: what is written is the very memory of the frame.
func TestOutboxesShareFrames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, deflate := range []bool{false, true} {
			f := textFrame('x', 2000)
			for range 2 {
				o, conn, _ := box(t, 1<<20)
				o.deflate = deflate
				begin(t, o, f)
				p := <-conn.writes
				require.Same(t, &f.bytes(deflate)[0], &p[0])
			}
			require.Equal(t, 2, f.delivered)
		}
	})
}

func TestOutboxSkipsFramesForOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		plain, modern := &Conn{}, &Conn{v1: true}
		all, notPlain, v1Only := textFrame('a', 200), textFrame('b', 200), textFrame('c', 200)
		notPlain.skip, v1Only.v1Only = plain, true
		for _, c := range []*Conn{plain, modern} {
			o, conn, _ := box(t, 1<<20)
			begin(t, o, textFrame('0', 200))
			require.Equal(t, pushOK, o.push(c, []*frame{v1Only, notPlain, all}))
			conn.take()
			want := string(all.wire)
			if c.v1 {
				want = string(v1Only.wire) + string(notPlain.wire) + want
			}
			require.Equal(t, want, conn.take())
		}
		require.Equal(t, 2, all.delivered)
		require.Equal(t, 1, notPlain.delivered)
		require.Equal(t, 1, v1Only.delivered)
	})
}

// S23: memory is bounded, the sender learns it at once, and the close frame
// follows directly what is being written.
func TestOutboxOverflow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, conn, _ := box(t, 1000)
		begin(t, o, textFrame('0', 400))
		require.Equal(t, pushOK, o.push(nil, []*frame{textFrame('1', 300)}))
		require.Equal(t, pushOK, o.push(nil, []*frame{textFrame('2', 300)}))
		require.Equal(t, 1000, o.queued(), "what is being written counts, too")

		over := []*frame{textFrame('3', 200), textFrame('4', 200), textFrame('5', 200)}
		over[1].skip = &Conn{}
		require.Equal(t, pushFull, o.push(over[1].skip, over))
		require.Equal(t, 1000, o.queued())
		for i, dropped := range []int{1, 0, 1} {
			require.Equal(t, dropped, over[i].dropped, "frame %d", i)
			require.Zero(t, over[i].delivered)
		}
		require.Equal(t, pushClosed, o.push(nil, []*frame{textFrame('6', 200)}), "told once")

		last := closeFrame(CloseSlow, reasonSlow)
		o.finish(last, true)
		require.Equal(t, pushClosed, o.push(nil, []*frame{textFrame('7', 200)}))
		require.LessOrEqual(t, o.queued(), 400+len(last.wire), "the rest is given up at once")
		require.Equal(t, string(textFrame('0', 400).wire), conn.take())
		require.Equal(t, string(last.wire), conn.take())
		conn.idle(t)
		require.Zero(t, o.queued())
	})
}

// A batch that takes several writes is given up after the one under way.
func TestOutboxOverflowWithinABatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, conn, _ := box(t, 100_000)
		begin(t, o, textFrame('0', 200))
		for i := range 4 {
			require.Equal(t, pushOK, o.push(nil, []*frame{textFrame('a'+byte(i), 20_000)}))
		}
		conn.take()
		require.Equal(t, pushOK, o.push(nil, []*frame{textFrame('e', 10_000)})) // behind the batch
		require.Equal(t, pushFull, o.push(nil, []*frame{textFrame('f', 20_000)}))
		last := closeFrame(CloseSlow, reasonSlow)
		o.finish(last, true)
		require.Equal(t, string(textFrame('a', 20_000).wire), conn.take())
		require.Equal(t, string(last.wire), conn.take())
		conn.idle(t)
		require.Zero(t, o.queued())
	})
}

// A frame over the limit passes when nothing else waits: else a message that
// is allowed could never be sent.
func TestOutboxTakesOneLargeFrame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, conn, _ := box(t, 1000)
		begin(t, o, textFrame('0', 5000))
		require.Equal(t, pushFull, o.push(nil, []*frame{textFrame('1', 200)}))
		conn.take()
		require.Zero(t, o.queued())
	})
}

// All other closings write first what is queued.
func TestOutboxFinishWritesTheRestFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, conn, _ := box(t, 1<<20)
		a, b := textFrame('a', 200), textFrame('b', 20_000)
		begin(t, o, textFrame('0', 200))
		require.Equal(t, pushOK, o.push(nil, []*frame{a, b}))
		last := closeFrame(CloseShutdown, "")
		o.finish(last, false)
		o.finish(closeFrame(CloseSlow, ""), true) // comes too late
		require.Equal(t, pushClosed, o.push(nil, []*frame{a}))
		conn.take()
		require.Equal(t, string(a.wire), conn.take())
		require.Equal(t, string(b.wire)+string(last.wire), conn.take()+conn.take())
		conn.idle(t)
		require.Zero(t, o.queued())
	})
}

func TestOutboxWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, _, _ := box(t, 1<<20)
		o.wait() // nothing is queued
		require.Equal(t, pushClosed, o.push(nil, []*frame{textFrame('0', 200)}))

		o, conn, _ := box(t, 1<<20)
		begin(t, o, textFrame('0', 200))
		require.Equal(t, pushOK, o.push(nil, []*frame{textFrame('1', 200)}))
		var waiting sync.WaitGroup
		var mu sync.Mutex
		ended := 0
		for range 2 {
			waiting.Go(func() {
				o.wait()
				mu.Lock()
				defer mu.Unlock()
				ended++
			})
		}
		synctest.Wait()
		conn.take()
		mu.Lock()
		require.Zero(t, ended, "one frame is still to be written")
		mu.Unlock()
		require.Equal(t, pushClosed, o.push(nil, []*frame{textFrame('2', 200)}))
		conn.take()
		waiting.Wait()
	})
}

func TestOutboxWriteError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, conn, _ := box(t, 1<<20)
		begin(t, o, textFrame('0', 200))
		require.Equal(t, pushOK, o.push(nil, []*frame{textFrame('1', 200), textFrame('2', 20_000)}))
		conn.fail = errors.New("broken pipe") // seen after the take below
		conn.take()
		synctest.Wait()
		require.Equal(t, pushClosed, o.push(nil, []*frame{textFrame('3', 200)}))
		require.Zero(t, o.queued(), "what cannot be written is not kept")
		require.Equal(t, 1, conn.closes, "the reader has to learn it")
		o.finish(closeFrame(CloseNormal, ""), false)
		o.wait()
		_, draining := o.progress()
		require.False(t, draining)
	})
}
