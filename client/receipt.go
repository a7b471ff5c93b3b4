package client

import "time"

// receiptInterval is the least time between two receipts (P8.6).
const receiptInterval = time.Second

// handledLocked notes that the handlers have returned from everything that was handed out.
func (c *Client) handledLocked() {
	if t := c.inbox; t.handled != t.handed {
		t.handled = t.handed
		c.receiptLocked()
	}
}

// receiptLocked tells the server, if it wants to know, up to where the inbox was handled: now
// or, if the last receipt is not old enough, later.
func (c *Client) receiptLocked() {
	k, at := c.conn, c.inbox.handled
	switch {
	case k == nil || !k.receipts || k.receiptDue || c.state.final():
		return
	case at.Epoch != k.log, at.Offset <= k.received, at.Offset > c.inbox.read.Offset:
		return // of another log, told already, or of what the server has lost
	}
	if wait := receiptInterval - time.Since(c.receiptAt); wait > 0 {
		c.receiptLaterLocked(k, wait)
		return
	}
	c.receiptAt, k.received = time.Now(), at.Offset
	// Refused only if the client has ended. One that finds no place to be stored is
	// repeated, as nothing else may come that does so.
	_ = c.submitLocked(&request{answer: "ack", fate: bound, finish: func(_ inbound, err error) {
		if c.conn == k && passing(err) {
			k.received = 0
			c.receiptLaterLocked(k, max(receiptInterval, c.backoff(3)))
		}
	}}, outbound{Type: "received", Epoch: at.Epoch, Offset: &at.Offset})
}

func (c *Client) receiptLaterLocked(k *conn, wait time.Duration) {
	k.receiptDue = true
	c.afterLocked(k, wait, func() {
		k.receiptDue = false
		c.receiptLocked()
	})
}
