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

// What the application does to memberships reaches both kinds of clients, on one node and on several.
func TestMembershipsOfTheApplication(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		plan := Plan{Seed: 3, Nodes: nodes, Users: 1, Clients: 6}
		for i := range 12 {
			plan.Ops = append(plan.Ops,
				Op{Do: DoAdd, Room: i % 2, Node: i}, Op{Do: DoSleep, For: 50 * time.Millisecond}, Op{Do: DoBurst, Room: i % 2, Count: 2},
				Op{Do: DoRemove, Room: i % 2, Node: i + 1}, Op{Do: DoApp, Room: i % 2, Count: 2}, Op{Do: DoSleep, For: 50 * time.Millisecond},
				Op{Do: DoApp, Room: i % 2, Count: 2}, Op{Do: DoSleep, For: 50 * time.Millisecond})
		}
		h := Bubble(t, plan)
		require.Empty(t, h.Check())
		ousted, given := make(map[int]int), make(map[int]int)
		for _, e := range h.Events {
			switch {
			case e.Kind == Ousted:
				ousted[e.Client]++
			case e.Given:
				given[e.Client]++
			}
		}
		for _, client := range []int{0, 2, 4} { // the user's; every third is the Go client
			require.Equal(t, 12, ousted[client], "client %d of %d nodes: %v", client, nodes, ousted)
			require.Equal(t, 12, given[client], "client %d of %d nodes: %v", client, nodes, given)
		}
		require.Len(t, ousted, 3)
		require.Len(t, given, 3)
	}
}
