package shop

import (
	"context"
	"database/sql"
	"log/slog"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/parley-go/parley/adapters/sqlstore"
)

// Books are the database of a shop. They may be open several times.
type Books struct {
	DB    *sql.DB
	Store *sqlstore.Store

	dialect sqlstore.Dialect
}

// OpenBooks opens the database of a shop. Close them.
func OpenBooks(cfg Config) (*Books, error) {
	driver := "pgx"
	if cfg.Dialect == sqlstore.SQLite {
		driver = "sqlite"
	}
	db, err := sql.Open(driver, cfg.Source)
	if err != nil {
		return nil, err
	}
	store, err := sqlstore.New(db, sqlstore.Options{Dialect: cfg.Dialect, Logger: slog.New(slog.NewTextHandler(cfg.log(), nil))})
	if err != nil {
		_ = db.Close() // the first error says more
		return nil, err
	}
	return &Books{DB: db, Store: store, dialect: cfg.Dialect}, nil
}

// Close closes them.
func (b *Books) Close() {
	_ = b.Store.Close() // returns nil
	_ = b.DB.Close()    // nothing is written any more
}

// migrate makes the tables, if they are not there.
func (b *Books) migrate(ctx context.Context) error {
	if err := b.Store.Migrate(ctx); err != nil {
		return err
	}
	_, err := b.DB.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS orders (id varchar(40) PRIMARY KEY, customer varchar(40) NOT NULL)`)
	return err
}

// enter writes an order, as a part of a transaction.
func (b *Books) enter(ctx context.Context, tx *sql.Tx, id, customer string) error {
	statement := `INSERT INTO orders (id, customer) VALUES ($1, $2)`
	if b.dialect == sqlstore.SQLite {
		statement = `INSERT INTO orders (id, customer) VALUES (?, ?)`
	}
	_, err := tx.ExecContext(ctx, statement, id, customer)
	return err
}

// Orders returns the ids of the orders of all customers.
func (b *Books) Orders(ctx context.Context) (map[string][]string, error) {
	rows, err := b.DB.QueryContext(ctx, `SELECT customer, id FROM orders ORDER BY id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	orders := map[string][]string{}
	for rows.Next() {
		var customer, id string
		if err := rows.Scan(&customer, &id); err != nil {
			return nil, err
		}
		orders[customer] = append(orders[customer], id)
	}
	return orders, rows.Err()
}

// Waiting returns how many notifications wait in the outbox, those that were set aside included.
func (b *Books) Waiting(ctx context.Context) (n int, err error) {
	err = b.DB.QueryRowContext(ctx, `SELECT count(*) FROM parley_outbox`).Scan(&n)
	return n, err
}
