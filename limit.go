package parley

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// refusal is the HTTP answer to a handshake that does not become a connection.
type refusal struct {
	status int
	text   string
	retry  bool // the same request may succeed in some seconds
}

func (r *refusal) write(w http.ResponseWriter) {
	if r.retry {
		w.Header().Set("Retry-After", "5")
	}
	if r.status == http.StatusUpgradeRequired {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
	}
	http.Error(w, r.text, r.status)
}

// slots counts connections against the limits. A slot is taken before the
// upgrade, so that a refusal is cheap and can be told by a status.
type slots struct {
	mu        sync.Mutex // guards the fields below; nothing else is locked while it is held
	total     int
	addresses map[string]int
	users     map[string]int
}

func (s *slots) init() {
	s.addresses, s.users = make(map[string]int), make(map[string]int)
}

func (s *slots) takeAddress(ip string, most, perIP int) *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	if most > 0 && s.total >= most {
		return &refusal{http.StatusServiceUnavailable, "too many connections: try again later", true}
	}
	if perIP > 0 && s.addresses[ip] >= perIP {
		return &refusal{http.StatusTooManyRequests, "too many connections from this address: close some first", true}
	}
	s.total++
	if ip != "" {
		s.addresses[ip]++
	}
	return nil
}

func (s *slots) giveAddress(ip string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	give(s.addresses, ip)
}

func (s *slots) takeUser(id string, most int) *refusal {
	if id == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if most > 0 && s.users[id] >= most {
		return &refusal{http.StatusTooManyRequests, "too many connections of this user: close some first", true}
	}
	s.users[id]++
	return nil
}

func (s *slots) giveUser(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	give(s.users, id)
}

func give(counts map[string]int, key string) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

// clientIP returns the address that MaxPerIP counts, or "" if it does not count.
func (h *Hub) clientIP(r *http.Request) string {
	switch {
	case h.opts.MaxPerIP <= 0:
		return ""
	case h.opts.ClientIP != nil:
		return h.opts.ClientIP(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// precheck refuses what needs no application code to be refused.
func (h *Hub) precheck(r *http.Request) *refusal {
	if h.closing.Load() {
		return &refusal{http.StatusServiceUnavailable, "shutting down: try again later", true}
	}
	if err := h.checkOrigin(r); err != nil {
		return &refusal{http.StatusForbidden, err.Error(), false}
	}
	for token := range strings.SplitSeq(strings.Join(r.Header.Values("Upgrade"), ","), ",") {
		if strings.EqualFold(strings.TrimSpace(token), "websocket") {
			return nil
		}
	}
	return &refusal{http.StatusUpgradeRequired, "this is a WebSocket endpoint: connect with a WebSocket client", false}
}

// authenticate asks the application who is there.
func (h *Hub) authenticate(r *http.Request) (id Identity, refused *refusal) {
	defer func() {
		if v := recover(); v != nil {
			h.stats.panics.Add(1)
			h.logError("parley: panic", "in", "Authenticator", "panic", v, "stack", string(debug.Stack()))
			refused = &refusal{http.StatusInternalServerError, "internal error", false}
		}
	}()
	id, err := h.opts.Authenticator.Authenticate(r)
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		switch {
		case !ok:
			return id, &refusal{http.StatusUnauthorized, "not authenticated", false}
		case e.Code == CodeForbidden:
			return id, &refusal{http.StatusForbidden, e.Message, false}
		case e.Code == CodeUnavailable:
			return id, &refusal{http.StatusServiceUnavailable, e.Message, true}
		}
		return id, &refusal{http.StatusUnauthorized, e.Message, false}
	}
	if err := checkIdentity(id); err != nil {
		h.logError("parley: Authenticator returned an identity that cannot be used", "error", err)
		return id, &refusal{http.StatusInternalServerError, "internal error", false}
	}
	if !id.ExpiresAt.IsZero() && !id.ExpiresAt.After(time.Now()) {
		return id, &refusal{http.StatusUnauthorized, "credentials expired: get new ones", false}
	}
	return id, nil
}

func checkIdentity(id Identity) error {
	if id.ID != "" && !validName(id.ID, maxName) {
		return fmt.Errorf("%w: Identity.ID %q", ErrInvalidName, id.ID)
	}
	if id.Name != "" && !validName(id.Name, maxShortName) {
		return fmt.Errorf("%w: Identity.Name %q", ErrInvalidName, id.Name)
	}
	return nil
}
