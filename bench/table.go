package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// column is a column of the table with the form of its numbers.
type column struct {
	title  string
	metric metric
	digits int
}

var columns = []column{
	{"CPU/delivery µs", cpuPerDelivery, 2},
	{"all CPU/publish µs", allPerPublish, 1},
	{"redis CPU/publish µs", redisPerPublish, 1},
	{"publishes/s", publishRate, 0},
	{"deliveries/s", deliveryRate, 0},
	{"p50 ms", latencyP50, 2},
	{"p99 ms", latencyP99, 2},
	{"p99 ratio", p99Ratio, 2},
	{"allocs/delivery", allocsPerDelivery, 4},
	{"server busy %", serverBusy, 0},
	{"redis busy %", redisBusy, 0},
	{"load busy %", loadBusy, 0},
	{"connects/s", connectRate, 0},
	{"KB/conn", rssPerConn, 1},
}

func writeHeader(out io.Writer, c config, args, pinning string) {
	fmt.Fprintf(out, "%s, %d cores, %s memory, %s, %s %s/%s\n", time.Now().UTC().Format("2006-01-02 15:04 MST"),
		runtime.NumCPU(), memory(), kernel(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprintf(out, "`%s`\n", strings.TrimSpace("go run ./bench "+args))
	what := fmt.Sprintf("%d connections, medians of %d rounds of %v", c.conns, c.rounds, c.time)
	if c.big {
		what = fmt.Sprintf("%d connections, one run", c.bigConns)
	}
	fmt.Fprintf(out, "%s, %d bytes of content, %s\n", what, c.size, pinning)
	if c.quick {
		fmt.Fprintln(out, "quick run: these numbers mean nothing")
	}
	fmt.Fprintln(out)
}

// measuredColumns are those that at least one row has something in.
func measuredColumns(all results) []column {
	return slices.DeleteFunc(slices.Clone(columns), func(col column) bool {
		for _, runs := range all {
			if _, ok := median(runs, col.metric); ok {
				return false
			}
		}
		return true
	})
}

func writeTable(out io.Writer, c config, scenarios []scenario, all results) {
	columns := measuredColumns(all)
	head, rule := "| scenario | server |", "|---|---|"
	for _, col := range columns {
		head += " " + col.title + " |"
		rule += "---:|"
	}
	fmt.Fprintf(out, "%s remarks |\n%s---|\n", head, rule)
	for _, s := range scenarios {
		for _, k := range c.kinds {
			runs := all[resultKey{s.name, k.name}]
			if len(runs) == 0 {
				continue
			}
			row := fmt.Sprintf("| %s | %s |", s.name, k.name)
			for _, col := range columns {
				row += " " + cell(runs, col) + " |"
			}
			fmt.Fprintf(out, "%s %s |\n", row, remarks(runs))
		}
	}
}

// writeRatios compares the nodes of parley with those of centrifuge.
func writeRatios(out io.Writer, scenarios []scenario, all results) {
	if len(all[resultKey{scenarios[0].name, redisChecked}])*len(all[resultKey{scenarios[0].name, redisBase}]) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s to %s, medians of the ratios within a round (rates: more is better, the others: less)\n\n", redisChecked, redisBase)
	fmt.Fprint(out, "| scenario | publishes/s | deliveries/s | p50 | p99 | all CPU/publish | CPU/delivery | redis CPU/publish |\n|---|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, s := range scenarios {
		row := "| " + s.name + " |"
		for _, m := range []metric{publishRate, deliveryRate, latencyP50, latencyP99, allPerPublish, cpuPerDelivery, redisPerPublish} {
			text := "-"
			if v, ok := medianRatio(all[resultKey{s.name, redisChecked}], all[resultKey{s.name, redisBase}], m); ok {
				text = strconv.FormatFloat(v, 'f', 2, 64)
			}
			row += " " + text + " |"
		}
		fmt.Fprintln(out, row)
	}
}

func cell(runs []measured, col column) string {
	v, ok := median(runs, col.metric)
	if !ok {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', col.digits, 64)
}

// tolerable is how much of a core others may use before a row says so. A
// tick of the kernel is 10 ms, so that less is not told apart from nothing.
const tolerable = 5

// remarks are those of the last run, after the spread of the most important
// number and a warning if the machine was not ours.
func remarks(runs []measured) string {
	var notes []string
	if values := valuesOf(runs, cpuPerDelivery); len(values) > 1 {
		notes = append(notes, fmt.Sprintf("CPU %.2f to %.2f", values[0], values[len(values)-1]))
	}
	if others, ok := median(runs, othersBusy); ok && others > tolerable {
		notes = append(notes, fmt.Sprintf("DISTURBED: others used %.0f %% of a core", others))
	}
	if note := runs[len(runs)-1].Note; note != "" {
		notes = append(notes, note)
	}
	return strings.Join(notes, "; ")
}

// median is that of the runs that have the metric; ok is false if none has.
func median(runs []measured, m metric) (value float64, ok bool) {
	values := valuesOf(runs, m)
	if len(values) == 0 {
		return 0, false
	}
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2, true
	}
	return values[middle], true
}

// medianRatio is the median of the ratios of runs of the same round: they ran
// one after the other, so that what slowed the machine down for longer than
// that is in both.
func medianRatio(runs, base []measured, m metric) (value float64, ok bool) {
	var ratios []measured
	for i := range min(len(runs), len(base)) {
		v, ok := runs[i].Values[m]
		b, baseOK := base[i].Values[m]
		if ok && baseOK && b > 0 {
			ratios = append(ratios, measured{Values: map[metric]float64{m: v / b}})
		}
	}
	return median(ratios, m)
}

// valuesOf returns the values of a metric in ascending order.
func valuesOf(runs []measured, m metric) []float64 {
	var values []float64
	for _, r := range runs {
		if v, ok := r.Values[m]; ok {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	return values
}
