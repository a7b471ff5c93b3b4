package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-go/parley"
)

// Codes of the errors that the client makes itself. All others come from the
// server or its application (docs/protocol.md, section 6).
const (
	// CodeTimeout: no answer within Options.Timeout; the request may or may not have been carried out.
	CodeTimeout parley.Code = "timeout"
	// CodeQueueFull: Options.Queue requests wait for the connection already. This one was not sent.
	CodeQueueFull parley.Code = "queue_full"
	// CodeDisconnected: the connection was lost after the request was sent, and
	// repeating it could do it twice: nobody knows what became of it.
	CodeDisconnected parley.Code = "disconnected"
	// CodeClosed: the client has ended, see Client.Err.
	CodeClosed parley.Code = "closed"
	// CodeBadMessage: the server sent something malformed, which was ignored.
	CodeBadMessage parley.Code = "bad_message"
	// CodeSlow: handlers are slower than messages come; nothing more is taken until they have caught up.
	CodeSlow parley.Code = "slow"
)

// Codes of a [Gap]: why what was missed cannot be had.
const (
	CodeGone  parley.Code = "gone"  // it is not all kept any more, or it is too much
	CodeReset parley.Code = "reset" // the server lost the log
	CodeAhead parley.Code = "ahead" // the server lost its newest messages, or never gave this position
)

// ErrUnauthorized is what Client.Err wraps in StateUnauthorized. An error
// of Options.Token or Options.HeaderFunc that wraps it ends the client in that state.
var ErrUnauthorized = errors.New("client: unauthorized")

// CodeOf returns the code of a failed request, or "" if err has none: then it
// is nil, that of a context, or of encoding the payload.
func CodeOf(err error) parley.Code {
	if e, ok := errors.AsType[*parley.Error](err); ok {
		return e.Code
	}
	return ""
}

// ConnError says how a connection ended, or why it could not be made.
type ConnError struct {
	// Status is the HTTP status of a refused handshake, else 0.
	Status int
	// Code is the close code: 1006 when the connection just ended or never was.
	Code parley.CloseCode
	// Reason is what the server said, if anything.
	Reason string
	// Err is the error below, if there is one.
	Err error

	retryAfter time.Duration
}

func (e *ConnError) Error() string {
	switch {
	case e.Status != 0:
		return fmt.Sprintf("client: handshake refused with status %d: %s", e.Status, e.Reason)
	case e.Err != nil:
		return fmt.Sprintf("client: connection lost: %v", e.Err)
	default:
		return fmt.Sprintf("client: connection closed with code %d: %s", e.Code, e.Reason)
	}
}

// Unwrap returns Err.
func (e *ConnError) Unwrap() error { return e.Err }

func notMember(room string) error {
	return parley.NewError(parley.CodeNotMember, fmt.Sprintf("not in room %q: join it first", room))
}

// removed is notMember when the application has ended the membership.
func removed(room, reason string) error {
	text := fmt.Sprintf("the application has ended the membership in room %q", room)
	if reason != "" {
		text += ": " + reason
	}
	return parley.NewError(parley.CodeNotMember, text)
}

func tooLarge(n int, limit int64) error {
	return parley.NewError(parley.CodeTooLarge, fmt.Sprintf("message has %d bytes, the server takes %d: not sent", n, limit))
}

// passing reports whether a refusal is worth another try a little later.
func passing(err error) bool {
	switch CodeOf(err) {
	case parley.CodeUnavailable, parley.CodeRateLimited, parley.CodeClosing, CodeTimeout:
		return true
	}
	return false
}
