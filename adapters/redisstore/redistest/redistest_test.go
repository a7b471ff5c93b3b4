package redistest_test

import (
	"bufio"
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

func TestServer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	c := s.Client()
	require.NoError(t, c.Set(ctx, "k", "v", 0).Err())
	s.Kill()
	require.Error(t, c.Get(ctx, "k").Err())
	s.Restart()
	require.Equal(t, "v", c.Get(ctx, "k").Val(), "saved, as the arguments ask for")
	s.Stop()
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	require.Error(t, s.Client().WithTimeout(100*time.Millisecond).Ping(short).Err(), "a stopped server answers")
	s.Cont()
	require.NoError(t, c.Ping(ctx).Err())
	s.Wipe()
	require.Zero(t, c.DBSize(ctx).Val())

	plain := redistest.Start(t)
	require.NoError(t, plain.Client().Set(ctx, "k", "v", 0).Err())
	plain.Restart()
	require.Zero(t, plain.Client().DBSize(ctx).Val(), "nothing is saved without being asked for")
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := redistest.StartSentinel(t, 1)
	c := s.Client()
	require.NoError(t, c.Set(ctx, "k", "v", 0).Err())
	require.EqualValues(t, 1, c.Wait(ctx, 1, time.Minute).Val())
	old := s.Primary()
	require.Same(t, s.Servers[0], old)
	old.Kill()
	require.NotSame(t, old, s.AwaitFailover(old))
	require.Eventually(t, func() bool { return c.Set(ctx, "k2", "v", 0).Err() == nil }, time.Minute, 10*time.Millisecond)
	require.Equal(t, "v", c.Get(ctx, "k").Val())
}

func TestCluster(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := redistest.StartCluster(t, 3)
	c := s.Client()
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
		require.NoError(t, c.Set(ctx, key, key, 0).Err())
	}
	slot := int(c.ClusterKeySlot(ctx, "empty").Val())
	for to := range s.Servers {
		s.MoveSlot(slot, to)
		require.ErrorIs(t, s.Servers[to].Client().Get(ctx, "empty").Err(), redis.Nil, "the new owner of the slot answers")
	}
}

// echo starts a server that sends back each line.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					_, _ = c.Write([]byte(line))
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestProxy(t *testing.T) {
	t.Parallel()
	p := redistest.NewProxy(t, echo(t))
	dial := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", p.Addr)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
		return c, bufio.NewReader(c)
	}
	ask := func(c net.Conn, r *bufio.Reader, line string) {
		_, err := c.Write([]byte(line))
		require.NoError(t, err)
		answer, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, line, answer)
	}
	silent := func(c net.Conn, r *bufio.Reader) {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err := r.ReadByte()
		require.ErrorContains(t, err, "timeout")
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	}
	c, r := dial()
	ask(c, r, "1\n")
	p.Stall()
	_, err := c.Write([]byte("2\n"))
	require.NoError(t, err)
	silent(c, r)
	p.Resume()
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "2\n", line, "what was stalled comes later")

	p.BlackHole()
	_, err = c.Write([]byte("3\n"))
	require.NoError(t, err)
	silent(c, r)
	c2, r2 := dial()
	_, err = c2.Write([]byte("4\n"))
	require.NoError(t, err)
	silent(c2, r2)
	require.Eventually(t, func() bool { return p.Lost() == 2 }, time.Minute, time.Millisecond, "the proxy has not got to it")
	p.Resume()
	_, err = r.ReadByte()
	require.Error(t, err, "a connection that has lost something goes on")
	_, err = r2.ReadByte()
	require.Error(t, err, "a connection made in a black hole goes on")

	c, r = dial()
	ask(c, r, "5\n")
	p.Cut()
	_, err = r.ReadByte()
	require.Error(t, err)
	c, r = dial()
	ask(c, r, "6\n")
}
