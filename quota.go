package parley

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// quota bounds how many private messages a user may leave for others who are away: these fill
// inboxes that nobody looks at, over as many connections as the user likes.
type quota struct {
	perHour int
	mu      sync.Mutex // guards the fields below
	senders aging[*rate.Limiter]
	granted aging[struct{}] // messages that were let through, by recipient and key
}

func (q *quota) init(perHour int) {
	q.perHour = perHour
	// A sender who is forgotten after an hour would have the whole quota again anyway.
	q.senders = newAging[*rate.Limiter](time.Hour)
	q.granted = newAging[struct{}](IdempotencyWindow)
}

// account is whose quota the messages of a connection count against: anonymous users have a new
// id with each connection, so theirs is that of their address.
func (c *Conn) account() string {
	if c.identity.ID == "" {
		return "\x00" + c.ip
	}
	return c.identity.ID
}

func (q *quota) wasGranted(message string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.granted.get(message)
	return ok
}

func (q *quota) grant(message string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.granted.put(message, struct{}{})
}

func (q *quota) allow(sender string) bool {
	if q.perHour < 0 {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	l, ok := q.senders.get(sender)
	if !ok {
		l = rate.NewLimiter(rate.Every(time.Hour/time.Duration(q.perHour)), q.perHour)
	}
	if !l.Allow() {
		return false // and not put again: refused calls must not push others out
	}
	q.senders.put(sender, l)
	return true
}
