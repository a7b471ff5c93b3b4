package parley

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// decodeText decodes a text that must be accepted.
func decodeText(t *testing.T, text string) inbound {
	t.Helper()
	var in inbound
	err := decode([]byte(text), &in)
	if err != nil { // require.NoError would look at a typed nil
		require.Failf(t, "refused", "%s: %s", text, err.Message)
	}
	return in
}

// refuseText decodes a text that must be refused, and returns what the
// client is told and the id that is known.
func refuseText(t *testing.T, text string, code Code) (message, id string) {
	t.Helper()
	var in inbound
	err := decode([]byte(text), &in)
	require.NotNil(t, err, text)
	require.Equal(t, code, err.Code, "%s: %s", text, err.Message)
	require.NotEmpty(t, err.Message)
	return err.Message, in.ID
}

func TestDecodeAllFields(t *testing.T) {
	text := ` {"type":"message","id":"i","room":"r","username":"u","message":[1, 2],"targetId":"t",` +
		`"content":{"a" : 1.0},"epoch":"e","offset":1,"before":2,"limit":3,"method":"m","name":"n","data":"d",` +
		`"topic":"inbox","offsets":[ 1 ,2],"ids":["a","\u0062"]} `
	require.Equal(t, inbound{
		Type: "message", ID: "i", Room: "r", Username: "u", TargetID: "t", Epoch: "e", Method: "m", Name: "n", Topic: "inbox",
		Offsets: []int64{1, 2}, IDs: []string{"a", "b"},
		Message: []byte(`[1, 2]`), Content: []byte(`{"a" : 1.0}`), Data: []byte(`"d"`),
		Offset: 1, Before: 2, Limit: 3,
		HasRoom: true, HasUsername: true, HasTargetID: true, HasEpoch: true,
		HasOffset: true, HasBefore: true, HasLimit: true,
	}, decodeText(t, text))
}

func TestDecodePresence(t *testing.T) {
	in := decodeText(t, `{"type":"join","epoch":"","offset":0}`)
	require.True(t, in.HasEpoch)
	require.True(t, in.HasOffset)
	require.False(t, in.HasBefore)
	require.False(t, in.HasRoom)
	require.Nil(t, in.Content)

	in = decodeText(t, `{"type":"message","content":null}`)
	require.Equal(t, "null", string(in.Content), "null is a value and not the absence of one")
	require.Nil(t, in.Data)
}

// The struct is used again for the next message: nothing may stay behind.
func TestDecodeOverwrites(t *testing.T) {
	in := decodeText(t, `{"type":"join","id":"i","room":"r","offset":4,"data":1}`)
	require.Nil(t, decode([]byte(`{"type":"leave"}`), &in))
	require.Equal(t, inbound{Type: "leave"}, in)
	in.ID = "old"
	require.NotNil(t, decode([]byte(`[]`), &in))
	require.Empty(t, in.ID)
}

// An append to a raw value must not write into the message behind it.
func TestDecodeRawHasNoSpareCapacity(t *testing.T) {
	p := []byte(`{"type":"message","content":"c","data":"d"}`)
	var in inbound
	require.Nil(t, decode(p, &in))
	_ = append(in.Content, strings.Repeat("X", 12)...)
	require.Equal(t, `"d"`, string(in.Data))
}

// F54: the grammar of RFC 8259, everywhere in a message. Each text stands as
// a payload, as the value of an unknown key, and inside an array.
func TestDecodeGrammar(t *testing.T) {
	good := []string{
		`0`, `-0`, `-1`, `10`, `0.0`, `-0.5e+10`, `1E-2`, `1e999`, `123456789012345678901234567890`,
		`true`, `false`, `null`, `""`, `[]`, `{}`, "[ ]", "{\t}", "[1 , 2]", "{ \"a\" : 1 , \"b\" : 2 }",
		`"\"\\\/\b\f\n\r\t\u0041\uD83D\uDE00"`, `"\ud800"`, "\"\x7f\u0080\u2028\"", `"12345678\"12345678"`,
		`{"":1,"":2,"type":3,"Type":4}`, `[[],{},[{}]]`, "[\n1,\r2]",
	}
	bad := []string{
		``, `nul`, `nulll`, `True`, `NaN`, `Infinity`, `undefined`, `'a'`, `a`,
		`00`, `01`, `-`, `-01`, `+1`, `.5`, `1.`, `1.e1`, `1e`, `1e+`, `0x10`, `1_000`, `--1`, `1 2`,
		`"`, `"a`, `"\"`, `"\x"`, `"\u12"`, `"\u12G4"`, `"\U0041"`, "\"\n\"", "\"\x00\"", "\"1234567\x1f\"", "\"12345678\x1f901234567\"",
		`[`, `]`, `[1`, `[1,`, `[1,]`, `[,1]`, `[1 2]`, `[1,,2]`, `[1}`,
		`{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{a:1}`, `{"a" 1}`, `{"a"::1}`, `{"a":1 "b":2}`, `{1:2}`, `{"a":1]`,
		"1/**/", "//\n1", "\v1", "\u00a01", "\ufeff1", "1\x00",
	}
	frames := []string{`{"type":"x","data":%}`, `{"type":"x","other":%}`, `{"other":[%],"type":"x"}`, `{"type":"x","data":{"k":%}}`}
	for _, frame := range frames {
		for _, value := range good {
			decodeText(t, strings.ReplaceAll(frame, "%", value))
		}
		for _, value := range bad {
			text := strings.ReplaceAll(frame, "%", value)
			if json.Valid([]byte(text)) {
				continue // an empty value in brackets is an empty array
			}
			refuseText(t, text, CodeBadJSON)
		}
	}
}

// F54: whatever is cut off or put behind a message, the rest is no message.
func TestDecodeCutAndTrailing(t *testing.T) {
	text := `{"type":"join","room":"\u00e9\"","offset":12,"data":[{"a":-1.5e3},true,null,"x"]}`
	for n := range len(text) {
		refuseText(t, text[:n], CodeBadJSON)
	}
	for _, tail := range []string{`x`, `{}`, `,`, `}`, `]`, "\x00", `null`, `"`} {
		message, _ := refuseText(t, text+tail, CodeBadJSON)
		require.Contains(t, message, "invalid JSON after")
	}
	decodeText(t, text+" \t\r\n")
}

// F54: the top level is an object and nothing else.
func TestDecodeTopLevel(t *testing.T) {
	for _, text := range []string{``, ` `, `null`, `1`, `"type"`, `[]`, `[{"type":"join"}]`, `x`, "\ufeff{}", `}`} {
		message, _ := refuseText(t, text, CodeBadJSON)
		require.Equal(t, "a message must be one JSON object", message)
	}
}

// nest returns n arrays or objects inside each other.
func nest(n int, object bool) string {
	if object {
		return strings.Repeat(`{"a":`, n) + `1` + strings.Repeat(`}`, n)
	}
	return strings.Repeat(`[`, n) + strings.Repeat(`]`, n)
}

// S28: depth is counted from the message itself, for every key.
func TestDecodeDepth(t *testing.T) {
	for _, object := range []bool{false, true} {
		for _, key := range []string{"data", "other", "room", "offset"} {
			text := `{"type":"message","` + key + `":` + nest(maxDepth, object) + `,"id":"i"}`
			message, id := refuseText(t, text, CodeBadJSON)
			require.Contains(t, message, "32 levels")
			require.Equal(t, "i", id, "the id is behind the value, and still readable")
		}
		decodeText(t, `{"type":"message","data":`+nest(maxDepth-1, object)+`,"other":`+nest(maxDepth-1, object)+`}`)
	}
	// Brackets inside strings are not nesting, also where values are skipped.
	_, id := refuseText(t, `{"data":`+strings.Repeat("[", 40)+`"]]]\"["`+strings.Repeat("]", 40)+`,"id":"i"}`, CodeBadJSON)
	require.Equal(t, "i", id)
	for _, text := range []string{
		`{"data":` + strings.Repeat("[", 1<<16),
		`{"data":` + strings.Repeat(`{"a":`, 1<<13),
		`{"data":` + strings.Repeat("[", 40) + `"`,
	} {
		refuseText(t, text, CodeBadJSON)
	}
}

// S28: what took encoding/json 7.6 ms and 10,024 allocations takes neither.
// The fastest of several runs counts, and the bound is one that only quadratic
// cost exceeds: the test has to hold on busy machines and with -race.
func TestDecodeHostileCost(t *testing.T) {
	texts := map[string]string{
		"deep":    `{"type":"message","content":` + nest(32<<10, false) + `}`,
		"objects": `{"type":"message","content":[{}` + strings.Repeat(`,{}`, 21<<10) + `]}`,
		"keys":    `{"type":"message"` + strings.Repeat(`,"tYpo":0`, 7<<10) + `}`,
		"escapes": `{"type":"message"` + strings.Repeat(`,"\u0074\u0079\u0070\u006f":0`, 2<<10) + `}`,
		"doubles": `{"type":"message"` + strings.Repeat(`,"room":"r"`, 5<<10) + `}`,
		"numbers": `{"type":"message","content":[0` + strings.Repeat(`,1`, 32<<10) + `]}`,
		"long":    `{"type":"message","room":"` + strings.Repeat(`\u0061`, 10<<10) + `"}`,
	}
	var in inbound
	for name, text := range texts {
		p := []byte(text)
		fastest := time.Hour
		allocs := testing.AllocsPerRun(10, func() {
			start := time.Now()
			_ = decode(p, &in)
			fastest = min(fastest, time.Since(start))
		})
		require.LessOrEqual(t, allocs, 4.0, name)
		require.Less(t, fastest, 200*time.Millisecond, name)
		t.Logf("%s: %d bytes, %v, %v allocations", name, len(p), fastest, allocs)
	}
}

// S29: [M] `{"room":"public","ROOM":"secret"}` must not be two things to two
// parsers. Every known key, in every spelling that some parser folds.
func TestDecodeAmbiguousKeys(t *testing.T) {
	for f := range fieldCount {
		name := fieldNames[f]
		value := `"x"`
		if f == fieldOffset || f == fieldBefore || f == fieldLimit {
			value = `1`
		}
		switch f {
		case fieldOffsets:
			value = `[1]`
		case fieldIDs:
			value = `["x"]`
		}
		head := `{"type":"x",`
		if f == fieldType {
			head = `{`
		}
		once := `"` + name + `":` + value
		decodeText(t, head+once+`}`)

		message, _ := refuseText(t, head+once+`,"other":1,`+once+`}`, CodeBadRequest)
		require.Equal(t, `"`+name+`" occurs more than once: send it once`, message)
		refuseText(t, head+once+`,"`+name+`":null}`, CodeBadRequest)

		for _, spelling := range spellings(name) {
			folded := `"` + spelling + `":` + value
			for _, text := range []string{head + folded + `}`, head + once + `,` + folded + `}`, head + folded + `,` + once + `}`} {
				message, _ := refuseText(t, text, CodeBadRequest)
				require.Contains(t, message, `"`+name+`"`)
			}
		}

		escaped := ""
		for _, c := range name {
			escaped += fmt.Sprintf(`\u%04x`, c)
		}
		for _, key := range []string{escaped, escaped[:6] + name[1:]} {
			decodeText(t, head+`"`+key+`":`+value+`}`)
			refuseText(t, head+once+`,"`+key+`":`+value+`}`, CodeBadRequest)
		}
	}
}

// spellings returns ways to write name that differ from it in case only.
func spellings(name string) []string {
	all := []string{strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:]}
	if name != strings.ToLower(name) {
		all = append(all, strings.ToLower(name))
	}
	for _, pair := range [][2]string{{"s", "\u017f"}, {"s", `\u017f`}, {"s", `\u017F`}, {"k", "\u212a"}, {"k", `\u212a`}} {
		if strings.Contains(name, pair[0]) {
			all = append(all, strings.ReplaceAll(name, pair[0], pair[1]))
		}
	}
	return all
}

// S29: keys that resemble known ones are unknown, and unknown ones are
// ignored however often they occur (P1.6).
func TestDecodeUnknownKeys(t *testing.T) {
	keys := []string{
		"", "typ", "types", "type ", " type", "ty\\u0000pe", "\\u0000type", "type\\u0000", "senderId", "userId", "timestamp", "__proto__",
		"r\\u03bfom", "ro\\u043em", "l\\u0131mit", "L\\u0130MIT", "\\ud800type", "\\u0000", "target_id", "target-id", "targetI\\u0064s",
		strings.Repeat("type", 100), strings.Repeat("\\u0074", 100), "d\\ud835\\udc1ata",
	}
	for _, key := range keys {
		in := decodeText(t, `{"`+key+`":1,"type":"join","`+key+`":[{"type":1}],"room":"r","`+key+`":null}`)
		require.Equal(t, inbound{Type: "join", Room: "r", HasRoom: true}, in, key)
	}
	in := decodeText(t, `{"\u0074y\u0070e":"j\u006fin","roo\u006D":"r"}`)
	require.Equal(t, inbound{Type: "join", Room: "r", HasRoom: true}, in)
}

// S31, P2.3: integers are exact in every language, or refused.
func TestDecodeIntegers(t *testing.T) {
	good := map[string]int64{`0`: 0, `1`: 1, `100`: 100, `9007199254740991`: 1<<53 - 1}
	bad := []string{
		`9007199254740992`, `9007199254740993`, `9999999999999999`, `10000000000000000`, `18446744073709551616`, `99999999999999999999999999`,
		`-1`, `-0`, `1.0`, `0.5`, `1e2`, `1E0`, `0e0`, `"1"`, `null`, `true`, `[]`, `[1]`, `{}`,
	}
	for _, key := range []string{"offset", "before", "limit"} {
		for text, want := range good {
			in := decodeText(t, `{"type":"x","`+key+`":`+text+`}`)
			got := map[string]int64{"offset": in.Offset, "before": in.Before, "limit": in.Limit}
			require.Equal(t, want, got[key], text)
		}
		for _, text := range bad {
			message, id := refuseText(t, `{"type":"x","`+key+`":`+text+`,"id":"i"}`, CodeBadRequest)
			require.Equal(t, `"`+key+`" must be an integer from 0 to 9007199254740991`, message)
			require.Equal(t, "i", id)
		}
	}
}

// P2.3 and P2.4: lengths count the bytes of the decoded string.
func TestDecodeStrings(t *testing.T) {
	limits := map[string]int{"id": 64, "room": 255, "targetId": 255, "username": 64, "method": 64, "name": 64}
	for key, limit := range limits {
		field := func(value string) string { return `{"type":"x","` + key + `":` + value + `}` }
		text := func(s string) string { return field(`"` + s + `"`) }
		for _, s := range []string{
			"a", " ", strings.Repeat("a", limit), strings.Repeat("é", limit/2), strings.Repeat(`\u0061`, limit), strings.Repeat(`\"`, limit),
			"\u00a0", `\ud83d\ude00`, "\ufffd", `\ufffd`, `\u2028`, `a\/b`, "\U0010ffff", "<b>", "../..",
		} {
			decodeText(t, text(s))
		}
		for _, s := range []string{
			"", strings.Repeat("a", limit+1), strings.Repeat("é", limit/2+1), strings.Repeat(`\u0061`, limit+1), strings.Repeat("a", 1<<15),
			`a\u0000`, `\n`, `\t`, `\b`, `\u001f`, "\x7f", `\u007f`, "\u0080", `\u0085`, "a\u009f", // control characters
			`\ud800`, `\udc00`, `\ud800\ud800`, `\udc00\ud800`, `\ud800a`, `\ud83d\n`, `\ud83d\u0041`, `\ud83dxude00`, `\ud83d\/de00`, `a\uDBFF`, // no characters
		} {
			message, _ := refuseText(t, text(s), CodeBadRequest)
			require.Contains(t, message, `"`+key+`" must be a string of 1 to `)
		}
		for _, value := range []string{`null`, `1`, `true`, `["a"]`, `{"a":"b"}`} {
			refuseText(t, field(value), CodeBadRequest)
		}
	}
	for _, value := range []string{`null`, `1`, `false`, `["a"]`, `{}`, `"\ud800"`} {
		message, _ := refuseText(t, `{"type":`+value+`}`, CodeBadRequest)
		require.Equal(t, `"type" must be a string`, message)
		message, _ = refuseText(t, `{"type":"x","epoch":`+value+`}`, CodeBadRequest)
		require.Equal(t, `"epoch" must be a string`, message)
	}
	require.Equal(t, "a\"\\/\b\f\n\r\té\U0001F600", decodeText(t, `{"type":"x","epoch":"a\"\\\/\b\f\n\r\t\u00E9\ud83d\ude00"}`).Epoch)
}

func TestDecodeTypeMissing(t *testing.T) {
	for _, text := range []string{`{}`, `{"type":""}`, `{"room":"r"}`, `{"types":"join"}`, `{"data":{"type":"join"}}`} {
		message, _ := refuseText(t, text, CodeBadRequest)
		require.Contains(t, message, `"type" is missing`)
	}
	_, id := refuseText(t, `{"id":"i"}`, CodeBadRequest)
	require.Equal(t, "i", id)
}

// F54, P4.8: the error carries the id whenever there is exactly one.
func TestDecodeIDOfRefused(t *testing.T) {
	tests := []struct {
		text string
		code Code
		id   string
	}{
		{`{"id":"i","type":1}`, CodeBadRequest, "i"},
		{`{"type":1,"id":"i"}`, CodeBadRequest, "i"},
		{`{"type":1,"\u0069d":"\u0069"}`, CodeBadRequest, "i"},
		{`{"room":"a","room":"b","id":"i","type":"join"}`, CodeBadRequest, "i"},
		{`{"room":1,"data":[],"offset":-1,"id":"i","epoch":null}`, CodeBadRequest, "i"},
		{`{"id":"i","type":"join","id":"j"}`, CodeBadRequest, ""},
		{`{"id":"i","type":"join","id":"i"}`, CodeBadRequest, ""},
		{`{"id":"i","type":"join","ID":"j"}`, CodeBadRequest, ""},
		{`{"ID":"i","type":"join","id":"j"}`, CodeBadRequest, ""},
		{`{"ID":"i","type":"join"}`, CodeBadRequest, ""},
		{`{"id":7,"type":"join"}`, CodeBadRequest, ""},
		{`{"id":null,"id":"i","type":"join"}`, CodeBadRequest, ""},
		{`{"id":"","type":"join"}`, CodeBadRequest, ""},
		{`{"id":"a\u0000","type":"join"}`, CodeBadRequest, ""},
		{`{"id":"` + strings.Repeat("i", 65) + `","type":"join"}`, CodeBadRequest, ""},
		{`{"id":"i","type":}`, CodeBadJSON, "i"},
		{`{"id":"i"`, CodeBadJSON, "i"},
		{`{"id":"i"}}`, CodeBadJSON, "i"},
		{`{"type":,"id":"i"}`, CodeBadJSON, ""},
		{`{"id":"i","id":"j"`, CodeBadJSON, ""},
		{`[{"id":"i"}]`, CodeBadJSON, ""},
	}
	for _, tt := range tests {
		_, id := refuseText(t, tt.text, tt.code)
		require.Equal(t, tt.id, id, tt.text)
	}
}

// The first breach of a rule is the one that is told, but text that is not
// JSON is never called anything else.
func TestDecodeOrderOfErrors(t *testing.T) {
	message, _ := refuseText(t, `{"offset":-1,"room":1}`, CodeBadRequest)
	require.Contains(t, message, `"offset"`)
	message, _ = refuseText(t, `{"room":1,"offset":-1}`, CodeBadRequest)
	require.Contains(t, message, `"room"`)
	refuseText(t, `{"room":1,"offset":-1`, CodeBadJSON)
	refuseText(t, `{"room":1,"data":`+nest(32, false)+`}`, CodeBadJSON)
}

// S30: the reader has checked UTF-8 before. Should it ever not, then nothing
// panics and no broken string gets into a name.
func TestDecodeInvalidUTF8(t *testing.T) {
	for _, s := range []string{"\xff", "a\xfe\"", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80"} {
		for f := range fieldCount {
			var in inbound
			err := decode([]byte(`{"type":"x","`+fieldNames[f]+`":"`+s+`"}`), &in)
			if f != fieldMessage && f != fieldContent && f != fieldData {
				require.NotNil(t, err, "%q %s", s, fieldNames[f])
			}
			_ = decode([]byte(`{"type":"x","`+s+`":1`+s), &in)
		}
	}
}

func TestValidName(t *testing.T) {
	for _, s := range []string{"a", "é", "日本", "\u00a0", "\ufffd", strings.Repeat("a", 64)} {
		require.True(t, validName(s, 64), "%q", s)
	}
	for _, s := range []string{
		"", strings.Repeat("a", 65), strings.Repeat("é", 33), "\x00", "a\nb", "\x1f", "\x7f", "\u0080", "\u009f", "\xff", "a\xc2", "\xed\xa0\x80",
	} {
		require.False(t, validName(s, 64), "%q", s)
	}
}

// S28: the usual messages cost the strings that they bring and nothing else.
func TestDecodeAllocations(t *testing.T) {
	tests := []struct {
		text   string
		allocs float64
	}{
		{`{"type":"message","content":"hello"}`, 0},
		{`{"type":"broadcast","message":{"a":[1,2,{"b":null}]},"unknown":"x"}`, 0},
		{`{"type":"leave"}`, 0},
		{`{"type":"history","before":9007199254740991,"limit":100}`, 0},
		{`{"type":"ping","id":"1"}`, 1},
		{`{"type":"message","id":"0a1b2c3d4e5f","room":"lobby","content":"hello"}`, 2},
		{`{"type":"call","id":"17","method":"todo.add","data":{"title":"x"}}`, 2},
		{`{"type":"join","room":"caf\u00e9"}`, 1},
	}
	for _, tt := range tests {
		p := []byte(tt.text)
		var in inbound
		require.Nil(t, decode(p, &in))
		require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _ = decode(p, &in) }), tt.allocs, tt.text)
	}
}

func BenchmarkDecode(b *testing.B) {
	texts := []struct{ name, text string }{
		{"message", `{"type":"message","content":"` + strings.Repeat("x", 90) + `"}`},
		{"roomAndID", `{"type":"message","id":"0a1b2c3d4e5f","room":"lobby","content":"` + strings.Repeat("x", 90) + `"}`},
		{"nested", `{"type":"broadcast","message":{"a":[1,2,3,{"b":"c","d":null}],"e":-1.5e3,"f":{"g":true}}}`},
		{"64KiB", `{"type":"message","content":"` + strings.Repeat("x", 64<<10-40) + `"}`},
	}
	for _, tt := range texts {
		b.Run(tt.name, func(b *testing.B) {
			p := []byte(tt.text)
			b.ReportAllocs()
			b.SetBytes(int64(len(p)))
			var in inbound
			for b.Loop() {
				if err := decode(p, &in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
