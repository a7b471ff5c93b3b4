package checker

import "slices"

// Shrink removes operations from a plan for as long as fails still says yes:
// large parts first, then one by one. It asks at most budget times.
//
// How goroutines interleave is not in the plan: fails should try more than once before it says no.
func Shrink(plan Plan, budget int, fails func(Plan) bool) Plan {
	for size := (len(plan.Ops) + 1) / 2; size > 0; {
		removed := false
		for at := 0; at < len(plan.Ops); {
			if budget == 0 {
				return plan
			}
			budget--
			candidate := plan
			candidate.Ops = slices.Delete(slices.Clone(plan.Ops), at, min(at+size, len(plan.Ops)))
			if fails(candidate) {
				plan, removed = candidate, true
			} else {
				at += size
			}
		}
		if !removed || size > 1 {
			size /= 2
		}
	}
	return plan
}
