package client

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

// loadVectors reads a file of testdata/protocol; a key that the test does not
// know would be a promise that nobody checks.
func loadVectors(tb testing.TB, name string, vectors any) {
	tb.Helper()
	p, err := os.ReadFile(filepath.Join("..", "testdata", "protocol", name))
	require.NoError(tb, err)
	dec := json.NewDecoder(bytes.NewReader(p))
	dec.DisallowUnknownFields()
	require.NoError(tb, dec.Decode(vectors), name)
}

type serverVector struct {
	Name    string          `json:"name"`
	Rule    string          `json:"rule"`
	Message string          `json:"message"`
	Meaning json.RawMessage `json:"meaning"`
}

// object writes down what was read, with the keys of the protocol.
func (m *inbound) object() map[string]any {
	o := map[string]any{"type": m.typ}
	set := func(key string, value any, is bool) {
		if is {
			o[key] = value
		}
	}
	for key, text := range map[string]string{
		"id": m.id, "clientId": m.clientID, "username": m.username, "room": m.room, "name": m.name,
		"session": m.session, "reason": m.reason, "epoch": cmp.Or(m.at.Epoch, m.count.epoch), "code": string(m.code),
		"kind": m.kind, "as": string(m.mark),
	} {
		set(key, text, text != "")
	}
	set("unread", m.count.Unread, m.count.epoch != "")
	set("version", m.count.Version, m.count.epoch != "")
	set("truncated", m.truncated, m.truncated != 0)
	for key, spans := range map[string][]parley.Span{"offsets": m.offsets, "read": m.read, "archived": m.archived} {
		pairs := make([][2]int64, len(spans))
		for i, s := range spans {
			pairs[i] = [2]int64{s.From, s.To}
		}
		set(key, pairs, spans != nil)
	}
	set("offset", m.at.Offset, !m.at.IsZero())
	set("userId", m.userID, m.userID != "")
	set("senderId", m.senderID, m.typ == "private" || m.typ == "broadcast" || m.typ == "signal")
	set("timestamp", m.timestamp, m.timestamp != 0)
	set("maxMessageSize", m.maxMessageSize, m.maxMessageSize != 0)
	set("pingInterval", m.pingInterval.Milliseconds(), m.pingInterval != 0)
	for key, b := range map[string]answerBool{"recovered": m.recovered, "resumed": m.resumed, "more": m.more, "duplicate": m.duplicate, "receipts": m.receipts} {
		set(key, b == yes, b != absent)
	}
	set("members", append([]parley.Member{}, m.members...), m.snapshot)
	set("joined", m.joined, m.joined != nil)
	set("left", m.left, m.left != nil)
	set("count", m.users, m.typ == "presence")
	switch m.typ {
	case "message":
		o["content"] = m.payload
	case "private", "broadcast":
		o["message"] = m.payload
	case "notification", "signal", "reply":
		o["data"] = m.payload
	case "system":
		o["content"] = m.text
	case "error":
		o["message"] = m.text
	case "left":
		o["reason"] = m.reason
	case "bye":
		o["code"], o["retryMin"], o["retryMax"] = m.closeCode, m.retryMin.Milliseconds(), m.retryMax.Milliseconds()
	case "history", "inbox":
		entries := make([]any, len(m.messages))
		for i := range m.messages {
			entries[i] = m.messages[i].object()
		}
		o["messages"] = entries
	}
	return o
}

// S31, S33: the vectors that every client is tested with.
func TestServerVectors(t *testing.T) {
	var vectors []serverVector
	loadVectors(t, "server.json", &vectors)
	types := make(map[string]bool)
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			m, err := decode([]byte(v.Message))
			require.NoError(t, err)
			got, err := json.Marshal(m.object())
			require.NoError(t, err)
			require.JSONEq(t, string(v.Meaning), string(got))
			types[m.typ] = true
		})
	}
	for name := range strings.FieldsSeq("connected broadcast private history system message notification error ack reply pong signal presence inbox bye marked left") {
		require.True(t, types[name], "no vector for %q", name)
	}
}

func TestMalformed(t *testing.T) {
	for _, text := range []string{
		``, `null`, `[]`, `7`, `"x"`, `{`, `{}`, `{"type":null}`, `{"type":7}`, `{"type":"pong"} x`,
		`{"type":"connected"}`, `{"type":"connected","clientId":null}`, `{"type":"connected","clientId":"c","userId":null}`,
		`{"TYPE":"pong","timestamp":1}`, `{"type":"pong","Timestamp":1}`,
		`{"type":"pong","timestamp":-1}`, `{"type":"pong","timestamp":1.5}`, `{"type":"pong","timestamp":1e3}`,
		`{"type":"pong","timestamp":"1"}`, `{"type":"pong","timestamp":9007199254740992}`, `{"type":"pong","timestamp":null}`,
		`{"type":"ack"}`, `{"type":"ack","id":"1","offset":-1}`, `{"type":"ack","id":"1","epoch":7}`, `{"type":"ack","id":"1","duplicate":1}`,
		`{"type":"reply","id":"1"}`, `{"type":"error"}`, `{"type":"bye","code":1,"reason":"","retryMin":0}`,
		`{"type":"left","room":"r"}`, `{"type":"left","reason":""}`, `{"type":"left","room":null,"reason":""}`, `{"type":"left","room":"r","reason":7}`,
		`{"type":"message","room":"r","userId":"u","username":"u","timestamp":1}`,
		`{"type":"history","room":"r"}`, `{"type":"history","room":"r","messages":null}`, `{"type":"history","room":"r","messages":{}}`,
		`{"type":"history","room":"r","messages":[],"recovered":"yes"}`,
		`{"type":"presence","room":"r","count":1,"members":[{"userId":"u"}]}`, `{"type":"presence","room":"r","count":1,"members":[null]}`,
		`{"type":"presence","room":"r","count":1,"joined":null}`,
		`{"type":"marked","as":"seen","epoch":"e","offsets":[[1,1]],"unread":0,"version":1}`,
		`{"type":"marked","as":"read","offsets":[[1,1]],"unread":0,"version":1}`,
		`{"type":"marked","as":"read","epoch":"e","offsets":[[1,1]],"version":1}`,
		`{"type":"marked","as":"read","epoch":"e","offsets":[[1,1]],"unread":0}`,
		`{"type":"marked","as":"read","epoch":"e","offsets":null,"unread":0,"version":1}`,
		`{"type":"marked","as":"read","epoch":"e","offsets":[[1]],"unread":0,"version":1}`,
		`{"type":"marked","as":"read","epoch":"e","offsets":[[1,2,3]],"unread":0,"version":1}`,
		`{"type":"marked","as":"read","epoch":"e","offsets":[[2,1]],"unread":0,"version":1}`,
		`{"type":"marked","as":"read","epoch":"e","offsets":[[0,1]],"unread":0,"version":1}`,
		`{"type":"marked","as":"read","epoch":"e","offsets":[[1,2],[2,3]],"unread":0,"version":1}`,
		`{"type":"marked","as":"read","epoch":"e","offsets":[[null,1]],"unread":0,"version":1}`,
		`{"type":"marked","as":"read","epoch":"e","offsets":[[1,9007199254740992]],"unread":0,"version":1}`,
		`{"type":"inbox","epoch":"e","offset":1,"messages":[],"read":[1]}`,
		`{"type":"inbox","epoch":"e","offset":1,"messages":[],"archived":{}}`,
		`{"type":"inbox","epoch":"e","offset":1,"messages":[],"truncated":-1}`,
		`{"type":"inbox","epoch":"e","offset":1,"messages":[],"unread":-1,"version":1}`,
		`{"type":"notification","id":7,"data":1}`, `{"type":"notification","kind":null,"data":1}`,
		`{"type":"connected","clientId":"c","receipts":"yes"}`,
		"{\"type\":\"system\",\"room\":\"r\",\"content\":\"\xff\"}",
		strings.Repeat("[", 20000),
	} {
		_, err := decode([]byte(text))
		require.Error(t, err, text)
		require.NotErrorIs(t, err, errUnknownType, text)
	}
	_, err := decode([]byte(`{"type":"future"}`))
	require.ErrorIs(t, err, errUnknownType)
	m, err := decode([]byte(`{"type":"ack","id":"1","epoch":"e","ID":"2","other":[1]}`))
	require.NoError(t, err)
	require.Equal(t, "1", m.id)
	require.True(t, m.at.IsZero()) // half a position is none
	m, err = decode([]byte(`{"type":"bye","code":4000,"reason":"","retryMin":9007199254740991,"retryMax":9007199254740991}`))
	require.NoError(t, err)
	require.Equal(t, time.Hour, m.retryMin)
}

// A history within a history is not read: else a message could be a lot of work.
func TestNestedHistory(t *testing.T) {
	const levels = 4000
	text := strings.Repeat(`{"type":"history","room":"r","messages":[`, levels) + strings.Repeat(`]}`, levels)
	m, err := decode([]byte(text))
	require.NoError(t, err)
	require.Len(t, m.messages, 1)
	require.Empty(t, m.messages[0].messages)
}

type handshakeVector struct {
	Name      string   `json:"name"`
	Rule      string   `json:"rule"`
	Protocols []string `json:"protocols"`
	State     struct {
		Token     string   `json:"token"`
		Session   string   `json:"session"`
		Inbox     Position `json:"inbox"`
		Broadcast Position `json:"broadcast"`
	} `json:"state"`
	Code   string `json:"code"`
	Server bool   `json:"server"`
}

func TestHandshakeVectors(t *testing.T) {
	var vectors []handshakeVector
	loadVectors(t, "handshake.json", &vectors)
	tested := 0
	for _, v := range vectors {
		if v.Server {
			continue
		}
		tested++
		got := offer{v.State.Session, v.State.Inbox, v.State.Broadcast}.protocols()
		if v.State.Token != "" { // this client sends it in a header instead
			got = slices.Insert(got, 1, "parley.token."+base64.RawURLEncoding.EncodeToString([]byte(v.State.Token)))
		}
		require.Equal(t, v.Protocols, got, v.Name)
	}
	require.GreaterOrEqual(t, tested, 5)
	// What the server would not read is not offered (P1.11).
	require.Equal(t, []string{"parley.v1"}, offer{"", Position{strings.Repeat("e", 400), 1}, Position{}}.protocols())
}

// F54: whatever comes, decode neither panics nor returns half a message.
func FuzzDecode(f *testing.F) {
	var vectors []serverVector
	loadVectors(f, "server.json", &vectors)
	for _, v := range vectors {
		f.Add([]byte(v.Message))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := decode(p)
		if err != nil {
			return
		}
		require.True(t, json.Valid(p))
		require.NotEmpty(t, m.typ)
		require.GreaterOrEqual(t, m.at.Offset, int64(0))
		text, err := json.Marshal(m.object())
		require.NoError(t, err)
		// Reading what was understood gives the same again.
		m2, err := decode(text)
		if err == nil && m.malformed == 0 && m2.malformed == 0 {
			again, err := json.Marshal(m2.object())
			require.NoError(t, err)
			require.JSONEq(t, string(text), string(again))
		}
	})
}
