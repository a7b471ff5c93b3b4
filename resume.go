package parley

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What a v1 client that comes back offers, as subprotocol entries: the only
// header that browser code can set, and one that no log of URLs shows.
const (
	subprotocolSession   = "parley.session."
	subprotocolInbox     = "parley.inbox."
	subprotocolBroadcast = "parley.broadcast."

	// maxOffer bounds one entry (P1.11): an epoch of a Store has some dozen bytes.
	maxOffer = 512
	// maxOffset is the largest integer that a JavaScript client holds exactly.
	maxOffset = 1<<53 - 1
)

// offer is what a client remembers of its earlier connection. All of it comes
// from the client: the session proves itself by its signature, positions say only
// what the client has seen of logs that it may read anyway.
type offer struct {
	session   string // "" if there is none
	inbox     *position
	broadcast *position
	malformed bool // an entry could not be read (P1.11)
	v1        bool // it offers to speak this version, without which the rest counts for nothing
}

// readOffer collects the entries of a request.
func readOffer(r *http.Request) offer {
	var o offer
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for entry := range strings.SplitSeq(line, ",") {
			o.v1 = o.v1 || strings.EqualFold(strings.TrimSpace(entry), subprotocolV1)
			if !o.read(strings.TrimSpace(entry)) { // its strings are copies: the header may be large
				o.malformed = true
			}
		}
	}
	return o
}

// read takes one entry; false if it is one of ours and cannot be read.
func (o *offer) read(entry string) bool {
	if !strings.HasPrefix(entry, "parley.") {
		return true
	}
	if s, ok := strings.CutPrefix(entry, subprotocolSession); ok {
		if o.session != "" || !validSession(s) {
			return false
		}
		o.session = strings.Clone(s)
		return true
	}
	if s, ok := strings.CutPrefix(entry, subprotocolInbox); ok {
		return len(entry) <= maxOffer && readPosition(s, &o.inbox)
	}
	if s, ok := strings.CutPrefix(entry, subprotocolBroadcast); ok {
		return len(entry) <= maxOffer && readPosition(s, &o.broadcast)
	}
	return true
}

// readPosition reads "<offset>.<epoch in base64url>".
func readPosition(s string, to **position) bool {
	digits, encoded, _ := strings.Cut(s, ".")
	if *to != nil || encoded == "" {
		return false
	}
	offset, err := strconv.ParseUint(digits, 10, 64) // takes no sign and, with base 10, no underscore
	if err != nil || offset > maxOffset {
		return false
	}
	epoch, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || !utf8.Valid(epoch) {
		return false
	}
	*to = &position{epoch: string(epoch), offset: int64(offset)}
	return true
}

// validSession reports whether s can be a session at all (P1.8).
func validSession(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
