package main

import (
	"errors"
	"fmt"
	"time"
)

// nodesLoad is clients in rooms, spread evenly over several nodes, that all
// send in turn, or for whom the application does. A message is under way until
// it is acknowledged and everybody in its room has it: each member once, and
// all in the same order. Anything else fails the run.
type nodesLoad struct {
	*publisher
	spec     loadSpec
	members  int // clients that are in rooms; connections to the API follow
	messages []message

	order   [][]uint64 // of the messages of each room, as who was first got them
	at      []int      // how many of these each client has
	started []uint64   // by place in the window: 1 + the number of the message that somebody has
	acked   []uint64   // by place in the window: 1 + the number of the message that is acknowledged
}

func newNodesLoad(spec loadSpec, f *fleet) *nodesLoad {
	l := &nodesLoad{
		spec: spec, members: len(f.clients),
		order: make([][]uint64, spec.Rooms), at: make([]int, len(f.clients)),
		started: make([]uint64, spec.Window), acked: make([]uint64, spec.Window),
	}
	l.publisher = &publisher{
		fleet: f, window: newWindow(spec.Window, l.members/spec.Rooms+1), // and the acknowledgement
		stuck: spec.Stuck, spin: spec.Spin, transmit: l.transmit,
	}
	d := f.dialect
	if spec.API {
		d = apiDialect
	}
	for r := range spec.Rooms {
		l.messages = append(l.messages, d.message(spec.roomName(r), spec.Size, !spec.API))
	}
	f.onMessage, f.onAck = l.onMessage, l.onAck
	return l
}

func (s *loadSpec) roomName(r int) string { return fmt.Sprintf("%s-%03d", room, s.FirstRoom+r) }

// node tells to which a client is connected: the first half to the first of two.
func (l *nodesLoad) node(id int) int { return id / (l.members / len(l.spec.Nodes)) }

// sender returns the member who sends a message, or for whom it is sent. One
// after the other is on another node and, if there are several, in another room.
func (l *nodesLoad) sender(seq uint64) int {
	nodes := len(l.spec.Nodes)
	perNode := l.members / nodes
	turn := int(seq % uint64(l.members))
	node := turn % nodes
	return node*perNode + (turn/nodes+node*l.spec.Rooms/nodes)%perNode
}

func (l *nodesLoad) transmit(seq uint64) error {
	from := l.sender(seq)
	b := l.messages[from%l.spec.Rooms].numbered(seq)
	if l.spec.API {
		from = l.members + l.node(from)
	}
	return l.fleet.sockets.write(from, b)
}

func (l *nodesLoad) onAck(id int, seq uint64) {
	place := seq % uint64(l.spec.Window)
	if l.acked[place] == seq+1 {
		l.fleet.fail(id, fmt.Errorf("message %d is acknowledged twice", seq))
		return
	}
	l.acked[place] = seq + 1
	l.arrived(id, seq, 0)
}

func (l *nodesLoad) onMessage(id int, seq uint64, now time.Duration) {
	from := l.sender(seq)
	if id%l.spec.Rooms != from%l.spec.Rooms {
		l.fleet.fail(id, fmt.Errorf("message %d of another room arrived", seq))
		return
	}
	if err := l.inOrder(id, seq); err != nil {
		l.fleet.fail(id, err)
		return
	}
	took := l.arrived(id, seq, now)
	if l.node(id) != l.node(from) {
		l.latency.record(took)
	}
	l.deliveries++
}

// inOrder compares what a client gets with what the first to get it in its room got.
func (l *nodesLoad) inOrder(id int, seq uint64) error {
	order, at := &l.order[id%l.spec.Rooms], l.at[id]
	l.at[id]++
	if at < len(*order) {
		if due := (*order)[at]; seq != due {
			return fmt.Errorf("message %d arrived where others got %d", seq, due)
		}
		return nil
	}
	place := seq % uint64(l.spec.Window)
	if l.started[place] == seq+1 {
		return fmt.Errorf("message %d arrived twice", seq)
	}
	l.started[place] = seq + 1
	*order = append(*order, seq)
	return nil
}

func (l *nodesLoad) arrived(id int, seq uint64, now time.Duration) time.Duration {
	took, err := l.window.arrived(seq, now)
	if err != nil {
		l.fleet.fail(id, err)
	}
	l.last = l.fleet.lastData
	return took
}

// assembleNodes connects the members, lets them join, and opens the API.
func assembleNodes(spec loadSpec, f *fleet) (*nodesLoad, error) {
	for _, node := range spec.Nodes {
		if err := f.connect(node.Server, spec.Conns/len(spec.Nodes), spec.Parallel, -1, spec.V1); err != nil {
			return nil, err
		}
	}
	if err := f.join(spec.Parallel, func(id int) string { return spec.roomName(id % spec.Rooms) }); err != nil {
		return nil, err
	}
	l := newNodesLoad(spec, f)
	if spec.API {
		for _, node := range spec.Nodes {
			if _, err := f.openAPI(node.API); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// loadNodes measures what a message costs that the nodes and a Redis carry.
func loadNodes(spec loadSpec, f *fleet, m *measured) error {
	d, ok := dialects[spec.Dialect]
	if !ok {
		return fmt.Errorf("there is no dialect %q", spec.Dialect)
	}
	f.dialect = d
	l, err := assembleNodes(spec, f)
	if err != nil {
		return err
	}
	if _, err := l.run(spec.Time/4, spec.Limit); err != nil { // grows the stacks, buffers and windows
		return err
	}
	before, err := allStats(spec)
	if err != nil {
		return err
	}
	first, ownCPU, machine := l.window.next, cpuTime(), machineBusy()
	took, err := l.run(spec.Time, spec.Limit)
	if err != nil {
		return err
	}
	ownCPU, machine = cpuTime()-ownCPU, machineBusy()-machine
	after, err := allStats(spec)
	if err != nil {
		return err
	}
	published := float64(l.window.next - first)
	if l.deliveries == 0 || f.gone > 0 {
		return fmt.Errorf("%d deliveries, %d connections ended", l.deliveries, f.gone)
	}
	used := after.minus(before)
	if used.nodes.CPU > 0 {
		m.Values[cpuPerDelivery] = used.nodes.CPU.Seconds() * 1e6 / float64(l.deliveries)
		m.Values[serverBusy] = 100 * used.nodes.CPU.Seconds() / took.Seconds()
		m.Values[allPerPublish] = (used.nodes.CPU + used.redis).Seconds() * 1e6 / published
		m.Values[loadBusy] = 100 * max(0, (ownCPU-l.idle).Seconds()) / took.Seconds()
		others := machine - ownCPU - used.nodes.CPU - used.redis
		m.Values[othersBusy] = 100 * max(0, others.Seconds()) / took.Seconds()
	}
	m.Values[redisPerPublish] = used.redis.Seconds() * 1e6 / published
	m.Values[redisBusy] = 100 * used.redis.Seconds() / took.Seconds()
	m.Values[publishRate] = published / took.Seconds()
	m.Values[deliveryRate] = float64(l.deliveries) / took.Seconds()
	m.Values[latencyP50] = milliseconds(l.latency.quantile(0.50))
	m.Values[latencyP99] = milliseconds(l.latency.quantile(0.99))
	m.Values[allocsPerDelivery] = float64(used.nodes.Mallocs) / float64(l.deliveries)
	return nil
}

// usage is what all nodes, and the Redis, have used.
type usage struct {
	nodes serverStats
	redis time.Duration
}

func (u usage) minus(v usage) usage {
	u.nodes.CPU -= v.nodes.CPU
	u.nodes.Mallocs -= v.nodes.Mallocs
	u.redis -= v.redis
	return u
}

func allStats(spec loadSpec) (u usage, err error) {
	for _, node := range spec.Nodes {
		s, statsErr := newControl(node.Control).stats()
		err = errors.Join(err, statsErr)
		u.nodes.CPU += s.CPU
		u.nodes.Mallocs += s.Mallocs
	}
	if err != nil || spec.Redis == "" {
		return u, err
	}
	u.redis, err = redisCPU(spec.Redis)
	return u, err
}
