package parley

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// clientVector is an entry of testdata/protocol/client.json; README.md there
// describes the format.
type clientVector struct {
	Name        string          `json:"name"`
	Rule        string          `json:"rule"`
	Input       string          `json:"input"`
	InputBase64 string          `json:"inputBase64"`
	OK          bool            `json:"ok"`
	Code        Code            `json:"code"`
	Close       int             `json:"close"`
	ID          string          `json:"id"`
	Decoded     json.RawMessage `json:"decoded"`
}

// raw returns the bytes of the message.
func (v clientVector) raw(tb testing.TB) []byte {
	tb.Helper()
	if v.InputBase64 == "" {
		return []byte(v.Input)
	}
	p, err := base64.StdEncoding.DecodeString(v.InputBase64)
	require.NoError(tb, err, v.Name)
	return p
}

// serverVector is an entry of testdata/protocol/server.json.
type serverVector struct {
	Name    string          `json:"name"`
	Rule    string          `json:"rule"`
	Message string          `json:"message"`
	Meaning json.RawMessage `json:"meaning"`
}

// loadVectors reads a file of testdata/protocol; a key that the test does not
// know would be a promise that nobody checks.
func loadVectors(tb testing.TB, name string, vectors any) {
	tb.Helper()
	p, err := os.ReadFile(filepath.Join("testdata", "protocol", name))
	require.NoError(tb, err)
	require.NoError(tb, strictUnmarshal(p, vectors), name)
}

func strictUnmarshal(p []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(p))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

func loadClientVectors(tb testing.TB) (vectors []clientVector) {
	tb.Helper()
	loadVectors(tb, "client.json", &vectors)
	return vectors
}

// decodedFields returns what decode found as an object with the keys of the envelope.
func decodedFields(in inbound) map[string]any {
	m := map[string]any{"type": in.Type}
	for key, s := range map[string]string{"id": in.ID, "method": in.Method, "name": in.Name} {
		if s != "" {
			m[key] = s
		}
	}
	for key, raw := range map[string][]byte{"message": in.Message, "content": in.Content, "data": in.Data} {
		if raw != nil {
			m[key] = json.RawMessage(raw)
		}
	}
	set := func(has bool, key string, value any) {
		if has {
			m[key] = value
		}
	}
	set(in.HasRoom, "room", in.Room)
	set(in.HasUsername, "username", in.Username)
	set(in.HasTargetID, "targetId", in.TargetID)
	set(in.HasEpoch, "epoch", in.Epoch)
	set(in.HasOffset, "offset", in.Offset)
	set(in.HasBefore, "before", in.Before)
	set(in.HasLimit, "limit", in.Limit)
	set(in.Topic != "", "topic", in.Topic)
	set(in.Offsets != nil, "offsets", in.Offsets)
	set(in.IDs != nil, "ids", in.IDs)
	return m
}

// S28, S29, S31, F54: the vectors that every client and server is tested with.
func TestClientVectors(t *testing.T) {
	names, rules, types := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, v := range loadClientVectors(t) {
		require.False(t, names[v.Name], "two vectors are called %q", v.Name)
		names[v.Name], rules[v.Rule] = true, true
		t.Run(v.Name, func(t *testing.T) {
			var in inbound
			err := decode(v.raw(t), &in)
			if v.Close != 0 {
				// The reader ends the connection before decode sees the text.
				require.Equal(t, 1007, v.Close)
				require.False(t, utf8.Valid(v.raw(t)))
				return
			}
			require.True(t, utf8.Valid(v.raw(t)))
			require.Equal(t, v.ID, in.ID)
			if !v.OK {
				require.NotNil(t, err)
				require.Equal(t, v.Code, err.Code, err.Message)
				return
			}
			if err != nil {
				require.Failf(t, "refused", "%s", err.Message)
			}
			types[in.Type] = true
			got, marshalErr := json.Marshal(decodedFields(in))
			require.NoError(t, marshalErr)
			require.JSONEq(t, string(v.Decoded), string(got))
		})
	}
	for _, rule := range []string{"P1.1", "P1.6", "P2.1", "P2.2", "P2.3", "P2.4", "P2.5", "3", "P4.1", "P4.5", "5"} {
		require.True(t, rules[rule], "no vector for %s", rule)
	}
	for _, name := range []string{"broadcast", "private", "join", "message", "leave", "call", "signal", "history", "presence", "ping"} {
		require.True(t, types[name], "no vector for a valid %q", name)
	}
}

// meaning has the fields of all server messages.
type meaning struct {
	Type           string            `json:"type"`
	ID             string            `json:"id"`
	ClientID       string            `json:"clientId"`
	UserID         string            `json:"userId"`
	Username       string            `json:"username"`
	SenderID       string            `json:"senderId"`
	MaxMessageSize int               `json:"maxMessageSize"`
	PingInterval   int64             `json:"pingInterval"`
	Room           string            `json:"room"`
	Name           string            `json:"name"`
	Message        json.RawMessage   `json:"message"`
	Content        json.RawMessage   `json:"content"`
	Data           json.RawMessage   `json:"data"`
	Messages       []json.RawMessage `json:"messages"`
	Timestamp      int64             `json:"timestamp"`
	Epoch          string            `json:"epoch"`
	Offset         int64             `json:"offset"`
	Recovered      *bool             `json:"recovered"`
	More           *bool             `json:"more"`
	Duplicate      bool              `json:"duplicate"`
	Members        *[]Member         `json:"members"`
	Joined         []Member          `json:"joined"`
	Left           []Member          `json:"left"`
	Count          int               `json:"count"`
	Code           json.RawMessage   `json:"code"`
	Reason         string            `json:"reason"`
	Session        string            `json:"session"`
	Resumed        *bool             `json:"resumed"`
	RetryMin       int64             `json:"retryMin"`
	RetryMax       int64             `json:"retryMax"`

	Kind      string     `json:"kind"`
	As        string     `json:"as"`
	Unread    int        `json:"unread"`
	Version   int64      `json:"version"`
	Truncated int64      `json:"truncated"`
	Read      [][2]int64 `json:"read"`
	Archived  [][2]int64 `json:"archived"`
	Offsets   [][2]int64 `json:"offsets"`
	Receipts  bool       `json:"receipts"`
}

// compact returns a raw value without the white space of the file.
func compact(t *testing.T, raw json.RawMessage) []byte {
	t.Helper()
	var buf bytes.Buffer
	require.NoError(t, json.Compact(&buf, raw))
	return buf.Bytes()
}

// value decodes a raw value into a T.
func value[T any](t *testing.T, raw json.RawMessage) (v T) {
	t.Helper()
	require.NoError(t, json.Unmarshal(raw, &v))
	return v
}

// encode writes the message that means raw.
func encodeMeaning(t *testing.T, raw json.RawMessage) []byte {
	t.Helper()
	var m meaning
	require.NoError(t, strictUnmarshal(raw, &m), "%s", raw)
	switch m.Type {
	case "message", "private", "notification", "broadcast", "expired":
		p := encodeContent(t, m)
		if m.Epoch != "" {
			p = appendPositioned(nil, p, m.Epoch, m.Offset)
		}
		if m.Version > 0 {
			p = appendCounted(p, m.log())
		}
		return p
	case "marked":
		return appendMarked(nil, m.As, Marked{Log: m.log(), Changed: spansOf(m.Offsets)})
	case "connected":
		return appendConnected(nil, connectedMessage{
			ClientID: m.ClientID, UserID: m.UserID, Username: m.Username,
			MaxMessageSize: m.MaxMessageSize, PingInterval: m.PingInterval, Epoch: m.Epoch, Offset: m.Offset,
			Session: m.Session, Resumed: m.Resumed, Receipts: m.Receipts,
		})
	case "system":
		return appendSystem(nil, m.Room, value[string](t, m.Content))
	case "ack":
		if m.Version > 0 {
			return appendMarkAck(nil, m.ID, m.log())
		}
		return appendAck(nil, m.ID, m.Epoch, m.Offset, m.Duplicate)
	case "error":
		return appendError(nil, m.ID, value[Code](t, m.Code), value[string](t, m.Message))
	case "reply":
		return appendReply(nil, m.ID, compact(t, m.Data))
	case "pong":
		return appendPong(nil, m.ID, m.Timestamp)
	case "signal":
		return appendSignal(nil, m.Room, m.SenderID, m.Username, m.Name, compact(t, m.Data))
	case "history", "inbox":
		return encodeHistory(t, m)
	case "presence":
		p := presenceMessage{ID: m.ID, Room: m.Room, Snapshot: m.Members != nil, Joined: m.Joined, Left: m.Left, Count: m.Count}
		if p.Snapshot {
			p.Members = *m.Members
		}
		return appendPresence(nil, p)
	case "left":
		return appendLeft(nil, m.Room, m.Reason)
	case "bye":
		return appendBye(nil, value[int](t, m.Code), m.Reason, m.RetryMin, m.RetryMax)
	}
	require.Failf(t, "unknown type", "%q", m.Type)
	return nil
}

func (m meaning) log() Log {
	return Log{Epoch: m.Epoch, Unread: m.Unread, Version: m.Version, Truncated: m.Truncated}
}

func spansOf(pairs [][2]int64) (spans []Span) {
	for _, p := range pairs {
		spans = append(spans, Span{p[0], p[1]})
	}
	return spans
}

// encodeContent writes the messages of topics, without their position.
func encodeContent(t *testing.T, m meaning) []byte {
	t.Helper()
	switch m.Type {
	case "message":
		return appendRoomMessage(nil, m.Room, m.UserID, m.Username, compact(t, m.Content), m.Timestamp)
	case "expired":
		return (&Entry{}).message()
	case "private":
		return appendPrivate(nil, m.SenderID, compact(t, m.Message), m.Timestamp)
	case "notification":
		return appendNotification(nil, m.ID, m.Kind, compact(t, m.Data), m.Timestamp)
	default:
		return appendBroadcast(nil, m.SenderID, m.ClientID, compact(t, m.Message))
	}
}

func encodeHistory(t *testing.T, m meaning) []byte {
	t.Helper()
	h := historyMessage{Type: m.Type, ID: m.ID, Room: m.Room, Epoch: m.Epoch, Offset: m.Offset, Recovered: m.Recovered, More: m.More}
	if m.Code != nil {
		h.Code = value[Code](t, m.Code)
	}
	if m.Version > 0 {
		h.Marks = &Page{Log: m.log(), Read: spansOf(m.Read), Archived: spansOf(m.Archived)}
	}
	for _, raw := range m.Messages {
		var entry meaning
		require.NoError(t, strictUnmarshal(raw, &entry))
		require.Equal(t, m.Epoch, entry.Epoch, "all entries are of one epoch (P4.6)")
		e := Entry{Offset: entry.Offset}
		if entry.Type != "expired" {
			e.Data = encodeContent(t, entry)
		}
		h.Entries = append(h.Entries, e)
	}
	return appendHistory(nil, h)
}

// S30, S31: what the server writes, byte for byte.
func TestServerVectors(t *testing.T) {
	var vectors []serverVector
	loadVectors(t, "server.json", &vectors)
	names, types := map[string]bool{}, map[string]bool{}
	for _, v := range vectors {
		require.False(t, names[v.Name], "two vectors are called %q", v.Name)
		names[v.Name] = true
		require.NotEmpty(t, v.Rule, v.Name)
		types[value[meaning](t, v.Meaning).Type] = true
		t.Run(v.Name, func(t *testing.T) {
			require.JSONEq(t, v.Message, string(v.Meaning))
			require.Equal(t, v.Message, string(encodeMeaning(t, v.Meaning)))
		})
	}
	all := "connected broadcast private history system message notification error ack reply pong signal presence inbox bye marked left"
	for _, name := range strings.Fields(all) {
		require.True(t, types[name], "no vector for %q", name)
	}
}

// handshakeVector is an entry of testdata/protocol/handshake.json.
type handshakeVector struct {
	Name      string         `json:"name"`
	Rule      string         `json:"rule"`
	Protocols []string       `json:"protocols"`
	State     handshakeState `json:"state"`
	Code      Code           `json:"code"`
	Server    bool           `json:"server"`
}

type handshakeState struct {
	Token     string             `json:"token"`
	Session   string             `json:"session"`
	Inbox     *handshakePosition `json:"inbox"`
	Broadcast *handshakePosition `json:"broadcast"`
}

type handshakePosition struct {
	Epoch  string `json:"epoch"`
	Offset int64  `json:"offset"`
}

// What a client offers when it comes back, however its lines are folded.
func TestHandshakeVectors(t *testing.T) {
	var vectors []handshakeVector
	loadVectors(t, "handshake.json", &vectors)
	pos := func(p *handshakePosition) *position {
		if p == nil {
			return nil
		}
		return &position{epoch: p.Epoch, offset: p.Offset}
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			if v.Code != "" {
				// What else is offered is not lost with the entry that cannot be read.
				require.Equal(t, CodeBadRequest, v.Code)
				require.Equal(t, handshakeState{}, v.State)
			}
			for _, lines := range [][]string{v.Protocols, {strings.Join(v.Protocols, ",")}, {strings.Join(v.Protocols, " ,\t")}} {
				r := &http.Request{Header: http.Header{"Sec-Websocket-Protocol": lines}}
				o := readOffer(r)
				require.Equal(t, v.State.Token, Token(r))
				require.Equal(t, v.Code != "", o.malformed)
				if v.Code == "" {
					require.Equal(t, v.State.Session, o.session)
					require.Equal(t, pos(v.State.Inbox), o.inbox)
					require.Equal(t, pos(v.State.Broadcast), o.broadcast)
				}
			}
		})
	}
}
