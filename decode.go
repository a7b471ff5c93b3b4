package parley

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// Limits of rules P2.3 and P2.4, in bytes. Integers end where JavaScript's
// numbers stop being exact.
const (
	maxRoomName = 255
	maxUserID   = 255
	maxUsername = 64
	maxMethod   = 64
	maxID       = 64
	maxInteger  = 1<<53 - 1
	maxListed   = 100 // items of an array
)

// inbound is one decoded client message. The raw values alias the input of
// decode and are valid JSON; the strings are copies. What a message type needs
// is for its handler to check: decode knows the fields, not the types.
type inbound struct {
	Type, ID, Room, Username, TargetID, Epoch, Method, Name, Topic string

	// Raw JSON values: nil if absent, "null" if the client wrote null.
	Message, Content, Data []byte

	Offset, Before, Limit int64

	Offsets []int64
	IDs     []string

	// Has tells a key that is absent from one with the zero value.
	HasRoom, HasUsername, HasTargetID, HasEpoch bool
	HasOffset, HasBefore, HasLimit              bool
}

// field is a known key of the envelope. Which ones are known does not depend
// on the type of the message (P2.2).
type field uint8

const (
	fieldType field = iota
	fieldID
	fieldRoom
	fieldUsername
	fieldMessage
	fieldTargetID
	fieldContent
	fieldEpoch
	fieldOffset
	fieldBefore
	fieldLimit
	fieldMethod
	fieldName
	fieldData
	fieldTopic
	fieldOffsets
	fieldIDs
	fieldCount
	fieldUnknown = fieldCount
)

var fieldNames = [fieldCount]string{
	"type", "id", "room", "username", "message", "targetId", "content",
	"epoch", "offset", "before", "limit", "method", "name", "data", "topic", "offsets", "ids",
}

// fieldLimits are the lengths of P2.4. The strings without one, type, epoch and
// topic, are only ever compared with what the server itself made.
var fieldLimits = [fieldCount]int{
	fieldID: maxID, fieldRoom: maxRoomName, fieldTargetID: maxUserID,
	fieldUsername: maxUsername, fieldMethod: maxMethod, fieldName: maxMethod, fieldIDs: maxName,
}

// decode reads one client message by the rules P2.1 to P2.4. All of p is
// checked to be JSON, also the values that are passed on or ignored: what is
// sent to others must not break their parsers.
//
// in is overwritten. After an error only in.ID counts: it is set if the
// message had exactly one valid id, so that the error can carry it. Text that
// is not JSON has an id only if it stands before the fault.
func decode(p []byte, in *inbound) *Error {
	*in = inbound{}
	d := decoder{scanner: scanner{data: p}, in: in}
	ok := d.envelope()
	switch {
	case d.tooDeep:
		return NewError(CodeBadJSON, "the message is nested deeper than "+strconv.Itoa(maxDepth)+" levels: make it flatter")
	case !ok && d.pos == 0:
		return NewError(CodeBadJSON, "a message must be one JSON object")
	case !ok:
		return NewError(CodeBadJSON, "invalid JSON after "+strconv.Itoa(d.pos)+" bytes: send one JSON object per message")
	case d.refusal != nil:
		return d.refusal
	case in.Type == "":
		return NewError(CodeBadRequest, `"type" is missing or empty: it says what the message is, e.g. "join"`)
	}
	in.HasRoom, in.HasUsername = d.has(fieldRoom), d.has(fieldUsername)
	in.HasTargetID, in.HasEpoch = d.has(fieldTargetID), d.has(fieldEpoch)
	in.HasOffset, in.HasBefore, in.HasLimit = d.has(fieldOffset), d.has(fieldBefore), d.has(fieldLimit)
	return nil
}

// decoder is the state of one decode.
type decoder struct {
	scanner
	in   *inbound
	seen uint32 // one bit for each field, also set by a key in the wrong case
	// refusal is the first breach of P2.2 to P2.4. It does not end the scan:
	// text that is not JSON takes precedence, and the id may be still to come.
	refusal *Error
}

func (d *decoder) has(f field) bool { return d.seen&(1<<f) != 0 }

// refuse notes a breach that has to do with field f. The text is put together
// for the first one only: a message may hold thousands.
func (d *decoder) refuse(before string, f field, after string) {
	if d.refusal == nil {
		d.refusal = NewError(CodeBadRequest, before+`"`+fieldNames[f]+`"`+after)
	}
}

// envelope reads the whole text. It reports false if that is not one object.
func (d *decoder) envelope() bool {
	d.space()
	if d.peek() != '{' {
		d.pos = 0
		return false
	}
	d.pos++
	for first := true; ; first = false {
		key, more, ok := d.member(first)
		if !ok {
			return false
		}
		if !more {
			break
		}
		if !d.field(lookupField(key)) {
			return false
		}
	}
	d.space()
	return d.pos == len(d.data)
}

// field reads the value of a key. It reports false only for invalid JSON.
func (d *decoder) field(f field, exact bool) bool {
	if f == fieldUnknown {
		return d.value(1) // P1.6
	}
	again := d.has(f)
	d.seen |= 1 << f
	if again || !exact {
		if exact {
			d.refuse("", f, " occurs more than once: send it once")
		} else {
			d.refuse("a key differs from ", f, " only in case: use this spelling")
		}
		if f == fieldID {
			d.in.ID = "" // no telling which one is meant
		}
		return d.value(1)
	}
	switch f {
	case fieldMessage, fieldContent, fieldData:
		return d.raw(f)
	case fieldOffset, fieldBefore, fieldLimit:
		return d.integer(f)
	case fieldOffsets, fieldIDs:
		return d.list(f)
	}
	return d.text(f)
}

// raw reads a value that is passed on as it is.
func (d *decoder) raw(f field) bool {
	start := d.pos
	if !d.value(1) {
		return false
	}
	// Without spare capacity an append to the value cannot reach the message.
	v := d.data[start:d.pos:d.pos]
	switch f {
	case fieldMessage:
		d.in.Message = v
	case fieldContent:
		d.in.Content = v
	default:
		d.in.Data = v
	}
	return true
}

// integer reads a number of P2.3.
func (d *decoder) integer(f field) bool {
	start := d.pos
	if !d.value(1) {
		return false
	}
	n, ok := parseInteger(d.data[start:d.pos])
	if !ok {
		d.refuse("", f, " must be an integer from 0 to 9007199254740991")
		return true
	}
	switch f {
	case fieldOffset:
		d.in.Offset = n
	case fieldBefore:
		d.in.Before = n
	default:
		d.in.Limit = n
	}
	return true
}

// parseInteger returns the value of a JSON number that is written with digits
// only and does not exceed maxInteger. Other spellings, like 1e3 and 1.0, are
// refused, because JSON libraries disagree on whether they are integers.
func parseInteger(p []byte) (n int64, ok bool) {
	if len(p) > 16 {
		return 0, false // maxInteger has 16 digits, and none may lead with 0
	}
	for _, c := range p {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, n <= maxInteger
}

// text reads a string of P2.3 and P2.4.
func (d *decoder) text(f field) bool {
	if d.peek() != '"' {
		d.refuseText(f)
		return d.value(1)
	}
	t, ok := d.str()
	if !ok {
		return false
	}
	s, ok := t.decode(f)
	if !ok {
		d.refuseText(f)
		return true
	}
	switch f {
	case fieldType:
		d.in.Type = s
	case fieldID:
		d.in.ID = s
	case fieldRoom:
		d.in.Room = s
	case fieldUsername:
		d.in.Username = s
	case fieldTargetID:
		d.in.TargetID = s
	case fieldEpoch:
		d.in.Epoch = s
	case fieldMethod:
		d.in.Method = s
	case fieldName:
		d.in.Name = s
	default:
		d.in.Topic = s
	}
	return true
}

func (d *decoder) refuseText(f field) {
	after := " must be a string"
	if limit := fieldLimits[f]; limit > 0 && d.refusal == nil {
		after += " of 1 to " + strconv.Itoa(limit) + " bytes without control characters"
	}
	d.refuse("", f, after)
}

// decode returns the value of a string field, and false if it breaks P2.4.
func (t text) decode(f field) (string, bool) {
	limit := fieldLimits[f]
	// No escape is longer than six times what it stands for, so this refuses
	// nothing valid, and bounds what is copied before validName counts.
	if limit > 0 && len(t.body) > 6*limit {
		return "", false
	}
	body := t.body
	if t.escaped {
		var ok bool
		var buf [maxRoomName]byte
		if body, ok = t.unquote(buf[:0]); !ok {
			return "", false
		}
	}
	if limit == 0 {
		return intern(body), utf8.Valid(body)
	}
	s := string(body)
	return s, validName(s, limit)
}

// intern returns p as a string, without allocating for the known types.
func intern(p []byte) string {
	switch string(p) {
	case "message":
		return "message"
	case "broadcast":
		return "broadcast"
	case "private":
		return "private"
	case "join":
		return "join"
	case "leave":
		return "leave"
	case "call":
		return "call"
	case "signal":
		return "signal"
	case "history":
		return "history"
	case "presence":
		return "presence"
	case "ping":
		return "ping"
	case "read":
		return "read"
	case "received":
		return "received"
	}
	return string(p)
}

// lookupField returns the field that a key names, and whether it does so
// exactly and not only when case is ignored. Escapes in the key do not
// matter: the other side's parser does not see them either.
func lookupField(key text) (f field, exact bool) {
	const longest = len("username") // in characters; folding keeps their number
	name := key.body
	if len(name) > 6*longest {
		return fieldUnknown, false // too long even if it is all escapes
	}
	if key.escaped {
		var buf [6 * longest]byte
		// Half of a surrogate pair becomes a character that no field has.
		name, _ = key.unquote(buf[:0])
	}
	if f = exactField(name); f != fieldUnknown {
		return f, true
	}
	for f = range fieldCount {
		if bytes.EqualFold(name, []byte(fieldNames[f])) {
			return f, false
		}
	}
	return fieldUnknown, false
}

// exactField returns the field that is spelled exactly like name.
func exactField(name []byte) field {
	switch string(name) {
	case "type":
		return fieldType
	case "id":
		return fieldID
	case "room":
		return fieldRoom
	case "username":
		return fieldUsername
	case "message":
		return fieldMessage
	case "targetId":
		return fieldTargetID
	case "content":
		return fieldContent
	case "epoch":
		return fieldEpoch
	case "offset":
		return fieldOffset
	case "before":
		return fieldBefore
	case "limit":
		return fieldLimit
	case "method":
		return fieldMethod
	case "name":
		return fieldName
	case "data":
		return fieldData
	case "topic":
		return fieldTopic
	case "offsets":
		return fieldOffsets
	case "ids":
		return fieldIDs
	}
	return fieldUnknown
}

// validName reports whether s has 1 to limit bytes of UTF-8 without control
// characters (P2.4).
func validName(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || r <= 0x9f {
			return false
		}
		i += n
	}
	return true
}
