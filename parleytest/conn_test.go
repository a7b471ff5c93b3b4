package parleytest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"
)

// everywhere runs f in a bubble, where a call that waits for nothing is a
// deadlock that is found, and outside of one.
func everywhere(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Run("bubble", func(t *testing.T) { bubbletest.Test(t, f) })
	t.Run("outside", f)
}

// ends returns both ends of a new link, and closes them at the end.
func ends(t *testing.T, size int) (*Link, *Conn, *Conn) {
	t.Helper()
	l := NewLink(size)
	t.Cleanup(func() {
		_ = l.Client().Close()
		_ = l.Server().Close()
	})
	return l, l.Client(), l.Server()
}

func write(t *testing.T, c *Conn, text string) {
	t.Helper()
	n, err := c.Write([]byte(text))
	require.NoError(t, err)
	require.Equal(t, len(text), n)
}

// read reads exactly what must have come.
func read(t *testing.T, c *Conn, want string) {
	t.Helper()
	p := make([]byte, len(want))
	_, err := io.ReadFull(c, p)
	require.NoError(t, err)
	require.Equal(t, want, string(p))
}

// blocked asserts that nothing can be read right now. In a bubble only.
func blocked(t *testing.T, c *Conn) {
	t.Helper()
	synctest.Wait()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Millisecond)))
	n, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Zero(t, n)
	require.NoError(t, c.SetReadDeadline(time.Time{}))
}

func readError(c *Conn) error {
	_, err := c.Read(make([]byte, 1))
	return err
}

func writeError(c *Conn) error {
	_, err := c.Write([]byte("x"))
	return err
}

// Bytes come out as they went in, in both directions at once, in pieces of any size.
func TestConnCarriesBytes(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		for _, size := range []int{1, 7, 1000, 0} {
			_, client, server := ends(t, size)
			var all sync.WaitGroup
			for i, pair := range [][2]*Conn{{client, server}, {server, client}} {
				random := rand.New(rand.NewPCG(uint64(size), uint64(i)))
				sent := make([]byte, 20_000)
				for i := range sent {
					sent[i] = byte(random.Uint32())
				}
				all.Go(func() {
					for rest := sent; len(rest) > 0; {
						n := min(len(rest), 1+random.IntN(3000))
						if _, err := pair[0].Write(rest[:n]); err != nil {
							t.Error(err)
							break
						}
						rest = rest[n:]
					}
					if err := pair[0].CloseWrite(); err != nil {
						t.Error(err)
					}
				})
				all.Go(func() {
					got, err := io.ReadAll(pair[1])
					if err != nil || !bytes.Equal(got, sent) {
						t.Errorf("size %d: got %d of %d bytes, error %v", size, len(got), len(sent), err)
					}
				})
			}
			all.Wait()
		}
	})
}

// Concurrent Writes do not mix, even if each takes several turns.
func TestConcurrentWritesDoNotMix(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		const writers, each, record = 8, 20, 100
		_, client, server := ends(t, 33)
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for range each {
					if _, err := client.Write(bytes.Repeat([]byte{'a' + byte(w)}, record)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		var readers sync.WaitGroup
		readers.Go(func() {
			p := make([]byte, record)
			for range writers * each {
				if _, err := io.ReadFull(server, p); err != nil {
					t.Error(err)
					return
				}
				if !bytes.Equal(p, bytes.Repeat(p[:1], record)) {
					t.Errorf("mixed: %s", p)
				}
			}
		})
		all.Wait()
		readers.Wait()
	})
}

// Concurrent Reads share the bytes: each byte is read once.
func TestConcurrentReads(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		_, client, server := ends(t, 16)
		var mu sync.Mutex
		var counts [256]int
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				p := make([]byte, 3)
				for {
					n, err := server.Read(p)
					mu.Lock()
					for _, b := range p[:n] {
						counts[b]++
					}
					mu.Unlock()
					if err != nil {
						return
					}
				}
			})
		}
		for i := range 256 {
			_, err := client.Write([]byte{byte(i)})
			require.NoError(t, err)
		}
		require.NoError(t, client.Close())
		all.Wait()
		for b, n := range counts {
			require.Equal(t, 1, n, "byte %d", b)
		}
	})
}

func TestWriteBlocksWhenTheBufferIsFull(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		_, client, server := ends(t, 10)
		require.NoError(t, client.SetWriteDeadline(time.Now().Add(time.Second)))
		n, err := client.Write([]byte("0123456789abc"))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 10, n)
		require.NoError(t, client.SetWriteDeadline(time.Time{}))
		wrote := make(chan error)
		go func() {
			_, err := client.Write([]byte("abc"))
			wrote <- err
		}()
		read(t, server, "0123456789abc")
		require.NoError(t, <-wrote)
	})
}

func requireTimeout(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	var netErr net.Error
	require.ErrorAs(t, err, &netErr)
	require.True(t, netErr.Timeout())
	var opErr *net.OpError
	require.ErrorAs(t, err, &opErr)
}

// A deadline that has passed fails calls even if they need not wait, and a new one heals.
func TestDeadlineInThePast(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		_, client, server := ends(t, 0)
		write(t, client, "x")
		for _, past := range []time.Time{time.Now(), time.Unix(1, 0)} {
			require.NoError(t, server.SetDeadline(past))
			requireTimeout(t, readError(server))
			requireTimeout(t, writeError(server))
		}
		require.NoError(t, server.SetDeadline(time.Time{}))
		read(t, server, "x")
		write(t, server, "y")
		read(t, client, "y")
		// One direction at a time.
		require.NoError(t, client.SetReadDeadline(time.Unix(1, 0)))
		requireTimeout(t, readError(client))
		write(t, client, "z")
		require.NoError(t, client.SetReadDeadline(time.Time{}))
		require.NoError(t, client.SetWriteDeadline(time.Unix(1, 0)))
		requireTimeout(t, writeError(client))
		read(t, server, "z")
	})
}

// Waiting calls are woken at the deadline, exactly, which may be moved meanwhile.
func TestDeadlineWhileWaiting(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		_, client, _ := ends(t, 1)
		write(t, client, "x") // the buffer is full now
		for name, call := range map[string]struct {
			wait func(*Conn) error
			set  func(time.Time) error
		}{
			"read":          {readError, client.SetReadDeadline},
			"write":         {writeError, client.SetWriteDeadline},
			"read of both":  {readError, client.SetDeadline},
			"write of both": {writeError, client.SetDeadline},
		} {
			for _, later := range []time.Duration{0, time.Second, 5 * time.Second} {
				start := time.Now()
				require.NoError(t, call.set(start.Add(2*time.Second)))
				go func() {
					time.Sleep(time.Second)
					require.NoError(t, call.set(time.Now().Add(later)))
				}()
				requireTimeout(t, call.wait(client))
				require.Equal(t, time.Second+later, time.Since(start), name)
			}
			require.NoError(t, call.set(time.Time{}))
		}
	})
}

// A deadline that is taken away while a call waits does not end it.
func TestDeadlineTakenAway(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		_, client, server := ends(t, 0)
		require.NoError(t, client.SetReadDeadline(time.Now().Add(time.Second)))
		go func() {
			time.Sleep(time.Millisecond)
			require.NoError(t, client.SetReadDeadline(time.Time{}))
			time.Sleep(time.Hour)
			write(t, server, "late")
		}()
		read(t, client, "late")
	})
}

func TestDeadlineOutsideOfABubble(t *testing.T) {
	_, client, _ := ends(t, 0)
	require.NoError(t, client.SetReadDeadline(time.Now().Add(time.Millisecond)))
	requireTimeout(t, readError(client))
}

// Close wakes everything that waits on the same end, and later calls fail likewise.
func TestCloseWakes(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		_, client, server := ends(t, 1)
		write(t, client, "x") // the buffer is full now
		errs := make(chan error)
		for _, call := range []func(*Conn) error{readError, readError, writeError, writeError} {
			go func() { errs <- call(client) }()
		}
		if inBubble() {
			synctest.Wait()
		}
		require.NoError(t, client.Close())
		for range 4 {
			err := <-errs
			require.ErrorIs(t, err, net.ErrClosed)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		}
		require.ErrorIs(t, client.Close(), net.ErrClosed)
		require.ErrorIs(t, client.CloseWrite(), net.ErrClosed)
		require.ErrorIs(t, client.SetDeadline(time.Now()), net.ErrClosed)
		require.ErrorIs(t, readError(client), net.ErrClosed)
		require.ErrorIs(t, writeError(client), net.ErrClosed)
		read(t, server, "x")
		require.Equal(t, io.EOF, readError(server))
	})
}

// The end comes after the bytes before it, wakes a waiting Read, and writing to who is gone fails.
func TestPeerCloses(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		_, client, server := ends(t, 0)
		write(t, client, "last words")
		require.NoError(t, client.Close())
		read(t, server, "last words")
		require.Equal(t, io.EOF, readError(server))
		require.ErrorIs(t, writeError(server), syscall.EPIPE)
		require.ErrorIs(t, writeError(server), syscall.EPIPE)
		require.Equal(t, io.EOF, readError(server))

		_, client, server = ends(t, 0)
		done := make(chan error)
		go func() { done <- readError(server) }()
		if inBubble() {
			synctest.Wait()
		}
		require.NoError(t, client.CloseWrite())
		require.Equal(t, io.EOF, <-done)
	})
}

// A Write that waits for room fails when the peer goes.
func TestPeerClosesDuringWrite(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		_, client, server := ends(t, 4)
		done := make(chan error)
		go func() {
			_, err := client.Write([]byte("more than fits"))
			done <- err
		}()
		read(t, server, "m")
		require.NoError(t, server.Close())
		err := <-done
		require.True(t, errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE), "%v", err)
	})
}

func TestHalfClose(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		_, client, server := ends(t, 0)
		write(t, client, "request")
		require.NoError(t, client.CloseWrite())
		require.NoError(t, client.CloseWrite())
		require.ErrorIs(t, writeError(client), syscall.EPIPE)
		read(t, server, "request")
		require.Equal(t, io.EOF, readError(server))
		write(t, server, "response")
		require.NoError(t, server.Close())
		read(t, client, "response")
		require.Equal(t, io.EOF, readError(client))
	})
}

// As with TCP: who closes without having read everything resets the
// connection. What had arrived at the other end before can be read.
func TestCloseWithUnreadInput(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		_, client, server := ends(t, 0)
		write(t, client, "not read")
		write(t, server, "answer")
		require.NoError(t, server.Close())
		read(t, client, "answer")
		require.ErrorIs(t, readError(client), syscall.ECONNRESET)
		require.ErrorIs(t, writeError(client), syscall.ECONNRESET)
		require.ErrorIs(t, client.CloseWrite(), syscall.ENOTCONN)
	})
}

func TestZeroLengths(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		_, client, server := ends(t, 1)
		write(t, client, "x")
		for _, call := range []func([]byte) (int, error){client.Read, client.Write} {
			n, err := call(nil)
			require.NoError(t, err)
			require.Zero(t, n)
		}
		read(t, server, "x")
	})
}

func TestAddresses(t *testing.T) {
	n := NewNetwork()
	l := n.Listen()
	defer func() { _ = l.Close() }()
	a, b := dialled(t, n, l), dialled(t, n, l)
	require.Equal(t, "127.0.0.1:80", l.Addr().String())
	require.Equal(t, "127.0.0.1:80", a.Client().RemoteAddr().String())
	require.Equal(t, "127.0.0.1:80", a.Server().LocalAddr().String())
	require.Equal(t, a.Client().LocalAddr(), a.Server().RemoteAddr())
	require.NotEqual(t, a.Client().LocalAddr(), b.Client().LocalAddr())
	require.Equal(t, "tcp", a.Client().LocalAddr().Network())
	require.Same(t, a, a.Client().Link())
	require.Equal(t, []int{1, 2}, []int{a.Number(), b.Number()})
	require.EqualError(t, func() error { a.Cut(); return readError(a.Client()) }(),
		"read tcp 127.0.0.1:1025->127.0.0.1:80: read: connection reset by peer")
}
