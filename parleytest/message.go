package parleytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Message is a message of the protocol: what a client received, or a literal
// of what it sends or expects. Numbers in received messages are json.Number, so that none
// is rounded.
type Message map[string]any

// Type returns the type.
func (m Message) Type() string { return m.Str("type") }

// Str returns the string in a field, or "".
func (m Message) Str(field string) string { s, _ := m[field].(string); return s }

// Bool returns the boolean in a field, or false.
func (m Message) Bool(field string) bool { b, _ := m[field].(bool); return b }

// Int returns the integer in a field, or 0.
func (m Message) Int(field string) int64 {
	n, ok := m[field].(json.Number)
	if !ok {
		return 0
	}
	i, _ := n.Int64()
	return i
}

// List returns the objects in a field, such as the messages of a history or the members
// of a presence message; nil if it is something else.
func (m Message) List(field string) []Message {
	values, ok := m[field].([]any)
	if !ok {
		return nil
	}
	list := make([]Message, len(values))
	for i, v := range values {
		object, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		list[i] = object
	}
	return list
}

// Decode decodes a field into v, as json.Unmarshal does: the content of a
// message, the data of a notification.
func (m Message) Decode(field string, v any) error {
	value, ok := m[field]
	if !ok {
		return fmt.Errorf("parleytest: no field %q in %s", field, m)
	}
	p, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return json.Unmarshal(p, v)
}

// String returns the message as JSON.
func (m Message) String() string { return encode(map[string]any(m)) }

// encode is for people: without the escapes that make JSON safe in HTML.
func encode(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// parse reads a JSON object exactly.
func parse(p []byte) (Message, error) {
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	var m Message
	if err := d.Decode(&m); err != nil {
		return nil, err
	}
	return m, nil
}

// differences says where got lacks what want asks for, a line each. In
// objects, got may have more fields.
func differences(path string, want, got any) []string {
	switch want := want.(type) {
	case map[string]any:
		if got, ok := got.(map[string]any); ok {
			return fieldDifferences(path, want, got)
		}
	case []any:
		if got, ok := got.([]any); ok && len(got) == len(want) {
			var all []string
			for i := range want {
				all = append(all, differences(fmt.Sprintf("%s[%d]", path, i), want[i], got[i])...)
			}
			return all
		}
	case json.Number:
		if got, ok := got.(json.Number); ok && sameNumber(want, got) {
			return nil
		}
	default: // string, bool, nil
		if want == got {
			return nil
		}
	}
	return []string{fmt.Sprintf("%s is %s, expected %s", path, shorten(encode(got)), shorten(encode(want)))}
}

func fieldDifferences(path string, want, got map[string]any) (all []string) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		at := key
		if path != "" {
			at = path + "." + key
		}
		if value, ok := got[key]; ok {
			all = append(all, differences(at, want[key], value)...)
		} else {
			all = append(all, fmt.Sprintf("%s is missing, expected %s", at, shorten(encode(want[key]))))
		}
	}
	return all
}

// sameNumber compares by value: 1 is 1.0.
func sameNumber(a, b json.Number) bool {
	if a == b {
		return true
	}
	x, err1 := strconv.ParseFloat(a.String(), 64)
	y, err2 := strconv.ParseFloat(b.String(), 64)
	_, errA := a.Int64()
	_, errB := b.Int64()
	return err1 == nil && err2 == nil && x == y && (errA != nil || errB != nil)
}
