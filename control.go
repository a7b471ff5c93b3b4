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
	// maxAnswers is how many answers to questions of others a node sends at the same time.
	maxAnswers = 64
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
	answering chan struct{} // holds a token for each answer on its way

	mu        sync.Mutex // guards the fields below; nothing else is locked while it is held
	open      map[string]chan nodeAnswer
	commands  aging[*askAnswer]   // by id; nil while it is carried out; kept as long as the log of commands
	questions aging[*askAnswer]   // likewise, as long as somebody may ask again
	moves     map[string][]func() // joins and leaves of a user and a room, in order; there while a goroutine carries them out
}

type nodeAnswer struct {
	node string
	askAnswer
}

func newAsks() *asks {
	return &asks{
		answering: make(chan struct{}, maxAnswers), open: make(map[string]chan nodeAnswer), moves: make(map[string][]func()),
		commands: newAging[*askAnswer](controlLog.Age), questions: newAging[*askAnswer](2 * askTimeout),
	}
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
	failed  error                // of the Store: there may be more nodes
}

// err is nil if all nodes have answered.
func (g gathered) err(what string) error {
	failed := []error{g.failed}
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
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	a.ID, a.Node = rand.Text(), h.node
	own := make(chan askAnswer, 1)
	h.perform(a, func(got askAnswer) { own <- got })
	g := gathered{answers: make(map[string]askAnswer)}
	var err error
	if h.control != nil {
		to := make(chan nodeAnswer, maxAnswers)
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
	nodes, err := h.monitor.living(ctx) // after an error: the last ones known
	g.failed = err
	if err == nil && h.monitor.unsure() {
		g.failed = errRegistry
	}
	again := time.NewTicker(askAgain)
	defer again.Stop()
	waiting := func() (names []string) {
		for id, name := range nodes {
			if _, ok := g.answers[id]; !ok && !h.monitor.gone(id) {
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

// beginControl begins to follow the log of commands. The first time that is where it ends: there were no connections before (see monitor.await),
// and whoever gives a command from now on knows of this node, and waits for its answer. Later, when the log was lost, it is before the first
// command that was given since: what was carried out already is known by its id.
func (h *Hub) beginControl(ctx context.Context) error {
	t := h.control
	if t.begun() {
		return nil
	}
	now := time.Now()
	since, again := h.monitor.follows(now)
	head, last, ids, err := t.tailSince(ctx, since.Add(-clockSkew).UnixMilli())
	if err != nil {
		return err
	}
	if !again {
		h.asks.forego(ids)
		last = head.Top
	}
	h.monitor.follow(now)
	t.mu.Lock()
	if t.epoch == "" {
		t.epoch, t.last, t.begunAt = head.Epoch, last, last
	}
	t.mu.Unlock()
	t.submit(&publication{head: &head, remote: true}) // fills in what is between
	return nil
}

// tailSince returns where the log ends, the offset before its first entry since a time in milliseconds since 1970, and the ids of the commands
// since then.
func (t *topic) tailSince(ctx context.Context, since int64) (head Head, last int64, ids []string, err error) {
	for before := int64(0); ; before = last + 1 {
		page, err := t.read(ctx, Query{Before: before, Limit: maxPage})
		if err != nil {
			return head, 0, nil, err
		}
		if before == 0 {
			head, last = Head{page.Log, page.Top}, page.Top
		}
		old := len(page.Entries)
		for old > 0 && page.Entries[old-1].Time >= since {
			old--
		}
		for _, e := range page.Entries[old:] {
			var a ask
			if json.Unmarshal(e.Data, &a) == nil {
				ids = append(ids, a.ID)
			}
		}
		if old < len(page.Entries) {
			last = page.Entries[old].Offset - 1
		}
		if old > 0 || len(page.Entries) == 0 {
			return head, last, ids, nil
		}
	}
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
	if a.Node == h.node {
		return
	}
	memory := &h.asks.questions
	switch a.Op {
	case opDisconnect, opAdd, opRemove:
		memory = &h.asks.commands
	}
	h.asks.mu.Lock()
	known, ok := memory.get(a.ID)
	if !ok {
		memory.put(a.ID, nil)
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
		memory.put(a.ID, &got)
		h.asks.mu.Unlock()
		h.answer(a, got)
	})
}

// answer sends an answer to who asked. Above maxAnswers at a time they are left out: whoever needs one asks again.
func (h *Hub) answer(a ask, got askAnswer) {
	select {
	case h.asks.answering <- struct{}{}:
	default:
		return
	}
	h.runStarts()
	go func() { // ends with Options.StoreTimeout
		defer h.runEnds()
		h.publish(nodePrefix+a.Node, packet{Node: h.node, Answer: &got})
		<-h.asks.answering
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
		h.asks.inOrder(a.Room+"\x00"+a.User, func() { done(h.moveUser(a)) })
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

// inOrder runs what may block in a goroutine, in the order of the calls with the same key. So a hook that does
// the like for another room or user waits for nobody.
func (a *asks) inOrder(key string, f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	waiting, working := a.moves[key]
	a.moves[key] = append(waiting, f)
	if working {
		return
	}
	go func() { // ends when nothing is left
		for {
			a.mu.Lock()
			if len(a.moves[key]) == 0 {
				delete(a.moves, key)
				a.mu.Unlock()
				return
			}
			next := a.moves[key][0]
			a.moves[key] = a.moves[key][1:]
			a.mu.Unlock()
			next()
		}
	}()
}

// forego notes commands of before this node had connections: should the log be read again, they are not for those that came later.
func (a *asks) forego(ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		if _, ok := a.commands.get(id); !ok {
			a.commands.put(id, &askAnswer{ID: id})
		}
	}
}
