// Package sqlstore is a [parley.Store] in the application's own SQL database:
// SQLite for one machine, PostgreSQL for any number of nodes. It works over
// the application's *sql.DB and imports no driver.
//
//	db, err := sql.Open("sqlite", "file:app.db?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
//	store, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.SQLite})
//	err = store.Migrate(ctx)
//	hub, err := parley.New(parley.Options{Store: store, ...})
//
// # Group commit
//
// Writes that come while a transaction runs are collected, and go into the
// next one together. A transaction has a constant number of statements,
// however many writes it holds; a lone write waits for nobody. A write that the
// database refuses does not fail the others: they are repeated without it.
//
// # Time
//
// Ages, leases and the idempotency window are counted by the clock of the
// database server on PostgreSQL, which every node asks for about once a minute,
// and by the clock of the machine on SQLite. Offsets and versions do not depend on
// any clock: they are counted in the row of the topic, under its lock. Within
// a topic the recorded times never fall, even if a clock does.
//
// # Bounds
//
// Each Store uses one connection for writing and one for every Read, Heads,
// Members, Status and Users under way. A database/sql pool of two connections or more
// lets reads go on beside writes; one connection works, too. The writes that wait are
// those of the callers that wait: what a caller has left takes no memory and never takes place.
package sqlstore
