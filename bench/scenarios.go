package main

import (
	"fmt"
	"strings"
)

// scenario is one row of the table for each server.
type scenario struct {
	name   string
	redis  bool // needs kinds that are nodes on a Redis
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
	if c.redis {
		return c.wanted(c.redisScenarios(base))
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
	return c.wanted(all)
}

// wanted are those that -only picks.
func (c *config) wanted(all []scenario) []scenario {
	var wanted []scenario
	for _, s := range all {
		if strings.Contains(s.name, c.only) {
			wanted = append(wanted, s)
		}
	}
	return wanted
}

func redisName(rooms int, api bool, window int) string {
	what, who := "1 room", "clients send"
	if rooms > 1 {
		what = fmt.Sprintf("%d rooms", rooms)
	}
	if api {
		who = "application sends"
	}
	return fmt.Sprintf("%s, %s, %d outstanding", what, who, window)
}

// redisVariants calls each with what the scenarios on a Redis vary.
func (c *config) redisVariants(each func(name string, rooms int, api bool, window int)) {
	for _, rooms := range []int{1, c.rooms} {
		for _, api := range []bool{false, true} {
			windows := []int{1, 16, 64}
			if rooms > 1 {
				windows = append(windows, 1024) // in one room that is more than the history keeps, from which a node fills holes
			}
			for _, window := range windows {
				each(redisName(rooms, api, window), rooms, api, window)
			}
		}
	}
}

func (c *config) redisScenarios(base loadSpec) (all []scenario) {
	c.redisVariants(func(name string, rooms int, api bool, window int) {
		s := base
		s.Scenario, s.Room, s.Rooms, s.API, s.Window = "nodes", true, rooms, api, window
		all = append(all, scenario{name: name, redis: true, spec: s})
	})
	return all
}
