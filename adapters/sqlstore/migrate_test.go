package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore/pgtest"
)

// openDialects opens an empty database of each dialect.
func openDialects(t *testing.T, f func(t *testing.T, d Dialect, db *sql.DB)) {
	t.Run("SQLite", func(t *testing.T) {
		db, err := sql.Open("sqlite", ":memory:")
		require.NoError(t, err)
		defer db.Close()
		db.SetMaxOpenConns(1)
		f(t, SQLite, db)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		db, err := sql.Open("pgx", pgtest.Start(t))
		require.NoError(t, err)
		defer db.Close()
		f(t, PostgreSQL, db)
	})
}

// exec runs a statement with the words of a dialect.
func exec(t *testing.T, d Dialect, db *sql.DB, statement string) {
	t.Helper()
	text := strings.NewReplacer(d.words("parley_")...).Replace(statement)
	_, err := db.ExecContext(context.Background(), text)
	require.NoError(t, err, text)
}

// versionOne makes a database as version 1 of the schema left it, with three topics.
func versionOne(t *testing.T, d Dialect, db *sql.DB, now int64) {
	t.Helper()
	exec(t, d, db, versionTable)
	for _, statement := range migrations[0] {
		exec(t, d, db, statement)
	}
	exec(t, d, db, `INSERT INTO {p}schema (version, migrated_at) VALUES (1, {time})`)
	hex := func(s string) string {
		if d == SQLite {
			return fmt.Sprintf("x'%x'", s)
		}
		return fmt.Sprintf(`'\x%x'::bytea`, s)
	}
	// top entries, and a version of one for each Append and each Mark.
	for _, topic := range []struct {
		name         string
		top, version int
	}{{"batches", 9, 4}, {"singles", 3, 3}, {"marked", 2, 7}} {
		exec(t, d, db, fmt.Sprintf(`INSERT INTO {p}topics (name, epoch, top, first, age, version, truncated, counts, last_at, total, floor, check_at)
VALUES (%s, 'e-%s', %d, 1, 0, %d, 0, 1, %d, %d, 0, 0)`, hex(topic.name), topic.name, topic.top, topic.version, now, 2*topic.top))
		for pos := 1; pos <= topic.top; pos++ {
			exec(t, d, db, fmt.Sprintf(`INSERT INTO {p}entries (topic_id, pos, ikey, sent_at, stored_at, state, before, data)
SELECT id, %d, %s, 7, %d, 1, %d, %s FROM {p}topics WHERE name = %s`, pos, hex(fmt.Sprint("k", pos)), now, 2*(pos-1), hex("{}"), hex(topic.name)))
		}
	}
	exec(t, d, db, fmt.Sprintf(`INSERT INTO {p}members (room, user_id, node, name, entered_at, ends_at) VALUES (%s, %s, %s, %s, %d, %d)`,
		hex("batches"), hex("kim"), hex("n"), hex("Kim"), now, now+time.Hour.Milliseconds()))
}

// A database of version 1 keeps what it holds, and no Version falls.
func TestMigrateFromVersionOne(t *testing.T) {
	openDialects(t, func(t *testing.T, d Dialect, db *sql.DB) {
		now := time.Now().UnixMilli()
		versionOne(t, d, db, now)
		s, err := New(db, Options{Dialect: d, CleanInterval: -1})
		require.NoError(t, err)
		defer s.Close()
		_, err = s.Read(t.Context(), "batches", parley.Query{})
		require.ErrorIs(t, err, errOldSchema)

		require.NoError(t, s.Migrate(t.Context()))
		require.NoError(t, s.Migrate(t.Context()), "nothing is left to do")
		heads, err := s.Heads(t.Context(), []string{"batches", "singles", "marked"})
		require.NoError(t, err)
		require.Equal(t, []parley.Head{
			{Log: parley.Log{Epoch: "e-batches", Unread: 9, Version: 9}, Top: 9},
			{Log: parley.Log{Epoch: "e-singles", Unread: 3, Version: 3}, Top: 3},
			{Log: parley.Log{Epoch: "e-marked", Unread: 2, Version: 7}, Top: 2},
		}, heads)
		for i, name := range []string{"batches", "singles", "marked"} {
			entries := []parley.Entry{{Key: "k2"}, {Key: "new", Data: []byte(`{}`), Unread: true}}
			log, err := s.Append(t.Context(), name, parley.Retention{Messages: 100}, entries)
			require.NoError(t, err)
			require.Equal(t, heads[i].Version+1, log.Version)
			require.Equal(t, [2]int64{2, heads[i].Top + 1}, [2]int64{entries[0].Offset, entries[1].Offset})
			got, err := s.Mark(t.Context(), name, parley.Mark{As: parley.MarkRead, UpTo: 1})
			require.NoError(t, err)
			require.Equal(t, heads[i].Version+2, got.Version)
		}
		members, _, err := s.Members(t.Context(), "batches", 9)
		require.NoError(t, err)
		require.Equal(t, []parley.Member{{UserID: "kim", Name: "Kim"}}, members)
		require.NoError(t, s.Connect(t.Context(), "n", []string{"kim"}, time.Minute))
		status, err := s.Status(t.Context(), []string{"kim"})
		require.NoError(t, err)
		require.True(t, status[0].Online)
	})
}

// Schema brings a database of any version up to date, too, also when it is run twice.
func TestSchemaFromVersionOne(t *testing.T) {
	openDialects(t, func(t *testing.T, d Dialect, db *sql.DB) {
		versionOne(t, d, db, time.Now().UnixMilli())
		text := Schema(d)
		require.Contains(t, text, "version 2")
		for _, want := range []string{"parley_entries (", "parley_users (", "parley_connected (", "VALUES (1, ", "VALUES (2, "} {
			require.Contains(t, text, want)
		}
		for range 2 {
			for statement := range strings.SplitSeq(text, ";\n") {
				_, err := db.ExecContext(t.Context(), statement)
				require.NoError(t, err, statement)
			}
		}
		s, err := New(db, Options{Dialect: d, CleanInterval: -1})
		require.NoError(t, err)
		defer s.Close()
		heads, err := s.Heads(t.Context(), []string{"batches"})
		require.NoError(t, err)
		require.EqualValues(t, 9, heads[0].Version)
		var rows int
		require.NoError(t, db.QueryRow(`SELECT count(*) FROM parley_schema`).Scan(&rows))
		require.Equal(t, Version, rows)
		require.NoError(t, s.Migrate(t.Context()))
	})
}

// In one round nobody both comes and goes.
func TestRounds(t *testing.T) {
	parse := func(text string) (list []connection) {
		for word := range strings.FieldsSeq(text) {
			list = append(list, connection{user: word[1:], gone: word[0] == '-'})
		}
		return list
	}
	for text, want := range map[string][]string{
		"+a":                {"+a"},
		"+a +b +a -c":       {"+a +b +a -c"},
		"+a -b -a +c":       {"+a -b", "-a +c"},
		"-a +a -a +b -b":    {"-a", "+a", "-a +b", "-b"},
		"+a +b -c +c +a -b": {"+a +b -c", "+c +a -b"},
	} {
		var rest [][]connection
		for _, w := range want {
			rest = append(rest, parse(w))
		}
		require.Equal(t, rest, rounds(parse(text)), text)
	}
}
