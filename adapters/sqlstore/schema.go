package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// migrations are the steps of the schema, the first one at index 0: what was
// released is never changed, only added to. Every statement may be repeated.
//
// All names, ids and keys are bytes: a text of PostgreSQL holds no NUL. All
// times and ages are milliseconds.
var migrations = [][]string{{
	// The epoch of the topics that do not exist.
	`CREATE TABLE IF NOT EXISTS {p}meta (id {int} PRIMARY KEY, epoch text NOT NULL)`,
	`INSERT INTO {p}meta (id, epoch) VALUES (1, {random}) ON CONFLICT DO NOTHING`,
	// first is the oldest position that Messages and Bytes allow, total the sum of the
	// sizes of all entries ever, floor at most that of those before first, counts whether any was
	// ever unread, last_at the time of the newest, check_at when to clean up next.
	`CREATE TABLE IF NOT EXISTS {p}topics (
  id {id}, name {blob} NOT NULL UNIQUE, epoch text NOT NULL,
  top {int} NOT NULL, first {int} NOT NULL, age {int} NOT NULL, version {int} NOT NULL, truncated {int} NOT NULL,
  counts {int} NOT NULL, last_at {int} NOT NULL, total {int} NOT NULL, floor {int} NOT NULL, check_at {int} NOT NULL){fill}`,
	`CREATE INDEX IF NOT EXISTS {p}topics_check ON {p}topics (check_at)`,
	// state: 0 never counted, 1 unread, 2 read, 3 archived. before is the sum of the sizes of all
	// entries before this one. due_at: when Overdue returns it, if ever.
	`CREATE TABLE IF NOT EXISTS {p}entries (
  topic_id {int} NOT NULL, pos {int} NOT NULL, ikey {blob}, sent_at {int} NOT NULL, stored_at {int} NOT NULL, expires_at {int},
  due_at {int}, state {int} NOT NULL, before {int} NOT NULL, data {blob}, PRIMARY KEY (topic_id, pos))`,
	`CREATE INDEX IF NOT EXISTS {p}entries_key ON {p}entries (topic_id, ikey) WHERE ikey IS NOT NULL`,
	`CREATE INDEX IF NOT EXISTS {p}entries_state ON {p}entries (topic_id, state, pos) WHERE state > 0`,
	`CREATE INDEX IF NOT EXISTS {p}entries_due ON {p}entries (due_at, topic_id, pos) WHERE due_at IS NOT NULL`,
	`CREATE INDEX IF NOT EXISTS {p}entries_waiting ON {p}entries (topic_id, pos) WHERE due_at IS NOT NULL`,
	`CREATE INDEX IF NOT EXISTS {p}entries_expires ON {p}entries (expires_at) WHERE expires_at IS NOT NULL AND data IS NOT NULL`,
	`CREATE TABLE IF NOT EXISTS {p}members (
  room {blob} NOT NULL, user_id {blob} NOT NULL, node {blob} NOT NULL, name {blob} NOT NULL, entered_at {int} NOT NULL, ends_at {int} NOT NULL,
  PRIMARY KEY (room, user_id, node))`,
	`CREATE INDEX IF NOT EXISTS {p}members_ends ON {p}members (ends_at)`,
	`CREATE TABLE IF NOT EXISTS {p}audiences (audience {blob} NOT NULL, user_id {blob} NOT NULL, PRIMARY KEY (audience, user_id))`,
	// Notifications that wait for the relay. failed: set aside, with the reason.
	`CREATE TABLE IF NOT EXISTS {p}outbox (
  seq {id}, user_id {blob} NOT NULL, id {blob} NOT NULL, kind {blob} NOT NULL, ttl {int} NOT NULL, data {blob} NOT NULL,
  retry_at {int} NOT NULL, attempts {int} NOT NULL, failed text)`,
	`CREATE INDEX IF NOT EXISTS {p}outbox_retry ON {p}outbox (retry_at, seq) WHERE failed IS NULL`,
}, {
	// Who is online since when, and was seen when: what is older than the leases in connected, in which
	// seen_at is the last Connect.
	`CREATE TABLE IF NOT EXISTS {p}users (user_id {blob} PRIMARY KEY, since {int} NOT NULL, seen_at {int} NOT NULL)`,
	`CREATE INDEX IF NOT EXISTS {p}users_seen ON {p}users (seen_at)`,
	`CREATE TABLE IF NOT EXISTS {p}connected (
  user_id {blob} NOT NULL, node {blob} NOT NULL, seen_at {int} NOT NULL, ends_at {int} NOT NULL, PRIMARY KEY (user_id, node))`,
	`CREATE INDEX IF NOT EXISTS {p}connected_ends ON {p}connected (ends_at)`,
	// A version counts entries now, no longer Appends. It only ever rises.
	`UPDATE {p}topics SET version = top WHERE version < top`,
}}

// Version is the version of the schema that this package works with.
var Version = len(migrations)

const versionTable = `CREATE TABLE IF NOT EXISTS {p}schema (version {int} PRIMARY KEY, migrated_at {int} NOT NULL)`

// Schema returns the schema as SQL, for applications that keep their
// migrations themselves: with it run, Migrate finds nothing to do. It uses the default
// Options.TablePrefix; see Store.Schema for another.
func Schema(d Dialect) string { return schema(d, "parley_") }

// Schema returns the schema as SQL, with the table prefix of s.
func (s *Store) Schema() string { return schema(s.opts.Dialect, s.opts.TablePrefix) }

func schema(d Dialect, prefix string) string {
	words := strings.NewReplacer(d.words(prefix)...)
	var b strings.Builder
	fmt.Fprintf(&b, "-- parley sqlstore, %s, version %d\n%s;\n", d, Version, words.Replace(versionTable))
	for i, step := range migrations {
		for _, statement := range step {
			b.WriteString(words.Replace(statement) + ";\n")
		}
		b.WriteString(words.Replace(fmt.Sprintf("INSERT INTO {p}schema (version, migrated_at) VALUES (%d, {time}) ON CONFLICT DO NOTHING;\n", i+1)))
	}
	return b.String()
}

// Migrate creates the tables or brings them up to date, in one transaction. It may be
// called at every start, by several nodes at once. On PostgreSQL the user of the
// database needs the right to create tables.
func (s *Store) Migrate(ctx context.Context) error {
	err := s.again(ctx, func() error {
		if s.opts.Dialect == SQLite { // transaction needs it
			if _, err := s.db.ExecContext(ctx, s.text(versionTable)); err != nil {
				return err
			}
		}
		return s.migrateAll(ctx)
	})
	if err != nil {
		return fmt.Errorf("sqlstore: Migrate: %w", err)
	}
	return nil
}

func (s *Store) migrateAll(ctx context.Context) error {
	return s.transaction(ctx, func(tx *sql.Tx) error {
		if s.opts.Dialect == PostgreSQL { // CREATE ... IF NOT EXISTS alone fails when two run at once
			if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('parley sqlstore'))`); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, s.text(versionTable)); err != nil {
			return err
		}
		version, err := s.version(ctx, tx)
		if err != nil {
			return err
		}
		for i := version; i < Version; i++ {
			if err := s.migrate(ctx, tx, i); err != nil {
				return fmt.Errorf("step %d: %w", i+1, err)
			}
		}
		return nil
	})
}

func (s *Store) migrate(ctx context.Context, tx *sql.Tx, i int) error {
	for _, statement := range append(migrations[i], fmt.Sprintf(`INSERT INTO {p}schema (version, migrated_at) VALUES (%d, {time})`, i+1)) {
		if _, err := tx.ExecContext(ctx, s.words.Replace(statement)); err != nil {
			return err
		}
	}
	return nil
}

// version returns the version of the schema in the database.
func (s *Store) version(ctx context.Context, x executor) (version int, err error) {
	err = query(ctx, x, s.text(`SELECT coalesce(max(version), 0) FROM {p}schema`), nil, func(r *sql.Rows) error { return r.Scan(&version) })
	if err == nil && version > Version {
		err = fmt.Errorf("the schema has version %d, and this program knows %d at most: update it", version, Version)
	}
	return version, err
}

var errOldSchema = errors.New("sqlstore: the schema is older than this program: call Store.Migrate")

// ready checks the schema and reads the clock before the first use.
func (s *Store) ready(ctx context.Context) error {
	if s.checked.Load() {
		return ctx.Err()
	}
	select {
	case s.checking <- struct{}{}: // one at a time, the others wait: a start is no rush for connections
		defer func() { <-s.checking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil || s.checked.Load() {
		return err
	}
	version, err := s.version(ctx, s.db)
	if err != nil {
		return wrap(ctx, fmt.Errorf("%w (was Store.Migrate called?)", err))
	}
	if version < Version {
		return errOldSchema
	}
	if err := s.clock.sync(ctx, s.db); err != nil {
		return wrap(ctx, fmt.Errorf("clock: %w", err))
	}
	s.checked.Store(true)
	return nil
}
