package parley

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// nodeBeat is how often a node says in the Store that it lives, and sends itself a payload through the Broker:
	// so long it may take until Ready knows of a fault that stops nothing at once.
	nodeBeat = 3 * time.Second
	// leastBeat is the shortest time between two, also when the registry is lost again and again.
	leastBeat = 50 * time.Millisecond
	// nodeLease is how long a node that has died counts as alive.
	nodeLease = 15 * time.Second
	// peerMemory is how long a node counts as alive that is no longer in the registry: so long it may take until all are in it again, if
	// it was lost.
	peerMemory = 3 * nodeBeat
	// deafSync replaces Options.SyncInterval, if that is more, while the Broker brings nothing.
	deafSync = time.Second
	// resetPause is the shortest time between two calls of Resetter.Reset: as long as connecting may take.
	resetPause = 10 * time.Second
	// maxStray is how many publishes may wait for a Broker that is known to be out of order.
	maxStray = 16
	// stuckAfter is how long the watch over the Store may be in one call, which Options.StoreTimeout
	// should have ended, until Healthy says so.
	stuckAfter = time.Minute
)

// Topics of the nodes themselves: their registry in the Store, the log of commands, and the one of each node.
const (
	topicNodes   = "nodes"
	topicControl = "control"
	nodePrefix   = "node/"
)

var (
	errSilent     = errors.New("parley: broker: it seems to be well but brings nothing: messages of other nodes come from the Store, up to a second late")
	errRegistry   = fmt.Errorf("%w: the registry of nodes could not be read just now, or is lost: there may be more nodes than have answered: ask again in %v", ErrStore, 3*nodeBeat)
	errNoBeat     = errors.New("parley: starting: the Store has not answered yet")
	errNoProbe    = errors.New("parley: starting: the Broker has brought nothing yet")
	errNotHealthy = errors.New("parley: a call of the Store has not returned for a minute, in spite of its context: the process is of no use any more")
)

// monitor watches Store and Broker, keeps this node in the registry, and finds what the
// Broker has lost. It does not exist for a hub whose MemoryStore is its own.
type monitor struct {
	hub       *Hub
	running   sync.WaitGroup
	hurried   chan struct{} // some topic is suspect
	forgot    chan struct{} // the Store has lost its data, and so probably the registry
	strays    chan struct{} // holds a token for each publish that waits for a Broker out of order
	silent    atomic.Bool   // the Broker brings nothing
	back      atomic.Int64  // the last probe that has come back
	came      chan struct{} // some probe has come back
	repairing atomic.Bool   // see repair
	beating   atomic.Int64  // when the calls of the Store that are under way began, in ns since Hub.started; 0: none are
	known     chan struct{} // closed when this node has been in the registry, and follows the log of commands

	mu        sync.Mutex // guards the fields below; nothing else is locked while it is held
	begun     bool       // known is closed
	storeErr  error
	brokerErr error
	nodes     map[string]peer // the other living nodes, by id
	followed  time.Time       // since when this node follows the log of commands, see beginControl
	lost      time.Time       // this node was last found missing in the registry, which so has lost others, too
}

// peer is another node.
type peer struct {
	name string
	seen time.Time // in the registry
}

func newMonitor(h *Hub) *monitor {
	return &monitor{
		hub: h, hurried: make(chan struct{}, 1), forgot: make(chan struct{}, 1), strays: make(chan struct{}, maxStray), came: make(chan struct{}, 1),
		known: make(chan struct{}), storeErr: errNoBeat, nodes: make(map[string]peer),
	}
}

// start runs the watch until the hub ends.
func (m *monitor) start() {
	m.running.Go(m.watchStore)
	if m.hub.opts.Broker == nil {
		return
	}
	m.brokerErr = errNoProbe
	m.running.Go(m.watchBroker)
	m.running.Go(m.watchTopics)
}

// deaf reports whether the Broker is known to bring nothing.
func (m *monitor) deaf() bool { return m != nil && m.silent.Load() }

// hurry has the suspect topics compared with the Store at once.
func (m *monitor) hurry() {
	select {
	case m.hurried <- struct{}{}:
	default: // it is about to look
	}
}

// watchStore renews this node in the registry. It is a write, so that a Store that only reads is noticed, too (F17).
func (m *monitor) watchStore() {
	for began := time.Now(); ; began = time.Now() {
		m.beat()
		if !m.pauseUntil(nodeBeat, m.forgot) || !m.pause(max(0, leastBeat-time.Since(began))) {
			break
		}
	}
	h := m.hub
	ctx, cancel := context.WithTimeout(context.Background(), h.opts.StoreTimeout)
	defer cancel()
	_ = h.opts.Store.Leave(ctx, topicNodes, h.node, []string{h.node}) // else its lease ends
	if h.opts.Broker != nil && !m.deaf() {
		_ = h.opts.Broker.Publish(ctx, topicControl, packet{Node: h.node, Gone: true}.encode())
	}
}

// pause waits, and reports whether the hub goes on.
func (m *monitor) pause(d time.Duration) bool { return m.pauseUntil(d, nil) }

func (m *monitor) pauseUntil(d time.Duration, early <-chan struct{}) bool {
	select {
	case <-early:
		return true
	case <-time.After(d - d/8 + rand.N(d/4+1)):
		return true
	case <-m.hub.ctx.Done():
		return false
	}
}

// reenter renews this node in the registry, and begins to follow the log of commands, at once.
func (m *monitor) reenter() {
	select {
	case m.forgot <- struct{}{}:
	default: // it is about to
	}
}

func (m *monitor) beat() {
	m.beating.Store(max(1, int64(time.Since(m.hub.started))))
	defer m.beating.Store(0)
	h := m.hub
	ctx, cancel := context.WithTimeout(h.ctx, min(h.opts.StoreTimeout, nodeLease/3)) // the lease must not end meanwhile
	defer cancel()
	self := Member{UserID: h.node, Name: h.opts.NodeName}
	var err error
	if h.control != nil {
		if _, err = m.living(ctx); err != nil {
			m.doubt() // before it enters: it may be missing until then
		}
	}
	// A time of its own: to be known to the others must not fail because to read of them is slow.
	m.beating.Store(max(1, int64(time.Since(h.started))))
	ctx, cancel = context.WithTimeout(h.ctx, h.opts.StoreTimeout)
	defer cancel()
	err = cmp.Or(h.opts.Store.Enter(ctx, topicNodes, h.node, []Member{self}, nodeLease), err)
	if err == nil && h.control != nil {
		err = h.beginControl(ctx)
	}
	if err != nil && h.ctx.Err() == nil && !errors.Is(err, ErrStore) {
		err = h.storeError("heartbeat", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && !m.begun {
		m.begun = true
		close(m.known)
	}
	m.storeErr = err
}

// await waits until the other nodes can know of this one, for Options.StoreTimeout at most: a connection before that
// would not hear of DisconnectUser, and the like, on another node. Without a Broker there are no others.
func (m *monitor) await(ctx context.Context) *refusal {
	if m == nil || m.hub.opts.Broker == nil {
		return nil
	}
	select {
	case <-m.known:
		return nil
	default:
	}
	late := time.NewTimer(m.hub.opts.StoreTimeout)
	defer late.Stop()
	select {
	case <-m.known:
		return nil
	case <-late.C:
		return &refusal{http.StatusServiceUnavailable, "starting: the Store has not answered yet: try again later", true}
	case <-m.hub.ctx.Done():
		return &refusal{http.StatusServiceUnavailable, "shutting down: try again later", true}
	case <-ctx.Done():
		return &refusal{http.StatusServiceUnavailable, "the client has left", true}
	}
}

// living returns the names of the other nodes by id: those in the registry, and, as that may just have been lost with the Store,
// those that were in it just now and have not said goodbye. After an error these are all.
func (m *monitor) living(ctx context.Context) (names map[string]string, err error) {
	all, _, err := m.hub.opts.Store.Members(ctx, topicNodes, maxNodes)
	if err != nil {
		err = m.hub.storeError("nodes", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	self := false
	for _, n := range all {
		if n.UserID != m.hub.node {
			m.nodes[n.UserID] = peer{n.Name, now}
		} else {
			self = true
		}
	}
	if err == nil && !self && m.begun {
		m.lost = now
	}
	names = make(map[string]string, len(m.nodes))
	for id, p := range m.nodes {
		if err == nil && now.Sub(p.seen) > peerMemory {
			delete(m.nodes, id)
			continue
		}
		names[id] = p.name
	}
	return names, err
}

// follows returns since when this node has followed the log of commands, and whether it has: else it is about to, from now on.
func (m *monitor) follows(now time.Time) (since time.Time, again bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.followed.IsZero() {
		return now, false
	}
	return m.followed, true
}

// follow notes that it does.
func (m *monitor) follow(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.followed.IsZero() {
		m.followed = now
	}
}

// doubt notes that the registry may just have been lost.
func (m *monitor) doubt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = time.Now()
}

// unsure reports whether the registry was lost just now, so that there may be nodes that this one has never heard of.
func (m *monitor) unsure() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.lost.IsZero() && time.Since(m.lost) < peerMemory
}

// gone reports whether a node has said goodbye.
func (m *monitor) gone(node string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.nodes[node]
	return !ok
}

// left forgets a node that has said goodbye.
func (m *monitor) left(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nodes, node)
}

// watchBroker sends itself probes: a Broker can be connected and bring nothing (centrifugo#1189).
func (m *monitor) watchBroker() {
	h := m.hub
	var unsubscribe func()
	defer func() {
		if unsubscribe != nil {
			unsubscribe()
		}
	}()
	missed, reset := 0, time.Time{}
	for n := int64(1); ; n++ {
		ctx, cancel := context.WithTimeout(h.ctx, nodeBeat)
		h.control.attach(ctx)
		var err error
		if unsubscribe == nil {
			unsubscribe, err = h.opts.Broker.Subscribe(ctx, nodePrefix+h.node, m.receive)
		}
		if err == nil {
			err = h.opts.Broker.Publish(ctx, nodePrefix+h.node, packet{Node: h.node, Probe: n}.encode())
		}
		if err == nil && !m.returned(ctx, n) {
			err = errSilent
		}
		cancel()
		if h.ctx.Err() != nil {
			return
		}
		if err == nil {
			missed = 0
		} else if missed++; missed > 1 && time.Since(reset) > resetPause && m.reset() {
			reset = time.Now()
		}
		m.heard(err)
		if !m.pause(nodeBeat) {
			return
		}
	}
}

// returned waits for a probe to come back.
func (m *monitor) returned(ctx context.Context, n int64) bool {
	for m.back.Load() < n {
		select {
		case <-m.came:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// heard notes whether the last probe came back.
func (m *monitor) heard(err error) {
	if err != nil && err != errSilent {
		m.hub.stats.brokerErrors.Add(1)
		err = fmt.Errorf("parley: broker: %w", err)
	}
	m.mu.Lock()
	m.brokerErr = err
	m.mu.Unlock()
	was := m.silent.Swap(err != nil)
	if was != (err != nil) {
		m.suspectAll() // which makes watchTopics take its new pace, too
	}
	switch {
	case err != nil && !was:
		m.hub.log.Error("parley: broker is out of order: messages of other nodes come late, from the Store", "error", err)
	case err == nil && was:
		m.hub.log.Info("parley: broker is back")
	}
}

func (m *monitor) reset() bool {
	r, ok := m.hub.resetter()
	if !ok || mutant("noreset-broker") {
		return false
	}
	m.hub.log.Warn("parley: broker: it is made to connect anew")
	var err error
	func() {
		defer m.hub.stats.panicked(&err)
		r.Reset()
	}()
	return true
}

// receive takes what is sent to this node alone.
func (m *monitor) receive(payload []byte) {
	if payload == nil {
		return // whoever waits for an answer asks again
	}
	p, err := decodePacket(payload)
	switch {
	case err != nil:
		m.hub.garbage(m.hub.control, err)
	case p.Probe > 0 && p.Node == m.hub.node:
		m.back.Store(p.Probe)
		select {
		case m.came <- struct{}{}:
		default:
		}
	case p.Answer != nil:
		m.hub.asks.answered(p.Node, *p.Answer)
	}
}

// Ready reports whether this node can do all that it is for: nil, or what is wrong, for a load balancer to send clients
// elsewhere. It asks nobody, and knows of faults of Store or Broker some 3 s, plus Options.StoreTimeout, after they
// began. Connections stay open whatever it says, and docs/guides/cluster.md tells what works meanwhile. It
// is an error until the Store has answered for the first time, and after Shutdown (ErrClosed).
func (h *Hub) Ready() error {
	if h.closing.Load() {
		return ErrClosed
	}
	if h.monitor == nil {
		return nil
	}
	m := h.monitor
	m.mu.Lock()
	defer m.mu.Unlock()
	return errors.Join(m.storeErr, m.brokerErr)
}

// Healthy reports whether the process is worth keeping: an error means that it should be started again. Faults of
// Store and Broker are none, see Ready. It asks nobody. ErrClosed after Shutdown.
func (h *Hub) Healthy() error {
	if h.closing.Load() {
		return ErrClosed
	}
	if h.monitor == nil {
		return nil
	}
	if began := h.monitor.beating.Load(); began > 0 && time.Since(h.started)-time.Duration(began) > stuckAfter+h.opts.StoreTimeout {
		return errNotHealthy
	}
	return nil
}

// others returns how many other nodes are alive.
func (m *monitor) others() int {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.nodes)
}
