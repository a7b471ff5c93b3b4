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
	mu      sync.Mutex // guards senders
	senders aging[*rate.Limiter]
}

func (q *quota) init(perHour int) {
	q.perHour = perHour
	// A sender who is forgotten after an hour would have the whole quota again anyway.
	q.senders = newAging[*rate.Limiter](time.Hour)
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
	q.senders.put(sender, l)
	return l.Allow()
}
