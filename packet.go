package parley

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// packetVersion is the version of what nodes tell each other. Keys are only ever added to it: nodes ignore
// those that they do not know. They ignore packets of another version, and get what is stored from the Store (F72).
const packetVersion = 1

// packet is what nodes tell each other: messages of a topic, or one of the other things.
type packet struct {
	Version  int             `json:"v"`
	Node     string          `json:"node"`
	Messages []packetMessage `json:"messages"`

	Presence bool       `json:"presence,omitempty"` // who is in the room has changed: the Store knows
	Gone     bool       `json:"gone,omitempty"`     // the node has ended
	Probe    int64      `json:"probe,omitempty"`    // a node sends it to itself
	Ask      *ask       `json:"ask,omitempty"`
	Answer   *askAnswer `json:"answer,omitempty"`
}

type packetMessage struct {
	Epoch  string `json:"epoch,omitempty"` // empty: not stored
	Offset int64  `json:"offset,omitempty"`
	V1     bool   `json:"v1,omitempty"`
	Key    string `json:"key,omitempty"`
	// Of an inbox, see Log. Version is 0 for any other topic.
	Unread  int    `json:"unread,omitempty"`
	Version int64  `json:"version,omitempty"`
	Marks   int64  `json:"marks,omitempty"` // see publication
	News    bool   `json:"news,omitempty"`
	Of      string `json:"of,omitempty"` // the epoch that News is of

	Data json.RawMessage `json:"data"`
}

var (
	errNoPacket  = errors.New("it is no packet of a node")
	errNoMessage = errors.New("it has a message without a position or without data")
)

// message returns what does not depend on where p is in the log.
func (p *publication) message() packetMessage {
	return packetMessage{V1: p.v1, Key: p.key, News: p.news, Of: p.of, Data: p.entry.Data}
}

func (m *packetMessage) check() error {
	if len(m.Data) == 0 || m.Data[0] != '{' || m.Offset < 0 || (m.Epoch == "") != (m.Offset == 0) {
		return errNoMessage
	}
	return nil
}

// encode makes the payload. Messages are passed on as they are; nodes spend much of their time here.
func (p packet) encode() []byte {
	size := 48 + len(p.Node)
	for _, m := range p.Messages {
		size += 16 + len(m.Data) + len(m.Key)
		if m.Epoch != "" {
			size += 96 + len(m.Epoch)
		}
	}
	b := append(make([]byte, 0, size), `{"v":`...)
	b = strconv.AppendInt(b, packetVersion, 10)
	b = append(b, `,"node":`...)
	b = appendJSONString(b, p.Node)
	if p.Presence {
		b = append(b, `,"presence":true`...)
	}
	if p.Gone {
		b = append(b, `,"gone":true`...)
	}
	if p.Probe != 0 {
		b = append(b, `,"probe":`...)
		b = strconv.AppendInt(b, p.Probe, 10)
	}
	if p.Ask != nil {
		b = append(append(b, `,"ask":`...), mustMarshal(p.Ask)...)
	}
	if p.Answer != nil {
		b = append(append(b, `,"answer":`...), mustMarshal(p.Answer)...)
	}
	for i, m := range p.Messages {
		if i == 0 {
			b = append(b, `,"messages":[`...)
		} else {
			b = append(b, ',')
		}
		b = m.append(b)
	}
	if len(p.Messages) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

func (m *packetMessage) append(b []byte) []byte {
	b = append(b, '{')
	if m.Epoch != "" {
		b = append(b, `"epoch":`...)
		b = appendJSONString(b, m.Epoch)
		b = append(b, ',')
	}
	for _, n := range []struct {
		name  string
		value int64
	}{{"offset", m.Offset}, {"unread", int64(m.Unread)}, {"version", m.Version}, {"marks", m.Marks}} {
		if n.value != 0 {
			b = append(append(append(b, '"'), n.name...), `":`...)
			b = append(strconv.AppendInt(b, n.value, 10), ',')
		}
	}
	if m.V1 {
		b = append(b, `"v1":true,`...)
	}
	if m.News {
		b = append(b, `"news":true,`...)
	}
	if m.Of != "" {
		b = append(b, `"of":`...)
		b = appendJSONString(b, m.Of)
		b = append(b, ',')
	}
	if m.Key != "" {
		b = append(b, `"key":`...)
		b = appendJSONString(b, m.Key)
		b = append(b, ',')
	}
	b = append(b, `"data":`...)
	return append(append(b, m.Data...), '}')
}

// isEcho reports whether a payload is a packet of this node itself, by how these begin: perhaps after the line of an AppendPublisher.
func isEcho[T string | []byte](payload T, echo string) bool {
	from := 0
	if len(payload) > 0 && payload[0] != '{' {
		for from < len(payload) && payload[from] != '\n' {
			from++
		}
		from = min(from+1, len(payload))
	}
	return len(payload)-from >= len(echo) && string(payload[from:from+len(echo)]) == echo && !mutant("ownecho")
}

// skip reports whether a payload is not even to be queued.
func (h *Hub) skip(payload string) bool { return isEcho(payload, h.echo) }

// mustMarshal encodes what holds nothing that could fail.
func mustMarshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// decodePacket reads a payload: a packet, or one with the positions of its messages before it (AppendPublisher).
func decodePacket(payload []byte) (packet, error) {
	var at positions
	if len(payload) > 0 && payload[0] != '{' {
		header, body, ok := bytes.Cut(payload, []byte{'\n'})
		if !ok || !at.parse(header) {
			return packet{}, errNoPacket
		}
		payload = body
	}
	if !utf8.Valid(payload) { // it would end every connection that it reaches
		return packet{}, errNoPacket
	}
	p, ok := scanPacket(payload)
	if !ok {
		p = packet{}
		if err := json.Unmarshal(payload, &p); err != nil {
			return packet{}, errNoPacket
		}
	}
	if p.Version != packetVersion {
		return packet{}, fmt.Errorf("it has version %d, and this node knows %d: nodes of different versions of parley", p.Version, packetVersion)
	}
	if at.epoch != "" {
		if len(at.offsets) != len(p.Messages) {
			return packet{}, errNoPacket
		}
		p.Messages = at.place(p.Messages)
	}
	return p, nil
}

// positions is the first line of what an AppendPublisher publishes.
type positions struct {
	epoch   string
	unread  int64
	version int64
	offsets []int64
	few     [4]int64 // what offsets mostly has
}

func (at *positions) parse(header []byte) bool {
	unread, header, _ := bytes.Cut(header, []byte{' '})
	version, header, _ := bytes.Cut(header, []byte{' '})
	offsets, epoch, _ := bytes.Cut(header, []byte{' '})
	ok := true
	number := func(digits []byte) int64 {
		n, whole := parseInteger(digits)
		ok = ok && whole && len(digits) > 0
		return n
	}
	at.offsets = at.few[:0]
	at.unread, at.version, at.epoch = number(unread), number(version), string(epoch)
	for more := true; more; {
		var offset []byte
		offset, offsets, more = bytes.Cut(offsets, []byte{','})
		at.offsets = append(at.offsets, number(offset))
	}
	return ok && at.epoch != ""
}

// place gives the messages their positions, and leaves out those that were stored before.
func (at *positions) place(messages []packetMessage) []packetMessage {
	top := int64(0)
	for _, offset := range at.offsets {
		top = max(top, offset)
	}
	placed := messages[:0]
	for i, m := range messages {
		if at.offsets[i] == 0 {
			continue
		}
		m.Epoch, m.Offset, m.Unread, m.Version, m.Marks = at.epoch, at.offsets[i], int(at.unread), at.version, at.version-top+1
		placed = append(placed, m)
	}
	return placed
}
