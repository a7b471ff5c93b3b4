package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/parley-go/parley"
)

// Private sends v, encoded as JSON, to the user or the one connection with this id. It
// waits for the connection and survives its loss, as Room.Send does.
func (c *Client) Private(ctx context.Context, targetID string, v any) (Ack, error) {
	message, err := encode(v)
	if err != nil {
		return Ack{}, err
	}
	answer, err := c.ask(ctx, &request{answer: "ack"}, outbound{Type: "private", TargetID: targetID, Message: message})
	return answer.ack(), err
}

// Broadcast sends v, encoded as JSON, to everybody else, if the server lets
// clients do so. It waits for the connection and survives its loss, as Room.Send does.
// If the server keeps no broadcasts it has no ids to compare, and one sent again can appear twice.
func (c *Client) Broadcast(ctx context.Context, v any) (Ack, error) {
	message, err := encode(v)
	if err != nil {
		return Ack{}, err
	}
	answer, err := c.ask(ctx, &request{answer: "ack", broadcast: true}, outbound{Type: "broadcast", Message: message})
	return answer.ack(), err
}

// Signal sends what may be lost, encoded as JSON, to a user. It does not wait,
// and does nothing without a connection.
func (c *Client) Signal(targetID, name string, v any) error {
	if targetID == "" {
		return parley.NewError(parley.CodeBadRequest, "a signal needs the id of a user")
	}
	data, err := encode(v)
	if err != nil {
		return err
	}
	return c.signal(nil, "user "+targetID+"\x00"+name, outbound{Type: "signal", TargetID: targetID, Name: name, Data: data})
}

// signal sends m if there is a connection. key names the state that it is.
func (c *Client) signal(r *Room, key string, m outbound) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch k := c.conn; {
	case c.state.final():
		return parley.NewError(CodeClosed, c.err.Error())
	case r != nil && r.left:
		return notMember(r.name)
	case k == nil || !k.up || r != nil && !r.up:
		return nil
	case k.maxSize > 0 && int64(len(text)) > k.maxSize:
		return tooLarge(len(text), k.maxSize)
	default:
		k.pushLocked(outgoing{text: text, signal: key})
		return nil
	}
}

// Call calls a handler of the application with in, encoded as JSON, and decodes
// its answer into an Out. It waits for a connection, but is never repeated: when the connection is lost
// before the answer, nobody knows whether the handler ran, and the error is
// CodeDisconnected. Errors of the handler are a *parley.Error with its code.
func Call[Out any](ctx context.Context, c *Client, method string, in any) (Out, error) {
	var out Out
	data, err := encode(in)
	if err != nil {
		return out, err
	}
	answer, err := c.ask(ctx, &request{answer: "reply", fate: once}, outbound{Type: "call", Method: method, Data: data})
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(answer.payload, &out); err != nil {
		return out, fmt.Errorf("client: reply of %q: %w", method, err)
	}
	return out, nil
}

// Ping asks the server for a sign of life. Without a connection it waits for one; like a
// Call it is never repeated.
func (c *Client) Ping(ctx context.Context) (Pong, error) {
	start := time.Now()
	answer, err := c.ask(ctx, &request{answer: "pong", fate: once}, outbound{Type: "ping"})
	if err != nil {
		return Pong{}, err
	}
	return Pong{time.Since(start), answer.time()}, nil
}
