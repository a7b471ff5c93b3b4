package checker

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Plan is what a run does. Two runs of one plan differ only in how goroutines interleave.
type Plan struct {
	Seed      uint64
	Nodes     int
	Users     int  // identified ones, named u0, u1, ...
	Clients   int  // client i is of user i % (Users+1); those of the last are anonymous
	Plain     bool // the hub has the MemoryStore itself; no faults of the Store then
	Wire      bool // no client is the Go client; else every third is
	Forgetful bool // broadcasts are not kept
	Receipts  bool // Hooks.Undelivered hears of what no device has received
	OneStep   bool // Store and Broker are one, which appends and publishes in one step
	Ops       []Op
}

// Do names what an Op does.
type Do string

// What an Op can do. Fields that are not named are not used.
const (
	DoJoin      Do = "Join"      // Client, Room, Flag: from where it was left
	DoLeave     Do = "Leave"     // Client, Room
	DoSend      Do = "Send"      // Client, Room, Count, Flag: waits for each answer
	DoBurst     Do = "Burst"     // Room, Count: by all clients that are in it
	DoBroadcast Do = "Broadcast" // Client, Count
	DoPrivate   Do = "Private"   // Client, Target: a user
	DoDirect    Do = "Direct"    // Client, Target: a client, by its client id
	DoSignal    Do = "Signal"    // Client, Room
	DoAsk       Do = "Ask"       // Client, Room, Count: picks the question
	DoApp       Do = "App"       // Node, Room, Count, Flag: with ids, and repeats what failed
	DoAppAll    Do = "AppAll"    // Node: a broadcast
	DoNotify    Do = "Notify"    // Node, Target: a user, Count, Flag as App, For: the time to live, Room: the kind, 3: Undelivered does not hear of it
	DoAppMail   Do = "AppMail"   // Node, Target: a user, Count, Flag as App: private messages
	DoEveryone  Do = "Everyone"  // Node, Flag as App: a notification to an audience of all users
	DoMark      Do = "Mark"      // Client, Target: as what, Count: picks the entries, Flag: all clients of the same user
	DoAppMark   Do = "AppMark"   // Node, Target: a user, Room: as what, Count: picks the entries
	DoAway      Do = "Away"      // Client, For, Flag: all clients of the same user
	DoKick      Do = "Kick"      // Node, Target: a user
	DoAdd       Do = "Add"       // Node, Room, Target: a user
	DoRemove    Do = "Remove"    // likewise
	DoBack      Do = "Back"      // Client, Flag: with the old session
	DoTakeover  Do = "Takeover"  // Client
	DoCut       Do = "Cut"       // Client
	DoCutAfter  Do = "CutAfter"  // Client, Count: bytes, Flag: to the client
	DoStall     Do = "Stall"     // Client, For, Flag: both directions
	DoSlow      Do = "Slow"      // Client, For, Count: bytes a second
	DoLatency   Do = "Latency"   // Client, For
	DoBlackHole Do = "BlackHole" // Client
	DoVanish    Do = "Vanish"    // Client, Flag: the server vanishes, not the client
	DoStore     Do = "Store"     // Count: picks the fault, For; Target 0: a fault of the Backend, if there is one
	DoWipe      Do = "Wipe"      //
	DoBroker    Do = "Broker"    // likewise, Node: of the faults of one node, Flag: the end is told
	DoRestart   Do = "Restart"   // Node, Flag: kill, For
	DoCutAll    Do = "CutAll"    // Node
	DoSleep     Do = "Sleep"     // For
	DoSettle    Do = "Settle"    // not drawn, but in the middle of some plans: all faults end, and all is judged when nothing is under way
)

// Op is one step of a plan.
type Op struct {
	Do     Do
	Client int
	Room   int
	Node   int
	Target int
	Count  int
	Flag   bool
	For    time.Duration
}

// String is the Go expression of the Op.
func (o Op) String() string {
	fields := []string{fmt.Sprintf("Do: Do%s", o.Do)}
	v := reflect.ValueOf(o)
	for i := 1; i < v.NumField(); i++ {
		if f := v.Field(i); !f.IsZero() {
			text := fmt.Sprint(f.Interface())
			if d, ok := f.Interface().(time.Duration); ok {
				text = fmt.Sprintf("%d * time.Millisecond", d.Milliseconds())
			}
			fields = append(fields, v.Type().Field(i).Name+": "+text)
		}
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

// String is the Go expression of the Plan.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Plan{Seed: %d, Nodes: %d, Users: %d, Clients: %d, Plain: %t, Wire: %t, Forgetful: %t, Receipts: %t, OneStep: %t, Ops: []Op{\n",
		p.Seed, p.Nodes, p.Users, p.Clients, p.Plain, p.Wire, p.Forgetful, p.Receipts, p.OneStep)
	for _, o := range p.Ops {
		fmt.Fprintf(&b, "\t%s,\n", o)
	}
	b.WriteString("}}")
	return b.String()
}

// lasting is the plan without messages that expire while it is carried out.
func (p Plan) lasting() Plan {
	p.Ops = slices.Clone(p.Ops)
	for i := range p.Ops {
		if o := &p.Ops[i]; o.Do == DoNotify && o.For < time.Hour {
			o.For = 0
		}
	}
	return p
}

// weight says how often an operation is drawn, relative to the others.
type weight struct {
	do     Do
	weight int
}

var weights = []weight{
	{DoSend, 22}, {DoBurst, 6}, {DoApp, 8}, {DoNotify, 8}, {DoBroadcast, 5}, {DoAppAll, 3}, {DoPrivate, 5}, {DoDirect, 2},
	{DoSignal, 3}, {DoAsk, 4}, {DoJoin, 9}, {DoLeave, 5}, {DoSleep, 18},
	{DoCut, 8}, {DoCutAfter, 5}, {DoStall, 3}, {DoSlow, 2}, {DoLatency, 2}, {DoBlackHole, 2}, {DoVanish, 2}, {DoTakeover, 3},
	{DoMark, 16}, {DoAppMark, 4}, {DoAppMail, 3}, {DoEveryone, 2}, {DoAway, 4},
	{DoKick, 2}, {DoAdd, 3}, {DoRemove, 3}, {DoBack, 3}, {DoCutAll, 1}, {DoRestart, 1}, {DoStore, 3}, {DoWipe, 1}, {DoBroker, 3},
}

// NewPlan draws a plan with n operations.
func NewPlan(seed uint64, n int) Plan { return NewPlanOn(seed, n, 0) }

// NewPlanOn draws a plan with n operations on so many nodes; 0: it draws their number, too.
func NewPlanOn(seed uint64, n, nodes int) Plan {
	r := rand.New(rand.NewPCG(seed, 0))
	p := Plan{Seed: seed, Nodes: 1, Users: 3, Clients: 7 + r.IntN(3)}
	switch r.IntN(5) {
	case 0:
		p.Plain = true
	case 1:
		p.Nodes = 2 + r.IntN(2)
	}
	if nodes > 0 {
		p.Nodes, p.Plain = nodes, p.Plain && nodes == 1
	}
	p.Forgetful = r.IntN(8) == 0
	p.Wire = r.IntN(3) == 0
	p.Receipts = r.IntN(2) == 0
	p.OneStep = p.Nodes > 1 && r.IntN(2) == 0
	// Everybody starts somewhere.
	for c := range p.Clients {
		for range 1 + r.IntN(2) {
			p.Ops = append(p.Ops, Op{Do: DoJoin, Client: c, Room: r.IntN(len(roomKeeps))})
		}
	}
	p.Ops = append(p.Ops, Op{Do: DoSleep, For: 200 * time.Millisecond})
	half := r.IntN(3) == 0
	for i := range n {
		if half && i == n/2 {
			p.Ops = append(p.Ops, Op{Do: DoSettle})
		}
		o := p.draw(r)
		p.Ops = append(p.Ops, o)
		if o.Do == DoStore { // a Store that fails is of interest when it is asked for something
			for _, do := range []Do{DoMark, DoAppMark, DoMark} {
				p.Ops = append(p.Ops, p.fill(r, do))
			}
		}
	}
	return p
}

// draw draws one operation that makes sense in the plan.
func (p Plan) draw(r *rand.Rand) Op {
	total := 0
	for _, w := range weights {
		total += w.weight
	}
	for {
		at, do := r.IntN(total), Do("")
		for _, w := range weights {
			if at -= w.weight; at < 0 {
				do = w.do
				break
			}
		}
		skip := do == DoBroker && p.Nodes == 1 || p.Plain && (do == DoStore || do == DoWipe)
		if !skip {
			return p.fill(r, do)
		}
	}
}

// fill draws the fields of an operation.
func (p Plan) fill(r *rand.Rand, do Do) Op {
	o := Op{Do: do, Client: r.IntN(p.Clients), Room: r.IntN(len(roomKeeps)), Node: r.IntN(p.Nodes), Target: r.IntN(p.Users), Flag: r.IntN(2) == 0}
	ms := func(least, most int) time.Duration { return time.Duration(least+r.IntN(most-least)) * time.Millisecond }
	switch do {
	case DoSend, DoBroadcast, DoApp, DoNotify, DoAppMail:
		if o.Count = 1 + r.IntN(4); r.IntN(10) == 0 {
			o.Count = 10 + r.IntN(40)
		}
	case DoBurst:
		o.Count = 1 + r.IntN(8)
	case DoDirect:
		o.Target = r.IntN(p.Clients)
	case DoAsk:
		o.Count = r.IntN(5)
	case DoStore:
		o.Count = r.IntN(4)
	case DoBroker:
		if o.Count = r.IntN(14); o.Count >= 7 {
			o.Count = 0 // mixed
		}
	case DoMark, DoAppMark:
		o.Count = r.IntN(1000)
	case DoCutAfter:
		o.Count = r.IntN(2000)
	case DoSlow:
		o.Count = 100 + r.IntN(5000)
	case DoSleep:
		switch r.IntN(10) {
		case 0:
			o.For = ms(5000, 60_000)
		case 1, 2:
			o.For = ms(300, 5000)
		default:
			o.For = ms(1, 300)
		}
	}
	switch do {
	case DoStall, DoSlow, DoLatency:
		o.For = ms(100, 40_000)
	case DoStore, DoBroker, DoRestart:
		o.For = ms(50, 8000)
	case DoAway:
		o.For = ms(1000, 30_000)
	case DoNotify:
		switch r.IntN(6) {
		case 0, 1:
			o.For = ms(500, 20_000)
		case 2:
			o.For = 24 * time.Hour
		}
	}
	return o
}
