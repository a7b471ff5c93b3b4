package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/natsstore"
	"github.com/parley-go/parley/adapters/natsstore/natstest"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

// returner is a client of kim that connects, joins the lobby, stays for a moment and comes back with its session, over and over.
type returner struct {
	addrs []string
	stop  chan struct{}
	done  chan struct{}

	mu       sync.Mutex // guards the fields below
	heard    []string   // live messages and notifications
	rounds   int
	refusals int // handshakes and joins, since the last time that it got in
	in       int // joins that succeeded
}

func returnTo(t *testing.T, addrs []string, seed uint64) *returner {
	r := &returner{addrs: addrs, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		chance, session := rand.New(rand.NewPCG(seed, 8)), ""
		for i := int(seed); ; i++ {
			select {
			case <-r.stop:
				return
			case <-time.After(time.Duration(chance.IntN(5)) * time.Millisecond):
			}
			session = r.visit(r.addrs[i%len(r.addrs)], session, time.Duration(chance.IntN(30)*(1+7*chance.IntN(2)))*time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		close(r.stop)
		<-r.done
	})
	return r
}

// visit is one connection. It hears everything that was sent to it until shortly before its end.
func (r *returner) visit(addr, session string, d time.Duration) string {
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.rounds++
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	entries := []string{}
	if session != "" {
		entries = append(entries, "parley.session."+session)
	}
	conn, err := dialAs(ctx, addr, "kim", entries...)
	if err != nil {
		r.refused()
		return ""
	}
	defer func() { _ = conn.CloseNow() }()
	if err := conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"join","room":%q,"id":"j"}`, lobby)); err != nil {
		return ""
	}
	ping := time.AfterFunc(d, func() { _ = conn.Write(ctx, websocket.MessageText, []byte(`{"type":"ping","id":"p"}`)) })
	defer ping.Stop()
	for {
		_, text, err := conn.Read(ctx)
		var h heard
		if err != nil || json.Unmarshal(text, &h) != nil {
			return session
		}
		switch h.Type {
		case "connected":
			session = h.Session
		case "error":
			r.refused()
		case "history":
			r.mu.Lock()
			r.in++
			r.refusals = 0
			r.mu.Unlock()
		case "message", "notification":
			r.mu.Lock()
			r.heard = append(r.heard, h.text())
			r.mu.Unlock()
		case "pong":
			return session
		}
	}
}

func (r *returner) refused() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusals++
}

func (r *returner) hears(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.heard, text)
}

// counts returns how many rounds there were, how often it got in, and how often it was refused since then.
func (r *returner) counts() (rounds, in, refusals int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rounds, r.in, r.refusals
}

// S8: a user who is banned while his clients come and go on three nodes. When the command has returned, nothing is
// delivered to any connection of before.
func TestKickAcrossNodes(t *testing.T) {
	t.Parallel()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		kickAll(t, func() (parley.Store, parley.Broker) {
			store := overRedis(t, redisAt(t, server.Addr))
			return store, store
		})
	})
	t.Run("nats", func(t *testing.T) {
		t.Parallel()
		server := natstest.Start(t)
		store := inSQLite(t)
		kickAll(t, func() (parley.Store, parley.Broker) { return store, overNATS(t, server.URL, natsstore.Options{}) })
	})
}

func kickAll(t *testing.T, backend func() (parley.Store, parley.Broker)) {
	var banned, barred atomic.Bool
	rules := func(o *parley.Options) {
		believe := o.Authenticator
		o.MaxPerUser = -1
		o.Authenticator = parley.AuthenticatorFunc(func(r *http.Request) (parley.Identity, error) {
			if id, err := believe.Authenticate(r); err != nil || id.ID != "kim" || !banned.Load() {
				return id, err
			}
			return parley.Identity{}, errNobody
		})
		o.Authorize = func(_ context.Context, c *parley.Conn, a parley.Access) error {
			if a.Verb == parley.VerbJoin && c.UserID() == "kim" && barred.Load() {
				return parley.NewError(parley.CodeForbidden, "you are barred")
			}
			return nil
		}
	}
	var nodes []*node
	var addrs []string
	for i := range 3 {
		store, broker := backend()
		nodes = append(nodes, startNode(t, fmt.Sprint("n", i), store, broker, rules))
		addrs = append(addrs, nodes[i].addr)
	}
	acquainted(t, nodes...)
	witnesses := watchAll(nodes)
	var returners []*returner
	for i := range 6 {
		returners = append(returners, returnTo(t, addrs, uint64(i)))
	}
	k := &kicking{t, nodes, witnesses, returners}
	for round := range 4 {
		k.round(fmt.Sprint("disconnect ", round), &banned, func(n *node) (int, error) {
			return n.hub.DisconnectUser(t.Context(), "kim", "banned")
		})
		k.round(fmt.Sprint("remove ", round), &barred, func(n *node) (int, error) {
			return n.hub.Room(lobby).RemoveUser(t.Context(), "kim", "barred")
		})
	}
	conns, err := nodes[0].hub.Connections(t.Context(), "on n2")
	require.NoError(t, err)
	require.Len(t, conns, 1)
	require.Equal(t, "n2", conns[0].Node)
}

type kicking struct {
	t         *testing.T
	nodes     []*node
	witnesses []*watcher
	returners []*returner
}

// round has kim come and go, forbids it, and kicks.
func (k *kicking) round(name string, forbidden *atomic.Bool, kick func(*node) (int, error)) {
	t := k.t
	for _, r := range k.returners {
		_, before, _ := r.counts()
		await(t, func() bool { _, in, _ := r.counts(); return in > before+1 }, "kim to get in (%s)", name)
	}
	from := k.nodes[len(name)%len(k.nodes)]
	from.say("before " + name)
	forbidden.Store(true)
	_, err := kick(from)
	require.NoError(t, err, name)
	var at place
	for i, n := range k.nodes {
		at = n.say(fmt.Sprint("after ", name, " on ", i))
	}
	for _, w := range k.witnesses {
		w.knows(at)
	}
	// More rounds of each: whatever was sent to the connections of before has been read.
	for _, r := range k.returners {
		before, _, _ := r.counts()
		await(t, func() bool { rounds, _, refusals := r.counts(); return rounds > before+1 && refusals > 1 }, "kim to be refused (%s)", name)
	}
	for _, r := range k.returners {
		for i := range k.nodes {
			require.False(t, r.hears(fmt.Sprint("after ", name, " on ", i)), "%s: it was said after the kick, on %d", name, i)
		}
	}
	forbidden.Store(false)
}
