package main

import (
	"fmt"
	"strings"
)

// scenario is one row of the table for each server.
type scenario struct {
	name   string
	spec   loadSpec
	rounds int // how many at most, 0 for as many as asked for: some take long and hardly vary
}

const (
	idleScenario    = "idle"
	stalledScenario = "1 reader stalls"
	bigScenario     = "big room"
)

func fanoutName(what string, window int) string {
	return fmt.Sprintf("%s, %d outstanding", what, window)
}

// scenarios are those that the flags ask for, in the order of the table.
func (c *config) scenarios() []scenario {
	base := loadSpec{
		V1: c.v1, Conns: c.conns, Senders: c.senders, Window: 1, Size: c.size,
		Parallel: c.parallel, Limit: c.limit, Time: c.time, Stuck: c.stuck, Stall: c.stall,
	}
	var all []scenario
	if !c.big {
		for _, what := range []string{"broadcast", "room"} {
			if c.mode != "both" && c.mode != what {
				continue
			}
			for _, window := range []int{1, 16, 64} {
				s := base
				s.Scenario, s.Room, s.Window = "fanout", what == "room", window
				all = append(all, scenario{name: fanoutName(what, window), spec: s})
			}
		}
		idle := base
		idle.Scenario, idle.Conns = "idle", c.idle
		all = append(all, scenario{name: idleScenario, spec: idle})
		stalled := base
		stalled.Scenario, stalled.Size = "stalled", c.stallTo
		all = append(all, scenario{name: stalledScenario, spec: stalled, rounds: 3})
	}
	if c.big || c.check || c.quick {
		big := base
		// The senders belong to the room too.
		big.Scenario, big.Room, big.Senders, big.Conns = "big", true, 1, max(c.bigConns-1, 1)
		all = append(all, scenario{name: bigScenario, spec: big, rounds: 1})
	}
	var wanted []scenario
	for _, s := range all {
		if strings.Contains(s.name, c.only) {
			wanted = append(wanted, s)
		}
	}
	return wanted
}
