package main

import (
	"context"
	"crypto/rand"
	"net/http"
	"sync"
	"time"

	"github.com/parley-go/parley"
)

const (
	cookieName  = "session"
	sessionLife = 12 * time.Hour
	maxSessions = 10_000
)

var errNoSession = parley.NewError("unauthorized", "log in first")

type user struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Staff bool   `json:"staff"`
}

// users has everybody who can log in, by the name that they type. A demo: a
// real service asks for more than a name.
var users = map[string]user{
	"alice": {ID: "user-1", Name: "Alice"},
	"bob":   {ID: "user-2", Name: "Bob"},
	"staff": {ID: "staff-1", Name: "Staff", Staff: true},
}

// session is one login. Its fields but conns never change.
type session struct {
	user    user
	expires time.Time
	conns   map[string]*parley.Conn // guarded by sessions.mu: by client id
}

// sessions are the logins, by the random id in the cookie.
type sessions struct {
	life time.Duration // set before use

	mu  sync.Mutex
	all map[string]*session // guarded by mu
}

func newSessions() *sessions { return &sessions{life: sessionLife, all: make(map[string]*session)} }

// start makes a session; it returns "" when there are too many.
func (ss *sessions) start(u user, now time.Time) (id string, expires time.Time) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for each, s := range ss.all {
		if !now.Before(s.expires) {
			delete(ss.all, each)
		}
	}
	if len(ss.all) >= maxSessions {
		return "", time.Time{}
	}
	id, expires = rand.Text(), now.Add(ss.life)
	ss.all[id] = &session{user: u, expires: expires, conns: make(map[string]*parley.Conn)}
	return id, expires
}

// find returns the session that a request belongs to.
func (ss *sessions) find(r *http.Request) (id string, s *session, ok bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return "", nil, false
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s, ok = ss.all[cookie.Value]
	return cookie.Value, s, ok && time.Now().Before(s.expires)
}

// end forgets a session and returns its connections.
func (ss *sessions) end(id string) []*parley.Conn {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s, ok := ss.all[id]
	if !ok {
		return nil
	}
	delete(ss.all, id)
	conns := make([]*parley.Conn, 0, len(s.conns))
	for _, c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// attach notes that a connection belongs to a session; false: it has ended.
func (ss *sessions) attach(id string, c *parley.Conn) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s, ok := ss.all[id]
	if ok {
		s.conns[c.ID()] = c
	}
	return ok
}

func (ss *sessions) detach(id string, c *parley.Conn) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if s, ok := ss.all[id]; ok {
		delete(s.conns, c.ID())
	}
}

// authenticate is asked by the hub before a WebSocket is opened. The browser
// sends the cookie by itself; the connection ends when the session expires.
func (s *shop) authenticate(r *http.Request) (parley.Identity, error) {
	id, found, ok := s.sessions.find(r)
	if !ok {
		return parley.Identity{}, errNoSession // becomes status 401
	}
	return parley.Identity{ID: found.user.ID, Name: found.user.Name, ExpiresAt: found.expires, Data: id}, nil
}

// connected and disconnected keep the connections of each session, so that a
// logout ends them and not those of the same user's other devices.
func (s *shop) connected(_ context.Context, c *parley.Conn) error {
	id, _ := c.Identity().Data.(string)
	if !s.sessions.attach(id, c) {
		// Logged out between the check and here.
		return parley.NewError(parley.CodeForbidden, "the session has ended")
	}
	return nil
}

func (s *shop) disconnected(c *parley.Conn, _ parley.CloseCode) {
	id, _ := c.Identity().Data.(string)
	s.sessions.detach(id, c)
}

// user makes a handler for requests of somebody who is logged in.
func (s *shop) user(next func(http.ResponseWriter, *http.Request, user)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, found, ok := s.sessions.find(r)
		if !ok {
			fail(w, http.StatusUnauthorized, "log in first")
			return
		}
		next(w, r, found.user)
	}
}

func (s *shop) me(w http.ResponseWriter, _ *http.Request, u user) { reply(w, http.StatusOK, u) }

func (s *shop) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	u, ok := users[r.PostFormValue("name")]
	if !ok {
		fail(w, http.StatusUnauthorized, "nobody here has that name: try alice, bob or staff")
		return
	}
	// A new id at every login: one that somebody else knew before is worth nothing.
	id, expires := s.sessions.start(u, time.Now())
	if id == "" {
		fail(w, http.StatusServiceUnavailable, "too many sessions: try again later")
		return
	}
	http.SetCookie(w, cookie(r, id, expires))
	reply(w, http.StatusOK, u)
}

func (s *shop) logout(w http.ResponseWriter, r *http.Request) {
	if id, _, ok := s.sessions.find(r); ok {
		for _, c := range s.sessions.end(id) {
			c.Close(parley.CloseDisconnected, "logged out")
		}
	}
	http.SetCookie(w, cookie(r, "", time.Unix(1, 0)))
	w.WriteHeader(http.StatusNoContent)
}

func cookie(r *http.Request, value string, expires time.Time) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", Expires: expires,
		HttpOnly: true,                 // no script can read it
		SameSite: http.SameSiteLaxMode, // other sites cannot send it along with a POST
		Secure:   r.TLS != nil,         // behind a TLS proxy: true
	}
}
