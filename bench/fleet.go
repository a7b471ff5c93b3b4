package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// fleet is the clients of a load process: many connections that shake hands,
// join, count the load's own messages and answer pings. Everything of it
// belongs to the one goroutine that calls its methods.
type fleet struct {
	sockets *sockets
	clients []client
	dialect *dialect
	start   time.Time

	connected int // clients that got their first message, which is "connected"
	joined    int
	gone      int // clients whose connection has ended
	closes    int // clients that got a close frame
	problem   error

	markerAt  int           // where the marker was in the last message: it is there in the next one too
	lastData  time.Duration // when anything arrived
	onMessage func(id int, seq uint64, now time.Duration)
	onAck     func(id int, seq uint64)
	pong      []byte
}

type client struct {
	phase     phase
	closeCode int    // 0 until a close frame arrives
	partial   []byte // an incomplete frame or handshake
}

type phase byte

const (
	phaseHandshake phase = iota
	phaseUpgraded
	phaseConnected
	phaseJoined
	phaseAPI // no WebSocket at all, see api.go
	phaseGone
)

const (
	// marker is the start of the content of every message that counts; the
	// sequence number in 8 hexadecimal digits follows.
	marker    = `"@bench:`
	seqDigits = 8
	room      = "bench"

	handshakeKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	handshakeAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

	patience = 20 * time.Second // for anything that takes milliseconds when all is well
)

func newFleet() (*fleet, error) {
	s, err := newSockets()
	if err != nil {
		return nil, err
	}
	return &fleet{
		sockets: s, dialect: parleyDialect, start: time.Now(),
		onMessage: func(int, uint64, time.Duration) {}, onAck: func(int, uint64) {},
	}, nil
}

func (f *fleet) now() time.Duration { return time.Since(f.start) }

// connect opens n more connections, at most parallel of them on their way at
// once, and returns when each has got its connected message. The one numbered
// smallBuffer among all gets a small receive buffer.
func (f *fleet) connect(address string, n, parallel, smallBuffer int, v1 bool) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	protocol := ""
	if v1 {
		protocol = "Sec-WebSocket-Protocol: parley.v1\r\n"
	}
	hello := []byte("GET / HTTP/1.1\r\nHost: " + address + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + handshakeKey + "\r\n" + protocol + "\r\n")
	f.clients = slices.Grow(f.clients, n)
	want := len(f.clients) + n
	return f.until("connecting", func() (bool, error) {
		for len(f.clients) < want && len(f.clients)-f.connected < parallel {
			id := len(f.clients)
			f.clients = append(f.clients, client{})
			if err := f.sockets.open(addr, id == smallBuffer); err != nil {
				return false, err
			}
			if err := f.sockets.write(id, hello); err != nil {
				return false, err
			}
		}
		return f.connected == want, nil
	})
}

// openAPI opens one more connection to the API address of a node, and returns its number.
func (f *fleet) openAPI(address string) (id int, err error) {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return 0, err
	}
	f.clients = append(f.clients, client{phase: phaseAPI})
	return len(f.clients) - 1, f.sockets.open(addr, false)
}

// join makes every client a member of its room and returns when all are and
// the messages that announce it have ceased.
func (f *fleet) join(parallel int, room func(id int) string) error {
	asked := 0
	err := f.until("joining", func() (bool, error) {
		for ; asked < len(f.clients) && asked-f.joined < parallel; asked++ {
			frame := appendFrame(nil, opText, fmt.Appendf(nil, f.dialect.join, room(asked)), true)
			if err := f.sockets.write(asked, frame); err != nil {
				return false, err
			}
		}
		return f.joined == len(f.clients), nil
	})
	if err != nil {
		return err
	}
	return f.until("waiting for the announcements to end", func() (bool, error) {
		return f.now()-f.lastData > 300*time.Millisecond, nil
	})
}

// until polls until done says so, something is wrong, or nothing has arrived
// for too long.
func (f *fleet) until(what string, done func() (bool, error)) error {
	f.lastData = f.now()
	for {
		ok, err := done()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if ok {
			return nil
		}
		if err := f.poll(50 * time.Millisecond); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if f.now()-f.lastData > patience {
			return fmt.Errorf("%s: nothing happened for %v (%d of %d connected, %d joined, %d gone)",
				what, patience, f.connected, len(f.clients), f.joined, f.gone)
		}
	}
}

// idle does nothing but answer pings for a while.
func (f *fleet) idle(d time.Duration) error {
	end := f.now() + d
	for f.now() < end {
		if err := f.poll(end - f.now()); err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) poll(wait time.Duration) error {
	if err := f.sockets.poll(wait, f.onData); err != nil {
		return err
	}
	return f.problem
}

func (f *fleet) close() {
	for id := range f.clients {
		f.sockets.close(id)
	}
}

// fail keeps the first problem, which is usually the cause of the others.
func (f *fleet) fail(id int, err error) {
	if f.problem == nil {
		f.problem = fmt.Errorf("client %d: %w", id, err)
	}
}

func (f *fleet) onData(id int, data []byte, err error) {
	now := f.now()
	f.lastData = now
	c := &f.clients[id]
	if err != nil {
		if c.phase < phaseConnected {
			f.fail(id, fmt.Errorf("ended during the handshake: %w", err))
		}
		c.phase = phaseGone
		f.gone++
		return
	}
	if len(c.partial) > 0 {
		c.partial = append(c.partial, data...)
		data = c.partial
	}
	if c.phase == phaseHandshake {
		if data = f.onHandshake(id, data); data == nil {
			return
		}
	}
	if c.phase == phaseAPI {
		c.partial = append(c.partial[:0], f.onLines(id, apiDialect, data, now)...)
		return
	}
	for {
		op, payload, size, err := parseFrame(data, false)
		if err != nil {
			f.fail(id, err)
			f.sockets.close(id)
			return
		}
		if size == 0 {
			c.partial = append(c.partial[:0], data...)
			return
		}
		f.onFrame(id, op, payload, now)
		data = data[size:]
	}
}

// onHandshake returns what follows the server's answer, nil if the answer is
// not complete or not the right one.
func (f *fleet) onHandshake(id int, data []byte) []byte {
	c := &f.clients[id]
	head, rest, complete := bytes.Cut(data, []byte("\r\n\r\n"))
	if !complete {
		c.partial = append(c.partial[:0], data...)
		return nil
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || !bytes.Contains(head, []byte(handshakeAccept)) {
		f.fail(id, fmt.Errorf("handshake refused: %q", data[:min(len(data), 200)]))
		f.sockets.close(id)
		return nil
	}
	c.phase = phaseUpgraded
	if f.dialect.greeting != "" {
		if err := f.sockets.write(id, appendFrame(nil, opText, []byte(f.dialect.greeting), true)); err != nil {
			f.fail(id, err)
		}
	}
	return rest
}

// onLines takes one message after the other, and returns the rest, which has no end yet.
func (f *fleet) onLines(id int, d *dialect, data []byte, now time.Duration) []byte {
	for {
		line, rest, complete := bytes.Cut(data, []byte("\n"))
		if !complete {
			return data
		}
		f.onText(id, d, line, now)
		data = rest
	}
}

func (f *fleet) onFrame(id int, op byte, payload []byte, now time.Duration) {
	switch op {
	case opText:
		if f.dialect.lines {
			payload = f.onLines(id, f.dialect, payload, now)
		}
		if len(payload) > 0 {
			f.onText(id, f.dialect, payload, now)
		}
	case opPing:
		f.pong = appendFrame(f.pong[:0], opPong, payload, true)
		if err := f.sockets.write(id, f.pong); err != nil {
			f.fail(id, err)
		}
	case opClose:
		// Not answered: the servers must manage without, see the big scenario.
		f.clients[id].closeCode = closeCode(payload)
		f.closes++
	}
}

func (f *fleet) onText(id int, d *dialect, payload []byte, now time.Duration) {
	if seq, ok := f.sequence(payload); ok {
		f.onMessage(id, seq, now)
		return
	}
	if seq, ok := d.acked(payload); ok {
		f.onAck(id, seq)
		return
	}
	c := &f.clients[id]
	head := payload[:min(len(payload), 64)]
	switch {
	case bytes.Contains(head, []byte(d.failed)):
		f.fail(id, errors.New(string(payload)))
	case c.phase == phaseUpgraded:
		if !bytes.Contains(head, []byte(d.connected)) {
			f.fail(id, fmt.Errorf("first message is %q", head))
		}
		c.phase = phaseConnected
		f.connected++
	case c.phase == phaseConnected && bytes.Contains(head, []byte(d.joined)):
		c.phase = phaseJoined
		f.joined++
	case d.pong != "" && string(payload) == "{}":
		if err := f.sockets.write(id, appendFrame(nil, opText, []byte(d.pong), true)); err != nil {
			f.fail(id, err)
		}
	}
}

// sequence finds the number of one of the load's own messages.
func (f *fleet) sequence(payload []byte) (uint64, bool) {
	const size = len(marker) + seqDigits
	at := f.markerAt
	if len(payload) < at+size || string(payload[at:at+len(marker)]) != marker {
		at = bytes.Index(payload, []byte(marker))
		if at < 0 || len(payload) < at+size {
			return 0, false
		}
		f.markerAt = at
	}
	var seq uint64
	for _, d := range payload[at+len(marker) : at+size] {
		switch {
		case d >= '0' && d <= '9':
			seq = seq<<4 | uint64(d-'0')
		case d >= 'a' && d <= 'f':
			seq = seq<<4 | uint64(d-'a'+10)
		default:
			return 0, false
		}
	}
	return seq, true
}

// template is the frame of a client message whose content is a JSON value of
// size bytes, with room for a sequence number at the returned index.
func template(inRoom bool, size int) (frame []byte, seqAt int) {
	before := `{"type":"broadcast","message":`
	if inRoom {
		before = `{"type":"message","content":`
	}
	frame = appendFrame(nil, opText, slices.Concat([]byte(before), content(size), []byte("}")), true)
	return frame, bytes.Index(frame, []byte(marker)) + len(marker)
}

func putSequence(b []byte, seq uint64) {
	digits := strconv.AppendUint(make([]byte, 0, 16), seq, 16)
	for i := range seqDigits {
		b[i] = '0'
	}
	copy(b[seqDigits-len(digits):seqDigits], digits)
}
