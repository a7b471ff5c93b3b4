package checker

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/parley-go/parley"
	parleyclient "github.com/parley-go/parley/client"
	"github.com/parley-go/parley/parleytest"
)

// apiClient is the Go client, judged by what its application sees. It repairs
// what it can by itself: what counts is that it shows every message once, in
// order, or tells of a gap.
//
// Its events carry a negative number as connection, the same over
// reconnects: the application does not see connections.
type apiClient struct {
	env    *surroundings
	number int
	user   string
	random *rand.Rand
	tasks  chan func() // carried out one by one, in order: calls that wait
	moves  chan func() // likewise, joins and leaves
	over   sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	conn     int
	client   *parleyclient.Client
	link     *parleytest.Link
	rooms    map[string]*apiRoom
	waiting  int // tasks and moves that are not done
	inboxed  bool
	started  bool // was connected once
	refused  bool
	stopping bool
	away     time.Time // it does not connect before
	inbox    Place     // of the newest entry that it has shown
	ids      []string  // of the newest notifications
	marks    int       // numbers them
}

// apiRoom is a room that was asked for.
type apiRoom struct {
	room *parleyclient.Room // nil until Join has returned
	up   bool               // something has come of it on this connection
	gone bool               // Leave has returned
	late bool               // one handler call after that is allowed: it may have been running
	last parleyclient.Position
}

func newAPIClient(env *surroundings, number int, user string, random *rand.Rand) *apiClient {
	a := &apiClient{
		env: env, number: number, user: user, random: random,
		tasks: make(chan func(), 4096), moves: make(chan func(), 4096), rooms: make(map[string]*apiRoom),
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.connectLocked()
	for _, queue := range []chan func(){a.tasks, a.moves} {
		a.over.Go(func() { // ends with Stop
			for f := range queue {
				f()
				a.mu.Lock()
				a.waiting--
				a.mu.Unlock()
			}
		})
	}
	return a
}

// connectLocked makes a new Client.
func (a *apiClient) connectLocked() {
	a.conn = -a.env.connect()
	header := make(http.Header)
	if a.user != "" {
		header.Set(userHeader, a.user)
	}
	conn := a.conn
	record := func(e Event) {
		e.Client, e.Conn = a.number, conn
		a.env.Add(e)
	}
	record(Event{Kind: Dial, User: a.user})
	o := parleyclient.Options{
		Header: header, Dial: a.dial, Timeout: resendWindow,
		BackoffMin: 50 * time.Millisecond, BackoffMax: 2 * time.Second,
	}
	a.handlers(&o, record)
	c, err := parleyclient.New("ws://parley.test/", o)
	if err != nil {
		panic(err) // the options are constants
	}
	a.client = c
}

func (a *apiClient) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a.mu.Lock()
	node, away := a.random.IntN(a.env.nodes), time.Now().Before(a.away)
	a.mu.Unlock()
	if away {
		return nil, errAway
	}
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	conn, err := a.env.dial(ctx, node)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.link = conn.Link()
	return conn, nil
}

// later queues a call that waits.
func (a *apiClient) later(queue chan func(), f func()) {
	a.waiting++
	select {
	case queue <- f:
	default:
		panic("checker: too much is asked of a client at once")
	}
}

// Send implements client. What is sent again after a lost connection appears
// twice in topics that remember no ids: the application is told not to rely on it.
func (a *apiClient) Send(s sending) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := a.client.Identity()
	if id.UserID == "" || a.refused || a.stopping || s.Kind != "signal" && !a.env.keeps(s.Topic) || a.waiting > 100 {
		return nil
	}
	room := a.rooms[s.Target]
	if (s.Kind == "message" || s.Kind == "signal") && (room == nil || room.room == nil) {
		return nil
	}
	body := payload{ID: s.ID}
	a.env.Add(Event{Kind: Send, Client: a.number, Topic: s.Topic, ID: s.ID, User: id.UserID, ClientID: id.ClientID, Code: s.Kind})
	c, done := a.client, make(chan struct{})
	a.later(a.tasks, func() {
		defer close(done)
		var ack parleyclient.Ack
		var err error
		switch s.Kind {
		case "message":
			ack, err = room.room.Send(context.Background(), body)
		case "broadcast":
			ack, err = c.Broadcast(context.Background(), body)
		case "private":
			ack, err = c.Private(context.Background(), s.Target, body)
		case "signal":
			if err = room.room.Signal("s"+s.ID, body); err == nil {
				return // nobody acknowledges it
			}
		}
		e := Event{Kind: Sent, Client: a.number, Topic: s.Topic, ID: s.ID, Place: Place(ack.Position)}
		if err != nil {
			e = Event{Kind: Lost, Client: a.number, Topic: s.Topic, ID: s.ID, Code: string(parleyclient.CodeOf(err))}
		}
		a.env.Add(e)
	})
	return done
}

// Ask implements client.
func (a *apiClient) Ask(question, room string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused || a.stopping || a.client.State() != parleyclient.StateConnected {
		return
	}
	c, conn, r := a.client, a.conn, a.rooms[room]
	a.later(a.tasks, func() {
		switch {
		case question == "call":
			answer, err := parleyclient.Call[string](context.Background(), c, echoMethod, room)
			if err == nil && answer != room {
				a.env.Add(Event{Kind: Answered, Client: a.number, Conn: conn, ID: "a wrong answer to a call"})
			}
		case question == "inbox" && a.user != "":
			a.askInbox(c, conn)
		case question == "ping":
			_, _ = c.Ping(context.Background())
		case question == "history" && r != nil && r.room != nil:
			page, err := r.room.History(context.Background(), 0, 0)
			if err == nil {
				a.env.Add(Event{
					Kind: Page, Client: a.number, Conn: conn, Topic: roomPrefix + room,
					Place: Place(page.Position), Entries: seenMessages(page.Messages),
				})
			}
		}
	})
}

func seenMessages(messages []parleyclient.Message) []Seen {
	all := make([]Seen, 0, len(messages))
	for _, m := range messages {
		all = append(all, Seen{Place: Place(m.Position), ID: idOf(m.Content), User: m.UserID})
	}
	return all
}

func idOf(raw json.RawMessage) string {
	var p payload
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Sprintf("unreadable: %s", raw)
	}
	return p.ID
}

func memberIDs(members []parley.Member) []string {
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.UserID
	}
	return ids
}
