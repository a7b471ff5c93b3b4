package checker

import (
	"context"
	"errors"
	"time"

	"github.com/parley-go/parley"
)

// callTime is how long the application waits at most when it does something to a user.
const callTime = 10 * time.Second

// kick disconnects a user.
func (r *runner) kick(o Op) {
	n := r.nodes[o.Node%len(r.nodes)]
	hub := n.current()
	if hub == nil {
		return
	}
	e := Event{Kind: Kick, Client: App, User: userName(o.Target), Node: n.number, ID: r.id("x")}
	r.Add(e)
	call := func() {
		ctx, cancel := context.WithTimeout(context.Background(), callTime)
		defer cancel()
		_, err := hub.DisconnectUser(ctx, e.User, "kicked")
		e.Kind = Kicked
		e.outcome(err)
		r.Add(e)
	}
	if len(r.nodes) == 1 {
		call()
	} else {
		r.calls.Go(call)
	}
}

// move makes a user a member of a room, or ends that.
func (r *runner) move(o Op, room string) {
	n := r.nodes[o.Node%len(r.nodes)]
	hub := n.current()
	if hub == nil {
		return
	}
	e := Event{Kind: Add, Client: App, User: userName(o.Target), Topic: roomPrefix + room, Node: n.number, ID: r.id("x")}
	if o.Do == DoRemove {
		e.Kind = Remove
	}
	r.Add(e)
	r.calls.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), callTime)
		defer cancel()
		var err error
		if e.Kind == Remove {
			_, err = hub.Room(room).RemoveUser(ctx, e.User, e.ID)
			e.Kind = Removed
		} else {
			_, err = hub.Room(room).AddUser(ctx, e.User)
			e.Kind = Added
		}
		e.outcome(err)
		r.Add(e)
	})
}

// outcome writes down what may be expected of a command to all nodes that has returned an error.
func (e *Event) outcome(err error) {
	switch {
	case err == nil:
		return
	case errors.Is(err, parley.ErrClosed):
		e.Code = kickedEnd
	case errors.Is(err, parley.ErrStore):
		e.Code = kickedHere
	default:
		e.Code = kickedLater
	}
	e.Label = err.Error()
}
