package integration

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/integration/chatd"
)

// frame is what a server sends.
type frame struct {
	Type, ClientID, Session, Room, Epoch, Code, ID string
	Resumed, Recovered                             *bool
	Offset                                         int64
	Content, Data, Message                         json.RawMessage
	Messages                                       []frame
	Joined, Left, Members                          []parley.Member
}

// names reports whether the frame says that a user came, went or is there.
func (f frame) names(user string) bool {
	for _, m := range slices.Concat(f.Joined, f.Left, f.Members) {
		if m.UserID == user {
			return true
		}
	}
	return f.Type == "system" && strings.HasPrefix(string(f.Content), `"`+user+" ")
}

// socket is a v1 client, no more than its connection. A goroutine reads all the time.
type socket struct {
	t      *testing.T
	conn   *websocket.Conn
	frames chan frame
	hello  frame
}

func (m *machine) connect(url, user string, entries ...string) *socket {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	transport := &http.Transport{DialContext: m.dial}
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: transport},
		HTTPHeader:   http.Header{"Cookie": {"user=" + user}},
		Subprotocols: append([]string{"parley.v1"}, entries...),
	})
	require.NoError(m.t, err)
	s := &socket{t: m.t, conn: conn, frames: make(chan frame, 1000)}
	conn.SetReadLimit(1 << 20)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.frames)
		for {
			_, text, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			var f frame
			if json.Unmarshal(text, &f) == nil {
				s.frames <- f
			}
		}
	}()
	m.t.Cleanup(func() {
		_ = conn.CloseNow()
		<-done
	})
	s.hello = s.next("connected")
	return s
}

func (s *socket) send(format string, args ...any) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(s.t, s.conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, format, args...)))
}

// next returns the next frame of a type; others are passed over.
func (s *socket) next(typ string) frame {
	s.t.Helper()
	late := time.After(patience)
	for {
		select {
		case f, ok := <-s.frames:
			require.True(s.t, ok, "the connection ended before a %s", typ)
			if f.Type == typ {
				return f
			}
		case <-late:
			require.FailNow(s.t, "no "+typ)
		}
	}
}

// until collects the frames up to the answer to a ping: all that had been sent by then.
func (s *socket) until(id string) []frame {
	s.t.Helper()
	s.send(`{"type":"ping","id":%q}`, id)
	var all []frame
	late := time.After(patience)
	for {
		select {
		case f, ok := <-s.frames:
			require.True(s.t, ok, "the connection ended before the pong")
			if f.Type == "pong" && f.ID == id {
				return all
			}
			all = append(all, f)
		case <-late:
			require.FailNow(s.t, "no pong")
		}
	}
}

func at(kind string, f frame) string {
	return fmt.Sprintf("parley.%s.%d.%s", kind, f.Offset, base64.RawURLEncoding.EncodeToString([]byte(f.Epoch)))
}

// bodies lists what is in the messages of a history or an inbox.
func bodies(frames []frame) []string {
	list := []string{}
	for _, f := range frames {
		for _, body := range []json.RawMessage{f.Content, f.Data, f.Message} {
			if body != nil {
				list = append(list, string(body))
			}
		}
	}
	return list
}

func numbered(what string, from, to int) []string {
	list := []string{}
	for n := from; n <= to; n++ {
		list = append(list, fmt.Sprintf("%q", fmt.Sprint(what, " ", n)))
	}
	return list
}

// F2, F3: a phone changes from one network to another. The old connection does
// not end: for the server everything that it writes succeeds. When the phone
// comes back by the other way, the old connection is replaced at once, and
// everything written into it comes by resuming.
func TestHalfOpenConnection(t *testing.T) {
	t.Parallel()
	need(t, "ip")
	data, phone := newMachine(t), newMachine(t)
	road(data, phone, 0)
	road(data, phone, 1)
	hub, urls := serveOn(t, data, 2)

	other := phone.connect(urls[1], "lee")
	other.send(`{"type":"join","room":"lobby","id":"j"}`)
	other.next("history")

	old := phone.connect(urls[0], "kim")
	old.next("inbox")
	old.send(`{"type":"join","room":"lobby","id":"j"}`)
	old.next("history")
	publish(t, hub, 2, 1, 3)
	seen := old.until("p")
	require.Subset(t, bodies(seen), numbered("room", 1, 3))
	position := map[string]frame{}
	for _, f := range seen {
		if f.Offset > 0 {
			position[f.Type] = f
		}
	}
	for !other.next("presence").names("kim") {
	}
	before := hub.Conn(old.hello.ClientID)
	require.NotNil(t, before)

	phone.ip("link set road0 down")
	publish(t, hub, 2, 4, 23) // as if nothing had happened: queued, and written
	require.NoError(t, before.Context().Err(), "nothing tells the server yet")

	again := phone.connect(urls[1], "kim", "parley.session."+old.hello.Session,
		at("inbox", position["notification"]), at("broadcast", position["broadcast"]))
	require.Equal(t, old.hello.ClientID, again.hello.ClientID)
	require.Equal(t, new(true), again.hello.Resumed)
	select {
	case <-before.Context().Done(): // at once: not when its heartbeat fails, in half a minute
	case <-time.After(20 * time.Second):
		require.FailNow(t, "the half-open connection is still there")
	}
	require.NotSame(t, before, hub.Conn(old.hello.ClientID))
	require.Len(t, hub.User("kim"), 1)

	message := position["message"]
	again.send(`{"type":"join","room":"lobby","id":"j","epoch":%q,"offset":%d}`, message.Epoch, message.Offset)
	publish(t, hub, 1, 24, 25) // in the midst of the join
	got := map[string][]string{}
	for _, f := range again.until("p") {
		switch f.Type {
		case "history", "inbox":
			what := map[string]string{"inbox": "notification", "history": "broadcast"}[f.Type]
			if f.Room != "" {
				what = "message"
			}
			require.Equal(t, new(true), f.Recovered, "%s: nothing is missing", what)
			got[what] = append(got[what], bodies(f.Messages)...)
		case "message", "notification", "broadcast":
			got[f.Type] = append(got[f.Type], bodies([]frame{f})...)
		}
	}
	require.Equal(t, map[string][]string{
		"message":      numbered("room", 4, 25),
		"notification": numbered("kim", 4, 25),
		"broadcast":    numbered("all", 4, 25),
	}, got, "what was written into the dead connection, and what came after, once each")

	for len(old.frames) > 0 {
		require.Empty(t, bodies([]frame{<-old.frames}), "the link was dead")
	}
	// Changes of presence are told in order, some of them at once: after that of max there is none of kim to come.
	maxim := phone.connect(urls[1], "max")
	maxim.send(`{"type":"join","room":"lobby","id":"j"}`)
	for {
		f := <-other.frames
		require.False(t, f.names("kim"), "lee was told that kim left or joined: %+v", f)
		if f.Type == "presence" && f.names("max") {
			break
		}
	}
}

// serveOn starts a hub on a machine and returns its URLs, one for each road.
func serveOn(t *testing.T, m *machine, roads int) (*parley.Hub, []string) {
	t.Helper()
	hub, err := chatd.NewHub(parley.NewMemoryStore(), os.Stderr)
	require.NoError(t, err)
	ln := m.listen()
	server := &http.Server{Handler: hub}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = hub.Shutdown(ctx)
		_ = server.Close()
		<-served
	})
	var urls []string
	for n := range roads {
		urls = append(urls, fmt.Sprintf("ws://10.0.%d.1:%d/", n, ln.Addr().(*net.TCPAddr).Port))
	}
	return hub, urls
}

// publish sends numbered messages to the room, to kim and to everybody. For
// the hub, kim and lee are connected, and at least so many are in the room.
func publish(t *testing.T, hub *parley.Hub, members, from, to int) {
	t.Helper()
	ctx := context.Background()
	for n := from; n <= to; n++ {
		room, err := hub.Room("lobby").Send(ctx, fmt.Sprint("room ", n))
		require.NoError(t, err)
		require.GreaterOrEqual(t, room.Delivered, members)
		inbox, err := hub.Notify(ctx, "kim", fmt.Sprint("kim ", n))
		require.NoError(t, err)
		require.Equal(t, 1, inbox.Delivered)
		all, err := hub.Broadcast(ctx, fmt.Sprint("all ", n))
		require.NoError(t, err)
		require.Equal(t, 2, all.Delivered)
		require.True(t, room.Stored && inbox.Stored && all.Stored)
	}
}
