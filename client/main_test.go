package client

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain fails the run if goroutines of the package are left when all tests are done (F46).
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leakedGoroutines(); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines are left after the tests:\n\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leakedGoroutines returns the stacks of goroutines of this package. What is
// about to end gets some time for it; without leaks the first look suffices, or nearly so.
func leakedGoroutines() (left string) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		buf := make([]byte, 4<<20)
		buf = buf[:runtime.Stack(buf, true)]
		left = ""
		for i, stack := range strings.Split(string(buf), "\n\n") {
			// The first is this one. Fuzzing has goroutines of its own.
			if i > 0 && strings.Contains(stack, "parley-go/parley") && !strings.Contains(stack, "client.TestMain(") {
				left += stack + "\n\n"
			}
		}
		if left == "" || time.Now().After(deadline) {
			return left
		}
	}
}

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
