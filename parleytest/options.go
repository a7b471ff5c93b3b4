package parleytest

import (
	"net"
	"net/http"
	"slices"

	"github.com/parley-go/parley"
)

// Option says how a client connects. Without any, it is an anonymous v1 client.
type Option func(*dialOptions)

type dialOptions struct {
	identity parley.Identity
	ip       net.IP
	header   http.Header
	plain    bool
	offers   []string
	ignored  []string
	session  string
}

func collect(options []Option) dialOptions {
	o := dialOptions{ip: localhost, header: make(http.Header)}
	for _, option := range options {
		option(&o)
	}
	return o
}

// User connects as the user with this id, for [Authenticator].
func User(id string) Option { return Identity(parley.Identity{ID: id}) }

// Identity connects with this identity, Data and ExpiresAt included, for [Authenticator].
func Identity(id parley.Identity) Option {
	return func(o *dialOptions) { o.identity = id }
}

// Plain connects without a subprotocol, as a client that knows only the fixed
// shapes of the protocol.
func Plain() Option {
	return func(o *dialOptions) { o.plain = true }
}

// Header adds a header to the request: a token, a cookie, an origin.
func Header(key, value string) Option {
	return func(o *dialOptions) { o.header.Add(key, value) }
}

// Offer adds entries to Sec-WebSocket-Protocol: a token as browsers send it
// (P1.3), the positions of a client that comes back (P1.10).
func Offer(entries ...string) Option {
	return func(o *dialOptions) { o.offers = append(o.offers, entries...) }
}

// IP connects from this address instead of 127.0.0.1. An ip that cannot be
// read panics.
func IP(ip string) Option {
	parsed := net.ParseIP(ip)
	if parsed == nil {
		panic("parleytest: IP: not an address: " + ip)
	}
	return func(o *dialOptions) { o.ip = parsed }
}

// Ignore has the client drop messages of these types as they come, as if the
// server did not send them: Ignore("presence", "system") for tests that are not
// about who comes and goes.
func Ignore(types ...string) Option {
	return func(o *dialOptions) { o.ignored = append(o.ignored, types...) }
}

func (o *dialOptions) protocols() []string {
	if o.plain {
		return o.offers
	}
	all := []string{"parley.v1"}
	if o.session != "" {
		all = append(all, "parley.session."+o.session)
	}
	return slices.Concat(all, o.offers)
}
