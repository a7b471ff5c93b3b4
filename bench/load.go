package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// loadSpec is one scenario for one load process, which reads it from stdin.
type loadSpec struct {
	addresses
	Scenario string // "fanout", "idle", "stalled", "big" or "nodes"
	Room     bool   // room messages instead of broadcasts
	V1       bool   // offer the subprotocol
	Conns    int    // receivers
	Senders  int
	Window   int           // messages under way
	Size     int           // of the content, in bytes of JSON
	Parallel int           // handshakes or joins on their way at once
	Limit    int           // messages per phase
	Spin     bool          // the load has a core of its own and need not sleep
	Time     time.Duration // of the measured phase
	Stuck    time.Duration // how long no delivery at all means that there will be none
	Stall    time.Duration // how long a server has to close a connection that stalls

	// Of the scenario "nodes" only.
	Nodes     []addresses // of all nodes, the embedded addresses are those of the first
	Redis     string      // its address, if there is one
	Dialect   string      // a key of dialects
	Rooms     int         // over which the receivers are spread, each in one
	FirstRoom int         // the number of the first one
	API       bool        // the application sends instead of clients
}

// measured is what one run of a scenario found. Values that a scenario or an
// operating system does not have are absent.
type measured struct {
	Values map[metric]float64
	Note   string
}

// metric names a number; the unit is part of the name.
type metric string

const (
	cpuPerDelivery    metric = "cpu µs/delivery"
	deliveryRate      metric = "deliveries/s"
	latencyP50        metric = "p50 ms"
	latencyP99        metric = "p99 ms"
	allocsPerDelivery metric = "allocs/delivery"
	serverBusy        metric = "server busy %" // of one core
	loadBusy          metric = "load busy %"
	othersBusy        metric = "others busy %" // of one core, by processes that are none of the bench's
	connectRate       metric = "connects/s"
	rssPerConn        metric = "KB/conn"
	p99Ratio          metric = "p99 ratio" // with a stalled reader, to without
	rssGrowth         metric = "RSS growth KB"
	shutdownSeconds   metric = "shutdown s"
	undelivered       metric = "undelivered" // to members of the big room
	publishRate       metric = "publishes/s" // acknowledged, and delivered to everybody
	redisPerPublish   metric = "redis CPU µs/publish"
	allPerPublish     metric = "CPU µs/publish" // of the nodes and the redis together
	redisBusy         metric = "redis busy %"
)

// load is the main function of a load process.
func load(stdin io.Reader, stdout io.Writer) error {
	var spec loadSpec
	if err := json.NewDecoder(stdin).Decode(&spec); err != nil {
		return err
	}
	m, err := runScenario(spec)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(m)
}

func runScenario(spec loadSpec) (measured, error) {
	f, err := newFleet()
	if err != nil {
		return measured{}, err
	}
	defer f.close()
	ctl := newControl(spec.Control)
	m := measured{Values: map[metric]float64{}}
	switch spec.Scenario {
	case "fanout":
		err = loadFanout(spec, f, ctl, &m)
	case "idle":
		err = loadIdle(spec, f, ctl, &m)
	case "stalled":
		err = loadStalled(spec, f, ctl, &m)
	case "big":
		err = loadBig(spec, f, ctl, &m)
	case "nodes":
		err = loadNodes(spec, f, &m)
	default:
		err = fmt.Errorf("there is no scenario %q", spec.Scenario)
	}
	return m, err
}

// assemble connects the receivers and the senders, and lets them join.
func assemble(spec loadSpec, f *fleet, smallBuffer int) error {
	if err := f.connect(spec.Server, spec.Conns+spec.Senders, spec.Parallel, smallBuffer, spec.V1); err != nil {
		return err
	}
	if spec.Room {
		return f.join(spec.Parallel, func(int) string { return room })
	}
	return nil
}

// loadFanout measures what a delivery costs. The server is asked only while
// nothing is under way, so that what it used belongs to whole messages.
func loadFanout(spec loadSpec, f *fleet, ctl *control, m *measured) error {
	if err := assemble(spec, f, -1); err != nil {
		return err
	}
	p := newPublisher(f, spec, -1)
	if _, err := p.run(spec.Time/4, spec.Limit); err != nil { // grows the stacks, buffers and windows
		return err
	}
	before, err := ctl.stats()
	if err != nil {
		return err
	}
	ownCPU, machine := cpuTime(), machineBusy()
	took, err := p.run(spec.Time, spec.Limit)
	if err != nil {
		return err
	}
	ownCPU, machine = cpuTime()-ownCPU, machineBusy()-machine
	after, err := ctl.stats()
	if err != nil {
		return err
	}
	if p.deliveries == 0 {
		return errors.New("nothing was delivered")
	}
	n := float64(p.deliveries)
	if after.CPU > 0 {
		m.Values[cpuPerDelivery] = float64(after.CPU-before.CPU) / float64(time.Microsecond) / n
		m.Values[serverBusy] = 100 * (after.CPU - before.CPU).Seconds() / took.Seconds()
		m.Values[loadBusy] = 100 * (ownCPU - p.idle).Seconds() / took.Seconds()
		others := machine - ownCPU - (after.CPU - before.CPU)
		m.Values[othersBusy] = 100 * max(0, others.Seconds()) / took.Seconds()
	}
	m.Values[deliveryRate] = n / took.Seconds()
	m.Values[latencyP50] = milliseconds(p.latency.quantile(0.50))
	m.Values[latencyP99] = milliseconds(p.latency.quantile(0.99))
	m.Values[allocsPerDelivery] = float64(after.Mallocs-before.Mallocs) / n
	return nil
}

// warmConnections have come before the first reading of the memory, so that
// what a server loads and allocates once is not counted.
const warmConnections = 64

// loadIdle measures what a connection costs that does nothing.
func loadIdle(spec loadSpec, f *fleet, ctl *control, m *measured) error {
	if err := f.connect(spec.Server, warmConnections, spec.Parallel, -1, spec.V1); err != nil {
		return err
	}
	if err := f.idle(300 * time.Millisecond); err != nil {
		return err
	}
	before, err := ctl.statsAfterGC()
	if err != nil {
		return err
	}
	begin := f.now()
	if err := f.connect(spec.Server, spec.Conns, spec.Parallel, -1, spec.V1); err != nil {
		return err
	}
	took := f.now() - begin
	connected, err := ctl.live()
	if err != nil {
		return err
	}
	if err := f.idle(spec.Time); err != nil {
		return err
	}
	after, err := ctl.statsAfterGC()
	if err != nil {
		return err
	}
	n := float64(spec.Conns)
	m.Values[connectRate] = n / took.Seconds()
	if after.RSS > 0 {
		m.Values[rssPerConn] = float64(after.RSS-before.RSS) / 1024 / n
	}
	m.Note = fmt.Sprintf("%.0f µs CPU per handshake, %.1f goroutines per connection",
		float64(connected.CPU-before.CPU)/float64(time.Microsecond)/n, float64(after.Goroutines-before.Goroutines)/n)
	if f.gone > 0 {
		return fmt.Errorf("%d of %d idle connections ended", f.gone, len(f.clients))
	}
	return nil
}

// loadBig puts everybody into one room, sends one message and then lets the
// server shut down while no client answers its close frame.
func loadBig(spec loadSpec, f *fleet, ctl *control, m *measured) error {
	if err := assemble(spec, f, -1); err != nil {
		return err
	}
	p := newPublisher(f, spec, -1)
	took, err := p.run(spec.Time, 1)
	if err != nil {
		return err
	}
	m.Values[undelivered] = float64(p.window.receivers - p.deliveries)
	m.Values[latencyP50] = milliseconds(p.latency.quantile(0.50))
	m.Values[latencyP99] = milliseconds(p.latency.quantile(0.99))
	m.Values[deliveryRate] = float64(p.deliveries) / took.Seconds()
	stats, err := ctl.live()
	if err != nil {
		return err
	}
	result, err := shutDown(f, ctl)
	if err != nil {
		return err
	}
	m.Values[shutdownSeconds] = result.Took.Seconds()
	m.Note = fmt.Sprintf("%d of %d delivered, RSS %d MB; Shutdown took %.2f s, %d close frames%s",
		p.deliveries, p.window.receivers, stats.RSS>>20, result.Took.Seconds(), f.closes, codes(f))
	if result.Error != "" {
		m.Note += ", with the error: " + result.Error
	}
	return nil
}

// shutdownBudget is the time that the server's Shutdown is given.
const shutdownBudget = 5 * time.Second

// shutDown makes the server shut down and reads, without answering, what it
// says to its clients meanwhile.
func shutDown(f *fleet, ctl *control) (result shutdownResult, err error) {
	var done sync.WaitGroup
	finished := make(chan struct{})
	done.Go(func() {
		defer close(finished)
		result, err = ctl.shutdown(shutdownBudget)
	})
	defer done.Wait()
	for {
		if err := f.poll(20 * time.Millisecond); err != nil {
			return result, err
		}
		select {
		case <-finished:
			// What was written before the end may still wait to be read.
			return result, errors.Join(err, f.idle(200*time.Millisecond))
		default:
		}
	}
}

// codes tells which close codes arrived.
func codes(f *fleet) string {
	seen := map[int]bool{}
	text := ""
	for i := range f.clients {
		if code := f.clients[i].closeCode; code != 0 && !seen[code] {
			seen[code] = true
			text += fmt.Sprintf(" %d", code)
		}
	}
	return text
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
