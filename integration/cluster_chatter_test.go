package integration

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/client"
)

// front is what clients connect to: the nodes in turn, those that take connections.
type front struct {
	mu    sync.Mutex // guards the fields below
	nodes []string
	turn  int
	stay  bool // with the first that takes connections, instead of in turn
}

// newFront returns a front of nodes with these addresses.
func newFront(addrs ...string) *front { return &front{nodes: addrs} }

// dial connects to the next node.
func (f *front) dial(ctx context.Context, network, _ string) (conn net.Conn, err error) {
	f.mu.Lock()
	nodes, turn := f.nodes, f.turn
	if !f.stay {
		f.turn++
	}
	f.mu.Unlock()
	for i := range nodes {
		if conn, err = new(net.Dialer).DialContext(ctx, network, nodes[(turn+i)%len(nodes)]); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// chatter is a client in the lobby that comes back.
type chatter struct {
	*ear
	user   string
	client *client.Client
	room   *client.Room

	mu         sync.Mutex // guards identities
	identities []client.Identity
}

// chat connects a chatter, which joins the lobby.
func chat(t *testing.T, f *front, user string) *chatter {
	t.Helper()
	c := &chatter{ear: newEar(t, user), user: user}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := client.Connect(ctx, "ws://cluster.test/", client.Options{
		Header: http.Header{userHeader: {user}}, Dial: f.dial,
		BackoffMin: 50 * time.Millisecond, BackoffMax: time.Second,
		OnConnected: func(_ context.Context, _ *client.Client, id client.Identity) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.identities = append(c.identities, id)
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		conn.Close()
		<-conn.Done()
	})
	c.client = conn
	c.room, err = conn.Join(ctx, lobby, client.JoinOptions{
		OnMessage: func(_ context.Context, _ *client.Room, m client.Message) {
			c.note(func(s *story) { s.message(placeOf(m.Position), quoted(m)) })
		},
		OnHistory: func(_ context.Context, _ *client.Room, h client.History) {
			lines := []line{}
			for _, m := range h.Messages {
				lines = append(lines, line{m.Position.Offset, quoted(m)})
			}
			c.note(func(s *story) { s.page(placeOf(h.Position), lines) })
		},
		OnGap: func(_ context.Context, _ *client.Room, g client.Gap) {
			c.note(func(s *story) { s.resets = append(s.resets, string(g.Code)) })
		},
		OnPresence: func(_ context.Context, _ *client.Room, p client.Presence) {
			for _, m := range p.Left {
				c.note(func(s *story) { s.left = append(s.left, m.UserID) })
			}
		},
		OnSystem: func(_ context.Context, _ *client.Room, text string) {
			if strings.HasSuffix(text, " left") {
				c.note(func(s *story) { s.left = append(s.left, text) })
			}
		},
	})
	require.NoError(t, err)
	return c
}

func placeOf(p client.Position) place { return place{p.Epoch, p.Offset} }

// quoted returns the text of a message.
func quoted(m client.Message) (text string) {
	if m.Decode(&text) != nil {
		return string(m.Content)
	}
	return text
}

// connects returns who the chatter was, at every connect.
func (c *chatter) connects() []client.Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]client.Identity{}, c.identities...)
}

// wholeLog asks the server for all that is in the lobby, page by page.
func (c *chatter) wholeLog() (log []line) {
	c.t.Helper()
	before := int64(0)
	for {
		page, err := c.room.History(c.t.Context(), before, 0)
		require.NoError(c.t, err)
		var lines []line
		for _, m := range page.Messages {
			lines = append(lines, line{m.Position.Offset, quoted(m)})
		}
		log = append(lines, log...)
		if !page.More {
			return log
		}
		before = log[0].Offset
	}
}
