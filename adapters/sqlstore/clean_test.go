package sqlstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

func (w *world) count(t testing.TB, table string) (n int) {
	t.Helper()
	require.NoError(t, w.db.QueryRow("SELECT count(*) FROM parley_"+table).Scan(&n))
	return n
}

// Rows go when nothing needs them any more, in steps of a few rows, and not before.
func TestClean(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		w.opts.CleanRows = 50
		s := w.node(t)
		keep := parley.Retention{Messages: 100, Age: 4 * time.Hour}
		var entries []parley.Entry
		for i := range 500 {
			entries = append(entries, parley.Entry{Data: []byte(`{}`), Unread: true})
			if i%2 == 0 {
				entries[i].Key = fmt.Sprint(i)
			}
		}
		_, err := s.Append(t.Context(), "t", keep, entries)
		require.NoError(t, err)
		before := read(t, s, "t")
		require.Len(t, before.Entries, 100)
		require.NoError(t, s.Clean(t.Context()))
		require.Equal(t, 100+200, w.count(t, "entries"), "trimmed entries with keys stay for the window")
		require.Equal(t, before, read(t, s, "t"))

		w.sleep(time.Hour)
		require.NoError(t, s.Clean(t.Context()))
		require.Equal(t, 100, w.count(t, "entries"), "the window is over")
		require.Equal(t, before, read(t, s, "t"))

		w.sleep(4 * time.Hour)
		require.NoError(t, s.Enter(t.Context(), "t", "n", []parley.Member{{UserID: "kim"}}, 10*time.Hour))
		require.NoError(t, s.Clean(t.Context()))
		require.Zero(t, w.count(t, "entries"), "all are too old")
		for range 3 {
			w.sleep(3 * time.Hour)
			require.NoError(t, s.Clean(t.Context()))
		}
		page := read(t, s, "t")
		require.Equal(t, [3]any{before.Epoch, int64(501), int64(500)}, [3]any{page.Epoch, page.First, page.Top}, "somebody is in the room")
		for range 3 {
			w.sleep(2 * time.Hour)
			require.NoError(t, s.Clean(t.Context()))
		}
		require.Zero(t, w.count(t, "members"), "the lease is over")
		require.Zero(t, w.count(t, "topics"), "nobody is there any more")
		require.NotEqual(t, before.Epoch, read(t, s, "t").Epoch)
	})
}

// The data of an entry whose time to live is over does not lie around; its place stays.
func TestCleanExpired(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		s := w.node(t)
		for i, ttl := range []time.Duration{0, time.Minute, time.Hour} {
			e := keyed(fmt.Sprint(i))
			e.TTL = ttl
			appendOne(t, s, "t", parley.Retention{Messages: 9}, &e)
		}
		w.sleep(2 * time.Minute)
		before := read(t, s, "t")
		require.NoError(t, s.Clean(t.Context()))
		require.Equal(t, before, read(t, s, "t"))
		var gone int
		require.NoError(t, w.db.QueryRow(`SELECT count(*) FROM parley_entries WHERE data IS NULL`).Scan(&gone))
		require.Equal(t, 1, gone)
	})
}

// F66: random lives of topics, dropped again and again, on two nodes.
func TestPositionsNameOneMessage(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		a, b := w.node(t), w.node(t)
		type place struct {
			topic, epoch string
			offset       int64
		}
		seen, lives := map[place]bool{}, map[string]bool{}
		for round := range 12 {
			for i := range 12 {
				if (i+round)%5 > round%4 {
					continue // not in use in this round
				}
				topic := fmt.Sprint("t", i)
				before := read(t, a, topic)
				e := keyed(fmt.Sprint(round))
				log := appendOne(t, b, topic, parley.Retention{Messages: 3, Age: time.Duration(1+i%3) * time.Minute}, &e)
				require.Equal(t, before.Epoch, log.Epoch, "an Append does not change the epoch")
				require.Equal(t, before.Top+1, e.Offset)
				p := place{topic, log.Epoch, e.Offset}
				require.False(t, seen[p], "%+v names two messages", p)
				seen[p], lives[log.Epoch] = true, true
			}
			w.sleep(time.Duration(round%4) * 35 * time.Minute)
			require.NoError(t, a.Clean(t.Context()))
		}
		require.Greater(t, len(lives), 3, "the test should see topics dropped")
	})
}
