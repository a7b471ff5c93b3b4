package client

import (
	"encoding/json"
	"time"

	"github.com/parley-go/parley"
)

// Message is a message in a room.
type Message struct {
	Room     string
	UserID   string
	Username string
	Content  json.RawMessage
	Time     time.Time // by the server's clock
	Position Position  // zero in a room that keeps no history
}

// Decode decodes Content into v, as json.Unmarshal does.
func (m Message) Decode(v any) error { return json.Unmarshal(m.Content, v) }

// Private is a message to this user, or to this connection alone.
type Private struct {
	SenderID string // the user who sent it; "" is the application itself
	Message  json.RawMessage
	Time     time.Time // by the server's clock; may be zero
	Position Position  // zero unless it is kept in the inbox
	Mark     Mark      // its read state; empty unless it is kept in the inbox
}

// Decode decodes Message into v, as json.Unmarshal does.
func (p Private) Decode(v any) error { return json.Unmarshal(p.Message, v) }

// Notification is a notification of the application to this user, or to everybody.
type Notification struct {
	ID       string // the application's name for it; may be empty
	Kind     string // of which kind it is, for the application; may be empty
	Data     json.RawMessage
	Time     time.Time // by the server's clock; may be zero
	Position Position  // zero unless it is kept in the inbox
	Mark     Mark      // its read state; empty unless it is kept in the inbox
}

// Decode decodes Data into v, as json.Unmarshal does.
func (n Notification) Decode(v any) error { return json.Unmarshal(n.Data, v) }

// Broadcast is a message to everybody.
type Broadcast struct {
	SenderID string // the user who sent it; "" is the application itself
	Message  json.RawMessage
	Position Position // zero unless the server keeps broadcasts
}

// Decode decodes Message into v, as json.Unmarshal does.
func (b Broadcast) Decode(v any) error { return json.Unmarshal(b.Message, v) }

// Signal is something short-lived, such as "is typing"; it may be lost.
type Signal struct {
	Room     string // "" if it was sent to the user
	SenderID string
	Username string // "" if it was sent to the user
	Name     string
	Data     json.RawMessage
}

// Decode decodes Data into v, as json.Unmarshal does.
func (s Signal) Decode(v any) error { return json.Unmarshal(s.Data, v) }

// Ack is the answer to a message that the server took.
type Ack struct {
	Position  Position // zero in a topic that keeps no history
	Duplicate bool     // the server had it already: it was sent again after a lost connection
}

// History is the newest messages of a room, oldest first, up to Position.
type History struct {
	Messages []Message
	Position Position
}

// Page is a part of a room's history, oldest first.
type Page struct {
	Messages []Message
	Position Position // the newest message of the room
	More     bool     // older ones are kept
}

// Gap says that messages were missed that cannot be had again.
type Gap struct {
	// Code is CodeGone, CodeReset or CodeAhead; "" if the topic keeps no
	// history, so that nobody knows whether anything was missed.
	Code parley.Code
	Last Position // the last message before the gap
}

// Recovered says that nothing is missing: the Missed messages were handed out just before.
type Recovered struct {
	Missed   int
	Position Position
}

// Presence is a change of who is in a room. A snapshot has Members, at most
// 100; a change Joined and Left, or neither in a very large room.
type Presence struct {
	Snapshot              bool
	Members, Joined, Left []parley.Member
	Count                 int // users in the room
}

// Identity is who the server takes the client for.
type Identity struct {
	ClientID string
	UserID   string // the client id, if the user is anonymous
	Username string // "" if the user is anonymous
	Resumed  bool   // the session went on: the client id is that of the connection before
}

// Bye announces that the server is about to close. The client comes back by
// itself, after a random time between RetryMin and RetryMax.
type Bye struct {
	Code               parley.CloseCode
	Reason             string
	RetryMin, RetryMax time.Duration
}

// Pong is the answer to a ping.
type Pong struct {
	RTT  time.Duration
	Time time.Time // the server's clock
}

func (m *inbound) time() time.Time {
	if m.timestamp == 0 {
		return time.Time{}
	}
	return time.UnixMilli(m.timestamp)
}

func (m *inbound) message() Message {
	return Message{m.room, m.userID, m.username, m.payload, m.time(), m.at}
}

func (m *inbound) private() Private {
	return Private{m.senderID, m.payload, m.time(), m.at, m.mark}
}

func (m *inbound) notification() Notification {
	return Notification{m.id, m.kind, m.payload, m.time(), m.at, m.mark}
}

func (m *inbound) broadcast() Broadcast {
	return Broadcast{m.senderID, m.payload, m.at}
}

func (m *inbound) ack() Ack { return Ack{m.at, m.duplicate == yes} }

// messagesOf returns the room messages among the entries of a history.
func (m *inbound) messagesOf() []Message {
	all := make([]Message, 0, len(m.messages))
	for _, e := range m.messages {
		if e.typ == "message" {
			all = append(all, e.message())
		}
	}
	return all
}
