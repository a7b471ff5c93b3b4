package checker

import (
	"context"
	"errors"
	"fmt"

	parleyclient "github.com/parley-go/parley/client"
)

// handlers writes down all that comes of no room.
func (a *apiClient) handlers(o *parleyclient.Options, add func(Event)) {
	o.OnState = func(_ context.Context, c *parleyclient.Client, s parleyclient.StateChange) { a.changed(c, s, add) }
	clientID := "" // handlers are called one at a time
	connected := false
	o.OnConnected = func(_ context.Context, c *parleyclient.Client, m parleyclient.Identity) {
		e := Event{Kind: Connected, User: m.UserID, ClientID: m.ClientID}
		if a.env.nodes > 1 {
			e.Node = -1 // not known
		}
		if connected {
			e.Recovered = No
		}
		if m.Resumed {
			e.Recovered = Yes
		}
		clientID = m.ClientID
		add(e)
		if !connected {
			// Where the broadcast stands the application is not told.
			add(Event{Kind: Base, Topic: topicAll})
		}
		connected = true
	}
	inbox := func(e Event) {
		e.Topic, e.ClientID = userPrefix+a.user, clientID
		if a.user == "" {
			e.Topic = userPrefix + clientID
		}
		add(e)
	}
	a.inboxHandlers(o, inbox)
	a.givenHandlers(&o.Joined, func(e Event) {
		e.ClientID = clientID
		add(e)
	})
	all := func(e Event) {
		e.Topic = topicAll
		add(e)
	}
	o.OnBroadcast = func(_ context.Context, _ *parleyclient.Client, m parleyclient.Broadcast) {
		all(Event{Kind: Deliver, Place: Place(m.Position), ID: idOf(m.Message), User: m.SenderID})
	}
	code := ""
	o.OnBroadcastGap = func(_ context.Context, _ *parleyclient.Client, g parleyclient.Gap) {
		code = string(g.Code)
		all(Event{Kind: Base, Recovered: No, Code: code})
	}
	o.OnBroadcastHistory = func(_ context.Context, _ *parleyclient.Client, ms []parleyclient.Broadcast) {
		if len(ms) > 0 { // its own are left out: there may be more after the last one
			all(Event{Kind: Base, Recovered: No, Code: code, Place: Place(ms[len(ms)-1].Position)})
		}
	}
	o.OnBroadcastRecovered = func(_ context.Context, _ *parleyclient.Client, r parleyclient.Recovered) {
		all(Event{Kind: Reached, Place: Place(r.Position)})
	}
}

// changed follows the state of the connection.
func (a *apiClient) changed(c *parleyclient.Client, s parleyclient.StateChange, add func(Event)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c != a.client {
		return
	}
	switch s.State {
	case parleyclient.StateConnecting:
	case parleyclient.StateConnected:
		a.started, a.inboxed = true, a.user == ""
		for _, r := range a.rooms {
			r.up = false
		}
	default:
		code := "-1"
		if e, ok := errors.AsType[*parleyclient.ConnError](s.Err); ok && e.Code != 1006 && e.Code != 0 {
			code = fmt.Sprint(int(e.Code))
		}
		if a.started {
			add(Event{Kind: Closed, Code: code})
		}
		a.started = false
		if s.State == parleyclient.StateWaiting || a.stopping {
			return
		}
		a.refused = true
		for name := range a.rooms {
			a.env.Add(Event{Kind: Dropped, Client: a.number, Topic: roomPrefix + name})
		}
		clear(a.rooms)
		a.env.Add(Event{Kind: Dropped, Client: a.number, Topic: topicAll})
		a.env.Add(Event{Kind: Dropped, Client: a.number, Topic: userPrefix + a.user})
	}
}

// Back implements client.
func (a *apiClient) Back(bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused && !a.stopping {
		a.refused = false
		a.connectLocked()
	}
}
