package parley

import (
	"context"
	"encoding/json"
	"fmt"
)

// Result says what became of a message.
type Result struct {
	// Delivered is the number of connections on this node for which the message was
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
}

// SendOption is an option of a single send.
type SendOption func(*sendOptions)

type sendOptions struct{ id string }

// WithID makes a send idempotent: within IdempotencyWindow, a second message
// of the application with the same id to the same topic is neither stored nor delivered. It needs
// a topic that keeps messages. At most 255 bytes without control characters, else
// the send fails with ErrInvalidName. Empty: no id.
func WithID(id string) SendOption { return func(o *sendOptions) { o.id = id } }

// prepare encodes the payload of a send by the application, and makes its
// idempotency key. The key cannot be that of a user, whose id has no control
// characters and comes first.
func (h *Hub) prepare(v any, opts []SendOption) (data []byte, key string, err error) {
	if h.closing.Load() {
		return nil, "", ErrClosed
	}
	var o sendOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.id != "" {
		if !validName(o.id, maxName) {
			return nil, "", fmt.Errorf("%w: WithID %q", ErrInvalidName, o.id)
		}
		key = "\x00" + o.id
	}
	data, err = h.marshal(v)
	return data, key, err
}

// marshal encodes a payload and checks that it can ever be delivered.
func (h *Hub) marshal(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("parley: payload: %w", err)
	}
	if limit := h.opts.QueueSize / 2; len(data) > limit {
		return nil, fmt.Errorf("%w: %d bytes of JSON, the limit is %d (half of Options.QueueSize)", ErrTooLarge, len(data), limit)
	}
	return data, nil
}

// Broadcast sends v, encoded as JSON, to all connections of all nodes.
// It is kept only with Options.BroadcastHistory.
func (h *Hub) Broadcast(ctx context.Context, v any, opts ...SendOption) (Result, error) {
	message, key, err := h.prepare(v, opts)
	if err != nil {
		return Result{}, err
	}
	return h.all.publish(ctx, h.all.publication(appendBroadcast(nil, "", "", message), key))
}

// Notify sends v, encoded as JSON, as a notification to a user: to all
// connected devices now, and into the user's inbox (Options.Inbox), from which
// a device that connects later gets it. When it returns without an error the
// notification is stored. An anonymous connection is addressed by its client
// id; nothing is kept for it. ErrInvalidName if userID breaks rule P2.4.
func (h *Hub) Notify(ctx context.Context, userID string, v any, opts ...SendOption) (Result, error) {
	data, key, err := h.prepare(v, opts)
	if err != nil {
		return Result{}, err
	}
	return h.toUser(ctx, userID, appendNotification(nil, data, nowMillis()), key, false)
}

// NotifyAll sends v, encoded as JSON, as a notification to all connections of
// all nodes. It is not kept: who is not connected does not get it.
func (h *Hub) NotifyAll(ctx context.Context, v any) (Result, error) {
	data, _, err := h.prepare(v, nil)
	if err != nil {
		return Result{}, err
	}
	p := &publication{entry: Entry{Data: appendNotification(nil, data, nowMillis())}}
	return h.all.publish(ctx, p)
}

// Private sends v, encoded as JSON, as a private message of the application:
// to the inbox and all devices of the user of this id, or, if id is the client
// id of a connection, to that connection alone; then it is not kept.
func (h *Hub) Private(ctx context.Context, id string, v any, opts ...SendOption) (Result, error) {
	message, key, err := h.prepare(v, opts)
	if err != nil {
		return Result{}, err
	}
	return h.private(ctx, id, "", message, key, false)
}

func (h *Hub) private(ctx context.Context, id, sender string, message []byte, key string, present bool) (Result, error) {
	if mutant("forged") {
		sender = id
	}
	return h.toUser(ctx, id, appendPrivate(nil, sender, message, nowMillis()), key, present)
}

// toUser delivers data to a connection or a user. With present, the user must
// be connected: what clients send must not fill inboxes of users who may not exist.
func (h *Hub) toUser(ctx context.Context, id string, data []byte, key string, present bool) (Result, error) {
	if h.closing.Load() {
		return Result{}, ErrClosed
	}
	if !validName(id, maxName) {
		return Result{}, fmt.Errorf("%w: user %q", ErrInvalidName, id)
	}
	if c := h.Conn(id); c != nil {
		f := newFrame(append(newBuffer(len(data)), data...))
		err := c.push(f)
		if err != nil {
			err = ErrNotFound // it ends, like one that has ended already
		}
		return Result{Delivered: f.delivered, Dropped: f.dropped}, err
	}
	t := h.acquire(userPrefix + id)
	defer t.release()
	if mutant("offline") && t.roster.count.Load() == 0 {
		return Result{}, nil
	}
	if present && h.opts.Broker == nil && t.roster.count.Load() == 0 {
		return Result{}, ErrNotFound
	}
	return t.publish(ctx, t.publication(data, key))
}
