package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-go/parley"
)

const (
	connectTimeout = 20 * time.Second // for token, handshake and "connected" together
	stableTime     = 30 * time.Second // a connection that lasted this long starts the backoff anew
)

var (
	errConnectTimeout = errors.New("no connection within 20 s")
	errBehind         = errors.New("handlers were too slow: resuming")
	errHole           = errors.New("a message is missing: resuming")
)

// run connects again and again, until the client has ended. It is the only
// one that makes connections, and reads from them.
func (c *Client) run() {
	defer close(c.done)
	defer func() { <-c.delivered }()
	for {
		wait, again := c.lost(c.attempt())
		if !again || !c.sleep(wait) {
			return
		}
		c.mu.Lock()
		if !c.state.final() {
			c.setStateLocked(StateChange{State: StateConnecting})
		}
		c.mu.Unlock()
	}
}

func (c *Client) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// attempt makes a connection and reads from it; it returns when that has ended.
func (c *Client) attempt() (*conn, *ConnError) {
	k := newConn()
	timeout := time.AfterFunc(connectTimeout, func() { k.cut(errConnectTimeout) })
	stop := context.AfterFunc(c.ctx, func() { k.cut(errClosed) })
	k.welcome = func() {
		timeout.Stop()
		stop()
	}
	defer k.welcome()
	if why := c.dial(k); why != nil {
		k.cut(nil)
		return nil, why
	}
	c.mu.Lock()
	c.conn = k
	c.mu.Unlock()
	return k, k.end(c.read(k))
}

// lost notes that the connection k, or the attempt to make one, has ended: come
// back after wait, unless the server said not to.
func (c *Client) lost(k *conn, why *ConnError) (wait time.Duration, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = nil
	if k != nil {
		defer close(k.gone)
		c.dropLocked(k)
	}
	state, err := verdict(why)
	switch {
	case c.state.final():
		return 0, false
	case state.final():
		c.endLocked(state, err)
		return 0, false
	}
	wait = c.delayLocked(k, why)
	c.setStateLocked(StateChange{State: StateWaiting, RetryIn: wait, Err: why})
	return wait, true
}

// dropLocked forgets all that belongs to the connection k.
func (c *Client) dropLocked(k *conn) {
	for timer := range k.timers {
		timer.Stop()
	}
	c.held = nil
	for _, done := range c.leaving { // the connection was a member, not the user
		close(done)
	}
	clear(c.leaving)
	for _, r := range c.rooms {
		r.up, r.joining = false, false
	}
	unknown := parley.NewError(CodeDisconnected, "connection lost: nobody knows what became of the request")
	for _, r := range c.pending {
		if r.on == k && (r.fate == bound || r.written && (r.fate == once || r.room != nil && r.room.left)) {
			c.settleLocked(r, inbound{}, unknown)
		}
		r.repeated = r.written
	}
}

// delayLocked returns how long to wait before the next attempt.
func (c *Client) delayLocked(k *conn, why *ConnError) time.Duration {
	if k != nil && k.up && time.Since(k.since) >= stableTime {
		c.tries = 0
	}
	bye := c.bye
	c.bye = nil
	n := c.tries
	c.tries++
	switch {
	case bye != nil:
		return c.between(bye.RetryMin, bye.RetryMax)
	case errors.Is(why, errBehind): // no failure, and they had their pause
		c.tries = n
		return c.backoff(0)
	default:
		return why.retryAfter + c.backoff(n)
	}
}

// backoff is full jitter: after a crash of the server its clients come back evenly spread.
func (c *Client) backoff(n int) time.Duration {
	low, high := time.Duration(0), c.opts.BackoffMin
	if n > 0 {
		low = c.opts.BackoffMin / 5
	}
	for range n {
		if high >= c.opts.BackoffMax {
			break
		}
		high *= 2
	}
	return c.between(low, min(high, c.opts.BackoffMax))
}

func (c *Client) between(low, high time.Duration) time.Duration {
	return low + time.Duration(c.opts.jitter()*float64(max(0, high-low)))
}

// verdict decides by the end of a connection whether to come back (section 7).
func verdict(why *ConnError) (State, error) {
	switch code := why.Code; {
	case why.Status == 401 || why.Status == 403 || code == parley.CloseRefused || errors.Is(why, ErrUnauthorized):
		return StateUnauthorized, fmt.Errorf("%w: %w", ErrUnauthorized, why)
	case code == parley.CloseNormal, code == parley.CloseProtocol, code == parley.CloseBinary,
		code == parley.CloseInvalidUTF8, code == parley.ClosePolicy, code == parley.CloseTooLarge,
		code > parley.CloseRefused && code < 4200:
		return StateClosed, why
	}
	return StateWaiting, nil
}

// abnormal makes the error of a connection that ended without a word.
func abnormal(err error) *ConnError {
	return &ConnError{Code: parley.CloseAbnormal, Err: cmp.Or(err, errors.New("unexpected end"))}
}
