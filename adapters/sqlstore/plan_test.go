package sqlstore

import (
	"context"
	"database/sql"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"
)

// explain returns the steps by which SQLite carries out a statement.
func explain(t *testing.T, s *Store, statement string, args []any) (steps []string) {
	t.Helper()
	err := query(context.Background(), s.db, "EXPLAIN QUERY PLAN "+statement, args, func(r *sql.Rows) error {
		var id, parent, unused int
		var detail string
		err := r.Scan(&id, &parent, &unused, &detail)
		steps = append(steps, detail)
		return err
	})
	require.NoError(t, err, statement)
	return steps
}

// No statement looks through a whole table: all find their rows by an index. So
// none gets slower with what is stored altogether.
func TestStatementsUseIndexes(t *testing.T) {
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "app.db"))
	require.NoError(t, err)
	defer db.Close()
	s, err := New(db, Options{Dialect: SQLite, CleanInterval: -1})
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Migrate(t.Context()))

	tables := map[string]columns{
		lockTopics: "b", updateTopics: "iiiiiiiiii", findKeys: "ibi", countUnread: "iiiii", findVictims: "iiiiiii",
		insertEntries: "iibiiiiiib", pickUpTo: "iiiiii", pickOffsets: "iiiii", pickKeys: "iibii", setReceived: "iii", setState: "iiii",
		readOverdue: "iii", putOff: "iii", enterRooms: "bbbbii", leaveRooms: "bbb", addUsers: "bb", removeUsers: "bb",
		boundsOfTopics: "ii", oldestEntries: "i", checkTopics: "iii", dropTopics: "i", claimOutbox: "ii", deleteOutbox: "i",
		strings.ReplaceAll(deleteEntries, "{rows}", "500"): "iii", strings.ReplaceAll(candidates, "{grace}", "1"): "ii",
		readHeads: "ibi", renewLeases: "bbii", seeUsers: "bi", beginUsers: "bi", addLeases: "bbii", lockUsers: "b", leaveUsers: "bbi", deleteLeases: "bb",
		status: "ib", lockLapsed: "b", foldLapsed: "bi", deleteLapsed: "bi",
	}
	plain := map[string]int{ // and their number of arguments
		readHead: 4, readHead + readEntries + readForward + readMarks: 4, readHead + readEntries + readBackward + readMarks: 4,
		findOverdue: 2, members: 3, users: 3, deleteMembers: 2, freeExpired: 2, dueTopics: 2, findOutbox: 2, lookOutbox: 1, findLapsed: 2, deleteUsers: 2,
	}
	// Tables of values in the statement itself, rooms (by an index), and what was found before by an index.
	small := regexp.MustCompile(`^SCAN (w|p|b|x|m|CONSTANT ROW|\d+ CONSTANT ROWS?|\(subquery-\d+\))( |$)`)
	check := func(statement, text string, args []any) {
		for _, step := range explain(t, s, text, args) {
			if strings.HasPrefix(step, "SCAN ") && !small.MatchString(step) || strings.Contains(step, "AUTOMATIC") {
				t.Errorf("%q in\n%s", step, statement)
			}
		}
	}
	for statement, c := range tables {
		row := make([]any, len(c))
		table, args := c.table(SQLite, [][]any{row, row})
		check(statement, strings.Replace(s.text(statement), "{w}", table, 1), args)
	}
	for statement, n := range plain {
		check(statement, s.text(statement), make([]any, n))
	}
}
