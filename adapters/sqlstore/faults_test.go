package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/sqlstore"
)

// faults is a driver over that of SQLite, and decides before each statement what becomes of it.
type faults struct {
	inner driver.Driver
	dsn   string
	// before is called with each statement, BEGIN and COMMIT included; its error is the
	// statement's, which is then not carried out.
	before atomic.Pointer[func(statement string) error]
	// after is called after each COMMIT; its error is the answer to it.
	after atomic.Pointer[func() error]
}

// openFaulty makes a world in which statements fail.
func openFaulty(t testing.TB) (*world, *faults) {
	t.Helper()
	w := openSQLite(t)
	f := &faults{inner: w.db.Driver(), dsn: sqliteFile(filepath.Join(t.TempDir(), "faulty.db"))}
	w.db = sql.OpenDB(f)
	t.Cleanup(func() { require.NoError(t, w.db.Close()) })
	return w, f
}

func (f *faults) set(before func(statement string) error) { f.before.Store(&before) }

func (f *faults) step(statement string) error {
	if before := f.before.Load(); before != nil && *before != nil {
		return (*before)(statement)
	}
	return nil
}

func (f *faults) Driver() driver.Driver { return f.inner }

func (f *faults) Connect(context.Context) (driver.Conn, error) {
	c, err := f.inner.Open(f.dsn)
	return &faultyConn{c, f}, err
}

type faultyConn struct {
	driver.Conn
	f *faults
}

func (c *faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.f.step(query); err != nil {
		return nil, err
	}
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c *faultyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.f.step(query); err != nil {
		return nil, err
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *faultyConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.f.step("BEGIN"); err != nil {
		return nil, err
	}
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
	return &faultyTx{tx, c.f}, err
}

type faultyTx struct {
	driver.Tx
	f *faults
}

func (tx *faultyTx) Commit() error {
	if err := tx.f.step("COMMIT"); err != nil {
		_ = tx.Rollback()
		return err
	}
	err := tx.Tx.Commit()
	if after := tx.f.after.Load(); err == nil && after != nil && *after != nil {
		err = (*after)()
	}
	return err
}

var _ sqlstore.Execer = (*sql.Tx)(nil)
