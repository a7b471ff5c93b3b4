package parley

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxNodes is how many nodes are waited for at most.
	maxNodes = 1000
	// askTimeout is how long the answers of other nodes are waited for, unless ctx ends earlier.
	askTimeout = 5 * time.Second
	// askAgain is after how long those that have not answered are asked again: the Broker may have lost either.
	askAgain = 500 * time.Millisecond
	// clockSkew is by how much the clocks of nodes may differ.
	clockSkew = 10 * time.Second
)

// controlLog is how long commands are kept for nodes that the Broker did not reach: longer than a node lives that
// does not reach the Store either.
var controlLog = Retention{Messages: 1000, Age: time.Hour}

// ask is what a node wants of all nodes. Commands come through the log of the topic "control", so that each is
// carried out even if the Broker loses it; mere questions come through the Broker alone.
type ask struct {
	ID     string          `json:"id"`
	Node   string          `json:"node"` // who asks
	Op     string          `json:"op"`
	User   string          `json:"user,omitempty"`
	Room   string          `json:"room,omitempty"`
	Reason string          `json:"reason,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
}

// askAnswer is what a node says to an ask.
type askAnswer struct {
	ID    string          `json:"id"`
	Count int             `json:"count,omitempty"`
	Error string          `json:"error,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
}

const (
	opDisconnect  = "disconnect"
	opAdd         = "add"
	opRemove      = "remove"
	opNode        = "node"
	opConnections = "connections"
	opPrivate     = "private"
)

// asks are what this node has asked and not got all answers to, and what it was asked.
type asks struct {
	mu      sync.Mutex // guards the fields below; nothing else is locked while it is held
	open    map[string]chan nodeAnswer
	known   aging[*askAnswer] // by id; nil while it is carried out
	rooms   []func()          // joins and leaves, in order
	working bool              // a goroutine carries out rooms
}

type nodeAnswer struct {
	node string
	askAnswer
}

func newAsks() *asks {
	return &asks{open: make(map[string]chan nodeAnswer), known: newAging[*askAnswer](IdempotencyWindow)}
}

// answered takes an answer of a node.
func (a *asks) answered(node string, got askAnswer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if to := a.open[got.ID]; to != nil {
		select {
		case to <- nodeAnswer{node, got}:
		default: // full of answers that came twice: they are asked again
		}
	}
}

// gathered are the answers to an ask.
type gathered struct {
	answers map[string]askAnswer // by node, this one included
	missing []string             // names of the nodes that did not answer in time
}

// err is nil if all nodes have answered.
func (g gathered) err(what string) error {
	var failed []error
	for _, got := range g.answers {
		if got.Error != "" {
			failed = append(failed, errors.New("parley: "+what+": "+got.Error))
		}
	}
	if len(g.missing) > 0 {
		slices.Sort(g.missing)
		failed = append(failed, fmt.Errorf("parley: %s: no answer of %s: %w", what, strings.Join(g.missing, ", "), context.DeadlineExceeded))
	}
	return errors.Join(failed...)
}

func (g gathered) count() (n int) {
	for _, got := range g.answers {
		n += got.Count
	}
	return n
}

// askNodes asks all nodes and gathers what they answer. What is stored is carried out by nodes that do
// not answer in time, too: as soon as they reach Broker or Store.
func (h *Hub) askNodes(ctx context.Context, a ask, stored bool) (gathered, error) {
	if h.closing.Load() {
		return gathered{}, ErrClosed
	}
	a.ID, a.Node = rand.Text(), h.node
	own := make(chan askAnswer, 1)
	h.perform(a, func(got askAnswer) { own <- got })
	g := gathered{answers: make(map[string]askAnswer)}
	var err error
	if h.control != nil {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		to := make(chan nodeAnswer, 2*maxNodes)
		h.asks.mu.Lock()
		h.asks.open[a.ID] = to
		h.asks.mu.Unlock()
		defer func() {
			h.asks.mu.Lock()
			defer h.asks.mu.Unlock()
			delete(h.asks.open, a.ID)
		}()
		err = h.send(ctx, a, stored)
		h.gather(ctx, a, to, &g)
	}
	select { // even if ctx has ended meanwhile
	case g.answers[h.node] = <-own:
		return g, err
	default:
	}
	select {
	case g.answers[h.node] = <-own:
	case <-ctx.Done():
		g.missing = append(g.missing, h.opts.NodeName)
	}
	return g, err
}

// send tells the nodes of an ask the first time.
func (h *Hub) send(ctx context.Context, a ask, stored bool) error {
	if stored && !mutant("control-lost") {
		p := &publication{entry: Entry{Key: a.ID, Time: nowMillis(), Data: mustMarshal(a)}, store: true}
		_, err := h.control.publish(ctx, p)
		if err == nil {
			return nil
		}
		h.control.tell(packet{Node: h.node, Ask: &a}) // what can be done without the Store is done
		if !errors.Is(err, ErrStore) && !errors.Is(err, ErrClosed) {
			err = fmt.Errorf("%w: %w", ErrStore, err)
		}
		return fmt.Errorf("parley: nodes that the Broker does not reach may not hear of it: %w", err)
	}
	h.control.tell(packet{Node: h.node, Ask: &a})
	return nil
}

// gather waits for the other living nodes, and asks again those that are late.
func (h *Hub) gather(ctx context.Context, a ask, to <-chan nodeAnswer, g *gathered) {
	if mutant("gather-none") {
		return
	}
	nodes, _ := h.monitor.living(ctx) // after an error: the last ones known
	again := time.NewTicker(askAgain)
	defer again.Stop()
	waiting := func() (names []string) {
		for id, name := range nodes {
			if _, ok := g.answers[id]; !ok {
				names = append(names, name)
			}
		}
		return names
	}
	for len(waiting()) > 0 {
		select {
		case got := <-to:
			g.answers[got.node] = got.askAnswer
			if a.Op == opPrivate && got.Count > 0 {
				return // a connection is in one place
			}
		case <-again.C:
			h.control.tell(packet{Node: h.node, Ask: &a})
		case <-ctx.Done():
			g.missing = waiting()
			return
		}
	}
}

// beginControl begins to follow the log of commands. Those since this node exists are carried out: it
// has taken connections before it could read.
func (h *Hub) beginControl(ctx context.Context) error {
	if h.control.begun() {
		return nil
	}
	if err := h.control.begin(ctx); err != nil {
		return err
	}
	page, err := h.control.read(ctx, Query{Limit: maxPage})
	since := h.started.Add(-clockSkew).UnixMilli()
	for _, e := range page.Entries {
		if e.Time >= since {
			h.obey(&publication{entry: e})
		}
	}
	return err
}

// obey carries out a command of the log.
func (h *Hub) obey(p *publication) {
	var a ask
	if err := json.Unmarshal(p.entry.Data, &a); err != nil || a.ID == "" {
		h.garbage(h.control, errNoPacket)
		return
	}
	h.asked(a)
}

// asked carries out what another node asks, once, and answers, as often as it is asked. It does not block.
func (h *Hub) asked(a ask) {
	if a.Node == h.node || h.closing.Load() {
		return
	}
	h.asks.mu.Lock()
	known, ok := h.asks.known.get(a.ID)
	if !ok {
		h.asks.known.put(a.ID, nil)
	}
	h.asks.mu.Unlock()
	if ok {
		if known != nil {
			h.answer(a, *known)
		}
		return
	}
	h.perform(a, func(got askAnswer) {
		h.asks.mu.Lock()
		h.asks.known.put(a.ID, &got)
		h.asks.mu.Unlock()
		h.answer(a, got)
	})
}

// answer sends an answer to who asked.
func (h *Hub) answer(a ask, got askAnswer) {
	h.runStarts()
	go func() { // ends with Options.StoreTimeout
		defer h.runEnds()
		h.publish(nodePrefix+a.Node, packet{Node: h.node, Answer: &got})
	}()
}

// perform carries out an ask on this node. It does not block; done may be called from another goroutine.
func (h *Hub) perform(a ask, done func(askAnswer)) {
	got := askAnswer{ID: a.ID}
	switch a.Op {
	case opDisconnect:
		if mutant("kick-local") && a.Node != h.node {
			break
		}
		got.Count = h.disconnect(a.User, a.Reason)
	case opAdd, opRemove:
		h.asks.inOrder(func() { done(h.moveUser(a)) })
		return
	case opNode:
		got.Data = mustMarshal(h.nodeInfo())
	case opConnections:
		got.Data = mustMarshal(h.connections(a.User))
	case opPrivate:
		if c := h.Conn(a.User); c != nil {
			f := newFrame(append(newBuffer(len(a.Data)), a.Data...))
			_ = c.push(f) // it ends, like one that has ended already
			got.Count = f.delivered
		}
	default:
		got.Error = "a node of an older version does not know how to do that: " + a.Op
	}
	done(got)
}

// inOrder runs what may block in a goroutine, in the order of the calls.
func (a *asks) inOrder(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rooms = append(a.rooms, f)
	if a.working {
		return
	}
	a.working = true
	go func() { // ends when nothing is left
		for {
			a.mu.Lock()
			if len(a.rooms) == 0 {
				a.rooms, a.working = nil, false
				a.mu.Unlock()
				return
			}
			next := a.rooms[0]
			a.rooms = a.rooms[1:]
			a.mu.Unlock()
			next()
		}
	}()
}
