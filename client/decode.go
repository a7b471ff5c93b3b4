package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/parley-go/parley"
)

// inbound is a message of the server. Which fields are set depends on the type.
type inbound struct {
	typ, id                                                        string
	clientID, userID, username, senderID, room, name, text, reason string
	session                                                        string
	kind                                                           string
	payload                                                        json.RawMessage // "message", "content" or "data"
	timestamp                                                      int64           // ms since 1970
	at                                                             Position        // zero unless both parts are there
	code                                                           parley.Code
	closeCode                                                      parley.CloseCode
	recovered, resumed, more, duplicate, receipts                  answerBool
	messages                                                       []inbound // without malformed ones
	malformed                                                      int       // entries of messages that were left out
	snapshot                                                       bool      // members counts, else joined and left
	members, joined, left                                          []parley.Member
	users                                                          int
	count                                                          unreadCount   // of the inbox
	mark                                                           Mark          // of an entry, or what "marked" made of some
	offsets, read, archived                                        []parley.Span // of marks
	truncated                                                      int64
	maxMessageSize                                                 int64
	pingInterval, retryMin, retryMax                               time.Duration
	size                                                           int // bytes
}

// answerBool is a boolean that may be absent.
type answerBool uint8

const (
	absent answerBool = iota
	no
	yes
)

// longest is how much of a time given by the server counts: more is a mistake.
const longest = time.Hour

// maxInteger is the largest number of the envelope (P2.3).
const maxInteger = 1<<53 - 1

var errUnknownType = errors.New("unknown type")

// decode reads a message of the server. errUnknownType is no fault (P1.6).
// Keys that are not named here are not looked at.
func decode(p []byte) (inbound, error) {
	d, m := open(p)
	if d.err == nil && !d.content(&m) && !d.envelope(&m) {
		d.err = errUnknownType
	}
	return m, d.err
}

// decodeEntry reads an entry of a history or inbox. Of a type that is unknown
// there it reads the position.
func decodeEntry(p []byte) (inbound, error) {
	d, m := open(p)
	if d.err == nil && !d.content(&m) {
		m.at = d.position()
	}
	return m, d.err
}

// open reads the type.
func open(p []byte) (d decoder, m inbound) {
	m.size = len(p)
	if !utf8.Valid(p) {
		d.err = errors.New("not UTF-8")
		return d, m
	}
	// A map keeps the keys exact: a struct would take "ROOM" for "room".
	if d.err = json.Unmarshal(p, &d.fields); d.err == nil {
		m.typ = d.text("type")
	}
	return d, m
}

// decoder reads the fields of an envelope and keeps the first error.
type decoder struct {
	fields map[string]json.RawMessage
	err    error
}

// content reads the messages that topics consist of; false if m is of another type.
func (d *decoder) content(m *inbound) bool {
	switch m.typ {
	case "message":
		m.room, m.userID, m.username = d.text("room"), d.text("userId"), d.text("username")
		m.payload, m.timestamp = d.value("content"), d.number("timestamp")
	case "private":
		m.senderID, m.payload, m.timestamp = d.text("senderId"), d.value("message"), d.optionalNumber("timestamp")
	case "notification":
		m.id, m.kind = d.optional("id"), d.optional("kind")
		m.payload, m.timestamp = d.value("data"), d.optionalNumber("timestamp")
	case "expired":
	case "broadcast":
		m.senderID, m.clientID, m.payload = d.text("senderId"), d.optional("clientId"), d.value("message")
	default:
		return false
	}
	m.at, m.count = d.position(), d.unread()
	return true
}

// envelope reads all other messages; false if there is no such type.
func (d *decoder) envelope(m *inbound) bool {
	switch m.typ {
	case "connected":
		m.clientID, m.userID, m.username = d.text("clientId"), d.optional("userId"), d.optional("username")
		m.maxMessageSize, m.pingInterval = d.optionalNumber("maxMessageSize"), d.optionalMillis("pingInterval")
		m.session, m.resumed, m.at = d.optional("session"), d.boolean("resumed"), d.position()
		m.receipts = d.boolean("receipts")
	case "history":
		d.history(m)
	case "inbox":
		d.history(m)
		m.count, m.truncated = d.unread(), d.optionalNumber("truncated")
		m.read, m.archived = d.spans("read"), d.spans("archived")
	case "marked":
		m.mark, m.offsets = d.mark("as"), d.spans("offsets")
		m.count = unreadCount{ReadState{int(d.number("unread")), d.number("version")}, d.text("epoch")}
	case "system":
		m.room, m.text = d.text("room"), d.text("content")
	case "presence":
		m.id, m.room, m.users = d.optional("id"), d.text("room"), int(d.number("count"))
		m.snapshot = d.has("members")
		m.members, m.joined, m.left = d.users("members"), d.users("joined"), d.users("left")
	case "left":
		m.room, m.reason = d.text("room"), d.text("reason")
	case "signal":
		m.room, m.senderID, m.username = d.optional("room"), d.text("senderId"), d.optional("username")
		m.name, m.payload = d.text("name"), d.value("data")
	case "ack":
		m.id, m.at, m.duplicate, m.count = d.text("id"), d.position(), d.boolean("duplicate"), d.unread()
	case "reply":
		m.id, m.payload = d.text("id"), d.value("data")
	case "pong":
		m.id, m.timestamp = d.optional("id"), d.number("timestamp")
	case "error":
		m.id, m.code, m.text = d.optional("id"), parley.Code(d.optional("code")), d.text("message")
	case "bye":
		m.closeCode, m.reason = parley.CloseCode(d.number("code")), d.text("reason")
		m.retryMin, m.retryMax = d.millis("retryMin"), d.millis("retryMax")
	default:
		return false
	}
	return true
}

// history reads what "history" and "inbox" share.
func (d *decoder) history(m *inbound) {
	m.id, m.room, m.at = d.optional("id"), d.optional("room"), d.position()
	m.recovered, m.more, m.code = d.boolean("recovered"), d.boolean("more"), parley.Code(d.optional("code"))
	var entries []json.RawMessage
	d.into("messages", &entries)
	m.messages = make([]inbound, 0, len(entries))
	for _, raw := range entries {
		e, err := decodeEntry(raw)
		if err != nil {
			m.malformed++
			continue
		}
		m.messages = append(m.messages, e)
	}
}

func (d *decoder) has(key string) bool { return d.fields[key] != nil }

func (d *decoder) fail(key, want string) {
	if d.err == nil {
		d.err = fmt.Errorf("%q is not %s", key, want)
	}
}

// into decodes a field that must be there; null is no value of any type.
func (d *decoder) into(key string, v any) {
	raw := d.fields[key]
	if raw == nil || string(raw) == "null" || json.Unmarshal(raw, v) != nil {
		d.fail(key, "there, or not what it must be")
	}
}

// value returns a payload: any JSON.
func (d *decoder) value(key string) json.RawMessage {
	if !d.has(key) {
		d.fail(key, "there")
	}
	return d.fields[key]
}

func (d *decoder) text(key string) (s string) {
	d.into(key, &s)
	return s
}

func (d *decoder) optional(key string) string {
	if !d.has(key) {
		return ""
	}
	return d.text(key)
}

func (d *decoder) boolean(key string) answerBool {
	switch raw := d.fields[key]; {
	case raw == nil:
		return absent
	case string(raw) == "true":
		return yes
	case string(raw) == "false":
		return no
	}
	d.fail(key, "a boolean")
	return absent
}

// number returns an integer from 0 to 2^53-1, as all numbers of the envelope are (P2.3).
func (d *decoder) number(key string) int64 {
	n, err := strconv.ParseUint(string(d.fields[key]), 10, 53)
	if err != nil {
		d.fail(key, "an integer from 0 to 2^53-1")
	}
	return int64(n)
}

func (d *decoder) optionalNumber(key string) int64 {
	if !d.has(key) {
		return 0
	}
	return d.number(key)
}

func (d *decoder) millis(key string) time.Duration {
	return time.Duration(min(d.number(key), longest.Milliseconds())) * time.Millisecond
}

func (d *decoder) optionalMillis(key string) time.Duration {
	if !d.has(key) {
		return 0
	}
	return d.millis(key)
}

// position returns the zero value unless both parts are there.
func (d *decoder) position() Position {
	p := Position{d.optional("epoch"), d.optionalNumber("offset")}
	if !d.has("offset") {
		return Position{}
	}
	return p
}

// unread returns how many entries of the inbox are unread: the zero value unless all parts are there.
func (d *decoder) unread() unreadCount {
	if !d.has("unread") || !d.has("version") {
		return unreadCount{}
	}
	return unreadCount{ReadState{int(d.number("unread")), d.number("version")}, d.optional("epoch")}
}

func (d *decoder) mark(key string) Mark {
	mark := Mark(d.text(key))
	if mark != MarkRead && mark != MarkUnread && mark != MarkArchived {
		d.fail(key, "a read state")
	}
	return mark
}

// spans reads pairs of first and last offset in ascending order.
func (d *decoder) spans(key string) []parley.Span {
	if !d.has(key) {
		return nil
	}
	var pairs [][]int64
	d.into(key, &pairs)
	all := make([]parley.Span, 0, len(pairs))
	last := int64(0)
	for _, p := range pairs {
		if len(p) != 2 || p[0] <= last || p[1] < p[0] || p[1] > maxInteger {
			d.fail(key, "a list of spans")
			return nil
		}
		all, last = append(all, parley.Span{From: p[0], To: p[1]}), p[1]
	}
	return all
}

func (d *decoder) users(key string) []parley.Member {
	if !d.has(key) {
		return nil
	}
	var raw []map[string]json.RawMessage
	d.into(key, &raw)
	all := make([]parley.Member, len(raw))
	for i, fields := range raw {
		one := decoder{fields: fields}
		all[i] = parley.Member{UserID: one.text("userId"), Name: one.text("username")}
		if one.err != nil {
			d.fail(key, "a list of members")
		}
	}
	return all
}
