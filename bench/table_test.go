package main

import (
	"flag"
	"io"
	"os"
	"strings"
	"testing"
)

func runsOf(m metric, values ...float64) (runs []measured) {
	for _, v := range values {
		runs = append(runs, measured{Values: map[metric]float64{m: v}})
	}
	return runs
}

func TestMedian(t *testing.T) {
	if _, ok := median(runsOf(deliveryRate), deliveryRate); ok {
		t.Error("there is a median of nothing")
	}
	if v, _ := median(runsOf(deliveryRate, 9, 1, 2), deliveryRate); v != 2 {
		t.Errorf("median of three is %v", v)
	}
	if v, _ := median(runsOf(deliveryRate, 4, 1, 2, 9), deliveryRate); v != 3 {
		t.Errorf("median of four is %v", v)
	}
	// A round in which both are slow must not count as a difference between them.
	if v, _ := medianRatio(runsOf(deliveryRate, 2, 20, 2), runsOf(deliveryRate, 1, 10, 1), deliveryRate); v != 2 {
		t.Errorf("ratio is %v", v)
	}
}

// allMet has every number just at its limit.
func allMet() results {
	all := results{}
	put := func(scenario, kind string, values map[metric]float64) {
		all[resultKey{scenario, kind}] = []measured{{Values: values}}
	}
	put(fanoutName("broadcast", 1), "bare", map[metric]float64{cpuPerDelivery: 4})
	put(fanoutName("broadcast", 1), "parley", map[metric]float64{cpuPerDelivery: 5, allocsPerDelivery: 0.05})
	put(fanoutName("broadcast", 16), "bare", map[metric]float64{deliveryRate: 100})
	put(fanoutName("broadcast", 16), "parley", map[metric]float64{deliveryRate: 600, allocsPerDelivery: 0.05})
	put(idleScenario, "parley", map[metric]float64{rssPerConn: 14})
	put(bigScenario, "parley", map[metric]float64{undelivered: 0, shutdownSeconds: 5})
	return all
}

func TestCheck(t *testing.T) {
	if err := check(io.Discard, targets, allMet()); err != nil {
		t.Errorf("all met: %v", err)
	}
	for key, runs := range allMet() {
		for m := range runs[0].Values {
			if key.kind == "bare" {
				continue
			}
			all := allMet()
			worse := all[key][0].Values[m] + 0.01
			if m == deliveryRate {
				worse -= 1
			}
			all[key][0].Values[m] = worse
			if check(io.Discard, targets, all) == nil {
				t.Errorf("%v: %s of %v passed", key, m, worse)
			}
			delete(all[key][0].Values, m)
			if check(io.Discard, targets, all) == nil {
				t.Errorf("%v: passed without %s", key, m)
			}
		}
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	c := config{kinds: kinds}
	all := allMet()
	all[resultKey{fanoutName("broadcast", 1), "parley"}] = append(runsOf(cpuPerDelivery, 5, 7),
		measured{Values: map[metric]float64{cpuPerDelivery: 6, othersBusy: 50}, Note: "last"})
	writeTable(&out, c, []scenario{{name: fanoutName("broadcast", 1)}, {name: "not run"}}, all)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	if !strings.Contains(lines[3], "| parley | 6.00 | - |") ||
		!strings.Contains(lines[3], "CPU 5.00 to 7.00; DISTURBED: others used 50 % of a core; last") {
		t.Error(lines[3])
	}
	for _, line := range lines {
		if strings.Count(line, "|") != strings.Count(lines[0], "|") {
			t.Errorf("the columns of this line do not fit: %s", line)
		}
	}
}

func TestFlags(t *testing.T) {
	c, err := parseFlags([]string{"-quick", "-conns", "7", "-kinds", "bare"})
	if err != nil || c.conns != 7 || c.rounds != 1 || len(c.kinds) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	stderr := os.Stderr
	defer func() { os.Stderr = stderr }()
	os.Stderr, _ = os.Open(os.DevNull) // package flag writes its complaints there
	for _, args := range []string{"-rounds 0", "-kinds none", "-mode x", "-size 5", "-quick -check", "more", "-nonsense"} {
		if _, err := parseFlags(strings.Fields(args)); err == nil || err == flag.ErrHelp {
			t.Errorf("%s passed", args)
		}
	}
}

func TestScenarios(t *testing.T) {
	c, err := parseFlags(nil)
	if err != nil {
		t.Skipf("SKIPPED: the limit of open files is too low: %v", err)
	}
	if n := len(c.scenarios()); n != 8 {
		t.Errorf("%d scenarios by default", n)
	}
	c.big = true
	if all := c.scenarios(); len(all) != 1 || all[0].spec.Conns+all[0].spec.Senders != c.bigConns {
		t.Errorf("big: %+v", all)
	}
}
