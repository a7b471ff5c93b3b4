package parley

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const appOrigin = "https://app.example.com"

func originHub(t testing.TB, opts Options) *Hub {
	t.Helper()
	opts.Authenticator, opts.Logger = AllowAnonymous, quiet()
	hub, err := New(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hub.Shutdown(context.Background())) })
	return hub
}

func originRequest(host string, secure bool, origins ...string) *http.Request {
	r := &http.Request{Host: host, Header: http.Header{}}
	for _, origin := range origins {
		r.Header.Add("Origin", origin)
	}
	if secure {
		r.TLS = new(tls.ConnectionState)
	}
	return r
}

// S1, S2: which Origin is let in on https://app.example.com.
func TestOriginOfTLSServer(t *testing.T) {
	hub := originHub(t, Options{Origins: []string{"https://partner.example.org", "HTTP://LocalHost:3000", "http://[::1]:80"}})
	for origin, allowed := range map[string]bool{
		appOrigin:                         true,
		"https://app.example.com:443":     true,
		"HTTPS://App.Example.COM":         true,
		"https://partner.example.org":     true,
		"https://partner.example.org:443": true,
		"http://localhost:3000":           true,
		"http://[::1]":                    true,

		"":                                 false,
		"null":                             false,
		"http://app.example.com":           false, // other scheme
		"ws://app.example.com":             false,
		"wss://app.example.com":            false,
		"https://app.example.com:8443":     false, // other port
		"https://app.example.com:80":       false,
		"https://evilapp.example.com":      false, // suffix
		"https://example.com":              false, // parent
		"https://sub.app.example.com":      false,
		"https://app.example.com.evil.com": false, // prefix
		"https://app.example.com@evil.com": false,
		"https://evil.com@app.example.com": false,
		"https://app.example.com/":         false,
		"https://app.example.com?":         false,
		"https://app.example.com#":         false,
		"https://app.example.com#x":        false,
		"https://app.example.com.":         false,
		"https:app.example.com":            false,
		"//app.example.com":                false,
		"app.example.com":                  false,
		"https://":                         false,
		"https://*":                        false,
		"*":                                false,
		" https://app.example.com":         false,
		"https://app.example.com, null":    false,
		"http://partner.example.org":       false,
		"https://partner.example.org:3000": false,
		"http://localhost":                 false,
		"http://localhost:3001":            false,
		"https://localhost:3000":           false,
		"https://app%2eexample.com":        false,
		"https://app.example.com\x00":      false,
		"file://":                          false,
	} {
		err := hub.checkOrigin(originRequest("app.example.com", true, origin))
		require.Equal(t, allowed, err == nil, "%q: %v", origin, err)
	}
}

// S1: more or less than one Origin header.
func TestOriginHeaderCount(t *testing.T) {
	hub, strict := originHub(t, Options{}), originHub(t, Options{RequireOrigin: true})
	require.NoError(t, hub.checkOrigin(originRequest("app.example.com", true)))
	require.ErrorIs(t, strict.checkOrigin(originRequest("app.example.com", true)), errOrigin)
	require.NoError(t, strict.checkOrigin(originRequest("app.example.com", true, appOrigin)))
	for _, h := range []*Hub{hub, strict} {
		require.ErrorIs(t, h.checkOrigin(originRequest("app.example.com", true, appOrigin, appOrigin)), errOrigin)
		require.ErrorIs(t, h.checkOrigin(originRequest("app.example.com", true, appOrigin, "https://evil.com")), errOrigin)
	}
}

// S2: the scheme counts when it is known, from TLS or from Options.Secure;
// without either a TLS proxy in front is possible.
func TestOriginScheme(t *testing.T) {
	proxied := func(r *http.Request) bool { return r.Header.Get("X-Forwarded-Proto") == "https" }
	for _, tc := range []struct {
		name         string
		secure       func(*http.Request) bool
		tls          bool
		forwarded    string
		http, https  bool
		http8, port8 bool // http on 80 and https on 443, written out
	}{
		{name: "unknown", http: true, https: true, http8: true, port8: true},
		{name: "TLS", tls: true, https: true, port8: true},
		{name: "proxy says https", secure: proxied, forwarded: "https", https: true, port8: true},
		{name: "proxy says http", secure: proxied, forwarded: "http", http: true, http8: true},
		{name: "TLS behind a proxy", secure: proxied, tls: true, forwarded: "http", https: true, port8: true},
	} {
		hub := originHub(t, Options{Secure: tc.secure})
		for origin, allowed := range map[string]bool{
			"http://app.example.com": tc.http, "https://app.example.com": tc.https,
			"http://app.example.com:80": tc.http8, "https://app.example.com:443": tc.port8,
			"http://app.example.com:443": false, "https://app.example.com:80": false,
		} {
			r := originRequest("App.Example.com", tc.tls, origin)
			r.Header.Set("X-Forwarded-Proto", tc.forwarded)
			require.Equal(t, allowed, hub.checkOrigin(r) == nil, "%s: %s", tc.name, origin)
		}
	}
}

// S2: with Options.Hosts, a page whose name was bound to our address (DNS
// rebinding) is refused although its Origin equals the Host.
func TestOriginHosts(t *testing.T) {
	hub := originHub(t, Options{Hosts: []string{"app.example.com", "localhost:8080"}})
	for host, allowed := range map[string]bool{
		"app.example.com": true, "APP.example.com": true, "localhost:8080": true,
		"evil.com": false, "app.example.com:8080": false, "localhost": false, "": false,
		"app.example.com.": false, "evil.com/app.example.com": false, "127.0.0.1:8080": false,
	} {
		want := errHost
		if allowed {
			want = nil
		}
		require.ErrorIs(t, hub.checkOrigin(originRequest(host, false)), want, host)
		require.ErrorIs(t, hub.checkOrigin(originRequest(host, false, "http://"+host)), want, host)
	}
	require.NoError(t, originHub(t, Options{}).checkOrigin(originRequest("evil.com", false, "http://evil.com")),
		"without Hosts any name is served")
}

func TestHostsAreHosts(t *testing.T) {
	for _, host := range []string{"*", "*.example.com", "https://example.com", "example.com/", "", "kim@example.com"} {
		_, err := New(Options{Authenticator: AllowAnonymous, Hosts: []string{host}})
		require.ErrorContains(t, err, "Options.Hosts", "%q", host)
	}
	originHub(t, Options{Hosts: []string{"example.com", "example.com:8080", "[::1]:80"}})
}

func TestOriginsMustBeComplete(t *testing.T) {
	for _, origin := range []string{"*", "https://*", "example.com", "https://example.com/", "https://", "null", "",
		"https://*.example.com", "https://user@example.com", "https://example.com?x", "example.com:443"} {
		_, err := New(Options{Authenticator: AllowAnonymous, Origins: []string{origin}})
		require.ErrorContains(t, err, "Options.Origins", "%q", origin)
	}
}

// S1 over the wire: no 101 for a foreign page, and nobody is asked who it is.
func TestForeignOriginIsRefusedBeforeAuthentication(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{Authenticator: AuthenticatorFunc(func(*http.Request) (Identity, error) {
			t.Error("asked")
			return Identity{}, nil
		})})
		status, body, _ := s.status(request("Origin", "https://evil.com"))
		require.Equal(t, http.StatusForbidden, status)
		require.Equal(t, "origin not allowed: add it to Options.Origins", body)
		require.EqualValues(t, 1, s.Stats().RefusedAuth)
	})
}

// plainOrigin is an independent notion of a normal origin, for the fuzz test.
func plainOrigin(origin string) string {
	origin = strings.ToLower(origin)
	if rest, ok := strings.CutSuffix(origin, ":443"); ok && strings.HasPrefix(origin, "https://") {
		return rest
	}
	if rest, ok := strings.CutSuffix(origin, ":80"); ok && strings.HasPrefix(origin, "http://") {
		return rest
	}
	return origin
}

// S1: whatever is allowed equals, when both are normalised, the own origin or
// one of Options.Origins.
func FuzzOrigin(f *testing.F) {
	listed := []string{"https://partner.example.org", "http://localhost:3000"}
	hub := originHub(f, Options{Origins: listed})
	for _, seed := range []string{appOrigin, "null", "http://LOCALHOST:3000", "https://app.example.com:443",
		"https://app.example.com#", "https://[::1]:443", "https://%C3%A9.example", "http://a@b", "https://example.com.evil.com"} {
		f.Add(seed, "app.example.com", true)
		f.Add(seed, "[::1]", false)
	}
	f.Fuzz(func(t *testing.T, origin, host string, secure bool) {
		if hub.checkOrigin(originRequest(host, secure, origin)) != nil {
			return
		}
		got := plainOrigin(origin)
		allowed := append([]string{plainOrigin("https://" + host)}, listed...)
		if !secure {
			allowed = append(allowed, plainOrigin("http://"+host))
		}
		require.Contains(t, allowed, got)
	})
}
