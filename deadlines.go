package parley

import (
	"context"
	"sync"
	"time"
)

// deadlines hand out contexts for calls of Store.Append. Calls that begin at about the same time share one: a context
// with a timeout of its own costs as much as all else that the hub does about a call.
type deadlines struct {
	parent  context.Context
	timeout time.Duration

	mu     sync.Mutex // guards the fields below
	shared context.Context
	cancel context.CancelFunc // of shared, which ends by itself
	until  time.Time          // so long shared is handed out
}

func newDeadlines(parent context.Context, timeout time.Duration) *deadlines {
	return &deadlines{parent: parent, timeout: timeout}
}

// context returns a context that ends after the timeout, or up to an eighth of it earlier.
func (d *deadlines) context() context.Context {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shared == nil || now.After(d.until) {
		d.shared, d.cancel = context.WithTimeout(d.parent, d.timeout)
		d.until = now.Add(d.timeout / 8)
	}
	return d.shared
}
