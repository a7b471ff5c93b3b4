package sqlstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
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

// sqliteParameters is how many one statement may have, less some for safety.
const sqliteParameters = 30_000

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

// table writes rows as the text of a query, and their arguments. On PostgreSQL there is one
// argument for each column, an array: so the text is the same for any number
// of rows, and the server has little to parse and to plan.
func (c columns) table(d Dialect, rows [][]any) (string, []any) {
	if d == PostgreSQL {
		return c.arrays(rows)
	}
	row := "(?" + strings.Repeat(",?", len(c)-1) + ")"
	args := make([]any, 0, len(rows)*len(c))
	for _, r := range rows {
		args = append(args, r...)
	}
	return "VALUES " + row + strings.Repeat(","+row, len(rows)-1), args
}

// arrays are rows as arrays in the text form, which every driver can send.
func (c columns) arrays(rows [][]any) (string, []any) {
	var text strings.Builder
	args := make([]any, len(c))
	for j := range c {
		kind := "bigint"
		if c[j] == 'b' {
			kind = "bytea"
		}
		fmt.Fprintf(&text, "%s$%d::%s[]", map[bool]string{true: "SELECT * FROM unnest(", false: ", "}[j == 0], j+1, kind)
		list := []byte("{")
		for i, row := range rows {
			if i > 0 {
				list = append(list, ',')
			}
			list = appendElement(list, row[j])
		}
		args[j] = string(append(list, '}'))
	}
	return text.String() + ")", args
}

// appendElement writes an element of an array: nil, bytes or an integer.
func appendElement(list []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(list, "NULL"...)
	case []byte:
		return append(hex.AppendEncode(append(list, `"\\x`...), v), '"')
	case int:
		return strconv.AppendInt(list, int64(v), 10)
	default:
		return strconv.AppendInt(list, v.(int64), 10)
	}
}

// chunks calls f for as many rows at a time as go into one statement.
func (s *Store) chunks(c columns, rows [][]any, f func(table string, args []any) error) error {
	limit := 10_000
	if s.opts.Dialect == SQLite {
		limit = min(sqliteParameters/len(c), 1024)
	}
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
