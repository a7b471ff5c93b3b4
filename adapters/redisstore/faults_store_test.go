package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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

var keep10 = parley.Retention{Messages: 10}

func appendTo(s parley.Store, topic string, n int) ([]parley.Entry, error) {
	entries := []parley.Entry{{Time: int64(n), Data: fmt.Appendf(nil, `{"n":%d}`, n)}}
	_, err := s.Append(context.Background(), topic, keep10, entries)
	return entries, err
}

// deaf makes connections that lose the answer to what is written while armed is above 0: Redis has
// carried it out, and nobody gets to know.
type deaf struct{ armed atomic.Int32 }

func (d *deaf) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	return &deafConn{Conn: conn, deaf: d}, err
}

type deafConn struct {
	net.Conn
	deaf *deaf
	lose atomic.Bool
	lost atomic.Bool
}

func (c *deafConn) Write(b []byte) (int, error) {
	if strings.Contains(strings.ToLower(string(b)), "eval") && c.deaf.armed.Add(-1) >= 0 {
		c.lose.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *deafConn) Read(b []byte) (int, error) {
	if c.lost.Load() {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(b)
	if c.lose.Load() && err == nil {
		c.lost.Store(true)
		return 0, io.EOF
	}
	return n, err
}

// F10: whoever hears of an error decides about repeating, not the client below.
func TestAppendIsNotRepeatedByTheClient(t *testing.T) {
	t.Parallel()
	server, cluster := redistest.Start(t), redistest.StartCluster(t, 1)
	for name, client := range map[string]func(d *deaf) redis.UniversalClient{
		"one server": func(d *deaf) redis.UniversalClient {
			return redis.NewClient(&redis.Options{Addr: server.Addr, Dialer: d.dial, MaxRetries: 5})
		},
		"cluster": func(d *deaf) redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{cluster.Servers[0].Addr}, Dialer: d.dial, MaxRedirects: 5})
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := &deaf{}
			c := client(d)
			t.Cleanup(func() { _ = c.Close() })
			s := newStore(t, c)
			for n := range 3 { // so that Redis knows all scripts
				_, err := appendTo(s, "room/1", n)
				require.NoError(t, err)
			}
			d.armed.Store(1)
			_, err := appendTo(s, "room/1", 3)
			require.ErrorIs(t, err, io.EOF, "nobody knows whether it was stored")
			page, err := s.Read(t.Context(), "room/1", parley.Query{Limit: 10})
			require.NoError(t, err)
			require.EqualValues(t, 4, page.Top, "it was stored, once")
			require.Zero(t, max(d.armed.Load(), 0), "the answer was lost")
			// Reads are repeated.
			d.armed.Store(1)
			page, err = s.Read(t.Context(), "room/1", parley.Query{Limit: 10})
			require.NoError(t, err)
			require.EqualValues(t, 4, page.Top)
		})
	}
}

func TestScriptsAreSentAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, client := newStore(t, server.Client()), server.Client()
	for round := 1; round <= 3; round++ {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if _, err := appendTo(s, fmt.Sprint("room/", i%5), round); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.NoError(t, client.ScriptFlush(t.Context()).Err())
		page, err := s.Read(t.Context(), "room/1", parley.Query{})
		require.NoError(t, err)
		require.EqualValues(t, 10*round, page.Top)
	}
}

// F17: a Redis without memory or that only reads refuses to write, says what to do, and still reads.
func TestRefusedWrites(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		want    string
		begin   func(t *testing.T, c *redis.Client)
		recover func(t *testing.T, c *redis.Client)
	}{
		"out of memory": {
			want: "raise maxmemory",
			begin: func(t *testing.T, c *redis.Client) {
				require.NoError(t, c.ConfigSet(t.Context(), "maxmemory", "1").Err())
			},
			recover: func(t *testing.T, c *redis.Client) {
				require.NoError(t, c.ConfigSet(t.Context(), "maxmemory", "0").Err())
			},
		},
		"a replica": {
			want: "connect to the primary",
			begin: func(t *testing.T, c *redis.Client) {
				require.NoError(t, c.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
			},
			recover: func(t *testing.T, c *redis.Client) { require.NoError(t, c.ReplicaOf(t.Context(), "NO", "ONE").Err()) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			s, client := newStore(t, server.Client()), server.Client()
			_, err := appendTo(s, "room/1", 1)
			require.NoError(t, err)
			require.NoError(t, s.Enter(t.Context(), "room/1", "n1", []parley.Member{{UserID: "a"}}, time.Hour))
			c.begin(t, client)
			for topic, write := range map[string]func() error{
				"append":  func() error { _, err := appendTo(s, "room/1", 2); return err },
				"enter":   func() error { return s.Enter(t.Context(), "room/1", "n1", []parley.Member{{UserID: "b"}}, time.Hour) },
				"connect": func() error { return s.Connect(t.Context(), "n1", []string{"a"}, time.Hour) },
				"add":     func() error { return s.AddUsers(t.Context(), "all", []string{"a"}) },
			} {
				err := write()
				require.Errorf(t, err, "%s", topic)
				require.Containsf(t, err.Error(), c.want, "%s", topic)
			}
			page, err := s.Read(t.Context(), "room/1", parley.Query{Limit: 10})
			require.NoError(t, err, "reading goes on")
			require.Len(t, page.Entries, 1)
			_, count, err := s.Members(t.Context(), "room/1", 10)
			require.NoError(t, err)
			require.Equal(t, 1, count)
			heads, err := s.Heads(t.Context(), []string{"room/1"})
			require.NoError(t, err)
			require.EqualValues(t, 1, heads[0].Top)
			c.recover(t, client)
			entries, err := appendTo(s, "room/1", 2)
			require.NoError(t, err)
			require.EqualValues(t, 2, entries[0].Offset)
		})
	}
}

// F9: a Redis that stands still costs its callers no more than their ctx, and theirs stays theirs.
func TestStoppedRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.Client())
	_, err := appendTo(s, "room/1", 1)
	require.NoError(t, err)
	server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 3000 { // more than wait in a line
		wg.Go(func() {
			entries := []parley.Entry{{Data: []byte(`{"n":1}`)}}
			_, err := s.Append(ctx, fmt.Sprint("room/", i%3), keep10, entries)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Append: %v", err)
			}
			copy(entries[0].Data, "changed")
		})
	}
	wg.Go(func() {
		if _, err := s.Heads(ctx, []string{"room/1"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Heads: %v", err)
		}
	})
	wg.Wait()
	server.Cont()
	require.Eventually(t, func() bool { _, err := appendTo(s, "room/9", 1); return err == nil }, patience, 10*time.Millisecond)
	page, err := s.Read(t.Context(), "room/0", parley.Query{Limit: 10})
	require.NoError(t, err)
	for _, e := range page.Entries {
		require.Equal(t, `{"n":1}`, string(e.Data))
	}
}

func TestTimeoutWithoutDeadline(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, err := redisstore.New(server.Client(), redisstore.Options{Timeout: 100 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	server.Stop()
	_, err = s.Read(context.Background(), "room/1", parley.Query{})
	require.ErrorContains(t, err, "Options.Timeout")
	server.Cont()
}

func TestClose(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.Client())
	server.Stop()
	failed := make(chan error)
	go func() {
		_, err := s.Read(context.Background(), "room/1", parley.Query{})
		failed <- err
	}()
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-failed, redisstore.ErrClosed)
	server.Cont()
	_, err := appendTo(s, "room/1", 1)
	require.ErrorIs(t, err, redisstore.ErrClosed)
	require.NoError(t, s.Close(), "a second time")
}
