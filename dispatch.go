package parley

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
)

const maxName = 255

// answer is what a client message is acknowledged with.
type answer struct {
	done   bool // answered already, by a message of its own
	result Result
}

// action carries out one type of client message.
type action func(c *Conn, in *inbound) (answer, error)

var actions = map[string]action{
	"message":   (*Conn).onMessage,
	"broadcast": (*Conn).onBroadcast,
	"private":   (*Conn).onPrivate,
	"join":      (*Conn).onJoin,
	"leave":     (*Conn).onLeave,
	"history":   (*Conn).onHistory,
	"presence":  (*Conn).onPresence,
	"signal":    (*Conn).onSignal,
	"call":      (*Conn).onCall,
	"ping":      (*Conn).onPing,
	"read":      (*Conn).onRead,
	"unread":    (*Conn).onUnread,
	"archive":   (*Conn).onArchive,
	"received":  (*Conn).onReceived,
}

// handle carries out one message and answers it. It reports whether the
// connection may go on.
func (c *Conn) handle(p []byte) bool {
	var in inbound
	err := decode(p, &in)
	if (err != nil || in.Type != "message") && !c.flights.settle(c.ctx) {
		return true // what a client sent before its end, but was not carried out, is not
	}
	allowed, abuse := c.allow(len(p), in.Type)
	switch {
	case abuse:
		return false
	case err != nil:
		c.refuse(in.ID, err)
		return true
	}
	if !allowed {
		c.flights.settle(c.ctx)
		c.hub.stats.rateLimited.Add(1)
		c.refuse(in.ID, NewError(CodeRateLimited, "too many messages: slow down to "+
			strconv.FormatFloat(c.hub.opts.RateLimit, 'f', -1, 64)+" a second"))
		return true
	}
	act := actions[in.Type]
	if act == nil {
		c.refuse(in.ID, NewError(CodeUnknownType, "unknown type "+strconv.QuoteToASCII(clip(in.Type))+
			": see docs/protocol.md for the types there are"))
		return true
	}
	a, failed := act(c, &in)
	if failed != nil {
		c.flights.settle(c.ctx)
	}
	if failed != nil || !a.done {
		c.respond(in.ID, in.Type, a.result, failed)
	}
	return true
}

// respond answers what a client has sent.
func (c *Conn) respond(id, typ string, r Result, failed error) {
	switch {
	case failed != nil:
		c.refuse(id, c.clientError(failed, typ))
	case id != "":
		if mutant("answers") {
			_ = c.push(newFrame(appendAck(newBuffer(96), id, r.Epoch, r.Offset, r.Duplicate)))
		}
		_ = c.push(newFrame(appendAck(newBuffer(96), id, r.Epoch, r.Offset, r.Duplicate)))
	}
}

const (
	// sentBytes is how much of a message costs a token of the rate limit more:
	// a burst of large messages must not overflow the queues of those who read it on ordinary links.
	sentBytes = 4 << 10
	// askedBytes is how much history, which goes to the asking client alone, does.
	askedBytes = 16 << 10
)

// allow takes the tokens for a message of n bytes. abuse means that the client
// goes on far above its limit. The first joins are free: a client that comes back
// to all its rooms at once has done nothing wrong.
func (c *Conn) allow(n int, typ string) (allowed, abuse bool) {
	o := &c.hub.opts
	if typ == "join" && c.rejoins > 0 {
		c.rejoins--
		return true, false
	}
	if c.messages.allow(o.RateLimit, o.RateBurst) {
		c.charge(n / sentBytes)
		return true, false
	}
	return false, !c.refusals.allow(o.RateLimit, o.RateBurst)
}

func (c *Conn) charge(tokens int) {
	c.messages.charge(tokens, c.hub.opts.RateLimit, c.hub.opts.RateBurst)
}

// refuse tells the client of an error.
func (c *Conn) refuse(id string, err *Error) {
	c.hub.stats.refused.Add(1)
	_ = c.push(newFrame(appendError(newBuffer(96+len(err.Message)), id, err.Code, err.Message)))
}

// clientError finds what a client may be told of err. Everything that is not
// meant for it goes to the log.
func (c *Conn) clientError(err error, what string) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[positionError](err); ok {
		return NewError(e.code, positionTexts[e.code])
	}
	switch {
	case errors.Is(err, ErrClosed), errors.Is(err, ErrConnClosed), errors.Is(err, context.Canceled) && c.ctx.Err() != nil:
		return NewError(CodeClosing, "the server is shutting down: reconnect")
	case errors.Is(err, ErrNotFound):
		return NewError(CodeNotFound, "nobody with this id can be reached")
	case errors.Is(err, ErrTooLarge):
		return NewError(CodeTooLarge, "message too large to be delivered: send a smaller one")
	case errors.Is(err, ErrStore), errors.Is(err, context.DeadlineExceeded):
		return NewError(CodeUnavailable, "cannot be stored or read right now: try again later with the same id")
	}
	c.hub.stats.handlerErrors.Add(1)
	c.hub.logError("parley: handler failed", "in", what, "client", c.id, "error", err)
	return NewError(CodeInternal, "internal error: it was logged")
}

// authorize asks the application.
func (c *Conn) authorize(verb Verb, room, target string) error {
	ask := c.hub.opts.Authorize
	if ask == nil {
		return nil
	}
	err := error(NewError(CodeInternal, "internal error: it was logged"))
	c.guard("Authorize", func() { err = ask(c.ctx, c, Access{Verb: verb, Room: room, Target: target}) })
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	c.hub.log.Debug("parley: refused by Authorize", "client", c.id, "verb", string(verb), "error", err)
	return NewError(CodeForbidden, "not allowed: "+string(verb))
}

// inspect runs the Message hook.
func (c *Conn) inspect(m ClientMessage) error {
	hook := c.hub.opts.Hooks.Message
	if hook == nil {
		return nil
	}
	err := error(NewError(CodeInternal, "internal error: it was logged"))
	c.guard("Message hook", func() { err = hook(c.ctx, c, m) })
	return err
}

// clip bounds text to 64 bytes of whole characters.
func clip(s string) string {
	if len(s) > maxShortName {
		return strings.ToValidUTF8(s[:maxShortName], "")
	}
	return s
}

// maxReason is what a close frame holds beside its code (RFC 6455, section 5.5.1).
const maxReason = 123

func clipReason(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason]
	}
	return strings.ToValidUTF8(s, "")
}

func isNetworkError(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}
