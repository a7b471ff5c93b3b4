package parleytest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"
)

func TestCut(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		l, client, server := ends(t, 4)
		write(t, client, "lost")
		write(t, server, "too")
		for range 2 {
			l.Cut()
			for _, c := range []*Conn{client, server} {
				require.ErrorIs(t, readError(c), syscall.ECONNRESET)
				require.ErrorIs(t, writeError(c), syscall.ECONNRESET)
			}
		}
		require.False(t, l.Alive())
		require.NoError(t, client.Close())
	})
}

// Whoever waits is woken by a cut.
func TestCutWakes(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		l, client, server := ends(t, 1)
		write(t, client, "x")
		write(t, server, "x")
		errs := make(chan error)
		for _, c := range []*Conn{client, server} {
			go func() { errs <- writeError(c) }()
		}
		if inBubble() {
			synctest.Wait()
		}
		l.Cut()
		for range 2 {
			require.ErrorIs(t, <-errs, syscall.ECONNRESET)
		}
		// It comes before an end that had arrived, and after the own Close.
		l, client, server = ends(t, 0)
		require.NoError(t, client.Close())
		l.Cut()
		require.ErrorIs(t, readError(server), syscall.ECONNRESET)
		require.ErrorIs(t, readError(client), net.ErrClosed)
	})
}

// The connection dies after exactly n bytes, wherever Writes begin and end.
func TestCutAfter(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		const text = "a frame and another frame"
		for n := range len(text) + 1 {
			for _, piece := range []int{1, 3, len(text)} {
				l, client, server := ends(t, 0)
				write(t, client, "before") // counts only what comes later
				write(t, server, "lost")
				l.CutAfter(int64(n), ToServer)
				var err error
				for at := 0; at < len(text) && err == nil; at += piece {
					_, err = client.Write([]byte(text[at:min(at+piece, len(text))]))
				}
				if n < len(text) {
					require.ErrorIs(t, err, syscall.ECONNRESET)
				}
				require.ErrorIs(t, writeError(client), syscall.ECONNRESET)
				require.ErrorIs(t, readError(client), syscall.ECONNRESET)
				require.ErrorIs(t, writeError(server), syscall.ECONNRESET)
				read(t, server, "before"+text[:n])
				require.ErrorIs(t, readError(server), syscall.ECONNRESET)
			}
		}
	})
}

func TestCutAfterNothing(t *testing.T) {
	l, client, server := ends(t, 0)
	write(t, client, "before")
	l.CutAfter(0, ToServer)
	require.False(t, l.Alive())
	read(t, server, "before")
	require.ErrorIs(t, readError(client), syscall.ECONNRESET)
}

func TestCutAfterCalledOff(t *testing.T) {
	_, client, server := ends(t, 0)
	client.Link().CutAfter(3, ToClient)
	write(t, client, "the other direction")
	write(t, server, "ab")
	client.Link().CutAfter(-1, ToClient)
	write(t, server, "cd")
	read(t, client, "abcd")
}

// Nothing arrives while stalled, the end neither; then everything does, in order.
func TestStall(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		l, client, server := ends(t, 10)
		write(t, client, "was there")
		l.Stall(ToServer)
		read(t, server, "was there")
		write(t, server, "other way")
		read(t, client, "other way")
		write(t, client, "01234")
		blocked(t, server)
		// The buffer takes five more.
		require.NoError(t, client.SetWriteDeadline(time.Now().Add(time.Hour)))
		n, err := client.Write([]byte("56789abc"))
		requireTimeout(t, err)
		require.Equal(t, 5, n)
		require.NoError(t, client.SetWriteDeadline(time.Time{}))
		require.NoError(t, client.Close())
		blocked(t, server)
		l.Resume(ToServer)
		read(t, server, "0123456789")
		require.Equal(t, io.EOF, readError(server))
	})
}

func TestStallBothAndResumeOne(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		l, client, server := ends(t, 0)
		l.Stall()
		write(t, client, "up")
		write(t, server, "down")
		blocked(t, client)
		l.Resume(ToClient)
		read(t, client, "down")
		blocked(t, server)
		l.Resume()
		read(t, server, "up")
	})
}

// Somebody who writes to a peer that closed behind a stall learns of it
// when the answer comes through.
func TestStallHidesAClose(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		l, client, server := ends(t, 0)
		l.Stall(ToClient)
		require.NoError(t, server.Close())
		write(t, client, "hello?")
		blocked(t, client)
		l.Resume()
		require.ErrorIs(t, readError(client), syscall.ECONNRESET)
		require.ErrorIs(t, writeError(client), syscall.ECONNRESET)

		// What was stalled on its way to somebody who closes meanwhile resets the connection.
		l, client, server = ends(t, 0)
		l.Stall(ToServer)
		write(t, client, "hello?")
		require.NoError(t, server.Close())
		require.Equal(t, io.EOF, readError(client))
		l.Resume()
		require.ErrorIs(t, writeError(client), syscall.EPIPE)

		// A machine whose process has ended still takes what comes.
		l, client, server = ends(t, 2)
		write(t, client, "ab")
		l.Stall(ToClient)
		require.NoError(t, server.Close())
		write(t, client, "cdef")
	})
}

// Cutting a stalled link loses what had not arrived.
func TestCutWhileStalled(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		l, client, server := ends(t, 0)
		l.Stall()
		write(t, client, "lost")
		l.Cut()
		l.Resume()
		require.ErrorIs(t, readError(server), syscall.ECONNRESET)
	})
}

func TestSlow(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		for _, rate := range []int{1, 10, 99, 1000, 12345} {
			l, client, server := ends(t, 0)
			l.Slow(rate, ToServer)
			text := strings.Repeat("0123456789", rate/2+1)
			start := time.Now()
			write(t, client, text)
			require.NoError(t, client.Close()) // comes after it
			half := make([]byte, len(text)/2)
			_, err := io.ReadFull(server, half)
			require.NoError(t, err)
			ideal := time.Duration(len(half)) * time.Second / time.Duration(rate)
			require.InDelta(t, ideal.Seconds(), time.Since(start).Seconds(), max(0.05, 1.1/float64(rate)))
			rest, err := io.ReadAll(server)
			require.NoError(t, err)
			require.Equal(t, text, string(half)+string(rest))
			ideal = time.Duration(len(text)) * time.Second / time.Duration(rate)
			require.InDelta(t, ideal.Seconds(), time.Since(start).Seconds(), max(0.05, 1.1/float64(rate)))
		}
	})
}

// The rate can be changed while bytes are under way, and a full buffer slows the writer down.
func TestSlowChanged(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		l, client, server := ends(t, 100)
		l.Slow(10)
		start := time.Now()
		var rest time.Duration
		go func() {
			_, err := client.Write(make([]byte, 200))
			require.NoError(t, err)
			rest = time.Since(start)
			l.Slow(0)
			require.NoError(t, client.Close())
		}()
		got, err := io.ReadAll(server)
		require.NoError(t, err)
		require.Len(t, got, 200)
		require.InDelta(t, 10, rest.Seconds(), 0.2) // a hundred had to go before
		require.Equal(t, rest, time.Since(start))
	})
}

func TestSlowAndCutAfter(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		l, client, server := ends(t, 0)
		l.Slow(10)
		l.CutAfter(20, ToServer)
		start := time.Now()
		write(t, client, strings.Repeat("x", 100)) // says nothing about what arrives
		got, err := io.ReadAll(server)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.Len(t, got, 20)
		require.InDelta(t, 2, time.Since(start).Seconds(), 0.2)
	})
}

func TestLatency(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		l, client, server := ends(t, 0)
		l.Latency(time.Second, 0, ToServer)
		start := time.Now()
		write(t, client, "one")
		time.Sleep(100 * time.Millisecond)
		l.Latency(0, 0, ToServer)
		write(t, client, "two") // does not overtake
		read(t, server, "onetwo")
		require.Equal(t, time.Second, time.Since(start))
		write(t, server, "back")
		read(t, client, "back")
		require.Equal(t, time.Second, time.Since(start))

		l.Latency(time.Hour, 0)
		write(t, client, "x")
		l.Resume()
		read(t, server, "x")
		require.Equal(t, time.Second, time.Since(start))
	})
}

// Jitter is the same for the same seed, stays in its bounds, and keeps the order.
func TestJitter(t *testing.T) {
	arrivals := func(seed uint64) (all []time.Duration) {
		bubbletest.Test(t, func(t *testing.T) {
			l := newLink(1, 0, seed, localhost)
			l.Latency(time.Second, time.Second)
			start := time.Now()
			for i := range 20 {
				write(t, l.Client(), string(rune('a'+i)))
			}
			for i := range 20 {
				read(t, l.Server(), string(rune('a'+i)))
				all = append(all, time.Since(start))
			}
		})
		return all
	}
	first := arrivals(1)
	require.Equal(t, first, arrivals(1))
	require.NotEqual(t, first, arrivals(2))
	require.GreaterOrEqual(t, first[0], time.Second)
	require.Less(t, first[19], 2*time.Second)
}

// F2: writes into a black hole succeed for ever, and nobody hears of the end.
func TestBlackHole(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		l, client, server := ends(t, 10)
		write(t, client, "arrived")
		l.Stall()
		write(t, client, "and")
		l.BlackHole()
		l.Resume()
		for range 100 {
			write(t, client, "into the void")
			write(t, server, "into the void")
		}
		read(t, server, "arrived")
		blocked(t, server)
		require.NoError(t, client.Close())
		blocked(t, server)
		require.True(t, l.Alive())
		require.NoError(t, server.Close())
		require.False(t, l.Alive())
	})
}

func TestBlackHoleOneWay(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		l, client, server := ends(t, 10)
		l.BlackHole(ToServer)
		write(t, client, "not this one, and it is longer than the buffer")
		write(t, server, "this one")
		read(t, client, "this one")
		blocked(t, server)
		l.Cut()
		require.ErrorIs(t, readError(server), syscall.ECONNRESET)
	})
}

// A Write that waits for room is freed by a black hole.
func TestBlackHoleFreesWrites(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		l, client, server := ends(t, 2)
		done := make(chan struct{})
		go func() {
			write(t, client, "abcdef")
			close(done)
		}()
		synctest.Wait()
		l.BlackHole()
		<-done
		read(t, server, "ab")
		blocked(t, server)
	})
}

// F1, F3: one end is gone and the other does not notice.
func TestVanish(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		for _, vanish := range []func(*Link) (gone, left *Conn){
			func(l *Link) (gone, left *Conn) { l.VanishClient(); return l.Client(), l.Server() },
			func(l *Link) (gone, left *Conn) { l.VanishServer(); return l.Server(), l.Client() },
		} {
			l, client, server := ends(t, 10)
			write(t, client, "arrived")
			write(t, server, "arrived")
			gone, left := vanish(l)
			require.ErrorIs(t, readError(gone), syscall.ECONNRESET)
			require.ErrorIs(t, writeError(gone), syscall.ECONNRESET)
			require.NoError(t, gone.Close())
			read(t, left, "arrived")
			blocked(t, left)
			write(t, left, "longer than the buffer is")
			require.True(t, l.Alive())
			require.NoError(t, left.Close())
			require.False(t, l.Alive())
		}
	})
}

// Whatever happens to a link, what is read is the beginning of what was
// written, and all of it if nothing was lost and the end has come.
func TestRandomFaults(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubbletest.Test(t, func(t *testing.T) { randomFaults(t, seed) })
		})
	}
}

func randomFaults(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	l := newLink(1, 1+random.IntN(200), seed, localhost)
	results := make(chan string, 2)
	for i, pair := range [][2]*Conn{{l.Client(), l.Server()}, {l.Server(), l.Client()}} {
		own := rand.New(rand.NewPCG(seed, uint64(2+i)))
		text := strings.Repeat(fmt.Sprint("stream ", i, " of seed ", seed, ". "), 100)
		go func() {
			for rest := text; len(rest) > 0; {
				n := min(len(rest), 1+own.IntN(300))
				if _, err := pair[0].Write([]byte(rest[:n])); err != nil {
					return
				}
				rest = rest[n:]
				time.Sleep(time.Duration(own.IntN(50)) * time.Millisecond)
			}
			_ = pair[0].CloseWrite()
		}()
		go func() {
			got, err := io.ReadAll(pair[1])
			switch {
			case !strings.HasPrefix(text, string(got)):
				results <- fmt.Sprintf("direction %d: read what was not written", i)
			case err == nil && len(got) != len(text):
				results <- fmt.Sprintf("direction %d: a clean end after %d of %d bytes", i, len(got), len(text))
			default:
				results <- ""
			}
		}()
	}
	for range 20 {
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
		directions := [][]Direction{nil, {ToServer}, {ToClient}}[random.IntN(3)]
		switch random.IntN(12) {
		case 0, 1, 2:
			l.Stall(directions...)
		case 3, 4, 5:
			l.Resume(directions...)
		case 6, 7:
			l.Slow(random.IntN(2000), directions...)
		case 8, 9:
			l.Latency(time.Duration(random.IntN(300))*time.Millisecond, time.Duration(random.IntN(300))*time.Millisecond, directions...)
		case 10:
			l.CutAfter(int64(random.IntN(5000)), Direction(random.IntN(2)))
		case 11:
			if random.IntN(8) == 0 {
				l.BlackHole(directions...)
			}
		}
	}
	l.Resume()
	time.Sleep(time.Minute)
	l.Cut() // for those who wait behind a black hole
	for range 2 {
		require.Empty(t, <-results)
	}
	require.False(t, l.Alive())
}
