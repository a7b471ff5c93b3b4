package parley

import (
	"context"
	"encoding/json"
	"fmt"
)

// Room is a named group of connections with ordered messages, history and
// presence. It is a handle: getting one costs nothing, and a room exists as
// long as it has members or history. All methods may be called concurrently.
type Room struct {
	hub  *Hub
	name string
}

// Room returns the room of this name. A name that breaks rule P2.4 (1 to 255
// bytes without control characters) is reported by the methods as ErrInvalidName.
func (h *Hub) Room(name string) *Room { return &Room{hub: h, name: name} }

// Name returns the name of the room.
func (r *Room) Name() string { return r.name }

// Send sends v, encoded as JSON, to all members as a message of the
// application (userId and username are ""). It returns when the message is
// stored and queued for every member on this node. If ctx ends earlier, the
// outcome is unknown: repeat it with the same WithID.
func (r *Room) Send(ctx context.Context, v any, opts ...SendOption) (Result, error) {
	out, err := r.hub.prepare(v, opts)
	if err != nil {
		return Result{}, err
	}
	t, err := r.acquire()
	if err != nil {
		return Result{}, err
	}
	defer t.release()
	data := appendRoomMessage(nil, r.name, "", "", out.data, nowMillis())
	return t.publish(ctx, t.publication(data, out.key))
}

// Join makes a connection a member, as if its client had asked for it but
// without asking Authorize. The client gets the history. Joining again changes nothing. After a reconnect a client of v1 joins
// again by itself, and then Authorize is asked.
func (r *Room) Join(ctx context.Context, c *Conn) error {
	if !validName(r.name, maxName) {
		return fmt.Errorf("%w: room %q", ErrInvalidName, r.name)
	}
	_, err := c.join(ctx, r.name, joinRequest{name: c.displayName("")})
	if err != nil {
		return err
	}
	return nil
}

// Leave ends the membership of a connection; when it returns, nothing more of
// the room is sent to it. A v1 client is told by a "left" message, as by
// RemoveUser, with an empty reason, and does not join again by itself. ErrNotMember if it was none.
func (r *Room) Leave(_ context.Context, c *Conn) error {
	if c.leaveFor(r.name, "") {
		return nil
	}
	return ErrNotMember
}

// Members returns up to limit users who are in the room, in ascending order
// of user id, and how many there are; with a limit of 0 or less the number alone. A user with several connections counts once.
func (r *Room) Members(ctx context.Context, limit int) ([]Member, int, error) {
	t, err := r.acquire()
	if err != nil {
		return nil, 0, err
	}
	defer t.release()
	return t.room.members(ctx, limit)
}

// History is a page of a topic's log.
type History struct {
	Epoch    string
	Offset   int64 // of the newest message of the room
	Messages []HistoryMessage
	More     bool // older messages are kept
}

// HistoryMessage is one message of a History.
type HistoryMessage struct {
	Offset    int64           `json:"-"`
	UserID    string          `json:"userId"`
	Username  string          `json:"username"`
	Content   json.RawMessage `json:"content"`
	Timestamp int64           `json:"timestamp"` // ms since 1970
}

// History returns the newest messages with an offset below before (0: the
// newest of all), oldest first; at most limit, which is at most 100 and 100 if it is 0.
func (r *Room) History(ctx context.Context, before int64, limit int) (History, error) {
	t, err := r.acquire()
	if err != nil {
		return History{}, err
	}
	defer t.release()
	page, err := t.read(ctx, Query{Before: max(before, 0), Limit: pageLimit(limit)})
	if err != nil {
		return History{}, err
	}
	out := History{Epoch: page.Epoch, Offset: page.Top, More: moreBefore(page)}
	for _, e := range page.Entries {
		m := HistoryMessage{Offset: e.Offset}
		if err := json.Unmarshal(e.Data, &m); err != nil {
			return History{}, fmt.Errorf("parley: history of %q, offset %d: %w", r.name, e.Offset, err)
		}
		out.Messages = append(out.Messages, m)
	}
	return out, nil
}

func (r *Room) acquire() (*topic, error) {
	if r.hub.closing.Load() {
		return nil, ErrClosed
	}
	if !validName(r.name, maxName) {
		return nil, fmt.Errorf("%w: room %q", ErrInvalidName, r.name)
	}
	return r.hub.acquire(roomPrefix + r.name), nil
}

// roomConfig returns the configuration of a room with its defaults.
func (h *Hub) roomConfig(name string) RoomConfig {
	var cfg RoomConfig
	if h.opts.Room != nil {
		cfg = h.opts.Room(name)
	}
	cfg.History = cfg.History.orElse(defaultRoomHistory)
	or(&cfg.AnnounceLimit, defaultAnnounceLimit)
	return cfg
}

func (t *topic) roomName() string { return t.name[len(roomPrefix):] }

// publication returns one for data, kept if the topic keeps anything.
func (t *topic) publication(data []byte, key string) *publication {
	return &publication{
		entry: Entry{Key: key, Time: nowMillis(), Data: data, Unread: t.user != ""},
		store: t.keep.keeps(), inbox: t.user != "",
	}
}

// announce sends a message that is not kept to the v1 members on this node.
func (t *topic) announce(data []byte) {
	// They keep the order of the topic, and so wait for a Store call under way.
	_, _ = t.publish(t.hub.ctx, &publication{entry: Entry{Data: data}, v1: true, local: true})
}
