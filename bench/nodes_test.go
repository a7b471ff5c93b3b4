package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-go/parley"
)

func nodesSpec(api bool, rooms, window int, nodes ...addresses) loadSpec {
	spec := smallSpec("nodes")
	spec.Nodes, spec.Conns, spec.Limit, spec.Time = nodes, 20, 300, 300*time.Millisecond
	spec.API, spec.Rooms, spec.Window = api, rooms, window
	return spec
}

func checkNodes(t *testing.T, spec loadSpec) {
	t.Helper()
	m, err := runScenario(spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []metric{publishRate, deliveryRate, latencyP50, latencyP99} {
		if m.Values[name] <= 0 {
			t.Errorf("%s is %v", name, m.Values[name])
		}
	}
	each := m.Values[deliveryRate] / m.Values[publishRate]
	if want := float64(spec.Conns / spec.Rooms); each < want-0.001 || each > want+0.001 {
		t.Errorf("%v deliveries of each message, want %v", each, want)
	}
}

// One hub with two addresses shows what the load does, without a Redis.
func TestNodesSmoke(t *testing.T) {
	hub, err := parley.New(parley.Options{Authenticator: parley.AllowAnonymous, RateLimit: -1})
	if err != nil {
		t.Fatal(err)
	}
	nodes := []addresses{serveTest(t, &parleyNode{hub: hub}), serveTest(t, &parleyNode{hub: hub})}
	for i, test := range []struct {
		api           bool
		rooms, window int
	}{{false, 1, 1}, {false, 5, 16}, {true, 1, 16}, {true, 5, 1}} {
		t.Run(fmt.Sprintf("api=%v rooms=%d window=%d", test.api, test.rooms, test.window), func(t *testing.T) {
			spec := nodesSpec(test.api, test.rooms, test.window, nodes...)
			spec.FirstRoom = 10 * i // the rooms of the others have a history already
			checkNodes(t, spec)
		})
	}
}

func TestRedisSmoke(t *testing.T) {
	redis, err := startRedis()
	if errors.Is(err, errNoRedis) && !slices.Contains(strings.Split(os.Getenv("PARLEY_REQUIRE"), ","), "redis") {
		t.Skip("NOT TESTED: the scenarios with a Redis:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.stop)
	for _, k := range kinds {
		if !k.redis {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			if _, err := redisCommand(redis.address, "FLUSHALL"); err != nil {
				t.Fatal(err)
			}
			var nodes []addresses
			for range nodesOfKind {
				s, err := k.new(redis.address)
				if err != nil {
					t.Fatal(err)
				}
				nodes = append(nodes, serveTest(t, s))
			}
			for i, api := range []bool{false, true} {
				spec := nodesSpec(api, 5, 16, nodes...)
				spec.Redis, spec.Dialect, spec.FirstRoom = redis.address, k.dialect, 10*i
				checkNodes(t, spec)
			}
		})
	}
}

func TestNodesLoadFindsWhatIsWrong(t *testing.T) {
	// Clients 0 and 1 are on the first node, 2 and 3 on the second; 0 and 2 are in the first room.
	for name, test := range map[string]struct {
		arrive  func(l *nodesLoad)
		problem string
	}{
		"all is well": {func(l *nodesLoad) {
			l.onMessage(0, 0, 0)
			l.onAck(0, 0)
			l.onMessage(2, 0, 0)
		}, ""},
		"doubled":     {func(l *nodesLoad) { l.onMessage(0, 0, 0); l.onMessage(0, 0, 0) }, "arrived twice"},
		"late":        {func(l *nodesLoad) { l.onMessage(0, 99, 0) }, "are under way"},
		"other order": {func(l *nodesLoad) { l.onMessage(0, 0, 0); l.onMessage(0, 3, 0); l.onMessage(2, 3, 0) }, "where others got 0"},
		"other room":  {func(l *nodesLoad) { l.onMessage(1, 0, 0) }, "of another room"},
		"two acks":    {func(l *nodesLoad) { l.onAck(0, 0); l.onAck(0, 0) }, "acknowledged twice"},
	} {
		f, err := newFleet()
		if err != nil {
			t.Fatal(err)
		}
		f.clients = make([]client, 4)
		l := newNodesLoad(loadSpec{Nodes: make([]addresses, 2), Rooms: 2, Window: 8, Size: 64}, f)
		for l.window.open() {
			l.window.send(0)
		}
		for seq, want := range []int{0, 3, 1, 2} {
			if got := l.sender(uint64(seq)); got != want {
				t.Errorf("message %d is sent by client %d, not %d", seq, got, want)
			}
		}
		test.arrive(l)
		switch {
		case test.problem == "" && (f.problem != nil || l.window.oldest != 1):
			t.Errorf("%s: %v, %d", name, f.problem, l.window.oldest)
		case test.problem != "" && (f.problem == nil || !strings.Contains(f.problem.Error(), test.problem)):
			t.Errorf("%s: the problem is %v", name, f.problem)
		}
	}
}

func TestDialects(t *testing.T) {
	for name, d := range map[string]*dialect{"parley": parleyDialect, "centrifuge": centrifugeDialect, "api": apiDialect} {
		m := d.message("bench-007", 128, d != apiDialect)
		b := m.numbered(0xbeef)
		if d != apiDialect {
			_, payload, size, err := parseFrame(b, true)
			if err != nil || size != len(b) {
				t.Fatalf("%s: size %d of %d, %v", name, size, len(b), err)
			}
			b = payload
		}
		var f fleet
		if seq, ok := f.sequence(b); !ok || seq != 0xbeef || !strings.Contains(string(b), "bench-007") || !strings.Contains(string(b), "1000048879") {
			t.Errorf("%s: %x, %v in %s", name, seq, ok, b)
		}
	}
	for _, test := range []struct {
		d    *dialect
		line string
		seq  uint64
		ok   bool
	}{
		{parleyDialect, `{"type":"ack","id":"1000000007","epoch":"e","offset":1}`, 7, true},
		{parleyDialect, `{"type":"error","id":"1000000007","code":"forbidden"}`, 0, false},
		{centrifugeDialect, `{"id":1000000007,"publish":{}}`, 7, true},
		{centrifugeDialect, `{"id":1000000007,"error":{"code":100}}`, 0, false},
		{centrifugeDialect, `{"id":1,"connect":{"client":"x"}}`, 0, false},
		{apiDialect, `1000000007`, 7, true},
		{apiDialect, `failed: "1000000007"`, 0, false},
	} {
		if seq, ok := test.d.acked([]byte(test.line)); seq != test.seq || ok != test.ok {
			t.Errorf("%s: %d, %v", test.line, seq, ok)
		}
	}
}

// Several messages in a frame, and answers that come in pieces.
func TestFleetReadsLines(t *testing.T) {
	f, err := newFleet()
	if err != nil {
		t.Fatal(err)
	}
	f.dialect, f.clients = centrifugeDialect, []client{{phase: phaseUpgraded}, {phase: phaseAPI}}
	var got []string
	f.onMessage = func(id int, seq uint64, _ time.Duration) { got = append(got, fmt.Sprint("message ", id, seq)) }
	f.onAck = func(id int, seq uint64) { got = append(got, fmt.Sprint("ack ", id, seq)) }
	push := `{"push":{"channel":"c","pub":{"data":` + marker + `0000000a"}}}`
	frame := `{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{}}` + "\n" + push + "\n" + `{"id":1000000011,"publish":{}}`
	f.onData(0, appendFrame(nil, opText, []byte(frame), false), nil)
	f.onData(1, []byte("10000000"), nil)
	f.onData(1, []byte("12\n1000000013\n"), nil)
	want := []string{"message 0 10", "ack 0 11", "ack 1 12", "ack 1 13"}
	if !slices.Equal(got, want) || f.problem != nil || f.connected != 1 || f.joined != 1 {
		t.Errorf("got %v, connected %d, joined %d, %v", got, f.connected, f.joined, f.problem)
	}
}

func TestRedisFlags(t *testing.T) {
	c, err := parseFlags([]string{"-redis", "-check"})
	if err != nil || c.conns != 200 || len(c.kinds) != 2 || len(c.scenarios()) != 14 || len(c.targets()) != 20 {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, args := range [][]string{
		{"-redis", "-conns", "150"}, {"-redis", "-kinds", "bare"}, {"-kinds", "parley-redis"}, {"-redis", "-big"},
	} {
		if _, err := parseFlags(args); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
	if c, err := parseFlags(nil); err != nil || len(c.kinds) != 2 || c.kinds[0].name != baseKind {
		t.Errorf("without flags: %v, %v", c.kinds, err)
	}
}

// A rate below that of centrifuge, or none, misses its target.
func TestRedisTargets(t *testing.T) {
	c, err := parseFlags([]string{"-redis", "-check"})
	if err != nil {
		t.Fatal(err)
	}
	rates := func(rate float64) []measured {
		return []measured{{Values: map[metric]float64{publishRate: rate, deliveryRate: rate}}}
	}
	for rate, met := range map[float64]bool{100: true, 99: false} {
		all := results{}
		for _, s := range c.scenarios() {
			all[resultKey{s.name, redisBase}], all[resultKey{s.name, redisChecked}] = rates(100), rates(rate)
		}
		var out strings.Builder
		if err := check(&out, c.targets(), all); (err == nil) != met {
			t.Errorf("%v to 100: %v\n%s", rate, err, out.String())
		}
	}
	if check(new(strings.Builder), c.targets(), results{}) == nil {
		t.Error("nothing was measured, and met the targets")
	}
}
