package parleytest

import (
	"context"
	"net"
	"slices"
	"sync"
	"syscall"

	"github.com/parley-go/parley"
)

var (
	localhost = net.IPv4(127, 0, 0, 1)
	// serverAddr is the address of every server.
	serverAddr = &net.TCPAddr{IP: localhost, Port: 80}
)

// Network connects clients with a server in memory: no ports, no system
// calls, no goroutines. Listen gives the server its net.Listener, Dial has the shape
// of http.Transport.DialContext. Each connection is a [Link], whose faults can be
// switched at any time. All methods may be called concurrently.
//
// In a testing/synctest bubble the Network must have been made inside of it.
type Network struct {
	// BufferSize is how many bytes a link holds in each direction before
	// writes block. Default 64 KiB. Set it before the first Dial.
	BufferSize int
	// Seed repeats the jitter of Link.Latency. Set it before the first Dial.
	Seed uint64

	mu        sync.Mutex // guards the fields below
	listeners []*listener
	refusing  bool
	onDial    func(context.Context, *Link) error
	links     []*Link // in the order of the dials
	dials     int
}

// NewNetwork returns a Network without faults on which nobody listens yet.
func NewNetwork() *Network { return &Network{} }

// Listen returns a listener that gets the connections dialled from now on, until
// it is closed: a server that is restarted listens again. With several
// listeners the newest gets them.
func (n *Network) Listen() net.Listener {
	l := &listener{network: n, conns: make(chan *Conn), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners = append(n.listeners, l)
	return l
}

// Dial connects to the newest listener, whatever network and address say. It
// returns a *Conn when the server has accepted it. Without a listener, and after Refuse, the
// error is syscall.ECONNREFUSED.
func (n *Network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := n.dial(ctx, localhost, parley.Identity{})
	if err != nil {
		return nil, err // a nil *Conn would not be a nil net.Conn
	}
	return c, nil
}

// dial connects from an address, for somebody.
func (n *Network) dial(ctx context.Context, ip net.IP, identity parley.Identity) (*Conn, error) {
	link, onDial := n.enter(ip, identity)
	if err := n.hand(ctx, link, onDial); err != nil {
		link.Cut()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: serverAddr, Err: err}
	}
	return &link.client, nil
}

// enter makes and registers a link.
func (n *Network) enter(ip net.IP, identity parley.Identity) (*Link, func(context.Context, *Link) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials++
	link := newLink(n.dials, n.BufferSize, n.Seed, ip)
	link.identity = identity
	link.gone = func() { n.forget(link) }
	n.links = append(n.links, link)
	return link, n.onDial
}

// hand gives the server its end of link.
func (n *Network) hand(ctx context.Context, link *Link, onDial func(context.Context, *Link) error) error {
	if onDial != nil {
		if err := onDial(ctx, link); err != nil {
			return err
		}
	}
	l := n.newest() // after the hook, which may have taken its time
	if l == nil {
		return syscall.ECONNREFUSED
	}
	select {
	case l.conns <- &link.server:
		return nil
	case <-l.done:
		return syscall.ECONNREFUSED
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *Network) newest() *listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refusing || len(n.listeners) == 0 {
		return nil
	}
	return n.listeners[len(n.listeners)-1]
}

func (n *Network) forget(link *Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links = slices.DeleteFunc(n.links, func(l *Link) bool { return l == link })
}

// Refuse makes dials fail with syscall.ECONNREFUSED, as if the server were
// down, until it is called with false. Connections that exist are not concerned.
func (n *Network) Refuse(refuse bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refusing = refuse
}

// OnDial has f called for every dial, before the server sees it. f may give the
// link its faults, wait, for ctx at most, or refuse the dial by an error. A
// server that cannot be reached is an f that waits for ctx.Done and returns
// ctx.Err(). Nil ends it. No lock is held while f runs.
func (n *Network) OnDial(f func(ctx context.Context, l *Link) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onDial = f
}

// Links returns the links that have an end which was neither closed nor has
// failed, in the order of the dials. Those that are being dialled are among them.
func (n *Network) Links() []*Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.links)
}

// Cut cuts all links.
func (n *Network) Cut() {
	for _, l := range n.Links() {
		l.Cut()
	}
}

// listener is a net.Listener for one server.
type listener struct {
	network *Network
	conns   chan *Conn
	done    chan struct{}
	once    sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: serverAddr, Err: net.ErrClosed}
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		n := l.network
		n.mu.Lock()
		defer n.mu.Unlock()
		n.listeners = slices.DeleteFunc(n.listeners, func(other *listener) bool { return other == l })
		close(l.done)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return serverAddr }
