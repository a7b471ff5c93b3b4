// Command size fails if a source file has more than 450 lines or a function
// more than 60: what a reader takes in at once.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	maxFile = 450
	maxFunc = 60
)

func main() {
	bad := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || strings.HasPrefix(entry.Name(), ".") && path != "."):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		n, err := check(path)
		bad += n
		return err
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if bad > 0 {
		os.Exit(1)
	}
}

// check reports what is too long in one file. Tests may have long functions
// (tables, scenarios), but not long files.
func check(path string) (bad int, err error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return 0, err
	}
	if n := set.File(file.Pos()).LineCount(); n > maxFile+1 {
		fmt.Printf("%s: %d lines, at most %d\n", path, n-1, maxFile)
		bad++
	}
	if strings.HasSuffix(path, "_test.go") {
		return bad, nil
	}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Body == nil {
			continue
		}
		from, to := set.Position(f.Pos()).Line, set.Position(f.End()).Line
		if n := to - from + 1; n > maxFunc {
			fmt.Printf("%s:%d: func %s has %d lines, at most %d\n", path, from, f.Name.Name, n, maxFunc)
			bad++
		}
	}
	return bad, nil
}
