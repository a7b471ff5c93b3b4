package checker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-go/parley/parleytest"
)

// wireClient is a client that speaks the protocol to the letter and repairs
// nothing: it does not drop doubles, does not sort, and asks for nothing
// again that it should have got. What the server sends is what it writes down.
type wireClient struct {
	env    *surroundings
	number int
	user   string // "" for anonymous
	random *rand.Rand
	wake   chan struct{} // capacity 1: one of the wishes below has changed
	over   chan struct{} // closed when run has ended

	mu       sync.Mutex // guards the fields below
	conn     *wireConn  // the one that counts; nil if there is none
	old      []*wireConn
	session  string
	clientID string
	userID   string
	inbox    *Place
	all      *Place
	rooms    []*wireRoom // in the order of joining
	pending  []*request  // sent or to be sent, not answered, in order
	asked    int         // numbers requests
	refused  bool        // told not to come back
	stopping bool
	takeover bool
	away     time.Time // it does not connect before
	ids      []string  // of the newest notifications
}

type roomState uint8

const (
	roomOut roomState = iota
	roomJoining
	roomIn
	roomLeaving
)

// wireRoom is a room that the client wants, or has not left yet.
type wireRoom struct {
	name    string
	want    bool
	state   roomState
	place   *Place // of the last message
	offered *Place // in the join under way
	fresh   bool   // the join under way is the first one on its connection
	given   bool   // the application has made the client a member since that join was sent
	ousted  bool   // or has ended the membership: the answer does not say whether before or after
	live    bool   // a history has come on this connection
}

// request is a message to the server that is to be answered.
type request struct {
	id      string
	kind    string // of a sending, or "join", "leave", "ask", "mark"
	topic   string
	room    *wireRoom
	frame   []byte
	written int // the connection it was written to last
	first   time.Time
	errored bool
	done    chan struct{}
}

func newWireClient(env *surroundings, number int, user string, random *rand.Rand) *wireClient {
	c := &wireClient{
		env: env, number: number, user: user, random: random,
		wake: make(chan struct{}, 1), over: make(chan struct{}),
	}
	go c.run() // ends with Stop
	return c
}

// poke has run look at what is wanted.
func (c *wireClient) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run keeps a connection as long as one is wanted.
func (c *wireClient) run() {
	defer close(c.over)
	failures := 0
	for {
		c.mu.Lock()
		stop, wait := c.stopping, c.refused
		c.takeover = c.takeover && !stop
		c.mu.Unlock()
		switch {
		case stop:
			c.closeAll()
			return
		case wait:
			<-c.wake
			continue
		}
		conn, err := c.connect()
		if err == nil {
			failures = 0
			c.watch(conn)
		} else {
			failures++
		}
		pause := time.Duration(20+c.random.IntN(300)) * time.Millisecond << min(failures, 4)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-c.wake:
		}
		timer.Stop()
	}
}

// watch waits until conn has ended or does not count any more.
func (c *wireClient) watch(conn *wireConn) {
	for {
		select {
		case <-conn.done:
			return
		case <-c.wake:
		}
		c.mu.Lock()
		leave := c.stopping
		if c.takeover && c.conn == conn {
			c.takeover = false
			c.replaceLocked(conn)
			leave = true
		}
		c.mu.Unlock()
		if leave {
			return
		}
	}
}

// replaceLocked turns away from a connection that lives on.
func (c *wireClient) replaceLocked(conn *wireConn) {
	conn.stray = true
	c.old = append(c.old, conn)
	c.record(conn, Event{Kind: Replaced})
	c.lostLocked(conn)
}

// connect opens a connection and starts reading from it.
func (c *wireClient) connect() (*wireConn, error) {
	c.mu.Lock()
	if time.Now().Before(c.away) {
		c.mu.Unlock()
		return nil, errAway
	}
	conn := &wireConn{client: c, number: c.env.connect(), node: c.random.IntN(c.env.nodes), done: make(chan struct{})}
	conn.offeredInbox, conn.offeredAll, conn.offeredSession = c.inbox, c.all, c.session
	c.record(conn, Event{Kind: Dial, Node: conn.node})
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), dialPatience)
	defer cancel()
	if err := conn.open(ctx, c.user, offers(conn.offeredSession, conn.offeredInbox, conn.offeredAll)); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	go conn.read()  // ends with the connection
	go conn.write() // likewise
	return conn, nil
}

// closeAll ends all connections in an orderly way.
func (c *wireClient) closeAll() {
	c.mu.Lock()
	conns := append([]*wireConn(nil), c.old...)
	if c.conn != nil {
		conns = append(conns, c.conn)
	}
	c.mu.Unlock()
	for _, conn := range conns {
		_ = conn.ws.Close(websocket.StatusNormalClosure, "")
		<-conn.done
	}
}

// ended is called by the reader of a connection, once.
func (c *wireClient) ended(conn *wireConn, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	code := fmt.Sprint(int(websocket.CloseStatus(err)))
	c.record(conn, Event{Kind: Closed, Code: code})
	if conn.stray {
		return
	}
	c.lostLocked(conn)
	if forGood(code) && !c.stopping {
		c.refused = true
		c.forgetLocked()
	}
}

// lostLocked makes all that was under way on conn wait for the next one, or gives it up.
func (c *wireClient) lostLocked(conn *wireConn) {
	if c.conn == conn {
		c.conn = nil
	}
	rooms := c.rooms[:0]
	for _, r := range c.rooms {
		r.state, r.live, r.given, r.ousted = roomOut, false, false, false
		if r.want {
			rooms = append(rooms, r)
		} else {
			c.recordTopic(nil, Event{Kind: Dropped, Topic: roomPrefix + r.name})
		}
	}
	c.rooms = rooms
	pending := c.pending[:0]
	for _, r := range c.pending {
		switch {
		case r.kind == "join" || r.kind == "leave" || r.kind == "ask":
			close(r.done)
		case r.kind == "mark":
			c.giveUp(r, "the connection is lost")
		case r.written != 0 && (r.kind == "signal" || !c.env.keeps(r.topic)):
			c.giveUp(r, "sent once, and nothing remembers its id")
		default:
			pending = append(pending, r)
		}
	}
	c.pending = pending
}

// giveUp ends a request of which nobody knows what became.
func (c *wireClient) giveUp(r *request, why string) {
	kind := Lost
	if r.kind == "mark" {
		kind = MarkLost
	}
	c.env.Add(Event{Kind: kind, Client: c.number, Topic: r.topic, ID: r.id, Code: why})
	close(r.done)
}

// forgetLocked makes the client a new one, as a program does that was told not to come back.
func (c *wireClient) forgetLocked() {
	for _, r := range c.rooms {
		c.recordTopic(nil, Event{Kind: Dropped, Topic: roomPrefix + r.name})
	}
	c.recordTopic(nil, Event{Kind: Dropped, Topic: topicAll})
	if c.user != "" {
		c.recordTopic(nil, Event{Kind: Dropped, Topic: userPrefix + c.user})
	}
	c.rooms, c.inbox, c.all = nil, nil, nil
	for _, r := range c.pending {
		c.giveUp(r, "the client was told not to come back")
	}
	c.pending = nil
}

// record writes down an event of a connection.
func (c *wireClient) record(conn *wireConn, e Event) {
	e.Client = c.number
	if conn != nil {
		e.Conn = conn.number
	}
	if e.Kind == Dial || e.Kind == Connected {
		e.User = c.user
		if c.userID != "" {
			e.User = c.userID
		}
	}
	c.env.Add(e)
}

// recordTopic is record for what was seen of a topic.
func (c *wireClient) recordTopic(conn *wireConn, e Event) {
	e.ClientID = c.clientID
	c.record(conn, e)
}

// Link implements client.
func (c *wireClient) Link() *parleytest.Link {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	return c.conn.link
}
