package natsstore

import (
	"encoding/binary"
	"errors"
)

// What goes over NATS is an envelope of 4 bytes and the payload, or of 28 bytes and a part of one that is larger
// than what the server takes at once. The parts of a payload come one after the other.
//
//	'p' 'l' version kind [publisher:8 number:8 index:4 count:4] data
const (
	version   = 1
	kindWhole = 0
	kindPart  = 1

	wholeHeader = 4
	partHeader  = 28
)

// maxPayload is the largest payload that is carried: no hub makes one, and what is being put together must have a bound.
const maxPayload = 32 << 20

// part says where a part belongs.
type part struct {
	publisher    uint64 // a Broker, by a random number
	number       uint64 // of the payload, counted by the publisher
	index, count uint32
}

var errGarbage = errors.New("not of a parley broker, or of one of another version")

func appendWhole(buf, payload []byte) []byte {
	return append(append(buf, 'p', 'l', version, kindWhole), payload...)
}

func appendPart(buf []byte, p part, data []byte) []byte {
	buf = append(buf, 'p', 'l', version, kindPart)
	buf = binary.BigEndian.AppendUint64(buf, p.publisher)
	buf = binary.BigEndian.AppendUint64(buf, p.number)
	buf = binary.BigEndian.AppendUint32(buf, p.index)
	buf = binary.BigEndian.AppendUint32(buf, p.count)
	return append(buf, data...)
}

// open takes an envelope apart. whole says that data is a payload, otherwise it is part p of one.
func open(m []byte) (data []byte, p part, whole bool, err error) {
	if len(m) < wholeHeader || m[0] != 'p' || m[1] != 'l' || m[2] != version {
		return nil, p, false, errGarbage
	}
	if m[3] == kindWhole {
		return m[wholeHeader:], p, true, nil
	}
	if m[3] != kindPart || len(m) <= partHeader {
		return nil, p, false, errGarbage
	}
	p.publisher, p.number = binary.BigEndian.Uint64(m[4:]), binary.BigEndian.Uint64(m[12:])
	p.index, p.count = binary.BigEndian.Uint32(m[20:]), binary.BigEndian.Uint32(m[24:])
	if p.index >= p.count || p.count < 2 {
		return nil, p, false, errGarbage
	}
	return m[partHeader:], p, false, nil
}

// puzzles puts payloads together. It is used by one goroutine.
type puzzles struct {
	open  map[puzzleKey]*puzzle
	bytes int // that wait in open
}

type puzzleKey struct {
	subject   string
	publisher uint64
}

type puzzle struct {
	number      uint64
	next, count uint32
	data        []byte
}

// maxPuzzles is how many bytes of parts may wait for the rest.
const maxPuzzles = 2 * maxPayload

// add takes a part. It returns the payload if that is complete now, and the subjects where something is missing.
func (s *puzzles) add(subject string, p part, data []byte) (payload []byte, lost []string) {
	key := puzzleKey{subject, p.publisher}
	z := s.open[key]
	if z != nil && (z.number != p.number || z.next != p.index || z.count != p.count) {
		s.drop(key)
		z, lost = nil, []string{subject}
	}
	if z == nil {
		if p.index > 0 {
			return nil, []string{subject}
		}
		if s.open == nil {
			s.open = map[puzzleKey]*puzzle{}
		}
		z = &puzzle{number: p.number, count: p.count}
		s.open[key] = z
	}
	z.data, z.next = append(z.data, data...), p.index+1
	s.bytes += len(data)
	switch {
	case len(z.data) > maxPayload:
		s.drop(key)
		return nil, []string{subject}
	case z.next == z.count:
		s.drop(key)
		return z.data, lost
	case s.bytes > maxPuzzles: // publishers that died within a payload, or far too many at once
		for key := range s.open {
			lost = append(lost, key.subject)
			s.drop(key)
		}
	}
	return nil, lost
}

func (s *puzzles) drop(key puzzleKey) {
	s.bytes -= len(s.open[key].data)
	delete(s.open, key)
}
