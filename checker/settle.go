package checker

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/parleytest"
)

const (
	// leaseTime is longer than the lease of a dead node in the Store and the renewals of the living.
	leaseTime = 100 * time.Second
	// syncTime is how much longer than Options.SyncInterval it may take until what was lost between nodes
	// is there, if the Store is well.
	syncTime = time.Second
)

// settle ends all faults, waits until everybody is back, and writes down what is true then.
func (r *runner) settle() {
	r.heal()
	deadline := time.Now().Add(r.pace.Rest)
	for rest := r.rest(); rest != ""; rest = r.rest() {
		if time.Now().After(deadline) {
			r.leak("no rest after %s: %s", r.pace.Rest, rest)
			return
		}
		for _, c := range r.clients {
			c.Back(r.random.IntN(2) == 0)
		}
		time.Sleep(r.pace.Grace / 15)
	}
	time.Sleep(r.pace.Grace)
	if len(r.nodes) > 1 {
		time.Sleep(r.pace.Lease)
	}
	r.reaches()
	if rest := r.rest(); rest != "" {
		r.leak("it did not stay quiet: %s", rest)
		return
	}
	if r.sure() {
		for i := range roomKeeps {
			r.members(roomName(i))
		}
		r.online()
	}
	r.stand("quiet")
	r.Add(Event{Kind: Quiet, Client: App})
	if len(r.nodes) > 1 && tellsPresence && r.sure() {
		r.moves()
	}
}

// moveTime is how long it may take, when all is well, until everybody knows that somebody has come or gone, on whichever node.
const moveTime = 2 * time.Second

// moves has one client leave a room and join it again, and writes down who is there soon after each.
func (r *runner) moves() {
	first := r.random.IntN(len(r.clients))
	for i := range r.clients {
		c := r.clients[(first+i)%len(r.clients)]
		rooms := c.Rooms()
		if len(rooms) == 0 {
			continue
		}
		c.Leave(rooms[0])
		time.Sleep(moveTime)
		r.present(rooms[0])
		c.Join(rooms[0], true)
		time.Sleep(moveTime)
		r.present(rooms[0])
		return
	}
}

// heal ends all faults.
func (r *runner) heal() {
	r.Add(Event{Kind: Fault, Client: App, Code: "all is healed"})
	r.calm.Store(true)
	r.changes.Wait()
	hurt := r.store != nil && !r.store.well(2*r.pace.StoreTimeout)
	if r.backend != nil {
		hurt = true
		r.backend.Heal()
	}
	if r.store != nil {
		r.store.disturb(storeWell, 0)
	}
	if r.broker != nil {
		r.broker.heal()
	}
	for _, n := range r.nodes {
		for _, l := range n.network.Links() {
			l.Resume()
			l.CutAfter(-1, parleytest.ToServer)
			l.CutAfter(-1, parleytest.ToClient)
		}
	}
	if r.pace.Impatient {
		for _, l := range r.holes {
			l.Cut()
		}
	}
	r.calls.Wait()
	began := time.Now()
	r.synced(hurt)
	// Nothing heals a black hole, or a connection with only one end: it has to be noticed.
	time.Sleep(r.pace.Vanish - time.Since(began))
	r.holes = nil
}

// synced waits for as long as it may take until hubs have made up for what was lost between them, and writes down which
// clients have been there all the time. hurt says that calls of the Store that go wrong may still be under way.
func (r *runner) synced(hurt bool) {
	e := Event{Kind: Synced, Client: App}
	e.Since = r.Add(Event{Kind: Fault, Client: App, Code: "what was acknowledged until now is to come"})
	links := make([]*parleytest.Link, len(r.clients))
	for i, c := range r.clients {
		if l := c.Link(); c.Rest() == "" && !slices.Contains(r.holes, l) {
			links[i] = l
		}
	}
	time.Sleep(r.pace.SyncInterval + syncTime)
	if hurt {
		time.Sleep(2 * r.pace.StoreTimeout)
	}
	for i, c := range r.clients {
		if links[i] != nil && c.Link() == links[i] && c.Rest() == "" {
			e.Present = append(e.Present, i)
		}
	}
	if selfHealing {
		r.Add(e)
	}
}

// reaches has each node send something that is kept nowhere: it reaches everybody only if the Broker carries it. Where hubs do
// not tell each other of presence, it is asked for: that counts then.
func (r *runner) reaches() {
	if len(r.nodes) == 1 {
		return
	}
	if !tellsPresence {
		for _, c := range r.clients {
			for _, room := range c.Rooms() {
				c.Ask("presence", room)
			}
		}
		time.Sleep(r.pace.Grace / 15)
	}
	if !selfHealing {
		return
	}
	room := roomName(len(roomKeeps) - 1)
	e := Event{Kind: Reaches, Client: App, Topic: roomPrefix + room}
	for i, c := range r.clients {
		if slices.Contains(c.Rooms(), room) {
			e.Present = append(e.Present, i)
		}
	}
	first := r.sends
	for i := range r.nodes {
		r.app(Op{Do: DoApp, Node: i, Count: 1}, room)
	}
	r.calls.Wait()
	time.Sleep(r.pace.Grace / 15)
	for i := range r.nodes {
		e.ID = fmt.Sprintf("a-%d", first+i+1)
		r.Add(e)
	}
}

// rest says what is still under way.
func (r *runner) rest() string {
	for _, c := range r.clients {
		if rest := c.Rest(); rest != "" {
			return rest
		}
	}
	return ""
}

// members writes down who is in a room, by the account of the clients, and compares it with that of the hubs.
func (r *runner) members(room string) {
	e := r.present(room)
	for _, n := range r.nodes {
		listed, _, err := n.current().Room(room).Members(context.Background(), 100)
		if err != nil {
			r.leak("Members of %s: %v", room, err)
		}
		if !slices.EqualFunc(listed, e.Users, func(m parley.Member, user string) bool { return m.UserID == user }) {
			r.leak("node %d lists %v in %s, but %v are there", n.number, listed, room, e.Users)
		}
	}
}

// present writes down who is in a room, by the account of the clients. In doubt nothing is written down.
func (r *runner) present(room string) Event {
	e := Event{Kind: Members, Client: App, Topic: roomPrefix + room}
	for i, c := range r.clients {
		if slices.Contains(c.Rooms(), room) {
			if _, api := c.(*apiClient); !api || len(r.nodes) == 1 || tellsPresence {
				e.Present = append(e.Present, i) // the Go client does not ask, see settle
			}
			if !slices.Contains(e.Users, c.User()) {
				e.Users = append(e.Users, c.User())
			}
		}
	}
	slices.Sort(e.Users)
	if r.sure() {
		r.Add(e)
	}
	return e
}

// sure reports whether presence is to be right.
func (r *runner) sure() bool { return time.Now().After(r.unsure) || r.pace.Lease >= leaseTime }

// flush sends a last message to every topic, which brings to light what was
// missed on the way, and writes down where the logs end.
func (r *runner) flush() {
	for i := range roomKeeps {
		r.app(Op{Do: DoApp}, roomName(i))
	}
	for i := range r.plan.Users {
		r.app(Op{Do: DoNotify, Target: i}, "")
	}
	r.app(Op{Do: DoAppAll}, "")
	r.calls.Wait()
	time.Sleep(r.pace.Flush)
	for _, topic := range r.plan.topics() {
		page, err := r.page(topic)
		if err != nil {
			r.leak("reading %s: %v", topic, err)
			continue
		}
		e := Event{Kind: Flushed, Client: App, Topic: topic, Place: Place{page.Epoch, page.Top}}
		for _, entry := range page.Entries {
			seen := Seen{Expired: true}
			if entry.Data != nil {
				if seen, err = readEntry(entry.Data); err != nil {
					r.leak("%s, %d: %v", topic, entry.Offset, err)
				}
			}
			seen.Place = Place{page.Epoch, entry.Offset}
			e.Entries = append(e.Entries, seen)
		}
		r.Add(e)
	}
	r.stand("flushed")
	if len(r.nodes) > 1 && !selfHealing {
		r.comeBack()
	}
}

// comeBack has everybody connect again: what was marked on one node may have got lost on its way to
// the devices of others, but is in the inbox of those that come back.
func (r *runner) comeBack() {
	for _, n := range r.nodes {
		n.network.Cut()
	}
	time.Sleep(r.pace.Grace)
	deadline := time.Now().Add(r.pace.Rest)
	for rest := r.rest(); rest != ""; rest = r.rest() {
		if time.Now().After(deadline) {
			r.leak("not everybody came back: %s", rest)
			return
		}
		time.Sleep(time.Second)
	}
	r.stand("back")
}

// end stops everything and looks for what is left (P10).
func (r *runner) end() {
	for _, c := range r.clients {
		c.Stop()
	}
	time.Sleep(r.pace.Vanish)
	for _, n := range r.nodes {
		if s := n.current().Stats(); s.Connections != 0 || s.Topics != 1 { // the broadcast
			r.leak("node %d has %d connections and %d topics when everybody is gone", n.number, s.Connections, s.Topics)
		}
		if links := n.network.Links(); len(links) > 0 {
			r.leak("node %d has %d links when everybody is gone", n.number, len(links))
		}
		n.stop(false)
	}
	time.Sleep(r.pace.Lease) // timers and late calls of the Store end
	if left := goroutines(); len(left) > 0 {
		r.leak("goroutines are left:\n%s", strings.Join(left, "\n\n"))
	}
}

// goroutines returns the stacks of the goroutines of this bubble, without the
// calling one and the one that made the bubble.
func goroutines() []string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	stacks := strings.Split(string(buf), "\n\n")
	_, bubble, ok := strings.Cut(strings.SplitN(stacks[0], "\n", 2)[0], "synctest bubble ")
	if !ok {
		return nil
	}
	var left []string
	for _, s := range stacks[1:] {
		head, rest, _ := strings.Cut(s, "\n")
		if strings.Contains(head, "synctest bubble "+bubble) && !strings.Contains(rest, "testingSynctestTest(") && !strings.Contains(rest, "testing.tRunner(") {
			left = append(left, s)
		}
	}
	return left
}
