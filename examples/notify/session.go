package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/parley-go/parley"
)

const (
	cookieName  = "session"
	sessionLife = 12 * time.Hour
	maxSessions = 10_000
)

var (
	errNoSession       = parley.NewError("unauthorized", "log in first")
	errTooManySessions = errors.New("too many sessions: try again later")
)

// session is one login.
type session struct {
	id      string // a hash of what is in the cookie: who reads the database cannot log in with it
	user    user
	expires time.Time
}

// sessions are the logins, in the database, so that who is logged in stays so
// when the service starts again; and the connections of each.
type sessions struct {
	db   database
	life time.Duration // set before use

	mu    sync.Mutex
	conns map[string]map[string]*parley.Conn // guarded by mu: by session and client id
}

func newSessions(db database) *sessions {
	return &sessions{db: db, life: sessionLife, conns: make(map[string]map[string]*parley.Conn)}
}

func hash(cookie string) string {
	sum := sha256.Sum256([]byte(cookie))
	return hex.EncodeToString(sum[:])
}

// start makes a session and returns what goes into the cookie.
func (ss *sessions) start(ctx context.Context, u user, now time.Time) (value string, expires time.Time, err error) {
	value, expires = rand.Text(), now.Add(ss.life)
	err = ss.db.transaction(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM sessions WHERE expires_at <= $1", now.UnixMilli()); err != nil {
			return err
		}
		var count int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM sessions").Scan(&count); err != nil {
			return err
		}
		if count >= maxSessions {
			return errTooManySessions
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO sessions (id, user_id, expires_at) VALUES ($1, $2, $3)", hash(value), u.ID, expires.UnixMilli())
		return err
	})
	return value, expires, err
}

// find returns the session that a request belongs to; errNoSession if there is none.
func (ss *sessions) find(r *http.Request) (session, error) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return session{}, errNoSession
	}
	return ss.get(r.Context(), hash(cookie.Value))
}

func (ss *sessions) get(ctx context.Context, id string) (session, error) {
	var userID string
	var expires int64
	err := ss.db.QueryRowContext(ctx, "SELECT user_id, expires_at FROM sessions WHERE id = $1", id).Scan(&userID, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return session{}, errNoSession
	} else if err != nil {
		return session{}, err
	}
	s := session{id: id, expires: time.UnixMilli(expires)}
	u, known := userByID(userID)
	if s.user = u; !known || !time.Now().Before(s.expires) {
		return session{}, errNoSession
	}
	return s, nil
}

// end forgets a session and returns its connections.
func (ss *sessions) end(ctx context.Context, id string) ([]*parley.Conn, error) {
	if _, err := ss.db.ExecContext(ctx, "DELETE FROM sessions WHERE id = $1", id); err != nil {
		return nil, err
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return slices.Collect(maps.Values(ss.conns[id])), nil
}

// attach notes that a connection belongs to a session.
func (ss *sessions) attach(id string, c *parley.Conn) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.conns[id] == nil {
		ss.conns[id] = make(map[string]*parley.Conn)
	}
	ss.conns[id][c.ID()] = c
}

func (ss *sessions) detach(id string, c *parley.Conn) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.conns[id][c.ID()] == c {
		delete(ss.conns[id], c.ID())
	}
	if len(ss.conns[id]) == 0 {
		delete(ss.conns, id)
	}
}

// authenticate is asked by the hub before a WebSocket is opened. The browser
// sends the cookie by itself; the connection ends when the session expires.
func (s *shop) authenticate(r *http.Request) (parley.Identity, error) {
	found, err := s.sessions.find(r)
	if err != nil {
		return parley.Identity{}, err // errNoSession becomes status 401
	}
	return parley.Identity{ID: found.user.ID, Name: found.user.Name, ExpiresAt: found.expires, Data: found.id}, nil
}

// connected and disconnected keep the connections of each session, so that a
// logout ends them and not those of the same user's other devices.
func (s *shop) connected(ctx context.Context, c *parley.Conn) error {
	id, _ := c.Identity().Data.(string)
	s.sessions.attach(id, c)
	// Perhaps logged out between the check and here. Who logs out later finds the connection.
	if _, err := s.sessions.get(ctx, id); errors.Is(err, errNoSession) {
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
		found, err := s.sessions.find(r)
		switch {
		case errors.Is(err, errNoSession):
			fail(w, http.StatusUnauthorized, "log in first")
		case err != nil:
			broken(w, err)
		default:
			next(w, r, found.user)
		}
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
	value, expires, err := s.sessions.start(r.Context(), u, time.Now())
	switch {
	case errors.Is(err, errTooManySessions):
		fail(w, http.StatusServiceUnavailable, err.Error())
	case err != nil:
		broken(w, err)
	default:
		http.SetCookie(w, cookie(r, value, expires))
		reply(w, http.StatusOK, u)
	}
}

func (s *shop) logout(w http.ResponseWriter, r *http.Request) {
	if found, err := s.sessions.find(r); err == nil {
		conns, err := s.sessions.end(r.Context(), found.id)
		if err != nil {
			broken(w, err)
			return
		}
		for _, c := range conns {
			c.Close(parley.CloseDisconnected, "logged out")
		}
	} else if !errors.Is(err, errNoSession) {
		slog.Error("session not found", "error", err)
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
