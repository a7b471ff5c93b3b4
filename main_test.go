package parley

import (
	"testing"

	"github.com/parley-go/parley/internal/leaktest"
)

// ours is in the stack of every goroutine that runs code of this module.
const ours = "parley-go/parley"

// TestMain fails the run if goroutines of the module are left when all tests
// are done (F46).
func TestMain(m *testing.M) { leaktest.Main(m, ours) }

// leakedGoroutines returns the stacks of the goroutines that run code of this
// module, except the calling one. Other tests must not run at the same time.
func leakedGoroutines() string { return leaktest.Left(ours) }
