package checker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	. "github.com/parley-go/parley/checker"
)

// A mark that the Store has made, and whose answer was lost, reaches the devices all the same: to repeat it changes
// nothing, and so nobody would tell them.
func TestUncertainMarksAreTold(t *testing.T) {
	plan := Plan{Seed: 1, Nodes: 1, Users: 1, Clients: 3, Wire: true, Ops: []Op{
		{Do: DoNotify, Count: 4},
		{Do: DoSleep, For: 100 * time.Millisecond},
		{Do: DoStore, Count: 1, For: 3 * time.Second}, // half of the calls: done, but the answer is lost
	}}
	for pick := range 10 {
		plan.Ops = append(plan.Ops, Op{Do: DoAppMark, Room: pick % 3, Count: pick})
	}
	plan.Ops = append(plan.Ops, Op{Do: DoSleep, For: 100 * time.Millisecond})
	h := Bubble(t, plan)
	require.Empty(t, h.Check())
	var failed, told int
	for _, e := range h.Events {
		switch e.Kind {
		case Unapplied:
			failed++
		case News:
			told++
		}
	}
	require.NotZero(t, failed)
	require.NotZero(t, told)
}

// Messages that wait for a room to be joined again go out when that room is left instead.
func TestLeavingLetsTheOthersGo(t *testing.T) {
	plan := Plan{Seed: 2, Nodes: 1, Users: 1, Clients: 2, Wire: true, Ops: []Op{
		{Do: DoJoin},
		{Do: DoSleep, For: 100 * time.Millisecond},
		{Do: DoStore, For: 20 * time.Second},
		{Do: DoCut},
	}}
	for range 20 {
		plan.Ops = append(plan.Ops, Op{Do: DoSleep, For: 333 * time.Millisecond}, Op{Do: DoLeave}, Op{Do: DoSend, Room: 1, Count: 1}, Op{Do: DoJoin}, Op{Do: DoCut})
	}
	require.Empty(t, Bubble(t, plan).Check())
}
