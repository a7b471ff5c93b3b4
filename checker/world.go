package checker

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/parleytest"
)

const (
	userHeader = "X-User"
	echoMethod = "echo"
	// handshakeTime is how long a server waits for a request.
	handshakeTime = 10 * time.Second
)

// world is the hubs of a run with all that is around them. All of it lives in one bubble.
type world struct {
	*Recorder
	plan    Plan
	pace    Pace
	backend Backend // nil: all is in memory
	store   *store
	plain   *parley.MemoryStore // used instead of store: hubs have a fast path for it
	broker  *broker             // nil with one node
	nodes   []*node
	key     []byte
	changes sync.WaitGroup // restarts under way
	calm    atomic.Bool    // nothing is to go wrong

	mu    sync.Mutex // guards the fields below
	conns int
	leaks []string
	hooks *rand.Rand // what becomes of calls of Hooks.Undelivered
}

// node is the place of a hub: its hubs come and go.
type node struct {
	number  int
	world   *world
	network *parleytest.Network

	hookFailures atomic.Uint64 // of Hooks.Undelivered, of the hub that is running

	mu     sync.Mutex // guards the fields below
	hub    *parley.Hub
	server *http.Server
	served chan struct{}
	way    *way // nil with a plain Store
	down   bool
}

func newWorld(plan Plan, backend Backend, pace Pace) *world {
	random := rand.New(rand.NewPCG(plan.Seed, 1))
	w := &world{Recorder: NewRecorder(), plan: plan, backend: backend, pace: pace, key: []byte("a key that all nodes of this run have")}
	w.hooks = rand.New(rand.NewPCG(plan.Seed, 5))
	if plan.Plain {
		w.plain = parley.NewMemoryStore()
	} else {
		w.store = newStore(w.Recorder, rand.New(rand.NewPCG(plan.Seed, 2)))
	}
	if plan.Nodes > 1 {
		w.broker = newBroker(rand.New(rand.NewPCG(plan.Seed, 3)))
	}
	for i := range plan.Nodes {
		n := &node{number: i, world: w, network: parleytest.NewNetwork()}
		n.network.Seed = random.Uint64()
		w.nodes = append(w.nodes, n)
		n.start()
	}
	return w
}

// rooms of a run, by how much they keep. The last one keeps nothing.
var roomKeeps = []int{100, 20, 5, 0}

const (
	inboxKeeps     = 30
	broadcastKeeps = 50
	// receiveIn is the time after which Hooks.Undelivered hears of what no device has received.
	receiveIn = 6 * time.Second
)

func roomName(i int) string { return fmt.Sprintf("r%d", i) }

// keep returns how many messages a topic keeps.
func (p Plan) keep(topic string) int {
	switch {
	case topic == topicAll && p.Forgetful:
		return 0
	case topic == topicAll:
		return broadcastKeeps
	case strings.HasPrefix(topic, roomPrefix):
		for i, keeps := range roomKeeps {
			if topic == roomPrefix+roomName(i) {
				return keeps
			}
		}
	case strings.HasPrefix(topic, userPrefix+"u"):
		return inboxKeeps
	}
	return 0
}

// topics returns all topics of a run that keep something.
func (p Plan) topics() []string {
	var all []string
	if p.keep(topicAll) > 0 {
		all = append(all, topicAll)
	}
	for i, keeps := range roomKeeps {
		if keeps > 0 {
			all = append(all, roomPrefix+roomName(i))
		}
	}
	for i := range p.Users {
		all = append(all, userPrefix+userName(i))
	}
	return all
}

func userName(i int) string { return fmt.Sprintf("u%d", i) }

func (n *node) options() parley.Options {
	w := n.world
	o := parley.Options{
		Authenticator: parley.AuthenticatorFunc(func(r *http.Request) (parley.Identity, error) {
			return parley.Identity{ID: r.Header.Get(userHeader)}, nil
		}),
		ClientBroadcast: true,
		Room: func(name string) parley.RoomConfig {
			keeps := w.plan.keep(roomPrefix + name)
			if keeps == 0 {
				keeps = -1
			}
			return parley.RoomConfig{History: parley.Retention{Messages: keeps}}
		},
		Inbox:      parley.Retention{Messages: inboxKeeps},
		SessionKey: w.key,
		// The run is about delivery; limits would only get in the way.
		RateLimit: -1, MaxPerUser: -1,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if !w.plan.Forgetful {
		o.BroadcastHistory = parley.Retention{Messages: broadcastKeeps}
	}
	if w.plan.Receipts {
		o.UndeliveredAfter = receiveIn
		o.Hooks.Undelivered = n.undelivered
	}
	if w.plain != nil {
		o.Store = w.plain
	} else {
		n.way = w.newWay(n.number)
		n.way.apply(&o, w.plan.OneStep)
	}
	o.NodeName, o.TrackPresence, o.SyncInterval = n.name(), tracksUsers, w.pace.SyncInterval
	o.PingInterval, o.LeaveGrace, o.StoreTimeout = w.pace.PingInterval, w.pace.LeaveGrace, w.pace.StoreTimeout
	return o
}

// given is the Store that the backend has given, if it has.
func (n *node) given() parley.Store {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.way.given()
}

// start makes a new hub and serves it.
func (n *node) start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	hub, err := parley.New(n.options())
	if err != nil {
		panic(err) // the options are constants
	}
	parley.On(hub, echoMethod, func(_ context.Context, _ *parley.Conn, in string) (string, error) { return in, nil })
	n.hub, n.down = hub, false
	n.world.Add(Event{Kind: Started, Client: App, Node: n.number})
	n.server = &http.Server{
		Handler: hub, ErrorLog: log.New(io.Discard, "", 0),
		ReadHeaderTimeout: handshakeTime, IdleTimeout: handshakeTime, // a client may vanish before it has asked for anything, or while it is refused
	}
	n.served = make(chan struct{})
	server, served, listener := n.server, n.served, n.network.Listen()
	go func() { // ends when the node stops
		defer close(served)
		_ = server.Serve(listener)
	}()
}

// current returns the hub, or nil if there is none.
func (n *node) current() *parley.Hub {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil
	}
	return n.hub
}

// stop ends the hub. kill is the end of a process: from one moment to the
// next nothing reaches the Store, the Broker or a client any more.
func (n *node) stop(kill bool) {
	n.mu.Lock()
	n.down = true
	hub, server, served := n.hub, n.server, n.served
	if kill {
		if n.way != nil {
			n.way.dead.Store(true)
		}
		n.network.Cut()
	}
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := hub.Shutdown(ctx); err != nil {
		n.world.leak("Shutdown of node %d: %v", n.number, err)
	}
	if err := server.Close(); err != nil {
		n.world.leak("closing the server of node %d: %v", n.number, err)
	}
	<-served
	s := hub.Stats()
	if s.Connections != 0 {
		n.world.leak("%d connections are left after Shutdown of node %d", s.Connections, n.number)
	}
	failed := n.hookFailures.Swap(0)
	if s.Panics != 0 || s.HandlerErrors != failed {
		n.world.leak("node %d counted %d panics and %d errors of handlers, %d of them meant", n.number, s.Panics, s.HandlerErrors, failed)
	}
}

// restart stops the hub and starts another one after a while.
func (n *node) restart(kill bool, after time.Duration) {
	n.mu.Lock()
	down := n.down
	n.down = true
	n.mu.Unlock()
	if down {
		return // by another restart under way
	}
	n.world.changes.Go(func() {
		n.stop(kill)
		time.Sleep(after)
		n.start()
	})
}

// leak notes what is not back where it was.
func (w *world) leak(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leaks = append(w.leaks, fmt.Sprintf(format, args...))
}

// surroundings are what clients see of the world.
func (w *world) surroundings() *surroundings {
	return &surroundings{
		Recorder: w.Recorder,
		nodes:    len(w.nodes),
		silence:  w.pace.Silence,
		keeps:    func(topic string) bool { return w.plan.keep(topic) > 0 },
		dial: func(ctx context.Context, node int) (*parleytest.Conn, error) {
			conn, err := w.nodes[node].network.Dial(ctx, "tcp", "parley.test")
			if err != nil {
				return nil, err
			}
			return conn.(*parleytest.Conn), nil
		},
		connect: func() int {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.conns++
			return w.conns
		},
	}
}

// page reads all that is kept of a topic.
func (w *world) page(topic string) (parley.Page, error) {
	if w.plain != nil {
		return w.plain.Read(context.Background(), topic, parley.Query{Limit: 1 << 20, Marks: true})
	}
	if given := w.nodes[0].given(); given != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return given.Read(ctx, topic, parley.Query{Limit: 1000, Marks: true})
	}
	return w.store.page(topic)
}
