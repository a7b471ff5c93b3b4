package checker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/parley-go/parley/parleytest"
)

// runner carries out a plan. It lives in one bubble.
type runner struct {
	*world
	clients []client
	random  *rand.Rand
	sends   int                // numbers messages
	calls   sync.WaitGroup     // of the application
	named   []string           // ids of notifications that were sent with them
	holes   []*parleytest.Link // of which only one end may be left
	unsure  time.Time          // until then presence may be wrong
}

// Run carries out a plan, and returns what happened. It must be called in a
// testing/synctest bubble, which has nothing left in it afterwards.
func Run(plan Plan) *History {
	return run(context.Background(), newWorld(plan, nil, Pace{}.orDefaults()))
}

func run(ctx context.Context, w *world) *History {
	plan := w.plan
	r := &runner{world: w, random: rand.New(rand.NewPCG(plan.Seed, 4))}
	env := r.surroundings()
	for i := range plan.Clients {
		user := ""
		if u := i % (plan.Users + 1); u < plan.Users {
			user = userName(u)
		}
		random := rand.New(rand.NewPCG(plan.Seed, uint64(100+i)))
		if i%3 == 2 && !plan.Wire {
			r.clients = append(r.clients, newAPIClient(env, i, user, random))
		} else {
			r.clients = append(r.clients, newWireClient(env, i, user, random))
		}
	}
	time.Sleep(100 * time.Millisecond) // they connect
	r.audience()
	for _, o := range plan.Ops {
		if ctx.Err() != nil {
			break
		}
		r.calm.Store(false)
		r.do(o)
	}
	r.settle()
	r.flush()
	r.end()
	return &History{Events: r.Events(), Nodes: plan.Nodes, Keep: plan.keep, Leaks: r.leaks, Slack: r.pace.Slack}
}

// do carries out one operation. Only DoSleep, DoSettle and waiting for answers take time.
func (r *runner) do(o Op) {
	if o.Client >= len(r.clients) {
		return
	}
	c := r.clients[o.Client]
	room := roomName(o.Room)
	switch o.Do {
	case DoSleep:
		time.Sleep(r.pace.times(o.For))
	case DoSettle:
		r.settle()
	case DoJoin:
		c.Join(room, o.Flag)
	case DoLeave:
		c.Leave(room)
	case DoBack:
		c.Back(o.Flag)
	case DoTakeover:
		c.Takeover()
	case DoAsk:
		c.Ask([]string{"call", "ping", "presence", "history", "inbox"}[o.Count%5], room)
	case DoSend, DoBurst, DoBroadcast, DoPrivate, DoDirect, DoSignal:
		r.send(o, c, room)
	case DoApp, DoAppAll, DoNotify, DoAppMail:
		r.app(o, room)
	case DoMark:
		for i, other := range r.clients {
			if i == o.Client || o.Flag && other.User() == c.User() {
				other.Mark(marking{As: marks[(o.Target+i)%len(marks)], Pick: o.Count + i/4})
			}
		}
	case DoAppMark:
		r.appMark(o)
	case DoEveryone:
		r.everyone(o)
	case DoAway:
		for i, other := range r.clients {
			if i == o.Client || o.Flag && other.User() == c.User() {
				other.Away(r.pace.times(o.For))
			}
		}
	case DoKick:
		r.kick(o)
	case DoAdd, DoRemove:
		r.move(o, room)
	case DoCut, DoCutAfter, DoStall, DoSlow, DoLatency, DoBlackHole, DoVanish:
		if l := c.Link(); l != nil {
			r.Add(Event{Kind: Fault, Client: o.Client, Code: o.String()})
			r.disturb(o, l)
		}
	default:
		r.Add(Event{Kind: Fault, Client: App, Code: o.String()})
		r.disaster(o)
	}
}

// disturb does something to one link.
func (r *runner) disturb(o Op, l *parleytest.Link) {
	way := []parleytest.Direction{parleytest.ToServer}
	if o.Flag {
		way = []parleytest.Direction{parleytest.ToClient}
	}
	switch o.Do {
	case DoCut:
		l.Cut()
	case DoCutAfter:
		l.CutAfter(int64(o.Count), way[0])
	case DoStall:
		l.Stall(way...)
	case DoSlow:
		l.Slow(o.Count, way...)
	case DoLatency:
		l.Latency(50*time.Millisecond, 200*time.Millisecond)
	case DoBlackHole:
		l.BlackHole(way...)
	case DoVanish:
		if o.Flag {
			l.VanishServer()
		} else {
			l.VanishClient()
		}
	}
	if o.Do == DoBlackHole || o.Do == DoVanish {
		r.holes = append(r.holes, l)
	}
	if o.For > 0 {
		time.AfterFunc(r.pace.times(o.For), func() { l.Resume() })
	}
}

// disaster does something to all.
func (r *runner) disaster(o Op) {
	n := r.nodes[o.Node%len(r.nodes)]
	switch o.Do {
	case DoStore, DoBroker:
		r.trouble(o)
	case DoWipe:
		r.wipe()
	case DoRestart:
		if o.Flag {
			r.doubt(ghostTime)
		}
		n.restart(o.Flag, r.pace.times(o.For))
	case DoCutAll:
		n.network.Cut()
	}
}

// trouble has Store or Broker make mistakes, or the servers.
func (r *runner) trouble(o Op) {
	d := r.pace.times(o.For)
	if r.backend != nil && o.Target == 0 {
		r.doubt(renewalTime + d)
		r.Add(Event{Kind: Fault, Client: App, Code: r.backend.Fault(o.Count, d)})
		return
	}
	switch {
	case o.Do == DoStore && r.store != nil:
		r.doubt(renewalTime + d)
		r.store.disturb(storeFault(1+o.Count%4), d)
	case o.Do == DoBroker && r.broker != nil:
		r.broker.disturb(brokerFault(1+o.Count%int(brokerFaults-1)), o.Node, o.Flag, d)
	}
}

// wipe loses all that is stored.
func (r *runner) wipe() {
	if r.store == nil {
		return
	}
	r.doubt(renewalTime)
	r.Add(Event{Kind: Wiped, Client: App})
	if r.nodes[0].given() != nil {
		r.backend.Wipe()
	} else {
		r.store.wipe()
	}
}

const (
	// ghostTime is how long a node that has died is taken for alive in rooms, renewalTime how long what is lost of
	// presence stays so: both with something to spare.
	ghostTime   = 100 * time.Second
	renewalTime = 30 * time.Second
)

// doubt notes that presence may be wrong for some time.
func (r *runner) doubt(d time.Duration) {
	if until := time.Now().Add(d); until.After(r.unsure) {
		r.unsure = until
	}
}

// id makes the id of a message.
func (r *runner) id(who string) string {
	r.sends++
	return fmt.Sprintf("%s-%d", who, r.sends)
}

// send has clients send messages.
func (r *runner) send(o Op, c client, room string) {
	if in := c.Rooms(); o.Target > 0 && len(in) > 0 && o.Do != DoBurst && !slices.Contains(in, room) {
		room = in[o.Room%len(in)] // most go where the client is, some are refused
	}
	s := sending{Kind: "message", Target: room, Topic: roomPrefix + room}
	switch o.Do {
	case DoBurst:
		for range max(o.Count, 1) {
			for i, other := range r.clients {
				for _, in := range other.Rooms() {
					if in == room {
						s.ID = r.id(fmt.Sprint("m", i))
						other.Send(s)
					}
				}
			}
		}
		return
	case DoBroadcast:
		s = sending{Kind: "broadcast", Topic: topicAll}
	case DoPrivate:
		s = sending{Kind: "private", Target: userName(o.Target), Topic: userPrefix + userName(o.Target)}
	case DoDirect:
		id := r.clients[o.Target%len(r.clients)].ClientID()
		if id == "" || len(r.nodes) > 1 {
			return // with several nodes it could be a user of another one
		}
		s = sending{Kind: "private", Target: id, Topic: userPrefix + id}
	case DoSignal:
		s.Kind = "signal"
	}
	for range max(o.Count, 1) {
		s.ID, s.Size = r.id(fmt.Sprint("m", o.Client)), r.random.IntN(200)
		if done := c.Send(s); done != nil && o.Flag && o.Do == DoSend {
			timer := time.NewTimer(300 * time.Millisecond)
			select {
			case <-done:
			case <-timer.C:
			}
			timer.Stop()
		}
	}
}
