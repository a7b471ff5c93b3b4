package parley

import (
	"bytes"
	"slices"
	"strconv"
	"unicode/utf8"
)

// The functions of this file append one server message to dst, in the key
// order of docs/protocol.md. They neither reflect nor allocate beyond dst.
// Strings may hold anything, the result is valid JSON all the same. Raw
// values are copied as they are, so the caller vouches that they are JSON;
// an empty one becomes null.

// connectedMessage is the first message on every connection (P4.7).
type connectedMessage struct {
	ClientID, UserID string
	Username         string // identified users only
	MaxMessageSize   int    // bytes
	PingInterval     int64  // milliseconds
	Epoch            string // position of the broadcast topic, if it has a history
	Offset           int64
	Receipts         bool   // left out if false (P8.6)
	Session          string // v1 clients only
	Resumed          *bool  // left out if nil: no session was offered
}

func appendConnected(dst []byte, m connectedMessage) []byte {
	dst = append(dst, `{"type":"connected","clientId":`...)
	dst = appendJSONString(dst, m.ClientID)
	dst = append(dst, `,"userId":`...)
	dst = appendJSONString(dst, m.UserID)
	if m.Username != "" {
		dst = append(dst, `,"username":`...)
		dst = appendJSONString(dst, m.Username)
	}
	dst = append(dst, `,"maxMessageSize":`...)
	dst = strconv.AppendInt(dst, int64(m.MaxMessageSize), 10)
	dst = append(dst, `,"pingInterval":`...)
	dst = strconv.AppendInt(dst, m.PingInterval, 10)
	dst = appendPosition(dst, m.Epoch, m.Offset)
	if m.Receipts {
		dst = append(dst, `,"receipts":true`...)
	}
	if m.Session != "" {
		dst = append(dst, `,"session":`...)
		dst = appendJSONString(dst, m.Session)
	}
	if m.Resumed != nil {
		dst = append(dst, `,"resumed":`...)
		dst = strconv.AppendBool(dst, *m.Resumed)
	}
	return append(dst, '}')
}

// messageRoom is what a message takes besides the strings in it, if none of them needs an escape.
const messageRoom = 104

// appendRoomMessage appends a message to a room. timestamp is in milliseconds
// since 1970, like every other one.
func appendRoomMessage(dst []byte, room, userID, username string, content []byte, timestamp int64) []byte {
	dst = slices.Grow(dst, messageRoom+len(room)+len(userID)+len(username)+len(content))
	dst = append(dst, `{"type":"message","room":`...)
	dst = appendJSONString(dst, room)
	dst = append(dst, `,"userId":`...)
	dst = appendJSONString(dst, userID)
	dst = append(dst, `,"username":`...)
	dst = appendJSONString(dst, username)
	dst = append(dst, `,"content":`...)
	dst = appendRaw(dst, content)
	return appendTimestamp(dst, timestamp)
}

// appendPrivate appends a private message. senderID is "" if the application
// itself sent it (P3.7).
func appendPrivate(dst []byte, senderID string, message []byte, timestamp int64) []byte {
	dst = slices.Grow(dst, messageRoom+len(senderID)+len(message))
	dst = append(dst, `{"type":"private","senderId":`...)
	dst = appendJSONString(dst, senderID)
	dst = append(dst, `,"message":`...)
	dst = appendRaw(dst, message)
	return appendTimestamp(dst, timestamp)
}

// appendNotification appends a notification; id and kind are left out if they are "".
func appendNotification(dst []byte, id, kind string, data []byte, timestamp int64) []byte {
	dst = slices.Grow(dst, messageRoom+len(id)+len(kind)+len(data))
	dst = append(dst, `{"type":"notification"`...)
	dst = appendID(dst, id)
	if kind != "" {
		dst = append(dst, `,"kind":`...)
		dst = appendJSONString(dst, kind)
	}
	dst = append(dst, `,"data":`...)
	dst = appendRaw(dst, data)
	return appendTimestamp(dst, timestamp)
}

// appendBroadcast appends a broadcast. senderID is "" if the application
// itself sent it (P3.7). clientID is left out if it is "" (P4.12).
func appendBroadcast(dst []byte, senderID, clientID string, message []byte) []byte {
	dst = slices.Grow(dst, messageRoom+len(senderID)+len(clientID)+len(message))
	dst = append(dst, `{"type":"broadcast","senderId":`...)
	dst = appendJSONString(dst, senderID)
	if clientID != "" {
		dst = append(dst, `,"clientId":`...)
		dst = appendJSONString(dst, clientID)
	}
	dst = append(dst, `,"message":`...)
	dst = appendRaw(dst, message)
	return append(dst, '}')
}

func appendSystem(dst []byte, room, content string) []byte {
	dst = append(dst, `{"type":"system","room":`...)
	dst = appendJSONString(dst, room)
	dst = append(dst, `,"content":`...)
	dst = appendJSONString(dst, content)
	return append(dst, '}')
}

// appendLeft tells a client that the application has ended its membership in a room.
func appendLeft(dst []byte, room, reason string) []byte {
	dst = append(dst, `{"type":"left","room":`...)
	dst = appendJSONString(dst, room)
	dst = append(dst, `,"reason":`...)
	dst = appendJSONString(dst, reason)
	return append(dst, '}')
}

// appendPositioned appends a message with its position in its topic added at
// the end (P4.3). object is one complete JSON object that ends in its brace:
// a message is stored without a position, because only the store knows it.
func appendPositioned(dst, object []byte, epoch string, offset int64) []byte {
	object = bytes.TrimSuffix(object, []byte{'}'})
	dst = append(dst, object...)
	// Without a member there is nothing to put a comma behind.
	if len(object) > 1 {
		dst = append(dst, ',')
	}
	dst = append(dst, `"epoch":`...)
	dst = appendJSONString(dst, epoch)
	dst = append(dst, `,"offset":`...)
	dst = strconv.AppendInt(dst, offset, 10)
	return append(dst, '}')
}

// appendAck appends the answer to a message with an id. epoch is "" unless
// the message has a position; duplicate says that it was sent before (P4.2).
func appendAck(dst []byte, id, epoch string, offset int64, duplicate bool) []byte {
	dst = append(dst, `{"type":"ack"`...)
	dst = appendID(dst, id)
	dst = appendPosition(dst, epoch, offset)
	if duplicate {
		dst = append(dst, `,"duplicate":true`...)
	}
	return append(dst, '}')
}

// appendError appends the answer to a refused message. id is "" if that had
// none, or none that could be read.
func appendError(dst []byte, id string, code Code, message string) []byte {
	dst = append(dst, `{"type":"error"`...)
	dst = appendID(dst, id)
	dst = append(dst, `,"code":`...)
	dst = appendJSONString(dst, string(code))
	dst = append(dst, `,"message":`...)
	dst = appendJSONString(dst, message)
	return append(dst, '}')
}

func appendReply(dst []byte, id string, data []byte) []byte {
	dst = append(dst, `{"type":"reply"`...)
	dst = appendID(dst, id)
	dst = append(dst, `,"data":`...)
	dst = appendRaw(dst, data)
	return append(dst, '}')
}

func appendPong(dst []byte, id string, timestamp int64) []byte {
	dst = append(dst, `{"type":"pong"`...)
	dst = appendID(dst, id)
	return appendTimestamp(dst, timestamp)
}

// appendSignal appends a signal. room is "" if it goes to a user; username,
// which names a member of a room, is then left out, too.
func appendSignal(dst []byte, room, senderID, username, name string, data []byte) []byte {
	dst = append(dst, `{"type":"signal"`...)
	if room != "" {
		dst = append(dst, `,"room":`...)
		dst = appendJSONString(dst, room)
	}
	dst = append(dst, `,"senderId":`...)
	dst = appendJSONString(dst, senderID)
	if room != "" {
		dst = append(dst, `,"username":`...)
		dst = appendJSONString(dst, username)
	}
	dst = append(dst, `,"name":`...)
	dst = appendJSONString(dst, name)
	dst = append(dst, `,"data":`...)
	dst = appendRaw(dst, data)
	return append(dst, '}')
}

// historyMessage is a stretch of a topic's log for a client.
type historyMessage struct {
	Type            string // "history" or "inbox"
	ID              string // of the request for a page
	Room            string // "" for an inbox and for the broadcast
	Epoch           string // "" for a topic without history; entries then carry no position
	Offset          int64  // of the newest message of the topic
	Recovered, More *bool  // left out if nil
	Code            Code   // why Recovered is false, else ""
	Entries         []Entry
	Marks           *Page // the state of an inbox, nil for other topics
}

func appendHistory(dst []byte, m historyMessage) []byte {
	dst = append(dst, `{"type":`...)
	dst = appendJSONString(dst, m.Type)
	dst = appendID(dst, m.ID)
	if m.Room != "" {
		dst = append(dst, `,"room":`...)
		dst = appendJSONString(dst, m.Room)
	}
	dst = appendPosition(dst, m.Epoch, m.Offset)
	if m.Recovered != nil {
		dst = append(dst, `,"recovered":`...)
		dst = strconv.AppendBool(dst, *m.Recovered)
	}
	if m.Code != "" {
		dst = append(dst, `,"code":`...)
		dst = appendJSONString(dst, string(m.Code))
	}
	if m.More != nil {
		dst = append(dst, `,"more":`...)
		dst = strconv.AppendBool(dst, *m.More)
	}
	if m.Marks != nil {
		dst = appendMarks(dst, m.Marks)
	}
	dst = append(dst, `,"messages":[`...)
	for i, e := range m.Entries {
		if i > 0 {
			dst = append(dst, ',')
		}
		if m.Epoch == "" {
			dst = appendRaw(dst, e.Data)
		} else {
			dst = appendPositioned(dst, e.message(), m.Epoch, e.Offset)
		}
	}
	return append(dst, "]}"...)
}

// presenceMessage says who is in a room: everybody, or who came and went.
type presenceMessage struct {
	ID, Room string
	Snapshot bool     // Members counts, else Joined and Left
	Members  []Member // may be shorter than Count
	Joined   []Member
	Left     []Member
	Count    int  // users in the room
	counted  bool // Count is another than the last time
}

func appendPresence(dst []byte, m presenceMessage) []byte {
	dst = append(dst, `{"type":"presence"`...)
	dst = appendID(dst, m.ID)
	dst = append(dst, `,"room":`...)
	dst = appendJSONString(dst, m.Room)
	if m.Snapshot {
		// Also when empty: the key is what makes it a snapshot.
		dst = appendMembers(append(dst, `,"members":`...), m.Members)
	} else {
		if len(m.Joined) > 0 {
			dst = appendMembers(append(dst, `,"joined":`...), m.Joined)
		}
		if len(m.Left) > 0 {
			dst = appendMembers(append(dst, `,"left":`...), m.Left)
		}
	}
	dst = append(dst, `,"count":`...)
	dst = strconv.AppendInt(dst, int64(m.Count), 10)
	return append(dst, '}')
}

func appendMembers(dst []byte, members []Member) []byte {
	dst = append(dst, '[')
	for i, m := range members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"userId":`...)
		dst = appendJSONString(dst, m.UserID)
		dst = append(dst, `,"username":`...)
		dst = appendJSONString(dst, m.Name)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendBye appends the notice of a planned close. The client is to come back
// after retryMin to retryMax milliseconds.
func appendBye(dst []byte, code int, reason string, retryMin, retryMax int64) []byte {
	dst = append(dst, `{"type":"bye","code":`...)
	dst = strconv.AppendInt(dst, int64(code), 10)
	dst = append(dst, `,"reason":`...)
	dst = appendJSONString(dst, reason)
	dst = append(dst, `,"retryMin":`...)
	dst = strconv.AppendInt(dst, retryMin, 10)
	dst = append(dst, `,"retryMax":`...)
	dst = strconv.AppendInt(dst, retryMax, 10)
	return append(dst, '}')
}

// appendID appends the id member, if there is one to append.
func appendID(dst []byte, id string) []byte {
	if id == "" {
		return dst
	}
	return appendJSONString(append(dst, `,"id":`...), id)
}

// appendPosition appends the members of a position, unless epoch is "".
func appendPosition(dst []byte, epoch string, offset int64) []byte {
	if epoch == "" {
		return dst
	}
	dst = appendJSONString(append(dst, `,"epoch":`...), epoch)
	return strconv.AppendInt(append(dst, `,"offset":`...), offset, 10)
}

// appendTimestamp appends the timestamp member and ends the message.
func appendTimestamp(dst []byte, timestamp int64) []byte {
	dst = strconv.AppendInt(append(dst, `,"timestamp":`...), timestamp, 10)
	return append(dst, '}')
}

func appendRaw(dst, value []byte) []byte {
	if len(value) == 0 {
		return append(dst, "null"...)
	}
	return append(dst, value...)
}

// appendJSONString appends s as a JSON string. The result is valid for any s:
// bytes that are not UTF-8 become U+FFFD. U+2028 and U+2029 are escaped, since
// JavaScript engines before ES2019 took them for line ends. Characters that
// matter only in HTML are not: a page has to treat all text as text.
func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0 // s[start:i] is to be copied as it is
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			dst = appendEscape(append(dst, s[start:i]...), c)
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			dst = append(append(dst, s[start:i]...), `\ufffd`...)
			start = i + n
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, s[start:i]...), `\u202`...)
			dst = append(dst, hexDigits[r&0xf])
			start = i + n
		}
		i += n
	}
	return append(append(dst, s[start:]...), '"')
}

const hexDigits = "0123456789abcdef"

// appendEscape appends the escape sequence of an ASCII character.
func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}
