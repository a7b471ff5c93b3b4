package redisstore_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

func newDurable(t *testing.T, client redis.UniversalClient) *redisstore.Store {
	t.Helper()
	s, err := redisstore.New(client, redisstore.Options{Durable: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// writers append to a room each until an append fails, and note what was confirmed, by offset.
type writers struct {
	wg        sync.WaitGroup
	confirmed [4]map[int64]string
	epochs    [4]string
}

func (w *writers) start(t *testing.T, s parley.Store, round int) (first <-chan struct{}) {
	confirmed := make(chan struct{}, 4000)
	for room := range w.confirmed {
		w.wg.Go(func() {
			for n := 0; ; n++ {
				data := fmt.Sprintf(`{"round":%d,"n":%d}`, round, n)
				entries := []parley.Entry{{Key: fmt.Sprint(round, n), Data: []byte(data)}}
				log, err := s.Append(context.Background(), fmt.Sprint("room/", room), parley.Retention{Messages: 100_000, Age: time.Hour}, entries)
				if err != nil {
					return
				}
				if w.epochs[room] == "" {
					w.epochs[room] = log.Epoch
				}
				if log.Epoch != w.epochs[room] || w.confirmed[room][entries[0].Offset] != "" {
					t.Errorf("round %d: room %d: epoch %s after %s, offset %d", round, room, log.Epoch, w.epochs[room], entries[0].Offset)
					return
				}
				w.confirmed[room][entries[0].Offset] = data
				select {
				case confirmed <- struct{}{}:
				default:
				}
			}
		})
	}
	return confirmed
}

// F14: a server that loses nothing is killed while it is being written to, ten times: all that was confirmed is there, in the same epoch.
func TestDurableKilledF14(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	w := &writers{}
	for room := range w.confirmed {
		w.confirmed[room] = map[int64]string{}
	}
	for round := range 10 {
		s := newDurable(t, server.Client())
		confirmed := w.start(t, s, round)
		for range 50 {
			<-confirmed
		}
		server.Kill()
		w.wg.Wait()
		require.NoError(t, s.Close())
		server.Restart()
		s = newDurable(t, server.Client())
		for room, entries := range w.confirmed {
			topic := fmt.Sprint("room/", room)
			heads, err := s.Heads(t.Context(), []string{topic})
			require.NoError(t, err)
			require.Equal(t, w.epochs[room], heads[0].Epoch)
			page, err := s.Read(t.Context(), topic, parley.Query{Limit: 100_000})
			require.NoError(t, err)
			require.Equal(t, w.epochs[room], page.Epoch)
			stored := map[int64]string{}
			for _, e := range page.Entries {
				stored[e.Offset] = string(e.Data)
			}
			for offset, data := range entries {
				require.Equal(t, data, stored[offset], "round %d: %s, offset %d", round, topic, offset)
			}
		}
		require.NoError(t, s.Close())
	}
}

// F14: without the option every restart gives another epoch, because something may have been lost.
func TestRestartHasAnotherEpochF14(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s := newStore(t, server.Client())
	_, err := appendTo(s, "room/1", 1)
	require.NoError(t, err)
	before, err := s.Read(t.Context(), "room/1", parley.Query{Limit: 10})
	require.NoError(t, err)
	server.Kill()
	server.Restart()
	after, err := s.Read(t.Context(), "room/1", parley.Query{Limit: 10})
	require.NoError(t, err)
	require.NotEqual(t, before.Epoch, after.Epoch)
	require.Equal(t, before.Entries, after.Entries)
}

// F16: a replica that takes over may lack something, even if no server loses anything at a restart.
func TestDurableTakeoverF16(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	replica := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	old, promoted := newDurable(t, primary.Client()), newDurable(t, replica.Client())
	epoch := func(s parley.Store) string {
		t.Helper()
		entries := []parley.Entry{{Data: []byte(`{}`)}}
		log, err := s.Append(t.Context(), "room/1", keep10, entries)
		require.NoError(t, err)
		return log.Epoch
	}
	first := epoch(old)
	admin := replicate(t, primary, replica)
	require.EqualValues(t, 1, waitForReplica(t, primary))
	require.Equal(t, first, epoch(old), "its first replica changes the name of the history, and nothing is lost")
	require.EqualValues(t, 1, waitForReplica(t, primary))
	require.Eventually(t, func() bool { // what it has copied goes to its disk in the background
		info := admin.Info(context.Background(), "persistence").Val()
		return strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0") && strings.Contains(info, "aof_last_bgrewrite_status:ok")
	}, patience, 10*time.Millisecond)
	require.NoError(t, admin.ReplicaOf(t.Context(), "NO", "ONE").Err())
	second := epoch(promoted)
	require.NotEqual(t, first, second)
	replica.Kill()
	replica.Restart()
	again := newDurable(t, replica.Client())
	require.Equal(t, second, epoch(again), "it was only started again")
}
