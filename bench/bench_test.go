package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// startTest serves one kind inside the test process.
func startTest(t *testing.T, name string) addresses {
	t.Helper()
	k, err := findKind(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := k.new("")
	if err != nil {
		t.Fatal(err)
	}
	return serveTest(t, s)
}

// serveTest serves s as a server process would.
func serveTest(t *testing.T, s benchServer) addresses {
	t.Helper()
	ready, stop, err := listenAll(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		stop()
	})
	return ready
}

func smallSpec(scenario string) loadSpec {
	return loadSpec{
		Scenario: scenario, Conns: 10, Senders: 1, Window: 1, Size: 128, Parallel: 4, Limit: 100,
		Time: 50 * time.Millisecond, Stuck: 2 * time.Second, Stall: 20 * time.Second,
	}
}

func TestFanoutSmoke(t *testing.T) {
	for _, test := range []struct {
		kind            string
		room            bool
		senders, window int
	}{
		{"bare", false, 1, 1}, {"bare", false, 3, 16}, {"parley", false, 1, 1}, {"parley", true, 3, 16},
	} {
		t.Run(fmt.Sprintf("%s room=%v senders=%d window=%d", test.kind, test.room, test.senders, test.window), func(t *testing.T) {
			spec := smallSpec("fanout")
			spec.addresses = startTest(t, test.kind)
			spec.Room, spec.Senders, spec.Window, spec.Spin = test.room, test.senders, test.window, test.room
			m, err := runScenario(spec)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []metric{deliveryRate, latencyP50, latencyP99} {
				if m.Values[name] <= 0 {
					t.Errorf("%s is %v", name, m.Values[name])
				}
			}
		})
	}
}

func TestIdleSmoke(t *testing.T) {
	for _, k := range kinds {
		if k.redis {
			continue
		}
		spec := smallSpec("idle")
		spec.addresses = startTest(t, k.name)
		m, err := runScenario(spec)
		if err != nil || m.Values[connectRate] <= 0 {
			t.Errorf("%s: %v connects/s, %v", k.name, m.Values[connectRate], err)
		}
	}
}

// The bare server is blocked by a reader that stalls, which shows that the
// scenario really stalls one.
func TestStalledSmoke(t *testing.T) {
	spec := smallSpec("stalled")
	spec.addresses = startTest(t, "bare")
	spec.Size, spec.Limit, spec.Stuck = 256<<10, 1000, 500*time.Millisecond
	m, err := runScenario(spec)
	if err != nil || !strings.Contains(m.Note, "stops everybody") {
		t.Errorf("note %q, %v", m.Note, err)
	}
}

func TestBigSmoke(t *testing.T) {
	spec := smallSpec("big")
	spec.addresses = startTest(t, "parley")
	spec.Room = true
	m, err := runScenario(spec)
	if err != nil {
		t.Fatal(err)
	}
	if m.Values[undelivered] != 0 || m.Values[shutdownSeconds] <= 0 {
		t.Errorf("undelivered %v, shutdown %v s: %s", m.Values[undelivered], m.Values[shutdownSeconds], m.Note)
	}
}

// A load that accepts whatever arrives would measure a broken server as a fast one.
func TestPublisherFindsLossAndDoubling(t *testing.T) {
	for name, arrivals := range map[string][]uint64{"lost": {1}, "doubled": {0, 0}, "reordered": {1, 0}} {
		f, err := newFleet()
		if err != nil {
			t.Fatal(err)
		}
		f.clients = make([]client, 3)
		p := newPublisher(f, loadSpec{Senders: 1, Window: 4, Size: 64}, -1)
		for p.window.open() {
			p.window.send(0)
		}
		for _, seq := range arrivals {
			p.onMessage(1, seq, 0)
		}
		if f.problem == nil {
			t.Errorf("%s: not found", name)
		}
	}
}

func TestTemplate(t *testing.T) {
	for _, inRoom := range []bool{false, true} {
		frame, at := template(inRoom, 128)
		putSequence(frame[at:], 0xbeef)
		_, payload, size, err := parseFrame(frame, true)
		if err != nil || size != len(frame) {
			t.Fatalf("size %d of %d, %v", size, len(frame), err)
		}
		_, content, _ := strings.Cut(string(payload[1:]), `":"`)
		_, content, _ = strings.Cut(content, `":`)
		if content = strings.TrimSuffix(content, "}"); len(content) != 128 {
			t.Errorf("content has %d bytes: %s", len(content), content)
		}
		var f fleet
		if seq, ok := f.sequence(payload); !ok || seq != 0xbeef {
			t.Errorf("sequence %x, %v in %s", seq, ok, payload)
		}
		if seq, ok := f.sequence([]byte(`{"type":"system","content":"@bench:"}`)); ok {
			t.Errorf("found %d where there is none", seq)
		}
	}
}

func TestFleetPutsPiecesTogether(t *testing.T) {
	f, err := newFleet()
	if err != nil {
		t.Fatal(err)
	}
	f.clients = make([]client, 1)
	var got []uint64
	f.onMessage = func(_ int, seq uint64, _ time.Duration) { got = append(got, seq) }
	stream := []byte("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + handshakeAccept + "\r\n\r\n")
	stream = appendFrame(stream, opText, []byte(`{"type":"connected","clientId":"a"}`), false)
	for _, seq := range []uint64{7, 8} {
		content := []byte(`{"type":"broadcast","senderId":"b","message":` + marker + "00000000" + `"}`)
		putSequence(content[strings.Index(string(content), marker)+len(marker):], seq)
		stream = appendFrame(stream, opText, content, false)
	}
	for len(stream) > 0 {
		n := min(3, len(stream))
		f.onData(0, stream[:n], nil)
		stream = stream[n:]
	}
	if f.problem != nil || f.connected != 1 || len(got) != 2 || got[0] != 7 || got[1] != 8 {
		t.Errorf("connected %d, messages %v, %v", f.connected, got, f.problem)
	}
}
