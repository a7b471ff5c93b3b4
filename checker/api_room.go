package checker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	parleyclient "github.com/parley-go/parley/client"
	"github.com/parley-go/parley/parleytest"
)

// Join implements client.
func (a *apiClient) Join(room string, from bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused || a.stopping {
		return
	}
	c, conn := a.client, a.conn
	a.later(a.moves, func() {
		a.mu.Lock()
		old := a.rooms[room]
		if c != a.client || old != nil && !old.gone {
			a.mu.Unlock()
			return
		}
		r := &apiRoom{}
		a.rooms[room] = r
		a.mu.Unlock()
		o := parleyclient.JoinOptions{}
		if from && old != nil {
			o.Position = old.last
		}
		topic := roomPrefix + room
		record := func(e Event) {
			e.Client, e.Conn, e.Topic, e.ClientID = a.number, conn, topic, c.Identity().ClientID
			a.env.Add(e)
		}
		a.roomHandlers(&o, r, record, false)
		e := Event{Kind: Join}
		if o.Position != (parleyclient.Position{}) {
			place := Place(o.Position)
			e.Offered = &place
		}
		record(e)
		joined, err := c.Join(context.Background(), room, o)
		a.mu.Lock()
		defer a.mu.Unlock()
		if err != nil {
			if a.rooms[room] == r {
				delete(a.rooms, room)
			}
			record(Event{Kind: Dropped})
			return
		}
		r.room = joined
	})
}

// heard writes down a call of a handler of a room, unless it may be the one
// that was running when Leave returned.
func (a *apiClient) heard(r *apiRoom, add func(Event), e Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	running := r.gone && r.late
	r.late = false
	r.up = true
	if !running {
		add(e)
	}
}

// roomHandlers writes down all that comes of a room. given says that the application has joined it.
func (a *apiClient) roomHandlers(o *parleyclient.JoinOptions, r *apiRoom, add func(Event), given bool) {
	record := func(e Event) { a.heard(r, add, e) }
	moved := func(p parleyclient.Position) {
		a.mu.Lock()
		defer a.mu.Unlock()
		r.last = p
	}
	from, first := Place(o.Position), true
	o.OnMessage = func(_ context.Context, _ *parleyclient.Room, m parleyclient.Message) {
		moved(m.Position)
		if first && from != (Place{}) {
			// What was missed since the position comes as messages.
			first = false
			add(Event{Kind: Base, Place: from})
		}
		record(Event{Kind: Deliver, Place: Place(m.Position), ID: idOf(m.Content), User: m.UserID})
	}
	var gap *parleyclient.Gap
	o.OnGap = func(_ context.Context, _ *parleyclient.Room, g parleyclient.Gap) {
		gap, first = &g, false // the history follows
	}
	o.OnHistory = func(_ context.Context, _ *parleyclient.Room, h parleyclient.History) {
		moved(h.Position)
		e := baseOf(gap, h.Position, seenMessages(h.Messages), first && from == (Place{}))
		e.Given, e.Asked = e.Asked && given, e.Asked && !given
		record(e)
		gap, first = nil, false
	}
	o.OnLeft = func(_ context.Context, _ *parleyclient.Room, reason string) {
		record(Event{Kind: Ousted, ID: reason})
		a.mu.Lock()
		defer a.mu.Unlock()
		r.gone, r.late = true, false
	}
	o.OnRecovered = func(_ context.Context, _ *parleyclient.Room, c parleyclient.Recovered) {
		if first && from != (Place{}) {
			first = false
			add(Event{Kind: Base, Place: from})
		}
		record(Event{Kind: Reached, Place: Place(c.Position)})
	}
	o.OnSystem = func(_ context.Context, _ *parleyclient.Room, text string) {
		if name, what, ok := strings.Cut(text, " "); ok && strings.HasPrefix(name, "u") {
			record(Event{Kind: Told, User: name, Code: what})
		}
	}
	o.OnPresence = func(_ context.Context, _ *parleyclient.Room, p parleyclient.Presence) {
		if p.Snapshot {
			record(Event{Kind: Roster, Users: memberIDs(p.Members)})
			return
		}
		record(Event{Kind: Went, Users: memberIDs(p.Left)})
		record(Event{Kind: Came, Users: memberIDs(p.Joined)})
	}
	o.OnSignal = func(_ context.Context, _ *parleyclient.Room, s parleyclient.Signal) {
		record(Event{Kind: Signal, ID: idOf(s.Data), User: s.SenderID})
	}
}

// baseOf is the event of a history, after a gap or not.
func baseOf(gap *parleyclient.Gap, at parleyclient.Position, entries []Seen, asked bool) Event {
	e := Event{Kind: Base, Place: Place(at), Entries: entries, Asked: asked}
	if gap != nil {
		e.Recovered, e.Code = No, string(gap.Code)
		if last := Place(gap.Last); last != (Place{}) {
			e.Offered = &last
		}
	}
	return e
}

// Leave implements client.
func (a *apiClient) Leave(room string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused || a.stopping {
		return
	}
	conn := a.conn
	a.later(a.moves, func() {
		a.mu.Lock()
		r := a.rooms[room]
		a.mu.Unlock()
		if r == nil || r.room == nil || r.gone {
			return
		}
		_ = r.room.Leave(context.Background()) // fails only with the context
		a.mu.Lock()
		defer a.mu.Unlock()
		r.gone, r.late = true, true
		if a.rooms[room] != r {
			return // the application has made the client a member again, and that was heard first
		}
		// Without a connection: the client may have been without one when it left.
		a.env.Add(Event{Kind: Left, Client: a.number, Topic: roomPrefix + room, Code: fmt.Sprint(conn)})
	})
}

// Takeover implements client. This one never has two connections.
func (a *apiClient) Takeover() {}

// Link implements client.
func (a *apiClient) Link() *parleytest.Link {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.link
}

// Rest implements client.
func (a *apiClient) Rest() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.refused:
		return fmt.Sprintf("client %d was told not to come back", a.number)
	case a.client.State() != parleyclient.StateConnected:
		return fmt.Sprintf("client %d is %s", a.number, a.client.State())
	case a.waiting > 0:
		return fmt.Sprintf("client %d waits for %d calls", a.number, a.waiting)
	case a.user != "" && !a.inboxed:
		return fmt.Sprintf("client %d has no inbox", a.number)
	}
	for name, r := range a.rooms {
		if !r.gone && (r.room == nil || !r.up) {
			return fmt.Sprintf("client %d: room %s", a.number, name)
		}
	}
	return ""
}

// Rooms implements client.
func (a *apiClient) Rooms() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var in []string
	for name, r := range a.rooms {
		if r.room != nil && !r.gone {
			in = append(in, name)
		}
	}
	slices.Sort(in)
	return in
}

// User implements client.
func (a *apiClient) User() string { return a.identity().UserID }

// ClientID implements client.
func (a *apiClient) ClientID() string { return a.identity().ClientID }

func (a *apiClient) identity() parleyclient.Identity {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.client.Identity()
}

// Stop implements client.
func (a *apiClient) Stop() {
	a.mu.Lock()
	a.stopping = true
	c := a.client
	a.mu.Unlock()
	c.Close()
	<-c.Done()
	close(a.tasks)
	close(a.moves)
	a.over.Wait()
}
