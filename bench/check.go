package main

import (
	"fmt"
	"io"
)

// target is a promise about parley's numbers.
type target struct {
	text  string
	value func(results) (value float64, ok bool)
	limit float64
	least bool // the limit is the least that will do instead of the most
}

const (
	checkedKind, baseKind   = "parley", "bare"
	redisChecked, redisBase = "parley-redis", "centrifuge-redis"
)

// targets are checked by -check, on the medians of the rounds.
var targets = []target{
	{text: "CPU per delivery at 1 outstanding, to bare", limit: 1.25,
		value: ratio(fanoutName("broadcast", 1), cpuPerDelivery)},
	{text: "deliveries/s at 16 outstanding, to bare", limit: 6, least: true,
		value: ratio(fanoutName("broadcast", 16), deliveryRate)},
	{text: "KB of RSS per idle connection", limit: 14, value: single(idleScenario, rssPerConn)},
	{text: "allocations per delivery at 1 outstanding", limit: 0.05,
		value: single(fanoutName("broadcast", 1), allocsPerDelivery)},
	{text: "allocations per delivery at 16 outstanding", limit: 0.05,
		value: single(fanoutName("broadcast", 16), allocsPerDelivery)},
	{text: "members of the big room without the message", limit: 0, value: single(bigScenario, undelivered)},
	{text: "seconds for Shutdown of the big room", limit: 5, value: single(bigScenario, shutdownSeconds)},
}

// targets are those of the scenarios that the flags ask for.
func (c *config) targets() []target {
	if !c.redis {
		return targets
	}
	var all []target
	c.redisVariants(func(name string, _ int, _ bool, window int) {
		if window == 1 {
			return // a latency, and no rate that is sustained
		}
		for _, m := range []metric{publishRate, deliveryRate} {
			all = append(all, target{
				text: fmt.Sprintf("%s, %s, to centrifuge", m, name), limit: 1, least: true,
				value: func(all results) (float64, bool) {
					return medianRatio(all[resultKey{name, redisChecked}], all[resultKey{name, redisBase}], m)
				},
			})
		}
	})
	return all
}

func single(scenario string, m metric) func(results) (float64, bool) {
	return func(all results) (float64, bool) { return median(all[resultKey{scenario, checkedKind}], m) }
}

func ratio(scenario string, m metric) func(results) (float64, bool) {
	return func(all results) (float64, bool) {
		return medianRatio(all[resultKey{scenario, checkedKind}], all[resultKey{scenario, baseKind}], m)
	}
}

// check writes how each target was met and returns an error if one was not.
// A number that is missing fails its target: a check that checks nothing must not pass.
func check(out io.Writer, targets []target, all results) error {
	fmt.Fprint(out, "\n| target | limit | measured | |\n|---|---:|---:|---|\n")
	missed := 0
	for _, t := range targets {
		sign := "≤"
		if t.least {
			sign = "≥"
		}
		value, ok := t.value(all)
		shown, verdict := "nothing", "MISSED"
		if ok {
			shown = fmt.Sprintf("%.4g", value)
		}
		if ok && (t.least && value >= t.limit || !t.least && value <= t.limit) {
			verdict = "met"
		} else {
			missed++
		}
		fmt.Fprintf(out, "| %s | %s %v | %s | %s |\n", t.text, sign, t.limit, shown, verdict)
	}
	if missed > 0 {
		return fmt.Errorf("%d targets missed", missed)
	}
	return nil
}
