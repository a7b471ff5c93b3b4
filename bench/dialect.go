package main

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
)

// dialect is the part of a server's protocol that a load speaks.
type dialect struct {
	greeting  string // what a client sends after the handshake, empty for nothing
	connected string // is in the server's first message
	join      string // joins the room named by %s
	joined    string // is in the answer to it
	publish   string // sends a message: %d is its id, %s the room, %s the content
	ack       string // starts the answer to it; the digits of the id follow
	failed    string // is in the answer to what was refused
	pong      string // answers the message "{}", empty if the server sends no such thing
	lines     bool   // a frame may hold several messages, one a line
}

// parleyDialect is docs/protocol.md.
var parleyDialect = &dialect{
	connected: `"type":"connected"`,
	join:      `{"type":"join","room":"%s"}`,
	joined:    `"type":"history"`,
	publish:   `{"type":"message","id":"%d","room":"%s","content":%s}`,
	ack:       `{"type":"ack","id":"`,
	failed:    `"type":"error"`,
}

// centrifugeDialect is the JSON form of centrifuge's protocol, version 2.
var centrifugeDialect = &dialect{
	greeting:  `{"id":1,"connect":{}}`,
	connected: `"connect":{`,
	join:      `{"id":2,"subscribe":{"channel":"%s"}}`,
	joined:    `"subscribe":{`,
	publish:   `{"id":%d,"publish":{"channel":"%s","data":%s}}`,
	ack:       `{"id":`,
	failed:    `"error":{`,
	pong:      `{}`,
	lines:     true,
}

// apiDialect is that of api.go, which has no frames: everything is a line.
var apiDialect = &dialect{publish: "%d %s %s\n", failed: apiFailed, lines: true}

// dialects are by the name that a kind has for them.
var dialects = map[string]*dialect{"": parleyDialect, "centrifuge": centrifugeDialect}

const (
	// firstAck is the id of message 0 and makes all ids equally long, as a
	// string and as the 32-bit number that centrifuge wants.
	firstAck  = 1_000_000_000
	ackDigits = 10
)

// acked finds the number of the message whose acknowledgement b starts with.
func (d *dialect) acked(b []byte) (seq uint64, ok bool) {
	end := len(d.ack) + ackDigits
	if len(b) < end || string(b[:len(d.ack)]) != d.ack || bytes.Contains(b, []byte(d.failed)) {
		return 0, false
	}
	id, err := strconv.ParseUint(string(b[len(d.ack):end]), 10, 64)
	if err != nil || id < firstAck {
		return 0, false
	}
	return id - firstAck, true
}

// message is one to a room, ready to be sent but for its number.
type message struct {
	bytes []byte
	idAt  int
	seqAt int
}

// message is a template of a message with content of size bytes. Without a
// frame it is what an API connection sends.
func (d *dialect) message(room string, size int, framed bool) message {
	b := fmt.Appendf(nil, d.publish, firstAck, room, content(size))
	if framed {
		b = appendFrame(nil, opText, b, true)
	}
	return message{b, bytes.Index(b, strconv.AppendInt(nil, firstAck, 10)), bytes.Index(b, []byte(marker)) + len(marker)}
}

// numbered puts a number into the message.
func (m message) numbered(seq uint64) []byte {
	putSequence(m.bytes[m.seqAt:], seq)
	strconv.AppendUint(m.bytes[:m.idAt], firstAck+seq, 10)
	return m.bytes
}

// content is a JSON value of size bytes that counts, see marker.
func content(size int) []byte {
	b := slices.Concat([]byte(marker), bytes.Repeat([]byte{'0'}, seqDigits), []byte{':'})
	b = append(b, bytes.Repeat([]byte{'x'}, max(0, size-len(b)-1))...)
	return append(b, '"')
}
