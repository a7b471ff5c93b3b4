package parley

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Result says what became of a message.
type Result struct {
	// Delivered is the number of connections on this node (with Private to a client id: on any) for which the message was
	// queued. Queued is not received: a client that loses its connection
	// before it read the message gets it when it comes back, if it is stored.
	Delivered int
	// Dropped is the number of connections that should have got it and are
	// being closed instead, with code 4001, because their queue is full; or, for a signal, that skip it.
	Dropped int
	// Stored tells whether the message is in the log of its topic, at Epoch
	// and Offset; Duplicate, that it was already, under the same id.
	Stored    bool
	Duplicate bool
	Epoch     string
	Offset    int64
	// Unread is the number of unread entries of the inbox that the message is in now, for the
	// badge of an app icon; 0 for other topics.
	Unread int
}

var errPayloadText = errors.New("parley: payload: its JSON is not UTF-8")

// SendOption is an option of a single send.
type SendOption func(*sendOptions)

type sendOptions struct {
	id, kind  string
	ttl       time.Duration
	receiveIn time.Duration
}

// WithID makes a send idempotent: within IdempotencyWindow, a second message
// of the application with the same id to the same topic is neither stored nor delivered. It needs
// a topic that keeps messages. At most 255 bytes without control characters, else
// the send fails with ErrInvalidName. Empty: no id.
func WithID(id string) SendOption { return func(o *sendOptions) { o.id = id } }

// WithKind names the kind of a notification ("order.shipped"), by which clients choose how to
// show it. At most 64 bytes without control characters, else the send fails
// with ErrInvalidName. Empty, the default: none. Other messages have no kind.
func WithKind(kind string) SendOption { return func(o *sendOptions) { o.kind = kind } }

// WithTTL bounds how long a notification or private message stays in the inbox, if that is less than Options.Inbox.Age:
// after that it is not shown to devices that connect, and no longer unread. Default 0 and negative: no bound of its own.
func WithTTL(d time.Duration) SendOption { return func(o *sendOptions) { o.ttl = max(d, 0) } }

// WithUndeliveredAfter is Options.UndeliveredAfter for one notification or private message.
// Negative: Hooks.Undelivered does not hear of it. Default 0: as the option says.
func WithUndeliveredAfter(d time.Duration) SendOption {
	return func(o *sendOptions) { o.receiveIn = d }
}

// outgoing is a send of the application: its options, checked, and its payload.
type outgoing struct {
	sendOptions
	data []byte // JSON
	key  string
}

// prepare encodes the payload of a send by the application, and makes its
// idempotency key. The key cannot be that of a user, whose id has no control
// characters and comes first.
func (h *Hub) prepare(v any, opts []SendOption) (out outgoing, err error) {
	if h.closing.Load() {
		return out, ErrClosed
	}
	for _, opt := range opts {
		opt(&out.sendOptions)
	}
	if out.kind != "" && !validName(out.kind, maxShortName) {
		return out, fmt.Errorf("%w: WithKind %q", ErrInvalidName, out.kind)
	}
	if out.id != "" {
		if !validName(out.id, maxName) {
			return out, fmt.Errorf("%w: WithID %q", ErrInvalidName, out.id)
		}
		out.key = applicationKey(out.id)
	}
	out.data, err = h.marshal(v)
	return out, err
}

func applicationKey(id string) string { return "\x00" + id }

// marshal encodes a payload and checks that it can ever be delivered.
func (h *Hub) marshal(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("parley: payload: %w", err)
	}
	if !utf8.Valid(data) { // of a json.RawMessage or MarshalJSON; it would end every connection that it reaches
		return nil, errPayloadText
	}
	if limit := h.opts.QueueSize / 2; len(data) > limit {
		return nil, fmt.Errorf("%w: %d bytes of JSON, the limit is %d (half of Options.QueueSize)", ErrTooLarge, len(data), limit)
	}
	return data, nil
}

// Broadcast sends v, encoded as JSON, to all connections of all nodes.
// It is kept only with Options.BroadcastHistory.
func (h *Hub) Broadcast(ctx context.Context, v any, opts ...SendOption) (Result, error) {
	out, err := h.prepare(v, opts)
	if err != nil {
		return Result{}, err
	}
	return h.all.publish(ctx, h.all.publication(appendBroadcast(nil, "", "", out.data), out.key))
}

// Notify sends v, encoded as JSON, as a notification to a user: to all
// connected devices now, and into the user's inbox (Options.Inbox), from which
// a device that connects later gets it. When it returns without an error the
// notification is stored, and Result.Delivered says how many devices on this node it reached. It counts as unread until a device or
// Inbox marks it. An anonymous connection on this node is addressed by its client
// id; nothing is kept for it. One on another node is reached by Private only: here its id would be taken for that of a user who is away.
//
// ErrInvalidName if userID breaks rule P2.4, ErrTooLarge, ErrNotFound if
// Options.UserExists says that there is no such user; then nothing has changed. ErrStore: see there.
func (h *Hub) Notify(ctx context.Context, userID string, v any, opts ...SendOption) (Result, error) {
	out, err := h.prepare(v, opts)
	if err != nil {
		return Result{}, err
	}
	return h.notify(ctx, userID, out)
}

func (h *Hub) notify(ctx context.Context, userID string, out outgoing) (Result, error) {
	data := appendNotification(nil, out.id, out.kind, out.data, nowMillis())
	return h.toUser(ctx, userID, mail{outgoing: outgoing{out.sendOptions, data, out.key}})
}

// NotifyAll sends v, encoded as JSON, as a notification to all connections of
// all nodes. It is not kept and not counted as unread: who is not connected does not get it. To reach the
// inboxes of all users see KnownUsers and NotifyEach. Of the options only WithKind counts.
func (h *Hub) NotifyAll(ctx context.Context, v any, opts ...SendOption) (Result, error) {
	out, err := h.prepare(v, opts)
	if err != nil {
		return Result{}, err
	}
	p := &publication{entry: Entry{Data: appendNotification(nil, "", out.kind, out.data, nowMillis())}}
	return h.all.publish(ctx, p)
}

// Private sends v, encoded as JSON, as a private message of the application:
// to the inbox and all devices of the user of this id, or, if id is the client
// id of a connection, to that connection alone; then it is not kept. Errors as for Notify.
func (h *Hub) Private(ctx context.Context, id string, v any, opts ...SendOption) (Result, error) {
	out, err := h.prepare(v, opts)
	if err != nil {
		return Result{}, err
	}
	return h.private(ctx, id, mail{outgoing: out})
}

// mail is a message on its way to a user.
type mail struct {
	outgoing
	sender  string // the user id of the client that sent it; "" for the application
	account string // whose quota it counts against
	private bool   // may go to a client id of another node
}

func (h *Hub) private(ctx context.Context, id string, m mail) (Result, error) {
	sender := m.sender
	if mutant("forged") {
		sender = id
	}
	m.private = true
	m.data = appendPrivate(nil, sender, m.data, nowMillis())
	return h.toUser(ctx, id, m)
}

// checkUser returns an error unless a user id keeps rule P2.4.
func checkUser(id string) error {
	if !validName(id, maxName) {
		return fmt.Errorf("%w: user %q", ErrInvalidName, id)
	}
	return nil
}

// toUser delivers m, whose data is the whole message, to a connection or a user.
func (h *Hub) toUser(ctx context.Context, id string, m mail) (Result, error) {
	if h.closing.Load() {
		return Result{}, ErrClosed
	}
	if err := checkUser(id); err != nil {
		return Result{}, err
	}
	if c := h.Conn(id); c != nil {
		f := newFrame(append(newBuffer(len(m.data)), m.data...))
		err := c.push(f)
		if err != nil {
			err = ErrNotFound // it ends, like one that has ended already
		}
		return Result{Delivered: f.delivered, Dropped: f.dropped}, err
	}
	if m.private && h.control != nil && len(id) == clientIDSize && strings.Trim(id, clientIDAlphabet) == "" {
		if n := h.toConn(ctx, id, m.data); n > 0 {
			return Result{Delivered: n}, nil
		}
	}
	t := h.acquire(userPrefix + id)
	defer t.release()
	if mutant("offline") && t.roster.count.Load() == 0 {
		return Result{}, nil
	}
	granted := id + "\x00" + m.key // as no id has control characters, this is no other's
	if t.roster.count.Load() == 0 && (m.key == "" || !h.quota.wasGranted(granted)) {
		if err := h.mayStore(ctx, id, m); err != nil {
			return Result{}, err
		}
	}
	if m.sender != "" && m.key != "" {
		h.quota.grant(granted) // what is sent again must be answered like the first time, whoever has come or gone (P4.2)
	}
	p := t.publication(m.data, m.key)
	p.entry.TTL, p.entry.ReceiveIn = m.ttl, h.receiveIn(m.receiveIn)
	if mutant("nottl") {
		p.entry.TTL = 0
	}
	return t.publish(ctx, p)
}

// toConnTimeout is how long a client waits to hear that nobody has the connection that it has sent to, when a node does not answer.
const toConnTimeout = time.Second

// toConn delivers to a connection of another node; the number of those reached is 1 or 0.
func (h *Hub) toConn(ctx context.Context, clientID string, data []byte) int {
	ctx, cancel := context.WithTimeout(ctx, toConnTimeout)
	defer cancel()
	g, err := h.askNodes(ctx, ask{Op: opPrivate, User: clientID, Data: data}, false)
	if err != nil {
		return 0
	}
	return g.count()
}

// mayStore decides whether a message to a user who is not connected here may fill the user's inbox.
func (h *Hub) mayStore(ctx context.Context, userID string, m mail) error {
	if h.opts.UserExists == nil {
		if m.sender != "" && h.opts.Broker == nil {
			return ErrNotFound // users who may not exist get no inbox from clients
		}
	} else if ok, err := h.userExists(ctx, userID); err != nil {
		return fmt.Errorf("parley: Options.UserExists: %w", err)
	} else if !ok {
		return ErrNotFound
	}
	if m.sender != "" && !h.onlineElsewhere(ctx, userID) && !h.quota.allow(m.account) {
		return NewError(CodeLimit, "too many private messages to users who are not connected here: try again later")
	}
	return nil
}

// onlineElsewhere reports whether a user is known to be connected to another node.
func (h *Hub) onlineElsewhere(ctx context.Context, userID string) bool {
	if h.statuses == nil || h.control == nil {
		return false
	}
	status, err := h.Status(ctx, userID)
	return err == nil && status[0].Online
}

// userExists asks the application. It may do so in a goroutine of ours, where a panic would end the process.
func (h *Hub) userExists(ctx context.Context, userID string) (ok bool, err error) {
	defer h.stats.panicked(&err)
	return h.opts.UserExists(ctx, userID)
}
