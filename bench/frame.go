package main

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The opcodes of RFC 6455 that occur here.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA
)

var errFrameBits = errors.New("frame is fragmented, compressed or of the wrong direction")

// parseFrame reads the frame at the start of b. The payload points into b;
// size is the length of the whole frame, 0 if b does not hold all of it yet.
// Nothing here negotiates compression or sends fragments, so such frames are
// errors. A masked frame is unmasked in place.
func parseFrame(b []byte, masked bool) (op byte, payload []byte, size int, err error) {
	if len(b) < 2 {
		return 0, nil, 0, nil
	}
	if b[0]&0xF0 != 0x80 || b[1]&0x80 != 0 != masked {
		return 0, nil, 0, fmt.Errorf("%w: starts with %#02x %#02x", errFrameBits, b[0], b[1])
	}
	n, head := uint64(b[1]&0x7F), 2
	switch n {
	case 126:
		head = 4
		if len(b) < head {
			return 0, nil, 0, nil
		}
		n = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		head = 10
		if len(b) < head {
			return 0, nil, 0, nil
		}
		n = binary.BigEndian.Uint64(b[2:])
		if n > 1<<30 {
			return 0, nil, 0, fmt.Errorf("frame of %d bytes", n)
		}
	}
	var key []byte
	if masked {
		if len(b) < head+4 {
			return 0, nil, 0, nil
		}
		key = b[head : head+4]
		head += 4
	}
	if uint64(len(b)) < uint64(head)+n {
		return 0, nil, 0, nil
	}
	size = head + int(n)
	payload = b[head:size:size]
	for i := range payload {
		if key == nil {
			break
		}
		payload[i] ^= key[i&3]
	}
	return b[0] & 0x0F, payload, size, nil
}

// appendFrame appends one whole frame. Masked ones use the key 0, which the
// RFC allows and which leaves the payload as it is: masking is the client's
// cost and none of the server's that is measured here.
func appendFrame(b []byte, op byte, payload []byte, masked bool) []byte {
	var mask byte
	if masked {
		mask = 0x80
	}
	b = append(b, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		b = append(b, mask|byte(n))
	case n < 1<<16:
		b = append(b, mask|126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b = append(b, mask|127)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if masked {
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, payload...)
}

// closeCode reads the code out of the payload of a close frame; 1005 is the
// RFC's name for none.
func closeCode(payload []byte) int {
	if len(payload) < 2 {
		return 1005
	}
	return int(binary.BigEndian.Uint16(payload))
}
