package sqlstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore"
)

func status(t testing.TB, s *sqlstore.Store, ids ...string) []parley.UserStatus {
	t.Helper()
	list, err := s.Status(context.Background(), ids)
	require.NoError(t, err)
	require.Len(t, list, len(ids))
	return list
}

// Leases that have ended go, and what is known of their users stays for LastSeenWindow, then goes as well.
func TestCleanStatus(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		w.opts.CleanRows = 7
		s := w.node(t)
		var ids []string
		for i := range 30 {
			ids = append(ids, fmt.Sprint("user-", i))
		}
		require.NoError(t, s.Connect(t.Context(), "dead", ids, time.Minute))
		w.sleep(10 * time.Second)
		require.NoError(t, s.Connect(t.Context(), "dead", ids[:20], time.Minute)) // seen later
		require.NoError(t, s.Connect(t.Context(), "alive", ids[:5], 80*24*time.Hour))
		require.NoError(t, s.Disconnect(t.Context(), "dead", ids[18:20]))
		before := status(t, s, ids...)
		w.sleep(2 * time.Minute)
		lapsed := status(t, s, ids...)
		require.NoError(t, s.Clean(t.Context()))
		require.Equal(t, 5, w.count(t, "connected"), "the leases of one node are over")
		require.Equal(t, 30, w.count(t, "users"))
		require.Equal(t, lapsed, status(t, s, ids...), "nothing is lost with the leases")
		for i, u := range lapsed {
			require.Equal(t, i < 5, u.Online)
			require.Equal(t, before[i].LastSeen, u.LastSeen)
		}

		w.sleep(parley.LastSeenWindow - 2*time.Minute - time.Second)
		require.NoError(t, s.Clean(t.Context()))
		require.Equal(t, 20, w.count(t, "users"), "ten were seen ten seconds earlier")
		require.Equal(t, lapsed[:20], status(t, s, ids[:20]...))
		require.Equal(t, make([]parley.UserStatus, 10), status(t, s, ids[20:]...))
		w.sleep(10 * time.Second)
		require.NoError(t, s.Clean(t.Context()))
		require.Equal(t, 5, w.count(t, "users"), "who is online is never forgotten")
		w.sleep(50 * 24 * time.Hour)
		require.NoError(t, s.Clean(t.Context()))
		require.Zero(t, w.count(t, "users"))
		require.Zero(t, w.count(t, "connected"))
	})
}

// Of nodes that users come to at once one is the first: what it says of Since holds until they have left all of them.
func TestSinceOfManyNodes(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		var nodes []*sqlstore.Store
		for range 4 {
			s := w.node(t)
			s.SetClock(func() int64 { return w.now.Add(1) }) // no two times are the same
			nodes = append(nodes, s)
		}
		var ids []string
		for i := range 20 {
			ids = append(ids, fmt.Sprint("user-", i))
		}
		for round := range 15 {
			var told [4][]parley.UserStatus
			var wg sync.WaitGroup
			for n, s := range nodes {
				wg.Go(func() {
					err := s.Connect(context.Background(), fmt.Sprint("n", n), ids, time.Hour)
					if err == nil {
						told[n], err = s.Status(context.Background(), ids)
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for n := range nodes {
				for i, u := range status(t, nodes[0], ids...) {
					require.True(t, u.Online)
					for m := range nodes {
						require.Equal(t, told[m][i].Since, u.Since, "round %d, what node %d was told, when %d have left", round, m, n)
					}
				}
				require.NoError(t, nodes[0].Disconnect(t.Context(), fmt.Sprint("n", (n+round)%4), ids))
			}
			require.False(t, status(t, nodes[1], ids...)[0].Online)
		}
	})
}

// The background job and nodes whose users come and go are not in each other's way.
func TestConnectWhileCleaned(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		nodes, cleaner := []*sqlstore.Store{w.node(t), w.node(t)}, w.node(t)
		var ids []string
		for i := range 40 {
			ids = append(ids, fmt.Sprint("user-", i))
		}
		var wg sync.WaitGroup
		for n, s := range nodes {
			wg.Go(func() {
				node := fmt.Sprint("n", n)
				for i := range 30 {
					part := ids[i%3*10 : i%3*10+20]
					err := s.Connect(context.Background(), node, part, time.Millisecond)
					if err == nil && i%2 == 0 {
						err = s.Disconnect(context.Background(), node, part[5:])
					}
					if err != nil {
						t.Error(err)
					}
					w.sleep(time.Millisecond)
				}
				if err := s.Connect(context.Background(), node, ids[n*20:n*20+20], time.Hour); err != nil {
					t.Error(err)
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		for running := true; running; {
			require.NoError(t, cleaner.Clean(t.Context()))
			select {
			case <-done:
				running = false
			default:
			}
		}
		w.sleep(time.Second)
		require.NoError(t, cleaner.Clean(t.Context()))
		for i, u := range status(t, cleaner, ids...) {
			require.True(t, u.Online, "user %d", i)
		}
		require.Equal(t, 40, w.count(t, "connected"))
		require.Equal(t, 40, w.count(t, "users"))
	})
}

// What a hub of many users and topics asks again and again.
func BenchmarkNode(b *testing.B) {
	for _, d := range benchDatabases {
		w := d.open(b)
		s := w.node(b)
		var topics, ids []string
		for i := range 512 {
			topics = append(topics, fmt.Sprint("room/", i))
			var list []parley.Entry
			for n := range 10 {
				list = append(list, notification(fmt.Sprint(n)))
			}
			_, err := s.Append(context.Background(), topics[i], inbox, list)
			require.NoError(b, err)
		}
		for i := range 500 {
			ids = append(ids, fmt.Sprint("user-", i))
		}
		b.Run(d.name+"/Heads of 512 topics", func(b *testing.B) {
			for b.Loop() {
				list, err := s.Heads(context.Background(), topics)
				if err != nil || list[511].Unread != 10 {
					b.Fatal(err, list[511])
				}
			}
		})
		b.Run(d.name+"/Connect of 500 users again", func(b *testing.B) {
			for b.Loop() {
				if err := s.Connect(context.Background(), "n", ids, time.Hour); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(d.name+"/Connect and Disconnect of 500 users", func(b *testing.B) {
			for b.Loop() {
				if err := s.Connect(context.Background(), "m", ids, time.Hour); err != nil {
					b.Fatal(err)
				}
				if err := s.Disconnect(context.Background(), "m", ids); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(d.name+"/Status of 500 users", func(b *testing.B) {
			for b.Loop() {
				list, err := s.Status(context.Background(), ids)
				if err != nil || !list[499].Online {
					b.Fatal(err, list[499])
				}
			}
		})
	}
}
