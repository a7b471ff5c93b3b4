package sqlstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore"
)

// Overdue begins with what is due for longest, however it is collected, and returns nothing twice in one call.
func TestOverdueOrder(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		w.opts.CleanRows = 2 // as many are claimed at a time
		s := w.node(t)
		for i := range 5 {
			e := keyed(fmt.Sprint(i))
			e.ReceiveIn = time.Duration(10-i) * time.Minute // what is stored last is due first
			appendOne(t, s, fmt.Sprint("t", i), room, &e)
			w.sleep(time.Second)
		}
		w.sleep(20 * time.Minute)
		list, err := s.Overdue(t.Context(), 10, 0)
		require.NoError(t, err)
		var topics []string
		for _, o := range list {
			topics = append(topics, o.Topic)
		}
		require.Equal(t, []string{"t4", "t3", "t2", "t1", "t0"}, topics)
	})
}

// A notification over which a hook panics does not keep others from being sent (S40).
func TestRelayPanic(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		s := w.node(t)
		h := hub(t, s)
		panics := notifier(func(ctx context.Context, userID string, v any, opts ...parley.SendOption) (parley.Result, error) {
			if userID == "bad" {
				panic("a hook's")
			}
			return h.Notify(ctx, userID, v, opts...)
		})
		w.enqueue(t, s, true, sqlstore.Notification{UserID: "bad", Data: 1}, sqlstore.Notification{UserID: "kim", Data: 2})
		require.NoError(t, s.RelaySome(t.Context(), panics))
		require.Len(t, read(t, s, "user/kim").Entries, 1)
		require.Equal(t, sqlstore.RelayStats{Sent: 1, Retried: 1}, s.RelayStats())
		require.Equal(t, 1, w.count(t, "outbox"))
	})
}

// A node whose clock is fast, and that has not asked the database for the time yet, delays nothing (F40).
func TestEnqueueBeforeFirstUse(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		s := w.node(t)
		s.SetClock(func() int64 { return w.now.Load() + time.Hour.Milliseconds() })
		w.enqueue(t, s, true, sqlstore.Notification{UserID: "kim", Data: 1})
		s.SetClock(w.now.Load) // as after the comparison
		require.NoError(t, s.RelaySome(t.Context(), hub(t, s)))
		require.Len(t, read(t, s, "user/kim").Entries, 1)
	})
}

// The background job locks topics in the order in which writes do, by name: so the two never wait for each other.
func TestCleanLocksInOrder(t *testing.T) {
	w := openPostgres(t)
	s := w.node(t)
	for _, topic := range []string{"b", "a"} { // the ids are the other way round
		for i := range 3 {
			entries := make([]parley.Entry, 100)
			for j := range entries {
				entries[j].Data = fmt.Appendf(nil, "%d-%d", i, j)
			}
			_, err := s.Append(t.Context(), topic, parley.Retention{Messages: 5}, entries)
			require.NoError(t, err)
		}
	}
	tx, err := w.db.Begin()
	require.NoError(t, err)
	_, err = tx.Exec(`SELECT id FROM parley_topics WHERE name = 'b' FOR UPDATE`)
	require.NoError(t, err)
	cleaned := make(chan error, 1)
	go func() { cleaned <- s.Clean(t.Context()) }()
	for waits := false; !waits; { // until the job waits for b
		require.NoError(t, w.db.QueryRow(`SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)`).Scan(&waits))
	}
	_, err = w.db.Exec(`SELECT id FROM parley_topics WHERE name = 'a' FOR UPDATE NOWAIT`)
	require.ErrorContains(t, err, "55P03", "the job has a lock on a already")
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-cleaned)
	require.Equal(t, 10, w.count(t, "entries"))
}

// Two nodes append to the same topics, which are dropped all the time: no offset of an epoch is used twice (F66).
func TestAppendWhileDropped(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		type place struct {
			topic, epoch string
			offset       int64
		}
		nodes := []*sqlstore.Store{w.node(t), w.node(t)}
		cleaner := w.node(t)
		results := make(chan place, 2*60)
		for n, s := range nodes {
			go func() {
				for i := range 60 {
					topic := fmt.Sprint("t", i%3)
					list := []parley.Entry{keyed(fmt.Sprint(n, "-", i))}
					log, err := s.Append(context.Background(), topic, parley.Retention{Messages: 9, Age: time.Millisecond}, list)
					if err != nil {
						t.Error(err)
					}
					results <- place{topic, log.Epoch, list[0].Offset}
				}
			}()
		}
		seen, epochs := map[place]bool{}, map[string]bool{}
		for len(seen) < 2*60 {
			p := <-results
			require.False(t, seen[p], "%+v names two messages", p)
			seen[p], epochs[p.epoch] = true, true
			if len(seen)%10 == 0 {
				w.sleep(3 * time.Hour)
				require.NoError(t, cleaner.Clean(t.Context()))
			}
		}
	})
}

// Whatever is in a name, an id or a key is a value, and never a part of a statement.
func TestStringsAreValues(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		s := w.node(t)
		for _, text := range []string{`'; DROP TABLE parley_topics; --`, `{w}`, `{p}`, `?`, `$1`, `"`, `\`, `{a,"b"}`, `NULL`, `\x41`, "\x00", "\xff\xfe", "\n", `%_`, "é"} {
			e := keyed(text)
			e.Data = []byte(text)
			appendOne(t, s, text, room, &e)
			again := keyed(text)
			appendOne(t, s, text, room, &again)
			require.True(t, again.Duplicate, "%q", text)
			page := read(t, s, text)
			require.Equal(t, text, string(page.Entries[0].Data))
			marked, err := s.Mark(t.Context(), text, parley.Mark{As: parley.MarkRead, Keys: []string{text}})
			require.NoError(t, err)
			require.Equal(t, []parley.Span{{From: 1, To: 1}}, marked.Changed)
			require.NoError(t, s.Enter(t.Context(), text, text, []parley.Member{{UserID: text, Name: text}}, time.Hour))
			members, _, err := s.Members(t.Context(), text, 9)
			require.NoError(t, err)
			require.Equal(t, []parley.Member{{UserID: text, Name: text}}, members)
			require.NoError(t, s.Leave(t.Context(), text, text, []string{text}))
			require.NoError(t, s.AddUsers(t.Context(), text, []string{text, text}))
			users, err := s.Users(t.Context(), text, "", 9)
			require.NoError(t, err)
			require.Equal(t, []string{text}, users)
			require.NoError(t, s.RemoveUsers(t.Context(), text, []string{text}))
			w.enqueue(t, s, true, sqlstore.Notification{UserID: text, ID: text, Kind: text, Data: text})
		}
		require.Zero(t, w.count(t, "members"))
		require.Zero(t, w.count(t, "audiences"))
		require.NoError(t, s.RelaySome(t.Context(), hub(t, s)))
		stats := s.RelayStats()
		require.Zero(t, stats.Retried, "what the hub refuses it refuses for good")
		require.EqualValues(t, w.count(t, "outbox"), stats.SetAside)
	})
}

// The application holds the only connection in a transaction: Enqueue works, which uses nothing
// else; a write of the hub waits, ends with its ctx, and is not written afterwards.
func TestOnlyConnectionTaken(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		w.db.SetMaxOpenConns(1)
		s := w.node(t)
		_ = read(t, s, "t")
		tx, err := w.db.Begin()
		require.NoError(t, err)
		require.NoError(t, s.Enqueue(t.Context(), tx, sqlstore.Notification{UserID: "kim", Data: 1}))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err = s.Append(ctx, "t", room, []parley.Entry{keyed("a")})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, tx.Commit())
		e := keyed("a") // as the hub repeats it
		appendOne(t, s, "t", room, &e)
		require.EqualValues(t, 1, e.Offset)
		require.Len(t, read(t, s, "t").Entries, 1)
		require.Equal(t, 1, w.count(t, "outbox"))
	})
}

// Several nodes relay at once: each notification is stored once.
func TestSeveralRelays(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		const n = 96
		nodes := []*sqlstore.Store{w.node(t), w.node(t), w.node(t)}
		for i := range n {
			w.enqueue(t, nodes[0], true, sqlstore.Notification{UserID: fmt.Sprint("u", i%4), ID: fmt.Sprint("id", i/8), Data: i}) // ids repeat for other users, and twice for the same
		}
		done := make(chan error, len(nodes))
		for _, s := range nodes {
			h := hub(t, s)
			go func() { done <- s.RelaySome(context.Background(), h) }()
		}
		for range nodes {
			require.NoError(t, <-done)
		}
		require.Zero(t, w.count(t, "outbox"))
		total := 0
		for i := range 4 {
			total += len(read(t, nodes[0], fmt.Sprint("user/u", i)).Entries)
		}
		require.Equal(t, n/2, total)
	})
}

// F40: the clocks are compared again also on a node that does not clean up.
func TestClockComparedByWrites(t *testing.T) {
	w := openPostgres(t)
	s, err := sqlstore.New(w.db, w.opts)
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Migrate(t.Context()))
	_ = read(t, s, "t")
	s.Age(time.Hour.Milliseconds())
	e := keyed("a")
	appendOne(t, s, "t", room, &e)
	require.Less(t, s.Ahead(), time.Hour.Milliseconds()/2)
}
