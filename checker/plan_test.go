package checker_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/checker"
)

func TestPlansComeFromTheSeed(t *testing.T) {
	require.Equal(t, checker.NewPlan(7, 100), checker.NewPlan(7, 100))
	require.NotEqual(t, checker.NewPlan(7, 100).Ops, checker.NewPlan(8, 100).Ops)
	drawn := make(map[checker.Do]bool)
	for seed := range uint64(50) {
		for _, o := range checker.NewPlan(seed, 100).Ops {
			drawn[o.Do] = true
		}
	}
	require.Len(t, drawn, 36, "each is in some plan")
}

func TestShrinkFindsWhatItTakes(t *testing.T) {
	plan := checker.NewPlan(1, 200)
	needed := []checker.Op{plan.Ops[3], plan.Ops[90], plan.Ops[91]}
	asked := 0
	short := checker.Shrink(plan, 1000, func(p checker.Plan) bool {
		asked++
		return !slices.ContainsFunc(needed, func(o checker.Op) bool { return !slices.Contains(p.Ops, o) })
	})
	require.Equal(t, needed, short.Ops)
	require.Less(t, asked, 200)
	require.Len(t, plan.Ops, len(checker.NewPlan(1, 200).Ops), "the plan itself stays")
	text := short.String()
	require.True(t, strings.HasPrefix(text, "Plan{Seed: 1, "), text)
	require.Equal(t, 5, len(strings.Split(text, "\n")), text)
}

// Two runs of a plan differ in how goroutines interleave, and in nothing that is planned.
func TestRunsRepeat(t *testing.T) {
	plan := checker.NewPlan(3, 100)
	plan.Ops = append(plan.Ops, checker.Op{Do: checker.DoSettle}, checker.Op{Do: checker.DoSend, Count: 3, Flag: true})
	faults := func() (all []string) {
		for _, e := range checker.Bubble(t, plan).Events {
			if e.Kind == checker.Fault && e.Client == checker.App {
				all = append(all, e.Code)
			}
		}
		return all
	}
	require.Equal(t, faults(), faults())
}
