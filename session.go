package parley

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

const (
	sessionVersion = 1
	// sessionAge is how old a session of another process may be: of a node
	// that was restarted, or of another one behind the same address. This process knows its own better.
	sessionAge = 24 * time.Hour
	// maxParked bounds the sessions that are remembered after their connections
	// ended: 16 MiB. Clients whose session was pushed out get a new client id.
	maxParked = 100_000

	clientIDSize = 26 // of rand.Text
	nodeTagSize  = 8
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
	key    []byte
	node   [nodeTagSize]byte // of this process, in the sessions that it gives out
	window time.Duration     // Options.SessionWindow

	// Guarded by Hub.mu, like the table of connections, which they complement:
	parked map[string]parkedSession // by client id
	order  []parkedEntry            // by the time of parking, some already taken
}

type parkedSession struct {
	turn
	until time.Time
}

type parkedEntry struct {
	clientID string
	until    time.Time
}

func (s *sessions) init(key []byte, window time.Duration) {
	s.key, s.window = key, window
	if len(s.key) == 0 {
		s.key = make([]byte, sha256.Size)
		_, _ = rand.Read(s.key) // never fails
	}
	_, _ = rand.Read(s.node[:])
	s.parked = make(map[string]parkedSession)
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
// attempts to come back may fail in a row.
func (u turn) takes(t ticket) bool {
	return t.generation == u.generation || !u.confirmed && t.generation >= u.offered && t.generation < u.generation
}

// turn returns that of the connection. Hub.mu is held.
func (c *Conn) turn() turn { return turn{c.generation, c.offered, c.confirmed.Load()} }

// claim decides whether a new connection may take over the client id of a
// ticket, and returns the generation that it is then given out for. old is the connection
// that still has the id. Hub.mu is held.
func (h *Hub) claim(t ticket) (generation uint32, old *Conn, ok bool) {
	s := &h.sessions
	if c := h.conns[t.clientID]; c != nil {
		if !c.turn().takes(t) || c.sessionOver() {
			return 0, nil, false
		}
		return c.generation + 1, c, true
	}
	if p, ok := s.parked[t.clientID]; ok {
		if time.Now().After(p.until) || !p.takes(t) {
			return 0, nil, false
		}
		delete(s.parked, t.clientID)
		return p.generation + 1, nil, true
	}
	// Of this process, and forgotten by it: too late. Of another: it is as good as its age.
	if t.node == s.node || time.Since(time.Unix(t.issued, 0)) > sessionAge {
		return 0, nil, false
	}
	return t.generation + 1, nil, true
}

// sessionOver reports whether the connection ended in a way that ends its session, too.
func (c *Conn) sessionOver() bool {
	return c.ended.Load() && !CloseCode(c.code.Load()).comesBack() && !mutant("undead")
}

// park remembers the session of a connection that is gone. Hub.mu is held.
func (s *sessions) park(c *Conn) {
	if !c.v1 || c.sessionOver() {
		return
	}
	now := time.Now()
	until := now.Add(s.window)
	for len(s.order) > 0 && (len(s.order) >= maxParked || now.After(s.order[0].until)) {
		s.dropFirst()
	}
	s.parked[c.id] = parkedSession{c.turn(), until}
	s.order = append(s.order, parkedEntry{c.id, until})
}

// dropFirst forgets the oldest entry, unless its client has come back and gone since.
func (s *sessions) dropFirst() {
	first := s.order[0]
	if p, ok := s.parked[first.clientID]; ok && p.until.Equal(first.until) {
		delete(s.parked, first.clientID)
	}
	if s.order = s.order[1:]; len(s.order) == 0 {
		s.order = nil
	}
}

// forget drops what is too old. Hub.mu is held.
func (s *sessions) forget(now time.Time) {
	for len(s.order) > 0 && now.After(s.order[0].until) {
		s.dropFirst()
	}
}
