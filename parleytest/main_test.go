package parleytest

import (
	"testing"

	"github.com/parley-go/parley/internal/leaktest"
)

// TestMain fails the run if goroutines are left when all tests are done (F46), those of net/http among them.
func TestMain(m *testing.M) { leaktest.Main(m, "") }
