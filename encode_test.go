package parley

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// marshalString is what encoding/json makes of a string if it need not fit into HTML.
func marshalString(t *testing.T, s string) string {
	t.Helper()
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	require.NoError(t, enc.Encode(s))
	return strings.TrimSuffix(buf.String(), "\n")
}

// nasty is a string for every place that takes one: if some function forgot
// to escape it, the message is no JSON any more.
const nasty = "a\"b\\c\n\x00\x1f\x7f</script>é\u2028\u2029\U0001F600\xff\ufffd"

// nastyText is what a client reads in the place of nasty.
var nastyText = string([]rune(nasty))

// parse returns a message as encoding/json reads it, with exact numbers.
func parse(t *testing.T, p []byte) map[string]any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(p))
	dec.UseNumber()
	var m map[string]any
	require.NoError(t, dec.Decode(&m), "%s", p)
	require.True(t, json.Valid(p), "%s", p)
	return m
}

type object = map[string]any

const bigNumber = json.Number("9007199254740991")

// S30, S31: every message is valid JSON whatever its strings hold, has exactly
// the keys of the protocol, and numbers keep all their digits.
func TestEncodeMessages(t *testing.T) {
	const big = 1<<53 - 1
	raw := []byte(`{"a":[1.0,"\u2028"]}`)
	value := object{"a": []any{json.Number("1.0"), "\u2028"}}
	yes, no := true, false
	members := []Member{{UserID: "u1", Name: nasty}, {UserID: nasty, Name: ""}}
	memberValues := []any{object{"userId": "u1", "username": nastyText}, object{"userId": nastyText, "username": ""}}
	entries := []Entry{{Offset: 1, Data: []byte(`{"type":"system"}`)}, {Offset: big, Data: []byte(`{"a":{}}`)}}

	tests := []struct {
		name string
		got  []byte
		want object
	}{
		{"connected", appendConnected(nil, connectedMessage{ClientID: nasty, UserID: nasty, Username: nasty, MaxMessageSize: math.MaxInt32, PingInterval: big, Epoch: nasty, Offset: big}),
			object{"type": "connected", "clientId": nastyText, "userId": nastyText, "username": nastyText, "maxMessageSize": json.Number("2147483647"), "pingInterval": bigNumber, "epoch": nastyText, "offset": bigNumber}},
		{"connected, anonymous", appendConnected(nil, connectedMessage{ClientID: "c", UserID: "c", Offset: 7}),
			object{"type": "connected", "clientId": "c", "userId": "c", "maxMessageSize": json.Number("0"), "pingInterval": json.Number("0")}},
		{"message", appendRoomMessage(nil, nasty, nasty, nasty, raw, big),
			object{"type": "message", "room": nastyText, "userId": nastyText, "username": nastyText, "content": value, "timestamp": bigNumber}},
		{"message without content", appendRoomMessage(nil, "r", "u", "n", nil, 0),
			object{"type": "message", "room": "r", "userId": "u", "username": "n", "content": nil, "timestamp": json.Number("0")}},
		{"private", appendPrivate(nil, nasty, raw, big), object{"type": "private", "senderId": nastyText, "message": value, "timestamp": bigNumber}},
		{"private of the application", appendPrivate(nil, "", nil, 1), object{"type": "private", "senderId": "", "message": nil, "timestamp": json.Number("1")}},
		{"notification", appendNotification(nil, "", "", raw, big), object{"type": "notification", "data": value, "timestamp": bigNumber}},
		{"broadcast", appendBroadcast(nil, nasty, "", raw), object{"type": "broadcast", "senderId": nastyText, "message": value}},
		{"system", appendSystem(nil, nasty, nasty), object{"type": "system", "room": nastyText, "content": nastyText}},
		{"positioned", appendPositioned(nil, appendBroadcast(nil, "s", "", raw), nasty, big),
			object{"type": "broadcast", "senderId": "s", "message": value, "epoch": nastyText, "offset": bigNumber}},
		{"positioned, empty object", appendPositioned(nil, []byte(`{}`), "e", 1), object{"epoch": "e", "offset": json.Number("1")}},
		{"ack", appendAck(nil, nasty, "", 5, false), object{"type": "ack", "id": nastyText}},
		{"ack with position", appendAck(nil, "i", nasty, big, true),
			object{"type": "ack", "id": "i", "epoch": nastyText, "offset": bigNumber, "duplicate": true}},
		{"error", appendError(nil, nasty, Code(nasty), nasty), object{"type": "error", "id": nastyText, "code": nastyText, "message": nastyText}},
		{"error without id", appendError(nil, "", CodeBadJSON, "m"), object{"type": "error", "code": "bad_json", "message": "m"}},
		{"reply", appendReply(nil, nasty, raw), object{"type": "reply", "id": nastyText, "data": value}},
		{"reply without data", appendReply(nil, "i", nil), object{"type": "reply", "id": "i", "data": nil}},
		{"pong", appendPong(nil, nasty, big), object{"type": "pong", "id": nastyText, "timestamp": bigNumber}},
		{"pong without id", appendPong(nil, "", 0), object{"type": "pong", "timestamp": json.Number("0")}},
		{"signal", appendSignal(nil, nasty, nasty, nasty, nasty, raw),
			object{"type": "signal", "room": nastyText, "senderId": nastyText, "username": nastyText, "name": nastyText, "data": value}},
		{"signal to a user", appendSignal(nil, "", "s", "u", "n", nil), object{"type": "signal", "senderId": "s", "name": "n", "data": nil}},
		{"history", appendHistory(nil, historyMessage{Type: "history", ID: nasty, Room: nasty, Epoch: nasty, Offset: big, Recovered: &yes, More: &no, Entries: entries}),
			object{"type": "history", "id": nastyText, "room": nastyText, "epoch": nastyText, "offset": bigNumber, "recovered": true, "more": false, "messages": []any{
				object{"type": "system", "epoch": nastyText, "offset": json.Number("1")}, object{"a": object{}, "epoch": nastyText, "offset": bigNumber}}}},
		{"history without log", appendHistory(nil, historyMessage{Type: "history", Room: "r", Entries: entries[:1]}),
			object{"type": "history", "room": "r", "messages": []any{object{"type": "system"}}}},
		{"inbox", appendHistory(nil, historyMessage{Type: "inbox", Epoch: "e"}),
			object{"type": "inbox", "epoch": "e", "offset": json.Number("0"), "messages": []any{}}},
		{"presence snapshot", appendPresence(nil, presenceMessage{ID: nasty, Room: nasty, Snapshot: true, Members: members, Joined: members, Left: members, Count: math.MaxInt32}),
			object{"type": "presence", "id": nastyText, "room": nastyText, "members": memberValues, "count": json.Number("2147483647")}},
		{"presence, nobody", appendPresence(nil, presenceMessage{Room: "r", Snapshot: true}),
			object{"type": "presence", "room": "r", "members": []any{}, "count": json.Number("0")}},
		{"presence diff", appendPresence(nil, presenceMessage{Room: "r", Members: members, Joined: members, Left: members[:1], Count: 2}),
			object{"type": "presence", "room": "r", "joined": memberValues, "left": memberValues[:1], "count": json.Number("2")}},
		{"presence count", appendPresence(nil, presenceMessage{Room: "r", Count: 5000}),
			object{"type": "presence", "room": "r", "count": json.Number("5000")}},
		{"bye", appendBye(nil, 4000, nasty, 0, big),
			object{"type": "bye", "code": json.Number("4000"), "reason": nastyText, "retryMin": json.Number("0"), "retryMax": bigNumber}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, parse(t, tt.got))
			require.NotContains(t, string(tt.got), "\u2028")
			for key := range tt.want {
				require.Equal(t, 1, strings.Count(topLevel(tt.got), `"`+key+`":`), "%s in %s", key, tt.got)
			}
		})
	}
}

// topLevel returns a message without what is nested in it.
func topLevel(p []byte) string {
	s := scanner{data: p, pos: 1}
	var keys strings.Builder
	for first := true; ; first = false {
		key, more, ok := s.member(first)
		if !ok || !more {
			return keys.String()
		}
		keys.WriteString(`"` + string(key.body) + `":`)
		s.value(1)
	}
}

// The first message is what the simplest clients look for as text.
func TestEncodeConnectedStart(t *testing.T) {
	p := appendConnected(nil, connectedMessage{ClientID: "c1"})
	require.True(t, strings.HasPrefix(string(p), `{"type":"connected","clientId":"c1"`), "%s", p)
}

// The functions append: what is in dst stays, and raw values stay as written.
func TestEncodeAppends(t *testing.T) {
	raw := []byte("{ \"b\" : 1.0e5, \"a\":[ ] }")
	p := appendBroadcast([]byte("head"), "s", "", raw)
	require.Equal(t, `head{"type":"broadcast","senderId":"s","message":`+string(raw)+`}`, string(p))

	object := []byte(`{"a":1}`)
	buf := append(make([]byte, 0, 100), object...)
	p = appendPositioned(nil, buf[:len(object)], "e", 1)
	require.Equal(t, `{"a":1,"epoch":"e","offset":1}`, string(p))
	require.Equal(t, string(object), string(buf[:len(object)]), "a stored message is shared and must not change")
	require.Zero(t, buf[:len(object)+1][len(object)])
}

// S30: every character comes back, and everything else is U+FFFD.
func TestAppendJSONString(t *testing.T) {
	tests := []struct{ s, want string }{
		{"", `""`},
		{"plain", `"plain"`},
		{"\"\\/", `"\"\\/"`},
		{"\b\f\n\r\t", `"\b\f\n\r\t"`},
		{"\x00\x01\x0e\x1f\x7f", "\"\\u0000\\u0001\\u000e\\u001f\x7f\""},
		{"é日\U0001F600", `"é日😀"`},
		{"a\u2028b\u2029", `"a\u2028b\u2029"`},
		{"\u2027\u202a", "\"\u2027\u202a\""},
		{"<script>&'", `"<script>&'"`},
		{"\xff\xfea\xc3", `"\ufffd\ufffda\ufffd"`},
		{"\xed\xa0\x80", `"\ufffd\ufffd\ufffd"`},
		{"\ufffd", "\"\ufffd\""},
	}
	for _, tt := range tests {
		got := string(appendJSONString(nil, tt.s))
		require.Equal(t, tt.want, got)
		require.Equal(t, marshalString(t, tt.s), got)
	}
	for r := rune(0); r <= 0x11000; r++ {
		require.Equal(t, marshalString(t, string(r)), string(appendJSONString(nil, string(r))))
	}
}

func TestEncodeAllocations(t *testing.T) {
	dst, positioned := make([]byte, 0, 1024), make([]byte, 0, 1024)
	content := []byte(`"` + strings.Repeat("x", 128) + `"`)
	entries := []Entry{{Offset: 1, Data: []byte(`{"type":"message"}`)}}
	members := []Member{{UserID: "u", Name: "n"}}
	recovered := true
	allocs := testing.AllocsPerRun(100, func() {
		p := appendRoomMessage(dst, "lobby", "u1", "kim", content, 1700000000000)
		appendPositioned(positioned, p, "epoch", 12)
		appendAck(dst, "i", "e", 1, true)
		appendError(dst, "i", CodeBadRequest, "no \n")
		appendHistory(dst, historyMessage{Type: "history", Room: "r", Epoch: "e", Recovered: &recovered, Entries: entries})
		appendPresence(dst, presenceMessage{Room: "r", Snapshot: true, Members: members})
		appendSignal(dst, "r", "s", "u", "n", content)
	})
	require.Zero(t, allocs)
}

func BenchmarkEncode(b *testing.B) {
	content := []byte(`"` + strings.Repeat("x", 126) + `"`)
	dst := make([]byte, 0, 1024)
	b.Run("message", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			dst = appendRoomMessage(dst[:0], "lobby", "user-12345", "kim", content, 1700000000000)
		}
	})
	b.Run("positioned", func(b *testing.B) {
		object := appendRoomMessage(nil, "lobby", "user-12345", "kim", content, 1700000000000)
		b.ReportAllocs()
		for b.Loop() {
			dst = appendPositioned(dst[:0], object, "5f0c6a7b", 123456)
		}
	})
	b.Run("string", func(b *testing.B) {
		text := strings.Repeat("Hello, \"wörld\"\n", 9)
		b.ReportAllocs()
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			dst = appendJSONString(dst[:0], text)
		}
	})
}
