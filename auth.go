package parley

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

// Identity is who a connection belongs to.
type Identity struct {
	// ID is the user id: 1 to 255 bytes, stable over connections and devices.
	// Empty means anonymous: the connection is a user of its own.
	ID string
	// Name is shown to others as username; empty means ID. At most 64 bytes.
	Name string
	// ExpiresAt is when the credentials end; the connection is closed with
	// code 4003 within a ping interval after it, and refused with status 401
	// if it has passed already. Zero means never.
	ExpiresAt time.Time
	// Data is the application's own, found again by Conn.Identity.
	Data any
}

// Authenticator decides who a connection belongs to. It runs on the HTTP
// request, before the upgrade: no unauthenticated socket is ever held open.
// It is called concurrently.
//
// An error refuses the connection with status 401; an *Error with
// CodeForbidden makes it 403 and CodeUnavailable 503. The text of an *Error is
// sent as the response body, that of any other error is not.
type Authenticator interface {
	Authenticate(r *http.Request) (Identity, error)
}

// AuthenticatorFunc makes a function an Authenticator.
type AuthenticatorFunc func(r *http.Request) (Identity, error)

// Authenticate calls f.
func (f AuthenticatorFunc) Authenticate(r *http.Request) (Identity, error) { return f(r) }

// AllowAnonymous is the Authenticator that lets everybody in, each connection
// as an anonymous user of its own.
var AllowAnonymous Authenticator = AuthenticatorFunc(func(*http.Request) (Identity, error) {
	return Identity{}, nil
})

const (
	subprotocolV1    = "parley.v1"
	subprotocolToken = "parley.token."
)

// Token returns the token that a client sent with its request, or "": from
// "Authorization: Bearer", else from the subprotocol entry with which browser
// code sends it (P1.3). It never looks at the URL, which ends up in logs.
func Token(r *http.Request) string {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(token)
	}
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for entry := range strings.SplitSeq(line, ",") {
			encoded, ok := strings.CutPrefix(strings.TrimSpace(entry), subprotocolToken)
			if !ok {
				continue
			}
			token, err := base64.RawURLEncoding.DecodeString(encoded)
			if err == nil {
				return string(token)
			}
		}
	}
	return ""
}

// Verb is what a client wants to do, for Options.Authorize.
type Verb string

// The verbs that Authorize is asked about.
const (
	VerbJoin      Verb = "join"      // Room: the room to join
	VerbSend      Verb = "send"      // Room: a joined room
	VerbSignal    Verb = "signal"    // Room: a joined room, or Target: a user
	VerbHistory   Verb = "history"   // Room: a joined room
	VerbPresence  Verb = "presence"  // Room: a joined room
	VerbPrivate   Verb = "private"   // Target: a user or client id
	VerbBroadcast Verb = "broadcast" // only with Options.ClientBroadcast
	VerbCall      Verb = "call"      // Target: the method
)

// Access is one wish of a client.
type Access struct {
	Verb   Verb
	Room   string
	Target string
}

// AuthorizeFunc allows an access by returning nil. An *Error chooses what the
// client is told; any other error is logged and told as CodeForbidden. ctx ends with
// the connection. It is called concurrently, one at a time for one connection,
// and no lock is held.
type AuthorizeFunc func(ctx context.Context, c *Conn, a Access) error
