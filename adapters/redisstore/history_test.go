package redisstore_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

// positions notes what was stored where. No offset of an epoch may have two messages.
type positions map[string]string

func (p positions) note(t *testing.T, s parley.Store, text string) (epoch string, err error) {
	t.Helper()
	entries := []parley.Entry{{Key: text, Data: fmt.Appendf(nil, `{"text":%q}`, text)}}
	log, err := s.Append(context.Background(), "room/1", keep80, entries)
	if err != nil {
		return "", err
	}
	where := fmt.Sprint(log.Epoch, ":", entries[0].Offset)
	require.Empty(t, p[where], "%s is also of %s", where, text)
	p[where] = text
	return log.Epoch, nil
}

// switchable is a client whose connections go to one address after the other, as with Sentinel.
type switchable struct {
	addr  atomic.Value
	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func (s *switchable) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, s.addr.Load().(string))
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.conns = append(s.conns, c)
	}
	return c, err
}

func (s *switchable) to(addr string) {
	s.addr.Store(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
}

// F16: a replica has taken over, and the old primary goes on to work for those who do not know it. Once they are told, the first append has another epoch.
func TestSwitchToAReplicaF16(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.Start(t), redistest.Start(t)
	admin := replicate(t, primary, replica)
	require.EqualValues(t, 1, waitForReplica(t, primary))
	way := &switchable{}
	way.addr.Store(primary.Addr)
	client := redis.NewClient(&redis.Options{Dialer: way.dial})
	t.Cleanup(func() { _ = client.Close() })
	s, seen := newStore(t, client), positions{}
	for n := range 20 {
		_, err := seen.note(t, s, fmt.Sprint("both ", n))
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, waitForReplica(t, primary))
	require.NoError(t, admin.ReplicaOf(t.Context(), "NO", "ONE").Err())
	var before string
	var err error
	for n := range 5 {
		before, err = seen.note(t, s, fmt.Sprint("old ", n))
		require.NoError(t, err)
	}
	way.to(replica.Addr)
	stored := 0
	for n := 0; stored < 30; n++ {
		after, err := seen.note(t, s, fmt.Sprint("new ", n))
		if err == nil { // else the connection was not known to be broken
			stored++
			require.NotEqual(t, before, after)
		}
	}
}

// F17, F16: a server comes back without the last message, and without memory for the next one. That it can remove what is old does not
// make it go on in the old epoch.
func TestNoMemoryAfterARestart(t *testing.T) {
	t.Parallel()
	for _, many := range []int{75, 85} { // 85: more than is kept is left in the lists
		t.Run(fmt.Sprint(many), func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			s, client, seen := newStore(t, server.Client()), server.Client(), positions{}
			for n := range many {
				_, err := seen.note(t, s, fmt.Sprint(n))
				require.NoError(t, err)
			}
			require.NoError(t, client.Save(t.Context()).Err())
			_, err := seen.note(t, s, "lost")
			require.NoError(t, err)
			server.Kill()
			server.Restart()
			require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
			for n := range 3 {
				_, err := seen.note(t, s, fmt.Sprint("full ", n))
				require.ErrorContains(t, err, "maxmemory")
			}
			require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
			for n := range 3 {
				_, err := seen.note(t, s, fmt.Sprint("again ", n))
				require.NoError(t, err)
			}
		})
	}
}
