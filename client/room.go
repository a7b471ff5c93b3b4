package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/parley-go/parley"
)

// Room is a room that was joined with [Client.Join], or by the application (Options.Joined). It stays joined over
// reconnects until Leave, or until the application ends the membership (JoinOptions.OnLeft). All
// methods may be called concurrently, and from handlers.
type Room struct {
	c    *Client
	name string
	seq  uint64 // the order of joining

	// Guarded by Client.mu:
	opts JoinOptions
	// settled is closed when the room was joined the first time, or given up.
	settled chan struct{}
	topic   topic
	given   bool  // joined by the application, and not yet by Join
	joining bool  // a join is not yet answered
	up      bool  // joined on this connection
	joined  bool  // was joined at some time
	told    bool  // the application knows what the messages so far are
	left    bool  // given up: left, refused, or the client has ended
	muted   bool  // left by the application: no handler is called any more
	err     error // why it was given up
	members map[string]parley.Member
	count   int
}

// Join joins a room and waits for the server's answer; without a connection it
// waits for that, too. The room then stays joined, also over reconnects, until Leave. When
// ctx ends first, the room is left. A refusal of the server is a *parley.Error. The handlers may be called before Join returns.
//
// Join of a room that is joined already is an error: its handlers could not be called. One that the application
// has joined (Options.Joined) Join takes over: from now on these handlers are called, with the history first.
func (c *Client) Join(ctx context.Context, name string, opts JoinOptions) (*Room, error) {
	r, settled, err := c.newRoom(name, opts)
	if err != nil {
		return nil, err
	}
	select {
	case <-settled:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case r.joined && !r.left:
		return r, nil
	case r.err != nil:
		return nil, r.err
	}
	c.leaveLocked(r)
	return nil, fmt.Errorf("client: join %q: %w", name, ctx.Err())
}

func (c *Client) newRoom(name string, opts JoinOptions) (r *Room, settled <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r = c.rooms[name]
	switch {
	case c.state.final():
		return nil, nil, parley.NewError(CodeClosed, c.err.Error())
	case name == "":
		return nil, nil, parley.NewError(parley.CodeBadRequest, "the name of a room must not be empty")
	case r != nil && !r.given:
		return nil, nil, parley.NewError(parley.CodeBadRequest,
			fmt.Sprintf("room %q is joined already: use Client.Room, or Leave it first", name))
	case r == nil:
		r = c.addRoomLocked(name, opts)
	case r.joining: // the answer to that would be taken for the one to this
		c.leaveLocked(r)
		r = c.addRoomLocked(name, opts)
	default:
		r.beginLocked(opts)
	}
	c.joinLocked(r)
	return r, r.settled, nil
}

func (c *Client) addRoomLocked(name string, opts JoinOptions) *Room {
	r := &Room{c: c, name: name, seq: c.nextSeqLocked(), members: make(map[string]parley.Member)}
	r.beginLocked(opts)
	c.rooms[name] = r
	return r
}

// beginLocked makes r a room that waits to be joined.
func (r *Room) beginLocked(opts JoinOptions) {
	r.opts, r.settled = opts, make(chan struct{})
	r.topic = topic{read: opts.Position, handed: opts.Position}
	r.given, r.up, r.joined, r.told = false, false, false, false
}

// Name returns the name of the room.
func (r *Room) Name() string { return r.name }

// Position returns the position of the last message that was handed to
// OnMessage or OnHistory, for JoinOptions.Position of a later client: in the handler, that of its own
// message. Zero before the first, and in a room that keeps no history.
func (r *Room) Position() Position {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.topic.handed
}

// Members returns who is in the room, by user id. The server names at most the
// first 100 and whoever joins later: Count is always complete. Both are the newest
// known, which may be ahead of OnPresence.
func (r *Room) Members() []parley.Member {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	all := make([]parley.Member, 0, len(r.members))
	for _, m := range r.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b parley.Member) int { return cmp.Compare(a.UserID, b.UserID) })
	return all
}

// Count returns how many users are in the room.
func (r *Room) Count() int {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.count
}

// Send sends v, encoded as JSON, to all members; this client too gets it as a
// message. It returns when the server has stored it. Meanwhile the connection may be lost:
// then it is sent again with the same id, which the server stores once, and only if
// the user is still the same, else the error is CodeDisconnected.
//
// When ctx ends first, the message is not sent any more if it was not yet; the
// text of the error says whether it was.
func (r *Room) Send(ctx context.Context, v any) (Ack, error) {
	content, err := encode(v)
	if err != nil {
		return Ack{}, err
	}
	answer, err := r.c.ask(ctx, &request{answer: "ack", room: r}, outbound{Type: "message", Room: r.name, Content: content})
	return answer.ack(), err
}

// Signal sends what may be lost, encoded as JSON, to the other members. It does not wait, and
// does nothing without a connection. Of signals with the same name that wait to be sent only the newest is.
func (r *Room) Signal(name string, v any) error {
	data, err := encode(v)
	if err != nil {
		return err
	}
	return r.c.signal(r, "room "+r.name+"\x00"+name, outbound{Type: "signal", Room: r.name, Name: name, Data: data})
}

// History returns at most limit messages (0: 100, which is also the most) that are older than
// the offset before (0: the newest). Like a Send it outlives a lost connection.
func (r *Room) History(ctx context.Context, before int64, limit int) (Page, error) {
	answer, err := r.c.ask(ctx, &request{answer: "history", room: r},
		outbound{Type: "history", Room: r.name, Before: before, Limit: limit})
	if err != nil {
		return Page{}, err
	}
	return Page{answer.messagesOf(), answer.at, answer.more == yes}, nil
}

// Leave leaves the room and returns when the server knows, or the connection was lost, which
// has the same effect. No handler of the room is called after it, except one that runs already. The room
// is left also if ctx ends first. Leaving again does nothing.
func (r *Room) Leave(ctx context.Context) error {
	r.c.mu.Lock()
	done := r.c.leaveLocked(r)
	r.c.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("client: leave %q: not yet confirmed: %w", r.name, ctx.Err())
	}
}

// giveUpLocked ends the room.
func (r *Room) giveUpLocked(err error) {
	if r.left {
		return
	}
	if !r.joined {
		close(r.settled)
	}
	r.left, r.up, r.err = true, false, err
	delete(r.c.rooms, r.name)
}

func encode(v any) (json.RawMessage, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("client: payload: %w", err)
	}
	return data, nil
}
