package parley

import (
	"bytes"
	"strconv"
)

// The messages of docs/protocol.md, section 8, in the manner of encode.go.

// expiredMessage stands in a log where an entry was whose TTL has passed (P8.7).
var expiredMessage = []byte(`{"type":"expired"}`)

// message is what a client gets of an entry, without its position.
func (e *Entry) message() []byte {
	if e.Data == nil {
		return expiredMessage
	}
	return e.Data
}

// appendCounted adds how the log of an inbox stands to the object at the end of dst (P8.1).
func appendCounted(dst []byte, log Log) []byte {
	return append(appendCount(bytes.TrimSuffix(dst, []byte{'}'}), log), '}')
}

func appendCount(dst []byte, log Log) []byte {
	dst = strconv.AppendInt(append(dst, `,"unread":`...), int64(log.Unread), 10)
	return strconv.AppendInt(append(dst, `,"version":`...), log.Version, 10)
}

// appendMarks appends the members that only an inbox has (P8.2, P8.3).
func appendMarks(dst []byte, p *Page) []byte {
	dst = appendCount(dst, p.Log)
	if p.Truncated > 0 {
		dst = strconv.AppendInt(append(dst, `,"truncated":`...), p.Truncated, 10)
	}
	if len(p.Read) > 0 {
		dst = appendSpans(append(dst, `,"read":`...), p.Read)
	}
	if len(p.Archived) > 0 {
		dst = appendSpans(append(dst, `,"archived":`...), p.Archived)
	}
	return dst
}

func appendSpans(dst []byte, spans []Span) []byte {
	dst = append(dst, '[')
	for i, s := range spans {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(append(dst, '['), s.From, 10)
		dst = strconv.AppendInt(append(dst, ','), s.To, 10)
		dst = append(dst, ']')
	}
	return append(dst, ']')
}

// appendMarked appends the news of a mark. as is the state that the entries have now.
func appendMarked(dst []byte, as string, m Marked) []byte {
	dst = append(dst, `{"type":"marked","as":`...)
	dst = appendJSONString(dst, as)
	dst = append(dst, `,"epoch":`...)
	dst = appendJSONString(dst, m.Epoch)
	dst = appendSpans(append(dst, `,"offsets":`...), m.Changed)
	return append(appendCount(dst, m.Log), '}')
}

// appendMarkAck appends the answer to a mark with an id.
func appendMarkAck(dst []byte, id string, log Log) []byte {
	dst = appendID(append(dst, `{"type":"ack"`...), id)
	dst = append(dst, `,"epoch":`...)
	dst = appendJSONString(dst, log.Epoch)
	return append(appendCount(dst, log), '}')
}
