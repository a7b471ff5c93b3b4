package sqlstore_test

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/parley-go/parley/adapters/sqlstore"
	"github.com/parley-go/parley/adapters/sqlstore/pgtest"
)

// world is a database with the Stores on it, whose time is turned by hand.
type world struct {
	dialect sqlstore.Dialect
	db      *sql.DB
	opts    sqlstore.Options

	now atomic.Int64 // in milliseconds; it stands still but for sleep
}

// databases makes a world of each kind.
var databases = []struct {
	name string
	open func(t testing.TB) *world
}{
	{"SQLite", openSQLite},
	{"SQLite in memory", openMemory},
	{"PostgreSQL", openPostgres},
}

// eachDatabase runs f on every kind of database.
func eachDatabase(t *testing.T, f func(t *testing.T, w *world)) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			f(t, d.open(t))
		})
	}
}

func sqliteFile(path string) string {
	return "file:" + path + "?_pragma=journal_mode(WAL)&_pragma=busy_timeout(60000)"
}

func openSQLite(t testing.TB) *world {
	t.Helper()
	return openWorld(t, sqlstore.SQLite, "sqlite", sqliteFile(filepath.Join(t.TempDir(), "app.db")))
}

func openMemory(t testing.TB) *world {
	t.Helper()
	w := openWorld(t, sqlstore.SQLite, "sqlite", ":memory:")
	w.db.SetMaxOpenConns(1) // each connection has a database of its own
	return w
}

func openPostgres(t testing.TB) *world {
	t.Helper()
	return openWorld(t, sqlstore.PostgreSQL, "pgx", pgtest.Start(t))
}

func openWorld(t testing.TB, d sqlstore.Dialect, driver, dsn string) *world {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	w := &world{dialect: d, db: db, opts: sqlstore.Options{
		Dialect: d, CleanInterval: -1, Timeout: 3 * time.Minute, // a machine may be slow
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}}
	w.now.Store(1_800_000_000_000)
	return w
}

// node returns another Store on the database, which is migrated.
func (w *world) node(t testing.TB) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.New(w.db, w.opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	s.SetClock(w.now.Load)
	require.NoError(t, s.Migrate(context.Background()))
	return s
}

// sleep lets time pass for all Stores.
func (w *world) sleep(d time.Duration) { w.now.Add(d.Milliseconds()) }
