package checker

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/parleytest"
)

const (
	// restPatience is how long it may take until everybody is back after the last fault.
	restPatience = 5 * time.Minute
	// graceTime is longer than a leave grace and what follows it, leaseTime
	// than the lease of a dead node in the Store and the renewals of the living.
	graceTime = 15 * time.Second
	leaseTime = 100 * time.Second
	// vanishTime is longer than it takes a hub to notice that a client has
	// vanished, and to give up its rooms.
	vanishTime = 80 * time.Second
)

// settle ends all faults, waits until everybody is back, and writes down what is true then.
func (r *runner) settle() {
	r.heal()
	deadline := time.Now().Add(restPatience)
	for rest := r.rest(); rest != ""; rest = r.rest() {
		if time.Now().After(deadline) {
			r.leak("no rest after %s: %s", restPatience, rest)
			return
		}
		for _, c := range r.clients {
			c.Back(r.random.IntN(2) == 0)
		}
		time.Sleep(time.Second)
	}
	time.Sleep(graceTime)
	if len(r.nodes) > 1 {
		time.Sleep(leaseTime)
		// Changes are told by each node for itself: what is asked for is what counts.
		for _, c := range r.clients {
			for _, room := range c.Rooms() {
				c.Ask("presence", room)
			}
		}
		time.Sleep(time.Second)
	}
	if rest := r.rest(); rest != "" {
		r.leak("it did not stay quiet: %s", rest)
		return
	}
	for i := range roomKeeps {
		r.members(roomName(i))
	}
	r.stand("quiet")
	r.Add(Event{Kind: Quiet, Client: App})
}

// heal ends all faults.
func (r *runner) heal() {
	r.Add(Event{Kind: Fault, Client: App, Code: "all is healed"})
	r.calm.Store(true)
	r.changes.Wait()
	if r.store != nil {
		r.store.disturb(storeWell, 0)
	}
	if r.broker != nil {
		r.broker.disturb(0)
	}
	for _, n := range r.nodes {
		for _, l := range n.network.Links() {
			l.Resume()
			l.CutAfter(-1, parleytest.ToServer)
			l.CutAfter(-1, parleytest.ToClient)
		}
	}
	r.calls.Wait()
	// Nothing heals a black hole, or a connection with only one end: it has to be noticed.
	time.Sleep(vanishTime)
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
	e := Event{Kind: Members, Client: App, Topic: roomPrefix + room}
	for i, c := range r.clients {
		if slices.Contains(c.Rooms(), room) {
			if _, api := c.(*apiClient); !api || len(r.nodes) == 1 {
				e.Present = append(e.Present, i) // the Go client does not ask, see settle
			}
			if !slices.Contains(e.Users, c.User()) {
				e.Users = append(e.Users, c.User())
			}
		}
	}
	slices.Sort(e.Users)
	r.Add(e)
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
	time.Sleep(5 * time.Second)
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
	if len(r.nodes) > 1 {
		r.comeBack()
	}
}

// comeBack has everybody connect again: what was marked on one node may have got lost on its way to
// the devices of others, but is in the inbox of those that come back.
func (r *runner) comeBack() {
	for _, n := range r.nodes {
		n.network.Cut()
	}
	time.Sleep(10 * time.Second)
	deadline := time.Now().Add(restPatience)
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
	time.Sleep(vanishTime)
	for _, n := range r.nodes {
		if s := n.current().Stats(); s.Connections != 0 || s.Topics != 1 { // the broadcast
			r.leak("node %d has %d connections and %d topics when everybody is gone", n.number, s.Connections, s.Topics)
		}
		if links := n.network.Links(); len(links) > 0 {
			r.leak("node %d has %d links when everybody is gone", n.number, len(links))
		}
		n.stop(false)
	}
	time.Sleep(leaseTime) // timers and late calls of the Store end
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
