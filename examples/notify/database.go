package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/parley-go/parley/adapters/sqlstore"
)

// database is the shop's. The tables of sqlstore are in it beside those of the
// shop, so that one transaction can change both.
type database struct {
	*sql.DB
	dialect sqlstore.Dialect
	where   string
}

// openDatabase opens PostgreSQL if there is a URL, else the SQLite file.
func openDatabase(postgres, file string) (database, error) {
	if postgres != "" {
		db, err := sql.Open("pgx", postgres)
		return database{db, sqlstore.PostgreSQL, "PostgreSQL"}, err
	}
	if file == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return database{}, fmt.Errorf("%w: say in DB where the database shall be", err)
		}
		file = filepath.Join(cache, "parley-shop", "shop.db")
		// For this user only: the sessions are in it.
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return database{}, err
		}
	}
	options := url.Values{
		// Readers do not wait for the writer, and writers wait for each other instead of failing.
		"_pragma": {"journal_mode(WAL)", "busy_timeout(5000)", "foreign_keys(1)"},
		"_txlock": {"immediate"},
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?"+options.Encode())
	return database{db, sqlstore.SQLite, file}, err
}

// tables are those of the shop. %s is a number that counts up by itself. Times are in ms since 1970.
const tables = `
CREATE TABLE IF NOT EXISTS orders (
	id %s, user_id text NOT NULL, item text NOT NULL, status text NOT NULL, placed_at bigint NOT NULL, shipped_at bigint NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS orders_user ON orders (user_id, status);
CREATE TABLE IF NOT EXISTS sessions (id text PRIMARY KEY, user_id text NOT NULL, expires_at bigint NOT NULL);
CREATE TABLE IF NOT EXISTS secrets (name text PRIMARY KEY, value text NOT NULL);`

// migrate makes the tables that are missing.
func (db database) migrate(ctx context.Context) error {
	id := "integer PRIMARY KEY"
	if db.dialect == sqlstore.PostgreSQL {
		id = "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
	}
	_, err := db.ExecContext(ctx, fmt.Sprintf(tables, id))
	return err
}

// secret returns the random value of this name, the same one for ever.
func (db database) secret(ctx context.Context, name string) (value string, err error) {
	_, err = db.ExecContext(ctx, "INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING", name, rand.Text()+rand.Text())
	if err == nil {
		err = db.QueryRowContext(ctx, "SELECT value FROM secrets WHERE name = $1", name).Scan(&value)
	}
	return value, err
}

// transaction runs f, and keeps what it did only if it returns nil.
func (db database) transaction(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // the first error says more
		return err
	}
	return tx.Commit()
}
