package client

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-go/parley/internal/leaktest"
	"github.com/stretchr/testify/require"
)

// TestMain fails the run if goroutines of the module are left when all tests are done (F46).
// Fuzzing has goroutines of its own.
func TestMain(m *testing.M) { leaktest.Main(m, "parley-go/parley") }

// F40: the wall clock is never asked. Times are only made by time.Now and compared
// by time.Since, which are monotonic; those of the server are only passed on.
func TestOnlyMonotonicTime(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	allowed := map[string]bool{
		"Now": true, "Since": true, "NewTimer": true, "AfterFunc": true, "UnixMilli": true,
		"Time": true, "Duration": true, "Timer": true, "Hour": true, "Minute": true, "Second": true, "Millisecond": true,
	}
	seen := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := selector.X.(*ast.Ident); ok && pkg.Name == "time" {
				seen++
				require.True(t, allowed[selector.Sel.Name], "%s: time.%s", name, selector.Sel.Name)
			}
			if call, ok := selector.X.(*ast.CallExpr); ok {
				if of, ok := call.Fun.(*ast.SelectorExpr); ok {
					require.NotEqual(t, "Now", of.Sel.Name, "%s: time.Now().%s", name, selector.Sel.Name)
				}
			}
			return true
		})
	}
	require.Greater(t, seen, 20)
}
