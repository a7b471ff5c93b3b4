package checker_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/parley-go/parley/checker"
)

var (
	seeds      = flag.Int("seeds", 40, "how many seeds are run")
	ops        = flag.Int("ops", 200, "operations of each seed")
	nodes      = flag.Int("nodes", 0, "how many nodes each seed has; 0: as it draws")
	start      = flag.Uint64("start", 1, "the first seed")
	deliveries = flag.Int("deliveries", 0, "instead of -seeds: run until there were so many deliveries")
	events     = flag.String("events", "", "a file name: the events of each failing seed go to this name with the seed after it")
	shrinkBy   = flag.Int("shrink", 300, "how many runs may be spent to shrink the first failing seed")
)

// TestChecker runs seeds until -seeds or -deliveries is reached (MC).
func TestChecker(t *testing.T) {
	var mu sync.Mutex
	var totals checker.Totals
	next := atomic.Uint64{}
	next.Store(*start - 1)
	more := func() bool {
		mu.Lock()
		defer mu.Unlock()
		if *deliveries > 0 {
			return totals.Deliveries < *deliveries
		}
		return true
	}
	t.Run("seeds", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for more() && !t.Failed() {
					seed := next.Add(1)
					if *deliveries == 0 && seed >= *start+uint64(*seeds) {
						return
					}
					h := check(t, checker.NewPlanOn(seed, *ops, *nodes))
					mu.Lock()
					totals.Add(h)
					mu.Unlock()
				}
			})
		}
	})
	t.Log(totals.String())
	if totals.Runs >= 40 && !t.Failed() {
		for name, n := range map[string]int{
			"messages": totals.Sent, "missed messages": totals.Replayed, "broken connections": totals.Cuts, "resumed sessions": totals.Sessions,
			"replaced connections": totals.Takeover, "recovered positions": totals.Recovered, "gaps": totals.Gaps, "restarts": totals.Restarts,
			"memberships that the application has ended": totals.Ousted, "and made": totals.Given,
			"wipes": totals.Wipes, "failures of the Store": totals.StoreFails,
			"marks": totals.Marks / 5, "marks that raced": totals.Raced, "refused marks": totals.Unmarked, "marks that failed in the Store": totals.MarkFails,
			"expired entries": totals.Expired, "truncations": totals.Truncated, "receipts": totals.Receipts / 5,
			"undelivered entries": totals.Told, "failures of the hook": totals.TellFails, "notifications to an audience": totals.Everywhere / 5,
		} {
			if n < totals.Runs/4 {
				t.Errorf("%d %s in %d runs: that proves nothing", n, name, totals.Runs)
			}
		}
	}
}

// check runs a plan and reports what it breaks, with the shortest plan that does so.
func check(t *testing.T, plan checker.Plan) *checker.History {
	h := checker.Bubble(t, plan)
	broken := h.Check()
	if len(broken) == 0 {
		return h
	}
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d (%d nodes) breaks %d promises; run it again with: go test ./checker -run Checker -start %d -seeds 1 -ops %d -nodes %d",
		plan.Seed, plan.Nodes, len(broken), plan.Seed, *ops, *nodes)
	for i, v := range broken {
		if i == 5 {
			fmt.Fprintf(&b, "\nand %d more", len(broken)-i)
			break
		}
		fmt.Fprintf(&b, "\n%s", v)
	}
	if *shrinkBy > 0 {
		short := checker.Shrink(plan, *shrinkBy, func(p checker.Plan) bool { return breaks(t, p, broken[0].Property) })
		fmt.Fprintf(&b, "\nthe shortest plan found that breaks %s:\n%s", broken[0].Property, short)
	}
	t.Error(b.String())
	if *events != "" {
		writeEvents(t, fmt.Sprint(*events, plan.Seed), h)
	}
	return h
}

// breaks reports whether one of three runs of a plan breaks a property.
func breaks(t *testing.T, plan checker.Plan, property string) bool {
	for range 3 {
		for _, v := range checker.Bubble(t, plan).Check() {
			if v.Property == property {
				return true
			}
		}
	}
	return false
}

func writeEvents(t *testing.T, name string, h *checker.History) {
	var b strings.Builder
	for _, e := range h.Events {
		fmt.Fprintln(&b, e)
	}
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		t.Error(err)
	}
}
