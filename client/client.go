package client

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/parley-go/parley"
)

// State is where a Client is. It never leaves StateClosed and StateUnauthorized: make a new one.
type State string

// The states of a Client.
const (
	StateConnecting   State = "connecting"   // asking for the token, handshake, waiting for the server's first message
	StateConnected    State = "connected"    // messages flow
	StateWaiting      State = "waiting"      // the connection is lost or could not be made; the next attempt comes by itself
	StateClosed       State = "closed"       // the end: Close was called, or the server said not to come back
	StateUnauthorized State = "unauthorized" // the end: the server refused the credentials, or Token failed for good
)

func (s State) final() bool { return s == StateClosed || s == StateUnauthorized }

// StateChange is what Options.OnState is told.
type StateChange struct {
	State State
	// RetryIn is the time until the next attempt, when StateWaiting.
	RetryIn time.Duration
	// Err says why: a *ConnError when StateWaiting, and what Client.Err returns at the end. Nil otherwise.
	Err error
}

var errClosed = parley.NewError(CodeClosed, "the client was closed")

// Client is a connection to a hub that comes back by itself. All methods may
// be called concurrently, and from handlers.
type Client struct {
	url    string
	opts   Options
	prefix string          // of all ids, so that no two clients use the same
	ctx    context.Context // of attempts to connect; ends with the client
	cancel context.CancelFunc
	// handling is the context of the handlers. It outlives ctx when the server
	// ends the client: what came before is still handed out.
	handling context.Context
	handled  context.CancelFunc

	delivered chan struct{} // closed when deliver has ended
	done      chan struct{} // closed when run has ended, too

	// mu guards the fields below, all fields of topic, and those of Room,
	// request and conn that say so. It is the only lock, and never held while a handler, the
	// network or anything else that can take long is called.
	mu       sync.Mutex
	state    State
	err      error         // why it ended
	changed  chan struct{} // closed at the next change of state
	conn     *conn         // the connection in use, from the handshake on; nil while there is none
	tries    int           // failures in a row, for the backoff
	bye      *Bye
	session  string // the newest secret (P1.8)
	identity Identity
	rooms    map[string]*Room
	leaving  map[string]chan struct{} // rooms whose leave is not yet answered; closed then
	pending  map[string]*request      // without an answer, by id
	lastSeq  uint64                   // of requests and rooms
	inbox    *topic                   // a new one for another user
	unread   unreadCount              // of the inbox, the newest known
	told     int                      // what OnUnread was told last; -1 before the first
	all      topic                    // the broadcast
	held     []inbound                // broadcasts that wait for what is missing before them

	receiptAt time.Time // when the server was told last what was received

	arrived sync.Cond // an event was queued, or the client has ended
	queue   []event
	queued  int  // bytes in queue
	behind  bool // the handlers are: nothing more is taken
}

// New makes a Client, which starts to connect in the background. The error is
// one of url or opts. Close it, or it lives until the server refuses it for good.
//
// url is that of the hub; http and https are taken for ws and wss.
func New(url string, opts Options) (*Client, error) {
	if err := opts.setDefaults(url); err != nil {
		return nil, err
	}
	c := &Client{
		url: url, opts: opts, prefix: rand.Text()[:16] + "-",
		delivered: make(chan struct{}), done: make(chan struct{}),
		state: StateConnecting, changed: make(chan struct{}),
		rooms: make(map[string]*Room), leaving: make(map[string]chan struct{}), pending: make(map[string]*request),
		inbox: &topic{read: opts.Inbox, handed: opts.Inbox}, told: -1, all: topic{read: opts.Broadcast, handed: opts.Broadcast},
	}
	c.arrived.L = &c.mu
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.handling, c.handled = context.WithCancel(context.Background())
	go c.run()
	go c.deliver()
	return c, nil
}

// Connect is New that waits until the client is connected. ctx bounds this wait
// only: when it ends first, or the server refuses, the client is closed and
// the error returned. Use New where the server may still be down.
func Connect(ctx context.Context, url string, opts Options) (*Client, error) {
	c, err := New(url, opts)
	if err != nil {
		return nil, err
	}
	if err := c.WaitConnected(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// WaitConnected waits for StateConnected. It returns the error of ctx, or
// that of Err if the client has ended.
func (c *Client) WaitConnected(ctx context.Context) error {
	for {
		c.mu.Lock()
		state, err, changed := c.state, c.err, c.changed
		c.mu.Unlock()
		switch {
		case state == StateConnected:
			return nil
		case state.final():
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends the client: waiting calls fail with CodeClosed, and no handler is
// called any more except OnState for the last change; one that runs already goes on. It returns when the server was told,
// at most two seconds later; Done tells when everything is over. Closing again does nothing.
func (c *Client) Close() {
	k := c.end(StateClosed, errClosed)
	if k == nil {
		return
	}
	// The WebSocket library may take its own time if the network stalls at a bad moment.
	timeout := time.NewTimer(2 * closeTimeout)
	defer timeout.Stop()
	select {
	case <-k.gone:
	case <-timeout.C:
	}
}

// end starts the end and returns the connection that is being closed, if any.
func (c *Client) end(state State, err error) *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handling.Err() == nil {
		c.handled()
		// If the server has ended the client before, the change to that is still to be told.
		rest := c.queue[max(0, len(c.queue)-1):]
		if !c.state.final() {
			rest = nil
		}
		c.queue, c.queued, c.behind = rest, 0, false
	}
	if !c.state.final() {
		c.endLocked(state, err)
	}
	return c.conn
}

// endLocked ends everything but what is queued for the handlers.
func (c *Client) endLocked(state State, err error) {
	c.err = err
	c.setStateLocked(StateChange{State: state, Err: err})
	closed := parley.NewError(CodeClosed, err.Error())
	for _, r := range c.pending {
		c.settleLocked(r, inbound{}, closed)
	}
	for _, r := range c.rooms {
		r.giveUpLocked(closed)
	}
	c.cancel()
	if c.conn != nil {
		c.closeConnLocked(c.conn)
	}
}

func (c *Client) setStateLocked(s StateChange) {
	c.state = s.State
	close(c.changed)
	c.changed = make(chan struct{})
	e := tell(c.opts.OnState, c, s)
	e.state = true
	c.pushEventLocked(e)
}

// Done is closed when the client has ended and nothing of it runs any more.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why the client has ended: after Close a *parley.Error with
// CodeClosed; in StateUnauthorized something that wraps ErrUnauthorized; else a
// *ConnError with the close code of the server. Nil before.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// State returns the state.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Identity returns what the server said at the last connect: who this is.
// Zero before the first.
func (c *Client) Identity() Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.identity
}

// Room returns the room of this name that was joined and not left, or nil.
func (c *Client) Room(name string) *Room {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rooms[name]
}

// InboxPosition returns the position of the last message of the inbox that was
// handed out, for Options.Inbox of a later client. Zero before the first.
func (c *Client) InboxPosition() Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inbox.handed
}

// BroadcastPosition is InboxPosition for the broadcast, if the server keeps its history.
func (c *Client) BroadcastPosition() Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all.handed
}
