package parley

import "sync"

// kicks remembers who was disconnected while handshakes were under way: whoever
// was authenticated before a ban and is registered after it must not slip through.
type kicks struct {
	mu         sync.Mutex // guards the fields below; nothing else is locked while it is held
	handshakes int
	count      uint64
	users      map[string]uint64 // by user: count at the last kick; empty without handshakes
}

// begin is called before a request is authenticated.
func (k *kicks) begin() (since uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.handshakes++
	return k.count
}

// kick notes that a user is being disconnected.
func (k *kicks) kick(userID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.count++
	if k.handshakes > 0 {
		k.users[userID] = k.count
	}
}

// end is called when the connection can be found by kicks to come. It reports
// whether the user was kicked since begin.
func (k *kicks) end(userID string, since uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	kicked := k.users[userID] > since
	if k.handshakes--; k.handshakes == 0 {
		clear(k.users)
	}
	return kicked
}

// disconnect closes the connections of a user on this node. Nothing is queued for them any more when it returns.
func (h *Hub) disconnect(userID, reason string) int {
	h.kicks.kick(userID)
	var conns []*Conn
	h.mu.Lock()
	if p, ok := h.sessions.parked.get(userID); ok { // an anonymous user is its client id
		h.sessions.end(userID, p.foreign)
	}
	for _, c := range h.conns { // those too that have not entered their topics yet
		if c.userID == userID && !c.ended.Load() && !mutant("kick") {
			c.kicked = true
			conns = append(conns, c)
		}
	}
	h.mu.Unlock()
	for _, c := range conns {
		c.end(CloseDisconnected, reason)
	}
	return len(conns)
}
