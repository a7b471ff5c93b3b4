package checker

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/parley-go/parley"
)

// payload is what every message of a run carries.
type payload struct {
	ID  string `json:"id"`
	Pad string `json:"pad,omitempty"`
}

// wireMessage is a message of the server (docs/protocol.md).
type wireMessage struct {
	Type         string          `json:"type"`
	ID           string          `json:"id"`
	Room         string          `json:"room"`
	ClientID     string          `json:"clientId"`
	UserID       string          `json:"userId"`
	SenderID     string          `json:"senderId"`
	Session      string          `json:"session"`
	Resumed      *bool           `json:"resumed"`
	PingInterval int64           `json:"pingInterval"`
	Epoch        string          `json:"epoch"`
	Offset       int64           `json:"offset"`
	Recovered    *bool           `json:"recovered"`
	Code         json.RawMessage `json:"code"` // a number in bye
	Message      json.RawMessage `json:"message"`
	Content      json.RawMessage `json:"content"`
	Data         json.RawMessage `json:"data"`
	Messages     []wireMessage   `json:"messages"`
	Members      []wireMember    `json:"members"`
	Joined       []wireMember    `json:"joined"`
	Left         []wireMember    `json:"left"`
	Kind         string          `json:"kind"`
	Receipts     bool            `json:"receipts"`
	Reason       string          `json:"reason"`
	As           string          `json:"as"`
	Unread       *int            `json:"unread"`
	Version      *int64          `json:"version"`
	Truncated    int64           `json:"truncated"`
	Offsets      wireSpans       `json:"offsets"`
	Read         wireSpans       `json:"read"`
	Archived     wireSpans       `json:"archived"`
}

type wireSpans [][2]int64

func (s wireSpans) spans() (all []parley.Span) {
	for _, pair := range s {
		all = append(all, parley.Span{From: pair[0], To: pair[1]})
	}
	return all
}

// count is nil unless the message has both numbers (P8.1).
func (m *wireMessage) count() *Count {
	if m.Unread == nil || m.Version == nil {
		return nil
	}
	return &Count{*m.Unread, *m.Version}
}

func (m *wireMessage) standing() *Standing {
	return &Standing{Truncated: m.Truncated, Read: m.Read.spans(), Archived: m.Archived.spans()}
}

// answers reports whether m answers the request with its id (P4.1): the id of a notification is none of a request.
func (m *wireMessage) answers() bool {
	switch m.Type {
	case "ack", "error", "reply", "pong", "history", "presence", "inbox":
		return m.ID != ""
	}
	return false
}

type wireMember struct {
	UserID string `json:"userId"`
}

func users(members []wireMember) []string {
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.UserID
	}
	return ids
}

func (m *wireMessage) place() Place { return Place{m.Epoch, m.Offset} }

func (m *wireMessage) recovered() Answer { return answer(m.Recovered) }

func answer(b *bool) Answer {
	switch {
	case b == nil:
		return Unsaid
	case *b:
		return Yes
	default:
		return No
	}
}

func (m *wireMessage) code() string { return strings.Trim(string(m.Code), `"`) }

// seen reads a room message, broadcast, private message or notification. own
// is the client id of the reader.
func (m *wireMessage) seen(own string) (Seen, error) {
	raw, user := m.Content, m.UserID
	switch m.Type {
	case "message":
	case "broadcast", "private":
		raw, user = m.Message, m.SenderID
	case "notification":
		raw = m.Data
	case "expired":
		return Seen{Place: m.place(), Expired: true}, nil
	default:
		return Seen{}, fmt.Errorf("a %q has no payload", m.Type)
	}
	var p payload
	if err := json.Unmarshal(raw, &p); err != nil || p.ID == "" {
		return Seen{}, fmt.Errorf("the payload of a %s is %q", m.Type, raw)
	}
	return Seen{Place: m.place(), ID: p.ID, User: user, Label: m.Kind, Own: m.Type == "broadcast" && m.ClientID == own && own != ""}, nil
}

// entries reads the messages of a history.
func (m *wireMessage) entries(own string) ([]Seen, error) {
	all := make([]Seen, 0, len(m.Messages))
	for i := range m.Messages {
		s, err := m.Messages[i].seen(own)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// offers are the subprotocol entries of a client that comes back (P1.8, P1.10).
func offers(session string, inbox, broadcast *Place) []string {
	all := []string{"parley.v1"}
	if session != "" {
		all = append(all, "parley.session."+session)
	}
	position := func(name string, p *Place) {
		if p != nil {
			all = append(all, fmt.Sprintf("parley.%s.%d.%s", name, p.Offset, base64.RawURLEncoding.EncodeToString([]byte(p.Epoch))))
		}
	}
	position("inbox", inbox)
	position("broadcast", broadcast)
	return all
}
