package parley

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
	"time"
)

const (
	sessionVersion = 1
	// sessionAge is how old a session of another process may be: of a node
	// that was restarted, or of another one behind the same address. This process knows its own better.
	sessionAge       = 24 * time.Hour
	clientIDSize     = 26 // of rand.Text, which uses these letters
	clientIDAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	nodeTagSize      = 8
	// 128 bits cannot be guessed (RFC 2104, section 5: at least half of the hash).
	sessionMACSize = 16
	sessionBody    = 1 + 8 + 4 + nodeTagSize + clientIDSize
)

// ticket is what a session says: this client id, as it was given out for the
// nth time. It is signed together with the user id, and so worth nothing to anybody else.
type ticket struct {
	clientID   string
	generation uint32
	issued     int64 // seconds since 1970
	node       [nodeTagSize]byte
}

// sessions makes and checks sessions. Nothing is stored for a connection that
// is open, and some bytes for one that has ended, until it may not come back any more:
// by them a session that was used already is told from one that was not.
type sessions struct {
	key  []byte
	node [nodeTagSize]byte // of this process, in the sessions that it gives out

	// By client id, guarded by Hub.mu like the table of connections, which they complement:
	// the sessions of connections that ended within Options.SessionWindow,
	parked aging[parkedSession]
	// and the generation up to which sessions of other processes were used up here.
	spent aging[uint32]
}

type parkedSession struct {
	turn
	foreign bool
	old     *Conn // see Conn.old
}

func (s *sessions) init(key []byte, window time.Duration) {
	s.key = bytes.Clone(key)
	if len(s.key) == 0 {
		s.key = make([]byte, sha256.Size)
		_, _ = rand.Read(s.key) // never fails
	}
	_, _ = rand.Read(s.node[:])
	s.parked, s.spent = newAging[parkedSession](window), newAging[uint32](sessionAge)
}

// issue returns the session for a connection.
func (s *sessions) issue(clientID, userID string, generation uint32) string {
	b := make([]byte, 0, sessionBody+sessionMACSize)
	b = append(b, sessionVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(time.Now().Unix()))
	b = binary.BigEndian.AppendUint32(b, generation)
	b = append(b, s.node[:]...)
	b = append(b, clientID...)
	b = append(b, s.sign(b, userID)...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// sign signs the body of a session for a user, "" for anonymous ones.
func (s *sessions) sign(body []byte, userID string) []byte {
	mac := hmac.New(sha256.New, s.key)
	_, _ = mac.Write(body) // never fails; the body has a fixed size, so that nothing can move between the two
	_, _ = mac.Write([]byte(userID))
	return mac.Sum(nil)[:sessionMACSize]
}

// verify reads a session that this hub, or one with the same key, has given to this user.
func (s *sessions) verify(session, userID string) (ticket, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(session)
	if err != nil || len(b) != sessionBody+sessionMACSize || b[0] != sessionVersion {
		return ticket{}, false
	}
	body := b[:sessionBody]
	if !hmac.Equal(b[sessionBody:], s.sign(body, userID)) {
		return ticket{}, false
	}
	t := ticket{
		issued:     int64(binary.BigEndian.Uint64(body[1:])),
		generation: binary.BigEndian.Uint32(body[9:]),
		node:       [nodeTagSize]byte(body[13:]),
		clientID:   string(body[13+nodeTagSize:]),
	}
	return t, true
}

// turn is what decides whether a ticket may still be used.
type turn struct {
	generation uint32 // of the newest session
	offered    uint32 // of the one that was offered for it: what came before that is used up
	confirmed  bool   // the client has received the newest
}

// takes reports whether t is the newest ticket, or not older than the one offered last
// while the client has not shown that it received a newer one: several
// attempts to come back may fail in a row. One that is newer than the newest comes
// from another process, where the client was meanwhile.
func (u turn) takes(t ticket) bool {
	return t.generation >= u.generation || !u.confirmed && t.generation >= u.offered
}

// turn returns that of the connection. Hub.mu is held.
func (c *Conn) turn() turn { return turn{c.generation, c.offered, c.confirmed.Load()} }

// claim is a session that a new connection may go on with.
type claim struct {
	generation uint32 // of the session that it gets
	foreign    bool
	old        *Conn // that still has the client id, or whose hooks may still run
}

// claim decides whether a new connection may take over the client id of a
// ticket. Hub.mu is held.
func (h *Hub) claim(t ticket) (c claim, ok bool) {
	s := &h.sessions
	foreign := t.node != s.node
	if old := h.conns[t.clientID]; old != nil {
		next := max(old.generation, t.generation) + 1
		return claim{next, foreign || old.foreign, old}, old.turn().takes(t) && !old.sessionOver()
	}
	if p, parked := s.parked.get(t.clientID); parked {
		ok = p.takes(t)
		if ok {
			s.parked.remove(t.clientID)
		}
		return claim{max(p.generation, t.generation) + 1, foreign || p.foreign, p.old}, ok
	}
	// Of this process, and forgotten by it: too late. Of another: it is as good as its age.
	if !foreign || time.Since(time.Unix(t.issued, 0)) > sessionAge {
		return claim{}, false
	}
	spent, known := s.spent.get(t.clientID)
	return claim{t.generation + 1, true, nil}, !known || t.generation > spent
}

// sessionOver reports whether the connection ended, or is about to end, in a way
// that ends its session, too. Hub.mu is held.
func (c *Conn) sessionOver() bool {
	over := c.kicked || c.ended.Load() && !CloseCode(c.code.Load()).comesBack()
	return over && !mutant("undead")
}

// park remembers the session of a connection that is gone. Hub.mu is held.
func (s *sessions) park(c *Conn) {
	switch {
	case !c.v1:
	case c.sessionOver():
		s.end(c.id, c.foreign)
	default:
		s.parked.put(c.id, parkedSession{c.turn(), c.foreign, c.old})
		if c.foreign {
			s.spent.put(c.id, c.generation)
		}
	}
}

// end ends the session of a client. Those that other processes have given it
// are not stored anywhere: that they are over must be. Hub.mu is held.
func (s *sessions) end(clientID string, foreign bool) {
	s.parked.remove(clientID)
	if foreign {
		s.spent.put(clientID, math.MaxUint32)
	}
}

// forget drops what is too old. Hub.mu is held.
func (s *sessions) forget(now time.Time) {
	s.parked.forget(now)
	s.spent.forget(now)
}
