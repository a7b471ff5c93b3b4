package parley

import "context"

// A client that resumes has its client id on a new connection while hooks and
// handlers of the old one may still run. What an application keeps by client id must be in
// order all the same: Connect of the new one is called after all of them.

// beginWork counts application code of c that starts in its reading
// goroutine; false if c has ended, and nothing may start any more.
func (c *Conn) beginWork() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended.Load() {
		return false
	}
	c.sections++
	return true
}

func (c *Conn) endWork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sections--
	c.succeedLocked()
}

// endCleanup notes that the cleanup, with its hooks, is over.
func (c *Conn) endCleanup() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cleaned = true
	c.succeedLocked()
}

// succeedLocked lets the successor go on when nothing runs any more.
func (c *Conn) succeedLocked() {
	if c.cleaned && c.sections == 0 && c.successor != nil {
		close(c.successor)
		c.successor = nil
	}
}

// awaitTurn waits until nothing runs any more for those who had the client id
// before; false if c ended meanwhile.
func (c *Conn) awaitTurn() bool {
	// One that ended while it waited itself left us what it waited for.
	for old := c.old; old != nil; old = old.old {
		if !old.awaitEnd(c.ctx) {
			return false
		}
	}
	c.old = nil
	return true
}

// awaitEnd waits until no application code runs for c any more; false if ctx ended before.
func (c *Conn) awaitEnd(ctx context.Context) bool {
	c.mu.Lock()
	if c.cleaned && c.sections == 0 {
		c.mu.Unlock()
		return true
	}
	if c.successor == nil {
		c.successor = make(chan struct{})
	}
	over := c.successor
	c.mu.Unlock()
	return wait(ctx, over) == nil
}
