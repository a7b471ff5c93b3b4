package parley

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// F40: the wall clock jumps. Everything that waits, expires or counts does so by
// the monotonic clock that is inside a time.Time; the wall clock is read only where a
// time goes to or comes from elsewhere, and each such place is listed here with its reason.
func TestWallClockIsOnlyReadWhereItMust(t *testing.T) {
	allowed := map[string]string{
		"inbox.go newInboxEntry":        "the same timestamps, as times",
		"control.go beginControl":       "what other processes have commanded since this one exists",
		"store_memory_status.go Status": "when a user was seen, for people",
		"topic.go nowMillis":            "timestamps that people read; no order depends on them",
		"session.go issue":              "when a session was given out, for another process",
		"session.go claim":              "and how old it may be there",
		"client/message.go time":        "the server's timestamp, for people",
	}
	found := map[string]bool{}
	for _, dir := range []string{".", "client"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, name := range files {
			if !strings.HasSuffix(name, "_test.go") {
				for _, f := range wallClock(t, name) {
					found[f] = true
				}
			}
		}
	}
	for f := range found {
		require.Contains(t, allowed, f, "reads the wall clock")
	}
	for f := range allowed {
		require.Contains(t, found, f, "is listed, and does not read the wall clock any more")
	}
}

// wallClock returns the functions of a file that take a time apart into wall clock
// time, or make one of it.
func wallClock(t *testing.T, name string) (where []string) {
	t.Helper()
	source, err := os.ReadFile(name)
	require.NoError(t, err)
	file, err := parser.ParseFile(token.NewFileSet(), name, source, 0)
	require.NoError(t, err)
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				switch s.Sel.Name {
				case "Unix", "UnixMilli", "UnixMicro", "UnixNano", "Round", "Truncate", "Date", "UTC", "Local", "In", "Format":
					where = append(where, fmt.Sprint(filepath.ToSlash(name), " ", f.Name.Name))
				}
			}
			return true
		})
	}
	return where
}

// F40: a clock that was set back between two processes does not cost a session.
func TestSessionOfTheFuture(t *testing.T) {
	h := newHub(t, Options{SessionKey: testKey(0)})
	ahead := time.Now().Add(48 * time.Hour).Unix()
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.claim(ticket{clientID: "c", issued: ahead})
	require.True(t, ok)
	_, ok = h.claim(ticket{clientID: "c", issued: ahead - int64((48*time.Hour + sessionAge).Seconds()) - 60})
	require.False(t, ok)
}
