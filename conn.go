package parley

import (
	"context"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// CloseCode is a WebSocket close code. See docs/protocol.md, section 7:
// 4000-4099 ask the client to come back, 4100-4199 tell it not to.
type CloseCode int

// The close codes that the hub uses. Applications may use 4050-4099 and 4150-4199.
const (
	CloseNormal       CloseCode = 1000
	CloseProtocol     CloseCode = 1002
	CloseBinary       CloseCode = 1003
	CloseAbnormal     CloseCode = 1006 // never sent: the connection just ended
	CloseInvalidUTF8  CloseCode = 1007
	ClosePolicy       CloseCode = 1008
	CloseTooLarge     CloseCode = 1009
	CloseInternal     CloseCode = 1011
	CloseShutdown     CloseCode = 4000
	CloseSlow         CloseCode = 4001
	CloseNoHeartbeat  CloseCode = 4002
	CloseExpired      CloseCode = 4003
	CloseResync       CloseCode = 4004
	CloseIncomplete   CloseCode = 4005
	CloseRefused      CloseCode = 4100
	CloseDisconnected CloseCode = 4101
	CloseRateLimit    CloseCode = 4102
	CloseReplaced     CloseCode = 4103
)

// comesBack reports whether clients come back after this code by themselves
// (docs/protocol.md, section 7).
func (c CloseCode) comesBack() bool {
	switch c {
	case CloseNormal, CloseProtocol, CloseBinary, CloseInvalidUTF8, ClosePolicy, CloseTooLarge:
		return false
	}
	return c < CloseRefused || c >= 4200
}

// slowPatience is how many close timeouts a slow connection gets.
const slowPatience = 10

const reasonSlow = "too slow: reconnect and resume"

// Conn is one connection of a client. All its methods may be called
// concurrently, from hooks and handlers too. It is usable until its Disconnect
// hook returned; later calls do nothing and return ErrConnClosed.
type Conn struct {
	hub      *Hub
	id       string
	userID   string
	identity Identity
	ip       string
	v1       bool
	ws       *websocket.Conn
	sock     socket
	out      outbox
	drops    drops
	flights  flights
	inAll    sub // membership in the broadcast topic
	inbox    *membership
	ctx      context.Context
	cancel   context.CancelFunc
	parts    atomic.Int32 // of the connection that still run: reader and cleanup

	// Its session: set before the connection is started, but for confirmed.
	generation uint32      // how often the client id was given out before
	offered    uint32      // generation of the session that it came with, see turn
	resumed    bool        // the client id is that of an earlier connection
	confirmed  atomic.Bool // the client has received its session
	offer      *offer      // of a v1 client; nil once it was greeted
	kicked     bool        // by DisconnectUser; guarded by Hub.mu
	foreign    bool        // it came by a session that another process gave out
	old        *Conn       // whose client id it took over; nil once nothing runs for that any more, kept if c ended before

	// Used by the reading goroutine only.
	messages, refusals, controls bucket
	rejoins                      int // joins that still cost nothing (P2.7)

	busy     atomic.Bool // application code runs in the reading goroutine
	ended    atomic.Bool
	code     atomic.Int32 // CloseCode, set once, before ended
	lastSeen uint32       // outbox.writes at the last heartbeat; used by the heartbeat only
	stuck    bool         // likewise: a write was under way at it
	drain    uint32       // outbox.drains when Hub.relieve looked last; used by that only
	late     int          // likewise: looks for which that drain has lasted

	mu    sync.Mutex // guards the fields below; before roster.mu and roomState.mu
	rooms []*membership
	name  string
	gone  bool // all topics were left for good
	// Connect and Disconnect hooks in order: whoever comes last of the end of
	// Connect and the cleanup calls Disconnect.
	connect   connectState
	farewells bool // Disconnect is owed when Connect has returned
	// For the connection that takes over the client id, see succession.go.
	sections  int           // application code that runs in the reading goroutine
	cleaned   bool          // the cleanup is over
	successor chan struct{} // made by awaitEnd
}

type connectState uint8

const (
	connectNever connectState = iota
	connectRunning
	connectDone
	connectSkipped // the connection ended before the hook could be called
)

// ID returns the client id, unique over all nodes and times. A v1 client that
// lost its connection and comes back within Options.SessionWindow has the same one on its next
// Conn; the hooks and handlers of the old Conn have all returned when Connect is called for the new one: those that take long must heed their ctx.
func (c *Conn) ID() string { return c.id }

// Resumed reports whether the client had its client id on an earlier
// connection, which has ended or was replaced by this one.
func (c *Conn) Resumed() bool { return c.resumed }

// UserID returns the id of the user; for an anonymous connection it is the client id.
func (c *Conn) UserID() string { return c.userID }

// Identity returns what the Authenticator said.
func (c *Conn) Identity() Identity { return c.identity }

// Name returns the name shown to others: that of the identity, or the one an
// anonymous client gave at its last join.
func (c *Conn) Name() string { return c.displayName("") }

// Context ends when the connection does.
func (c *Conn) Context() context.Context { return c.ctx }

// Rooms returns the rooms that the connection is in, the one joined last at the end.
func (c *Conn) Rooms() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make([]string, len(c.rooms))
	for i, m := range c.rooms {
		names[i] = m.room
	}
	return names
}

// Send sends v, encoded as JSON, to this connection alone, as a private
// message of the application. It is not kept; it is queued when Send returns without an error.
func (c *Conn) Send(_ context.Context, v any) error {
	message, err := c.hub.marshal(v)
	if err != nil {
		return err
	}
	return c.push(newFrame(appendPrivate(newBuffer(len(message)+96), "", message, nowMillis())))
}

// Close ends the connection with a close frame. It does not wait and may be
// called from anywhere. Codes that RFC 6455 does not allow to be sent become
// CloseDisconnected; reason is cut at 123 bytes. Closing again does nothing.
func (c *Conn) Close(code CloseCode, reason string) {
	if code != CloseNormal && (code < 3000 || code > 4999) {
		code = CloseDisconnected
	}
	c.end(code, reason)
}

// displayName returns the name of the connection, for anonymous ones wish,
// the name given before, or one made of the client id.
func (c *Conn) displayName(wish string) string {
	if c.identity.ID != "" {
		return c.name // never changes
	}
	if wish != "" {
		return wish
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.name != "" {
		return c.name
	}
	return "guest-" + c.id[:6]
}

// push queues a frame for this connection alone; nobody else has it.
func (c *Conn) push(f *frame) error {
	result := c.out.push(c, []*frame{f})
	c.hub.stats.fannedOut(f)
	switch result {
	case pushOK:
		return nil
	case pushFull:
		c.end(CloseSlow, reasonSlow)
	}
	return ErrConnClosed
}

// end starts the end of the connection, once. It never blocks and takes no lock but
// that of the outbox, so that a fan-out can call it: the cleanup has a goroutine of its own.
func (c *Conn) end(code CloseCode, reason string) {
	if c.finish(code, closeFrame(code, reason)) {
		c.hub.stats.closed(code)
	}
}

// finish is end with a close frame, or without one if the peer has sent its
// own, which the library echoes, or is gone.
func (c *Conn) finish(code CloseCode, farewell *frame) bool {
	if !c.code.CompareAndSwap(0, int32(code)) {
		return false
	}
	c.ended.Store(true)
	slow := code == CloseSlow && farewell != nil
	c.out.finish(farewell, slow)
	timeout := c.hub.opts.CloseTimeout
	if slow {
		// Its queue is gone, so it costs little to wait until it has read
		// enough for the close frame to reach it.
		timeout *= slowPatience
	}
	c.sock.startEnding(timeout)
	c.cancel()
	go c.cleanup() // ends when hooks and Store calls have returned
	return true
}

// serve runs the connection in the goroutine that reads from it.
func (c *Conn) serve() {
	defer c.part()
	code, reason := CloseInternal, "internal error"
	// Deferred, so that it happens also when application code ends the
	// goroutine (runtime.Goexit, as testing's FailNow does).
	defer func() {
		c.end(code, reason)
		c.linger(code)
		_ = c.ws.CloseNow()
	}()
	defer c.recovered("connection")
	started := false
	c.working(func() { started = c.start() })
	if started {
		code, reason = c.readAll()
		c.landing()
	}
}

// cleanup leaves all topics and tells the application. It runs beside the
// closing of the socket: a slow Store or hook does not keep sockets open.
func (c *Conn) cleanup() {
	defer c.part()
	defer c.endCleanup()
	h := c.hub
	c.mu.Lock()
	c.gone = true
	rooms := slices.Clone(c.rooms)
	inbox, inAll := c.inbox, c.connect != connectNever
	c.mu.Unlock()
	if inAll {
		h.all.roster.remove(&c.inAll)
	}
	if inbox != nil {
		inbox.topic.roster.remove(&inbox.sub)
		inbox.topic.release()
	}
	grace := h.opts.LeaveGrace
	code := CloseCode(c.code.Load())
	if !c.v1 || !code.comesBack() && code != CloseReplaced {
		grace = 0
	}
	for _, m := range rooms {
		c.drop(m, max(grace, 0), nil)
	}
	if inbox != nil && h.statuses != nil {
		h.statuses.exit(c.userID, grace)
	}
	c.mu.Lock()
	c.farewells = c.connect == connectRunning
	call := c.connect == connectDone
	c.mu.Unlock()
	if call {
		c.disconnected()
	}
}

// part counts the ending of the reader and of the cleanup; the last one
// reports the connection gone.
func (c *Conn) part() {
	if c.parts.Add(-1) == 0 {
		c.hub.release(c)
	}
}

// working runs f, which may take long, in the reading goroutine. Meanwhile
// nothing is read, so that the heartbeat must not take the silence for death; nor right
// after it, when the pongs that wait have not been read yet. And what waits was sent at
// the client's own pace: it is not to be taken for a flood. When the connection has ended f is not run.
func (c *Conn) working(f func()) {
	if !c.beginWork() {
		return
	}
	defer c.endWork()
	c.busy.Store(true)
	start := time.Now()
	defer func() {
		took, o := time.Since(start), &c.hub.opts
		c.messages.paused(took, o.RateLimit, o.RateBurst)
		c.controls.paused(took, controlRate, controlBurst)
		c.sock.alive.Store(true)
		c.busy.Store(false)
	}()
	f()
}

// guard runs application code. A panic in it closes this connection only.
func (c *Conn) guard(what string, f func()) {
	defer c.recovered(what)
	f()
}

func (c *Conn) recovered(what string) {
	if v := recover(); v != nil {
		c.hub.stats.panics.Add(1)
		c.hub.logError("parley: panic", "in", what, "client", c.id, "panic", v, "stack", string(debug.Stack()))
		c.end(CloseInternal, "internal error")
	}
}

// expired reports whether the credentials have ended.
func (c *Conn) expired(now time.Time) bool {
	return !c.identity.ExpiresAt.IsZero() && now.After(c.identity.ExpiresAt)
}
