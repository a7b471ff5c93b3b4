package parleytest_test

import (
	"fmt"
	"io"
	"os"
	"testing"
)

// exampleT is what an Example has for a *testing.T.
type exampleT struct {
	testing.TB // nil: what the kit calls is below
	cleanups   []func()
}

func newT() *exampleT { return &exampleT{} }

func (*exampleT) Helper()             {}
func (*exampleT) Output() io.Writer   { return os.Stdout }
func (t *exampleT) Cleanup(f func())  { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) Fatal(args ...any) { t.Fatalf("%s", fmt.Sprint(args...)) }

func (t *exampleT) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func (t *exampleT) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	panic("the example failed, see above")
}

func (t *exampleT) end() {
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		f := t.cleanups[last]
		t.cleanups = t.cleanups[:last]
		f()
	}
}
