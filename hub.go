package parley

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	maxShortName = 64
	day          = 24 * time.Hour
)

var (
	defaultRoomHistory = Retention{Messages: defaultHistory, Age: day}
	defaultInbox       = Retention{Messages: defaultHistory, Bytes: 1 << 20, Age: 7 * day}
)

// Hub is an http.Handler whose upgraded connections are managed clients. Its
// methods may be called concurrently, from anywhere.
type Hub struct {
	// Lock order: Conn.mu, roomState.mu, topicTable.mu or topic.mu; Conn.mu, roster.mu, shard.mu, outbox.mu.

	opts     Options
	log      *slog.Logger
	faults   *rate.Limiter // of log lines about errors
	node     string        // id of this hub in the Store and the Broker
	origins  []string
	fast     bool // neither Store nor Broker ever blocks
	stats    counters
	handlers handlerTable
	table    topicTable
	all      *topic
	slots    slots
	reads    chan struct{} // holds a token for each read of a join at the Store
	kicks    kicks
	budget   budget
	sessions sessions
	quota    quota
	known    known
	watched  chan struct{} // closed when watchOverdue has ended; nil without it
	started  time.Time
	// Of several nodes, and nil without: the log of commands, and the Store that is the Broker, too.
	control  *topic
	appender AppendPublisher
	echo     string // how the packets of this node begin
	asks     *asks
	runners  *runners
	appends  *deadlines // of calls of Store.Append
	monitor  *monitor   // nil if nothing of the Store can fail
	statuses *statuses  // nil without Options.TrackPresence

	ctx     context.Context // of Store calls that belong to no single caller; ends with Shutdown
	cancel  context.CancelFunc
	closing atomic.Bool

	mu       sync.Mutex         // guards the fields below and sessions; nothing else is locked while it is held
	conns    map[string]*Conn   // by client id, until nothing of them runs any more
	replaced map[*Conn]struct{} // likewise, those whose client id a newer connection has
	idle     chan struct{}      // made by Shutdown, closed when both are empty
	runs     int                // topics that run
	finished chan struct{}      // made by Shutdown, closed when there are none
	beating  bool               // the background goroutine was started
	stopped  chan struct{}      // closed when it has ended
}

// New returns a Hub. The only required option is Authenticator. A Hub needs
// no start; Shutdown ends it, and the goroutines that it runs from the beginning, for Hooks.Undelivered and
// to watch Store and Broker.
func New(opts Options) (*Hub, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	h := &Hub{
		opts: opts, log: opts.Logger, faults: newLogLimiter(), node: rand.Text(),
		started: time.Now(), asks: newAsks(),
		conns: make(map[string]*Conn), replaced: make(map[*Conn]struct{}), stopped: make(chan struct{}), reads: make(chan struct{}, maxReads),
	}
	_, h.fast = opts.Store.(*MemoryStore)
	h.fast = h.fast && opts.Broker == nil
	h.opts.Store = guardedStore{opts.Store, &h.stats}
	if opts.Broker != nil {
		h.opts.Broker = guardedBroker{opts.Broker, &h.stats}
		h.appender = appenderOf(opts, &h.stats)
	}
	h.echo = strings.TrimSuffix(string(packet{Node: h.node}.encode()), "}")
	if h.opts.NodeName == "" {
		h.opts.NodeName = h.node
	}
	for _, origin := range opts.Origins {
		h.origins = append(h.origins, normalOrigin(origin))
	}
	h.handlers.handlers = make(map[string]rawHandler)
	h.table.topics = make(map[string]*topic)
	h.slots.init()
	h.kicks.users = make(map[string]uint64)
	h.sessions.init(opts.SessionKey, opts.SessionWindow)
	h.quota.init(opts.PrivateQuota)
	h.known.users = newAging[struct{}](knownLife)
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.runners, h.appends = newRunners(h.ctx.Done()), newDeadlines(h.ctx, h.opts.StoreTimeout)
	h.all = h.acquire(topicBroadcast) // never released
	if opts.Broker != nil {
		h.control = h.acquire(topicControl) // likewise
	}
	if opts.TrackPresence {
		h.statuses = newStatuses(h)
	}
	if !h.fast {
		h.monitor = newMonitor(h)
		h.monitor.start()
	}
	if h.watchesReceipts() {
		h.watched = make(chan struct{})
		go h.watchOverdue() // ends with Shutdown
	}
	return h, nil
}

// ServeHTTP upgrades the request to a WebSocket connection and returns;
// the connection lives on. Requests that are refused get an HTTP status: 403
// for a foreign origin or host, 426 without an upgrade, 401 and 403 from the
// Authenticator, 429 and 503 above a limit or during Shutdown.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, refusal := h.accept(w, r)
	if refusal != nil {
		h.stats.handshakeRefused(refusal.status)
		h.log.Debug("parley: handshake refused", "status", refusal.status, "reason", refusal.text)
		refusal.write(w)
		return
	}
	if c != nil {
		h.stats.accepted.Add(1)
		h.track(c.identity.ID)
		go c.serve() // ends with the connection
	}
}

// accept checks and upgrades a request. Both results are nil if the upgrade
// itself failed and was answered.
func (h *Hub) accept(w http.ResponseWriter, r *http.Request) (*Conn, *refusal) {
	if refused := h.precheck(r); refused != nil {
		return nil, refused
	}
	ip := h.clientIP(r)
	if refused := h.slots.takeAddress(ip, h.opts.MaxConnections, h.opts.MaxPerIP); refused != nil {
		return nil, refused
	}
	if refused := h.monitor.await(r.Context()); refused != nil {
		h.slots.giveAddress(ip)
		return nil, refused
	}
	since := h.kicks.begin()
	arriving := &arrival{ip: ip, offer: readOffer(r)}
	refused := h.identify(r, arriving)
	if refused != nil {
		h.kicks.end("", since)
		h.slots.giveAddress(ip)
		return nil, refused
	}
	c := h.admit(w, r, arriving)
	if c == nil {
		h.kicks.end("", since)
		h.slots.giveAddress(ip)
		h.slots.giveUser(arriving.identity.ID)
		return nil, nil
	}
	if h.kicks.end(c.userID, since) {
		c.end(CloseDisconnected, "disconnected by the application")
	}
	return c, nil
}

// arrival is a handshake on its way to become a connection.
type arrival struct {
	ip       string
	identity Identity
	offer    offer
	ticket   *ticket // nil unless a session was offered that is this user's
}

// identify finds out who is there, and takes a slot for the user. The connection that is about
// to be replaced still holds one: it must not keep its own client out.
func (h *Hub) identify(r *http.Request, a *arrival) (refused *refusal) {
	if a.identity, refused = h.authenticate(r); refused != nil {
		return refused
	}
	most := h.opts.MaxPerUser
	if t, ok := h.sessions.verify(a.offer.session, a.identity.ID); ok && a.offer.v1 {
		a.ticket = &t
		if most > 0 && h.replaces(t) {
			most++
		}
	}
	return h.slots.takeUser(a.identity.ID, most)
}

// replaces reports whether a connection that comes with t would take the place of one.
func (h *Hub) replaces(t ticket) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.conns[t.clientID]
	return old != nil && old.turn().takes(t) && !old.sessionOver()
}

// admit upgrades and registers a connection; nil if that failed, or the hub
// was shut down meanwhile.
func (h *Hub) admit(w http.ResponseWriter, r *http.Request, a *arrival) *Conn {
	c, err := h.upgrade(w, r)
	if err != nil {
		h.stats.handshakeRefused(http.StatusBadRequest)
		h.log.Debug("parley: handshake failed", "error", err)
		return nil
	}
	c.init(a)
	if !h.register(c, a.ticket) {
		_ = c.sock.Conn.Close()
		return nil
	}
	if c.old != nil && !mutant("twosockets") {
		c.old.end(CloseReplaced, "replaced by a newer connection of the same client")
	}
	return c
}

func (c *Conn) init(a *arrival) {
	c.ip, c.identity = a.ip, a.identity
	if c.v1 {
		c.offer = &a.offer
		c.rejoins = c.hub.opts.MaxRooms
	}
	// Background: the hub closes its connections itself, and a parent that can
	// end would keep an entry for each of them.
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.parts.Store(2)
	c.sock.alive.Store(true)
}

// register gives c its client id, a new one or that of the ticket, and adds
// it; false if the hub was shut down meanwhile.
func (h *Hub) register(c *Conn, t *ticket) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing.Load() {
		return false
	}
	c.id = rand.Text()
	if t != nil && c.v1 {
		if claim, ok := h.claim(*t); ok {
			c.id, c.resumed, c.offered = t.clientID, true, t.generation
			c.generation, c.foreign, c.old = claim.generation, claim.foreign, claim.old
		}
	}
	c.setUser()
	if old := h.conns[c.id]; old != nil {
		h.replaced[old] = struct{}{}
	}
	h.conns[c.id] = c
	if !h.beating {
		h.beating = true
		go h.background() // ends with Shutdown
	}
	return true
}

// setUser fills in what follows from identity and client id.
func (c *Conn) setUser() {
	c.userID, c.name = c.identity.ID, c.identity.Name
	if c.userID == "" {
		c.userID, c.name = c.id, ""
	} else if c.name == "" {
		c.name = clip(c.userID)
	}
}

// release reports that nothing of c runs any more.
func (h *Hub) release(c *Conn) {
	if mutant("stuck") {
		go func() { select {} }()
	}
	h.slots.giveAddress(c.ip)
	h.slots.giveUser(c.identity.ID)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns[c.id] == c {
		delete(h.conns, c.id)
		h.sessions.park(c)
	}
	delete(h.replaced, c)
	if len(h.conns)+len(h.replaced) == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
}

// Conn returns the connection with this client id on this node, or nil if
// there is none or it is ending.
func (h *Hub) Conn(clientID string) *Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.conns[clientID]; c != nil && !c.ended.Load() {
		return c
	}
	return nil
}

// User returns the connections of a user on this node.
func (h *Hub) User(userID string) []*Conn {
	if c := h.Conn(userID); c != nil && c.userID == userID {
		return []*Conn{c}
	}
	t := h.lookup(userPrefix + userID)
	if t == nil {
		return nil
	}
	defer t.release()
	return slices.DeleteFunc(t.roster.conns(), func(c *Conn) bool { return c.ended.Load() })
}
