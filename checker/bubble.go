package checker

import (
	"fmt"
	"testing"

	"github.com/parley-go/parley/internal/bubbletest"
)

// Bubble carries out a plan in a bubble of its own. A bubble that ends with
// goroutines that wait for ever, or in which all wait for each other, is a leak, too.
func Bubble(t *testing.T, plan Plan) (h *History) {
	defer func() {
		if v := recover(); v != nil {
			if h == nil {
				h = &History{Nodes: plan.Nodes, Keep: plan.keep}
			}
			h.Leaks = append(h.Leaks, fmt.Sprint("the bubble ended with: ", v))
		}
	}()
	bubbletest.Test(t, func(*testing.T) { h = Run(plan) })
	return h
}
