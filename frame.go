package parley

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"sync"
)

// WebSocket opcodes and bits (RFC 6455, section 5.2; RSV1: RFC 7692, section 6).
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9

	bitFin  = 0x80
	bitRsv1 = 0x40
)

const (
	// maxFrameHead is the longest header of a frame from a server: 2 bytes
	// and a 64-bit length. Servers do not mask.
	maxFrameHead = 10
	// deflateMin is the payload size from which compression pays; the value
	// that coder/websocket uses without context takeover.
	deflateMin = 512
)

// frame is one WebSocket message, encoded once and shared by all its
// receivers. Everything but the counters is immutable once it is queued.
type frame struct {
	wire []byte // header and payload, ready for the socket
	head int    // length of the header in wire

	epoch  string // position in its topic, "" and 0 for messages without one
	offset int64
	skip   *Conn  // connection that must not get it: the sender of a broadcast
	resets string // a history that takes the place of what was known: its epoch; it ends at offset
	key    string // signals only: newer frames of the same key replace this one

	restart bool // what was known of the topic before counts no more
	v1Only  bool // plain clients do not know this type (P1.2)
	hole    bool // resets: the members were in this log before
	rewound bool // resets: the log has lost its end, so a member may have been further

	// round is the last one in which Hub.relieve has counted the frame; used by that only.
	round uint32

	// Counted by the one goroutine that fans the frame out, see outbox.push.
	delivered, dropped int

	packOnce sync.Once
	packed   []byte // the frame with a permessage-deflate payload
}

// isFor reports whether c is one of those who get the frame; nil stands for
// a frame of the connection itself.
func (f *frame) isFor(c *Conn) bool {
	return c == nil || f.skip != c && (c.v1 || !f.v1Only)
}

// newBuffer returns a buffer for a frame whose payload has about n bytes. The
// payload is appended to it, then newFrame makes it a frame without copying.
func newBuffer(n int) []byte {
	return make([]byte, maxFrameHead, maxFrameHead+n)
}

// newFrame turns a buffer of newBuffer with an appended payload into a text frame.
func newFrame(buf []byte) *frame {
	head := putHead(buf, bitFin|opText)
	return &frame{wire: buf[maxFrameHead-head:], head: head}
}

// controlFrame returns a control frame; payload has at most 125 bytes.
func controlFrame(op byte, payload []byte) *frame {
	buf := append(newBuffer(len(payload)), payload...)
	head := putHead(buf, bitFin|op)
	return &frame{wire: buf[maxFrameHead-head:], head: head}
}

// closeFrame returns a close frame. Of the reason, which must be UTF-8, it takes
// the 123 bytes that fit beside the code.
func closeFrame(code CloseCode, reason string) *frame {
	reason = clipReason(reason)
	payload := binary.BigEndian.AppendUint16(make([]byte, 0, 125), uint16(code))
	return controlFrame(opClose, append(payload, reason...))
}

// putHead writes the frame header right before the payload, which starts at
// maxFrameHead, and returns its length.
func putHead(buf []byte, first byte) int {
	n := len(buf) - maxFrameHead
	switch {
	case n <= 125:
		buf[maxFrameHead-2], buf[maxFrameHead-1] = first, byte(n)
		return 2
	case n <= 0xffff:
		buf[maxFrameHead-4], buf[maxFrameHead-3] = first, 126
		binary.BigEndian.PutUint16(buf[maxFrameHead-2:], uint16(n))
		return 4
	default:
		buf[0], buf[1] = first, 127
		binary.BigEndian.PutUint64(buf[2:], uint64(n))
		return 10
	}
}

// bytes returns what goes onto the socket.
func (f *frame) bytes(deflate bool) []byte {
	if !deflate || len(f.wire)-f.head < deflateMin || f.wire[0] != bitFin|opText {
		return f.wire
	}
	f.packOnce.Do(f.pack)
	return f.packed
}

var flateWriters = sync.Pool{New: func() any {
	// The level is a constant in range, so there is no error.
	w, _ := flate.NewWriter(nil, flate.BestSpeed)
	return w
}}

// pack compresses the payload on its own, without context takeover, so that
// the result can be shared (RFC 7692, section 7.2.1: a sync flush without its last four bytes).
func (f *frame) pack() {
	var out bytes.Buffer
	out.Write(make([]byte, maxFrameHead))
	w := flateWriters.Get().(*flate.Writer)
	w.Reset(&out)
	// Writes to a bytes.Buffer do not fail.
	_, _ = w.Write(f.wire[f.head:])
	_ = w.Flush()
	flateWriters.Put(w)
	buf := out.Bytes()[:out.Len()-4]
	if len(buf)-maxFrameHead >= len(f.wire)-f.head {
		f.packed = f.wire
		return
	}
	head := putHead(buf, bitFin|bitRsv1|opText)
	f.packed = buf[maxFrameHead-head:]
}
