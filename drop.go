package parley

import "sync"

// Drop tells Hooks.Drop what a connection did not get because it reads too slowly.
type Drop struct {
	// Messages were queued, or should have been, when the queue overflowed. The connection is being
	// closed with code 4001. When the client comes back it gets those of topics with a history, or is told of the gap.
	Messages int
	// Signals were not queued, because the queue was half full.
	Signals int
	// Replaced are signals that made way for newer ones of the same sender and name.
	Replaced int
}

// drops collects the losses of one connection for the hook. They happen under
// the locks of the fan-out, where no application code may run.
type drops struct {
	mu      sync.Mutex // guards the fields below; after outbox.mu and shard.mu
	sum     Drop
	telling bool // a goroutine runs that will tell sum
}

// lost notes what c does not get. It never blocks.
func (c *Conn) lost(d Drop) {
	if c == nil || c.hub.opts.Hooks.Drop == nil || d == (Drop{}) {
		return
	}
	c.drops.mu.Lock()
	defer c.drops.mu.Unlock()
	c.drops.sum.Messages += d.Messages
	c.drops.sum.Signals += d.Signals
	c.drops.sum.Replaced += d.Replaced
	if !c.drops.telling {
		c.drops.telling = true
		go c.tellDrops() // ends when all is told
	}
}

// tellDrops calls the hook until there is nothing new to tell: one call at a
// time, and what is lost meanwhile in one sum.
func (c *Conn) tellDrops() {
	for {
		c.drops.mu.Lock()
		d := c.drops.sum
		c.drops.sum, c.drops.telling = Drop{}, d != Drop{}
		c.drops.mu.Unlock()
		if d == (Drop{}) {
			return
		}
		c.guard("Drop hook", func() { c.hub.opts.Hooks.Drop(c, d) })
	}
}

// countFor returns how many of frames c should have got and loses. Pings and the close frame are no messages.
func countFor(c *Conn, frames []*frame) (n int) {
	for _, f := range frames {
		if f.wire[0]&0xf == opText && f.isFor(c) {
			n++
		}
	}
	return n
}
