package checker

import (
	"context"

	parleyclient "github.com/parley-go/parley/client"
)

// givenHandlers writes down all that comes of rooms that the application has made the client a member of.
func (a *apiClient) givenHandlers(o *parleyclient.JoinOptions, add func(Event)) {
	known := make(map[*parleyclient.Room]*parleyclient.JoinOptions) // handlers are called one at a time
	of := func(room *parleyclient.Room) *parleyclient.JoinOptions {
		if o := known[room]; o != nil {
			return o
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		r := a.rooms[room.Name()]
		if r == nil || r.gone || r.room != nil && r.room != room { // else it is being joined just now
			r = &apiRoom{room: room}
			a.rooms[room.Name()] = r
		}
		record := func(e Event) {
			e.Topic = roomPrefix + room.Name()
			add(e)
		}
		known[room] = new(parleyclient.JoinOptions)
		a.roomHandlers(known[room], r, record, true)
		return known[room]
	}
	o.OnMessage = func(ctx context.Context, r *parleyclient.Room, m parleyclient.Message) { of(r).OnMessage(ctx, r, m) }
	o.OnHistory = func(ctx context.Context, r *parleyclient.Room, h parleyclient.History) { of(r).OnHistory(ctx, r, h) }
	o.OnGap = func(ctx context.Context, r *parleyclient.Room, g parleyclient.Gap) { of(r).OnGap(ctx, r, g) }
	o.OnRecovered = func(ctx context.Context, r *parleyclient.Room, c parleyclient.Recovered) {
		of(r).OnRecovered(ctx, r, c)
	}
	o.OnSystem = func(ctx context.Context, r *parleyclient.Room, text string) { of(r).OnSystem(ctx, r, text) }
	o.OnPresence = func(ctx context.Context, r *parleyclient.Room, p parleyclient.Presence) { of(r).OnPresence(ctx, r, p) }
	o.OnSignal = func(ctx context.Context, r *parleyclient.Room, s parleyclient.Signal) { of(r).OnSignal(ctx, r, s) }
	o.OnLeft = func(ctx context.Context, r *parleyclient.Room, reason string) { of(r).OnLeft(ctx, r, reason) }
}
