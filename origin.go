package parley

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

var (
	errHost   = errors.New("host not allowed: add it to Options.Hosts")
	errOrigin = errors.New("origin not allowed: add it to Options.Origins")
)

// normalOrigin returns scheme://host[:port] in lower case without a default
// port, or "" if s is not exactly that.
func normalOrigin(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || strings.Contains(u.Host, "*") ||
		!strings.EqualFold(s, u.Scheme+"://"+u.Host) {
		return ""
	}
	scheme := strings.ToLower(u.Scheme)
	if scheme != "http" && scheme != "https" {
		return scheme + "://" + strings.ToLower(u.Host)
	}
	return scheme + "://" + normalHost(scheme, u.Host)
}

// normalHost returns host in lower case without the default port of scheme.
func normalHost(scheme, host string) string {
	host = strings.ToLower(host)
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return host
	}
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		if strings.Contains(name, ":") {
			return "[" + name + "]"
		}
		return name
	}
	return host
}

// checkOrigin refuses pages of other sites (cross-site WebSocket hijacking)
// and, with Options.Hosts, names that were bound to our address (DNS rebinding).
func (h *Hub) checkOrigin(r *http.Request) error {
	if len(h.opts.Hosts) > 0 && !slices.ContainsFunc(h.opts.Hosts, func(allowed string) bool {
		return strings.EqualFold(allowed, r.Host)
	}) {
		return errHost
	}
	values := r.Header.Values("Origin")
	if len(values) == 0 && !h.opts.RequireOrigin {
		return nil
	}
	if len(values) != 1 {
		return errOrigin
	}
	origin := normalOrigin(values[0])
	if origin == "" {
		return errOrigin
	}
	if slices.Contains(h.origins, origin) || h.sameOrigin(r, origin) {
		return nil
	}
	return errOrigin
}

func (h *Hub) sameOrigin(r *http.Request, origin string) bool {
	https := "https://" + normalHost("https", r.Host)
	switch {
	case h.opts.Secure != nil && h.opts.Secure(r), r.TLS != nil:
		return origin == https
	case h.opts.Secure != nil:
		return origin == "http://"+normalHost("http", r.Host)
	default:
		return origin == https || origin == "http://"+normalHost("http", r.Host)
	}
}
