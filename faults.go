package parley

import "golang.org/x/time/rate"

// Errors that clients, or a Store that is down, can provoke any number of must
// not fill a disk: a hub logs so many at once, and then so many per second.
// Stats counts all of them.
const (
	logBurst = 20
	logRate  = 1
)

func newLogLimiter() *rate.Limiter { return rate.NewLimiter(logRate, logBurst) }

// logError logs a fault at level error, if there were not too many just now.
func (h *Hub) logError(msg string, args ...any) {
	if h.faults.Allow() {
		h.log.Error(msg, args...)
		return
	}
	h.stats.logsSuppressed.Add(1)
}
