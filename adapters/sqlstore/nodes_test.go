package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore"
	"github.com/parley-go/parley/adapters/sqlstore/pgtest"
)

var everything = parley.Query{Forward: true, Limit: 100_000, Marks: true}

func keyed(key string) parley.Entry {
	return parley.Entry{Key: key, Time: 7, Data: fmt.Appendf(nil, `{"key":%q}`, key), Unread: true}
}

// appendOne appends an entry, which is changed.
func appendOne(t testing.TB, s *sqlstore.Store, topic string, keep parley.Retention, e *parley.Entry) parley.Log {
	t.Helper()
	list := []parley.Entry{*e}
	log, err := s.Append(context.Background(), topic, keep, list)
	require.NoError(t, err)
	*e = list[0]
	return log
}

func read(t testing.TB, s *sqlstore.Store, topic string) parley.Page {
	t.Helper()
	page, err := s.Read(context.Background(), topic, everything)
	require.NoError(t, err)
	return page
}

// F14, F23: nothing depends on the process that wrote.
func TestStoreReopened(t *testing.T) {
	path, dsn := filepath.Join(t.TempDir(), "app.db"), ""
	for name, open := range map[string]func(t testing.TB) *world{
		"SQLite": func(t testing.TB) *world { return openWorld(t, sqlstore.SQLite, "sqlite", sqliteFile(path)) },
		"PostgreSQL": func(t testing.TB) *world {
			if dsn == "" {
				dsn = pgtest.Start(t)
			}
			return openWorld(t, sqlstore.PostgreSQL, "pgx", dsn)
		},
	} {
		t.Run(name, func(t *testing.T) {
			first := open(t)
			s := first.node(t)
			for i := range 5 {
				e := keyed(fmt.Sprint(i))
				appendOne(t, s, "t", parley.Retention{Messages: 4, Age: time.Hour}, &e)
			}
			_, err := s.Mark(t.Context(), "t", parley.Mark{As: parley.MarkArchived, Keys: []string{"2"}})
			require.NoError(t, err)
			require.NoError(t, s.Enter(t.Context(), "t", "n", []parley.Member{{UserID: "kim", Name: "Kim"}}, time.Hour))
			require.NoError(t, s.AddUsers(t.Context(), "all", []string{"kim"}))
			before := read(t, s, "t")
			require.NoError(t, s.Close())
			_, err = s.Append(t.Context(), "t", parley.Retention{Messages: 4}, []parley.Entry{keyed("6")})
			require.ErrorIs(t, err, sqlstore.ErrClosed)

			s = open(t).node(t)
			require.Equal(t, before, read(t, s, "t"))
			again := keyed("0") // trimmed, but within the window
			log := appendOne(t, s, "t", parley.Retention{Messages: 4, Age: time.Hour}, &again)
			require.True(t, again.Duplicate)
			require.EqualValues(t, 1, again.Offset)
			require.Equal(t, before.Log, log)
			members, _, err := s.Members(t.Context(), "t", 9)
			require.NoError(t, err)
			require.Equal(t, []parley.Member{{UserID: "kim", Name: "Kim"}}, members)
			users, err := s.Users(t.Context(), "all", "", 9)
			require.NoError(t, err)
			require.Equal(t, []string{"kim"}, users)
		})
	}
}

// F40: clocks that disagree by a day break no offset and no version.
func TestStoreClocksDisagree(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		a, b := w.node(t), w.node(t)
		b.SetClock(func() int64 { return w.now.Load() - 24*time.Hour.Milliseconds() })
		version := int64(0)
		for i := range 20 {
			e := keyed(fmt.Sprint(i))
			log := appendOne(t, []*sqlstore.Store{a, b}[i%2], "t", parley.Retention{Messages: 50, Age: time.Hour}, &e)
			require.EqualValues(t, i+1, e.Offset)
			require.Greater(t, log.Version, version)
			require.Equal(t, i+1, log.Unread)
			version = log.Version
		}
		require.Len(t, read(t, a, "t").Entries, 20, "what was stored with the slow clock is no older than what was before it")
	})
}

// A write that the database refuses fails alone, whatever it was collected with.
func TestStoreBadWriteFailsAlone(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		s := w.node(t)
		refuse := `CREATE TRIGGER refuse BEFORE INSERT ON parley_entries WHEN NEW.sent_at = 666 BEGIN SELECT RAISE(ABORT, 'refused'); END`
		if w.dialect == sqlstore.PostgreSQL {
			refuse = `ALTER TABLE parley_entries ADD CONSTRAINT refused CHECK (sent_at <> 666)`
		}
		_, err := w.db.Exec(refuse)
		require.NoError(t, err)
		errs := make([]error, 100)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				e := keyed(fmt.Sprint(i))
				if i%10 == 3 {
					e.Time = 666
				}
				_, errs[i] = s.Append(context.Background(), fmt.Sprint("t", i%7), parley.Retention{Messages: 100}, []parley.Entry{e})
			})
		}
		wg.Wait()
		for i, err := range errs {
			if i%10 == 3 {
				require.ErrorContains(t, err, "refused", "write %d", i)
			} else {
				require.NoError(t, err, "write %d", i)
			}
		}
		total := 0
		for i := range 7 {
			total += len(read(t, s, fmt.Sprint("t", i)).Entries)
		}
		require.Equal(t, 90, total)
	})
}

// The caller gets its error at once, also while the database hangs (F9).
func TestStoreHonoursContextWhileDatabaseHangs(t *testing.T) {
	w := openSQLite(t)
	s := w.node(t)
	e := keyed("first")
	appendOne(t, s, "t", parley.Retention{Messages: 9}, &e)
	tx, err := w.db.Begin()
	require.NoError(t, err)
	_, err = tx.Exec(`DELETE FROM parley_schema WHERE version = 0`) // holds the write lock
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() {
		_, err := s.Append(ctx, "t", parley.Retention{Messages: 9}, []parley.Entry{keyed("second")})
		result <- err
	}()
	cancel()
	require.ErrorIs(t, <-result, context.Canceled)
	require.NoError(t, tx.Rollback())
	e = keyed("third")
	appendOne(t, s, "t", parley.Retention{Messages: 9}, &e)
	require.Contains(t, []int64{2, 3}, e.Offset, "the second one may be stored or not")
}

// F23: a server killed under load. What was acknowledged is there, and what is repeated with its
// key is stored once.
func TestStorePostgresKilled(t *testing.T) {
	server := pgtest.New(t)
	w := openWorld(t, sqlstore.PostgreSQL, "pgx", server.Database(t))
	s := w.node(t)
	const topics, each = 8, 40
	keep := parley.Retention{Messages: 1000}
	offsets := make([][each]int64, topics)
	var wg sync.WaitGroup
	half := make(chan struct{}, topics)
	back := make(chan struct{})
	for i := range topics {
		wg.Go(func() {
			for n := 0; n < each; {
				if n == each/2 {
					half <- struct{}{}
				}
				list := []parley.Entry{keyed(fmt.Sprint(n))}
				if _, err := s.Append(context.Background(), fmt.Sprint("t", i), keep, list); err != nil {
					<-back
					continue
				}
				offsets[i][n] = list[0].Offset
				n++
			}
		})
	}
	<-half
	server.Kill(t)
	server.Restart(t)
	close(back)
	go func() {
		for range half { // those that come there later
		}
	}()
	wg.Wait()
	close(half)
	for i := range topics {
		page := read(t, s, fmt.Sprint("t", i))
		require.Len(t, page.Entries, each)
		for n, offset := range offsets[i] {
			require.EqualValues(t, n+1, offset)
			require.Equal(t, string(keyed(fmt.Sprint(n)).Data), string(page.Entries[n].Data))
		}
	}
}

// Poolers in transaction mode need a driver that prepares nothing.
func TestPostgresWithoutPreparing(t *testing.T) {
	for _, mode := range []string{"simple_protocol", "describe_exec", "exec"} {
		w := openWorld(t, sqlstore.PostgreSQL, "pgx", pgtest.Start(t)+" default_query_exec_mode="+mode)
		s := w.node(t)
		e := parley.Entry{Key: "\x00k'\\", Data: []byte("\x00\xff'\\"), Unread: true, ReceiveIn: time.Minute}
		appendOne(t, s, "t'\\\x00", room, &e)
		appendOne(t, s, "t'\\\x00", room, &e)
		require.True(t, e.Duplicate)
		page := read(t, s, "t'\\\x00")
		require.Equal(t, e.Data, page.Entries[0].Data)
		w.sleep(time.Hour / 2)
		overdue, err := s.Overdue(t.Context(), 9, time.Minute)
		require.NoError(t, err)
		require.Len(t, overdue, 1)
		marked, err := s.Mark(t.Context(), "t'\\\x00", parley.Mark{As: parley.MarkRead, UpTo: 1})
		require.NoError(t, err)
		require.Zero(t, marked.Unread)
		require.NoError(t, s.Enter(t.Context(), "t", "n", []parley.Member{{UserID: "kim"}}, time.Hour))
		require.NoError(t, s.Clean(t.Context()))
	}
}

// Several nodes migrate at once, and again at every start.
func TestMigrate(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		s, err := sqlstore.New(w.db, w.opts)
		require.NoError(t, err)
		defer s.Close()
		_, err = s.Read(t.Context(), "t", everything)
		require.ErrorContains(t, err, "Migrate", "without the tables")
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			wg.Go(func() { errs[i] = s.Migrate(t.Context()) })
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		e := keyed("a")
		log := appendOne(t, s, "t", parley.Retention{Messages: 9}, &e)
		require.NoError(t, s.Migrate(t.Context()))
		require.Equal(t, log, read(t, s, "t").Log)

		_, err = w.db.Exec(`INSERT INTO parley_schema (version, migrated_at) VALUES (999, 0)`)
		require.NoError(t, err)
		require.ErrorContains(t, s.Migrate(t.Context()), "version 999")
	})
}

// The printed schema is the one that Migrate makes.
func TestSchema(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		for range 2 {
			_, err := w.db.Exec(sqlstore.Schema(w.dialect))
			require.NoError(t, err)
		}
		s := w.node(t)
		e := keyed("a")
		appendOne(t, s, "t", parley.Retention{Messages: 9}, &e)
		var versions int
		require.NoError(t, w.db.QueryRow(`SELECT count(*) FROM parley_schema`).Scan(&versions))
		require.Equal(t, sqlstore.Version, versions)

		w.opts.TablePrefix = "other_"
		other := w.node(t)
		require.Contains(t, other.Schema(), "other_entries")
		require.Zero(t, read(t, other, "t").Top, "prefixes share nothing")
	})
}

func TestOptions(t *testing.T) {
	w := openMemory(t)
	for _, opts := range []sqlstore.Options{{}, {Dialect: 9}, {Dialect: sqlstore.SQLite, TablePrefix: "x; DROP TABLE y"}, {Dialect: sqlstore.SQLite, TablePrefix: "9"},
		{Dialect: sqlstore.SQLite, Timeout: -1}, {Dialect: sqlstore.SQLite, BatchRows: -1}, {Dialect: sqlstore.SQLite, RelayInterval: -1}} {
		_, err := sqlstore.New(w.db, opts)
		require.Error(t, err, "%+v", opts)
	}
	_, err := sqlstore.New((*sql.DB)(nil), w.opts)
	require.Error(t, err)
	s := w.node(t)
	for _, keep := range []parley.Retention{{}, {Messages: -1}, {Messages: 1, Age: -1}, {Messages: 1, Bytes: -1}} {
		_, err := s.Append(t.Context(), "t", keep, []parley.Entry{{}})
		require.Error(t, err, "%+v", keep)
	}
	_, err = s.Mark(t.Context(), "t", parley.Mark{As: 9})
	require.Error(t, err)
}
