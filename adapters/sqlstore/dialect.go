package sqlstore

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
)

// Dialect is a kind of SQL database.
type Dialect int

const (
	// SQLite: version 3.38 or later, in WAL mode, any driver.
	SQLite Dialect = iota + 1
	// PostgreSQL: version 13 or later, any driver whose errors have a method
	// SQLState() string, as those of pgx and pq have.
	PostgreSQL
)

// String returns the name of the dialect.
func (d Dialect) String() string {
	switch d {
	case SQLite:
		return "SQLite"
	case PostgreSQL:
		return "PostgreSQL"
	}
	return "Dialect(" + strconv.Itoa(int(d)) + ")"
}

// parameters is how many of them one statement may have, less some for safety.
func (d Dialect) parameters() int {
	if d == SQLite {
		return 30_000
	}
	return 60_000
}

// words are what the dialects say differently.
func (d Dialect) words(prefix string) []string {
	if d == SQLite {
		return []string{"{p}", prefix, "{blob}", "BLOB", "{int}", "INTEGER", "{id}", "INTEGER PRIMARY KEY AUTOINCREMENT",
			"{for update}", "", "{key share}", "", "{skip locked t}", "", "{skip locked}", "", "{random}", "lower(hex(randomblob(6)))", "{time}", "unixepoch()", "{fill}", ""}
	}
	return []string{"{p}", prefix, "{blob}", "bytea", "{int}", "bigint", "{id}", "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
		"{for update}", "FOR UPDATE", "{key share}", "FOR KEY SHARE", "{skip locked t}", "FOR UPDATE OF t SKIP LOCKED", "{skip locked}", "FOR UPDATE SKIP LOCKED", "{random}", "substr(replace(gen_random_uuid()::text, '-', ''), 1, 12)",
		"{time}", "extract(epoch from clock_timestamp())::bigint", "{fill}", " WITH (fillfactor = 80)"}
}

// text puts the words of the dialect into a statement, and its placeholders for ?.
func (s *Store) text(statement string) string {
	if t, ok := s.texts.Load(statement); ok {
		return t.(string)
	}
	t := s.words.Replace(statement)
	if s.opts.Dialect == PostgreSQL {
		var b strings.Builder
		for i, part := range strings.Split(t, "?") {
			if i > 0 {
				b.WriteString("$" + strconv.Itoa(i))
			}
			b.WriteString(part)
		}
		t = b.String()
	}
	s.texts.Store(statement, t)
	return t
}

// executor is a *sql.DB, *sql.Tx or *sql.Conn.
type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// columns are the types of the columns of {w}, a table of values in a statement: i for an
// integer, b for bytes.
type columns string

// table writes rows as the text of a VALUES list, and their arguments. On
// PostgreSQL it is filled up with rows of NULLs to a power of two, so that a
// driver that prepares statements meets few different ones; no statement here
// takes notice of a row whose first column is NULL.
func (c columns) table(d Dialect, rows [][]any) (string, []any) {
	var b strings.Builder
	args := make([]any, 0, len(rows)*len(c))
	n := len(rows)
	if d == PostgreSQL {
		for n = 1; n < len(rows); n *= 2 {
		}
	}
	b.WriteString("VALUES ")
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('(')
		for j := range c {
			if j > 0 {
				b.WriteByte(',')
			}
			b.WriteString(c.placeholder(d, i, j))
			if i < len(rows) {
				args = append(args, rows[i][j])
			} else {
				args = append(args, nil)
			}
		}
		b.WriteByte(')')
	}
	return b.String(), args
}

func (c columns) placeholder(d Dialect, i, j int) string {
	if d == SQLite {
		return "?"
	}
	p := "$" + strconv.Itoa(i*len(c)+j+1)
	if i > 0 {
		return p // the first row tells the types
	}
	if c[j] == 'b' {
		return p + "::bytea"
	}
	return p + "::bigint"
}

// chunks calls f for as many rows at a time as go into one statement.
func (s *Store) chunks(c columns, rows [][]any, f func(table string, args []any) error) error {
	limit := min(s.opts.Dialect.parameters()/len(c), 1024)
	for len(rows) > 0 {
		n := min(len(rows), limit)
		table, args := c.table(s.opts.Dialect, rows[:n])
		if err := f(table, args); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// execEach runs a statement over rows as its table {w}.
func (s *Store) execEach(ctx context.Context, x executor, statement string, c columns, rows [][]any) error {
	return s.chunks(c, rows, func(table string, args []any) error {
		_, err := x.ExecContext(ctx, strings.Replace(s.text(statement), "{w}", table, 1), args...)
		return err
	})
}

// queryEach runs a query over rows as its table {w}, and calls scan for each row of the answer.
func (s *Store) queryEach(ctx context.Context, x executor, statement string, c columns, rows [][]any, scan func(r *sql.Rows) error) error {
	return s.chunks(c, rows, func(table string, args []any) error {
		return query(ctx, x, strings.Replace(s.text(statement), "{w}", table, 1), args, scan)
	})
}

// query calls scan for each row of an answer.
func query(ctx context.Context, x executor, text string, args []any, scan func(r *sql.Rows) error) error {
	r, err := x.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer r.Close()
	for r.Next() {
		if err := scan(r); err != nil {
			return err
		}
	}
	return r.Err()
}
