package parley

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// NodeInfo tells of a node: a hub that shares Store and Broker with this one.
type NodeInfo struct {
	ID          string    `json:"id"`   // as long as the hub lives
	Name        string    `json:"name"` // Options.NodeName
	Started     time.Time `json:"started"`
	Connections int       `json:"connections"`
	Topics      int       `json:"topics"` // rooms, users and the broadcast in use
}

// ConnInfo tells of a connection, on whichever node.
type ConnInfo struct {
	ClientID string   `json:"clientId"`
	UserID   string   `json:"userId"`
	Node     string   `json:"node"`  // NodeInfo.Name
	Rooms    []string `json:"rooms"` // in the order of joining
}

// Nodes asks all nodes how they are, and returns what they answer in the order of their names. It waits until ctx ends, and 5 s at most, for those that
// the Store says are alive; with an error, which names those that did not answer, the others are returned all the same.
// A node that has died is missed for some 25 s. Without a Broker this is the only node. ErrStore if the Store cannot say who is alive, or has just
// lost that; ErrClosed after Shutdown.
func (h *Hub) Nodes(ctx context.Context) ([]NodeInfo, error) {
	g, err := h.askNodes(ctx, ask{Op: opNode}, false)
	if err != nil {
		return nil, err
	}
	nodes := make([]NodeInfo, 0, len(g.answers))
	for _, got := range g.answers {
		var n NodeInfo
		if json.Unmarshal(got.Data, &n) == nil {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b NodeInfo) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return nodes, g.err("Nodes")
}

// Connections returns the connections of a user on all nodes, in the order of their nodes' names. Errors and waiting as for Nodes.
func (h *Hub) Connections(ctx context.Context, userID string) ([]ConnInfo, error) {
	if err := checkUser(userID); err != nil {
		return nil, err
	}
	g, err := h.askNodes(ctx, ask{Op: opConnections, User: userID}, false)
	if err != nil {
		return nil, err
	}
	var conns []ConnInfo
	for _, got := range g.answers {
		var some []ConnInfo
		if json.Unmarshal(got.Data, &some) == nil {
			conns = append(conns, some...)
		}
	}
	slices.SortFunc(conns, func(a, b ConnInfo) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ClientID, b.ClientID))
	})
	return conns, g.err("Connections")
}

func (h *Hub) nodeInfo() NodeInfo {
	s := h.Stats()
	return NodeInfo{ID: h.node, Name: h.opts.NodeName, Started: h.started, Connections: s.Connections, Topics: s.Topics}
}

func (h *Hub) connections(userID string) []ConnInfo {
	var all []ConnInfo
	for _, c := range h.User(userID) {
		all = append(all, ConnInfo{ClientID: c.id, UserID: c.userID, Node: h.opts.NodeName, Rooms: c.Rooms()})
	}
	return all
}

// DisconnectUser closes all connections of a user, on all nodes, with code 4101,
// which tells clients not to come back, and returns how many there were. When it returns without an error, nothing is
// queued for them any more, on any node that counts as alive; one that has reached neither Store nor Broker for some 25 s does not, and
// carries it out when it does again. A handshake that was authenticated before
// the call ends in the same way. It does not keep the user from connecting
// again: that is for the Authenticator. A reason is cut to the 123 bytes that a close frame holds (RFC 6455, section 5.5.1). ErrInvalidName if userID breaks rule P2.4.
//
// It waits for the other nodes until ctx ends, and 5 s at most. An error names those that did not answer: a
// node that the Broker does not reach learns of it from the Store within Options.SyncInterval and the time of a Store call,
// one that reaches neither when it does again. On this node the connections are closed in any
// case. ErrStore: the Store failed, or has just lost which nodes there are, so it is not known whether all will learn of it: repeat it. ErrClosed after Shutdown.
func (h *Hub) DisconnectUser(ctx context.Context, userID, reason string) (int, error) {
	return h.command(ctx, "DisconnectUser", ask{Op: opDisconnect, User: userID, Reason: reason})
}

func (h *Hub) command(ctx context.Context, what string, a ask) (int, error) {
	if err := checkUser(a.User); err != nil {
		return 0, err
	}
	a.Reason = clipReason(a.Reason)
	g, err := h.askNodes(ctx, a, true)
	return g.count(), cmp.Or(err, g.err(what))
}

// AddUser makes all connections of a user, on all nodes, members of the room, as Join does, and returns how many are. Connections
// that the user opens later are not; but a client of v1 that was told joins again by itself after a reconnect, and Options.Authorize is asked
// about that. Waiting and errors as for DisconnectUser; an error of a single Join, for example because the connection is in too many
// rooms, is one, too.
func (r *Room) AddUser(ctx context.Context, userID string) (int, error) {
	return r.command(ctx, "AddUser", ask{Op: opAdd, User: userID})
}

// RemoveUser ends the membership of all connections of a user, on all nodes, and returns how many there were. v1 clients are told by
// a "left" message, with the reason. It does not keep the user from joining again: that is for Options.Authorize, which is to refuse from
// before the call on. Waiting and errors as for DisconnectUser; called from a hook that AddUser or RemoveUser of the same user and room
// runs, it waits in vain for its own node: it is carried out when the hook has returned.
func (r *Room) RemoveUser(ctx context.Context, userID, reason string) (int, error) {
	return r.command(ctx, "RemoveUser", ask{Op: opRemove, User: userID, Reason: reason})
}

func (r *Room) command(ctx context.Context, what string, a ask) (int, error) {
	if !validName(r.name, maxName) {
		return 0, fmt.Errorf("%w: room %q", ErrInvalidName, r.name)
	}
	a.Room = r.name
	return r.hub.command(ctx, what, a)
}

// moveUser has the connections of a user on this node join or leave a room.
func (h *Hub) moveUser(a ask) askAnswer {
	got := askAnswer{ID: a.ID}
	for _, c := range h.User(a.User) {
		if a.Op == opRemove {
			if c.leaveFor(a.Room, a.Reason) {
				got.Count++
			}
			continue
		}
		ctx, cancel := context.WithTimeout(c.ctx, h.opts.StoreTimeout)
		_, err := c.join(ctx, a.Room, joinRequest{name: c.displayName("")})
		cancel()
		switch {
		case err == nil:
			got.Count++
		case !c.ended.Load():
			got.Error = err.Error()
		}
	}
	return got
}
