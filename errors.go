package parley

import "errors"

// Errors that callers can tell apart with errors.Is.
var (
	// ErrClosed: the hub was shut down.
	ErrClosed = errors.New("parley: hub is shut down")
	// ErrConnClosed: the connection has ended or is ending.
	ErrConnClosed = errors.New("parley: connection is closed")
	// ErrTooLarge: the message cannot fit into a connection's queue.
	ErrTooLarge = errors.New("parley: message too large")
	// ErrInvalidName: a room, user or method name breaks rule P2.4 of docs/protocol.md.
	ErrInvalidName = errors.New("parley: invalid name")
	// ErrNotMember: the connection is not in the room.
	ErrNotMember = errors.New("parley: not a member of the room")
	// ErrNotFound: no connection or user with this id is connected, and nothing is kept for it.
	ErrNotFound = errors.New("parley: not found")
	// ErrStore: the Store failed; whether a message was stored is unknown. Repeat it with the same WithID.
	ErrStore = errors.New("parley: store failed")
	// ErrPosition: a position in an inbox is of another epoch, lies after its newest entry, or says nothing.
	ErrPosition = errors.New("parley: bad position")
)

// Code is the stable part of an error that a client sees.
type Code string

// The codes of errors (docs/protocol.md, section 6). Handlers may use codes of their own.
const (
	CodeBadJSON       Code = "bad_json"
	CodeBadRequest    Code = "bad_request"
	CodeUnknownType   Code = "unknown_type"
	CodeUnknownMethod Code = "unknown_method"
	CodeInvalid       Code = "invalid"
	CodeNotMember     Code = "not_member"
	CodeNotFound      Code = "not_found"
	CodeForbidden     Code = "forbidden"
	CodeTooLarge      Code = "too_large"
	CodeRateLimited   Code = "rate_limited"
	CodeLimit         Code = "limit"
	CodeUnavailable   Code = "unavailable"
	CodeClosing       Code = "closing"
	CodeBadSession    Code = "bad_session"
	CodeInternal      Code = "internal"
)

// Why a position could not be resumed from: the code of a history or inbox (P4.5), or of a refused mark (P8.4).
const (
	codeGone  Code = "gone"  // what was missed is not all kept, or too much
	codeReset Code = "reset" // the position is of another log
	codeAhead Code = "ahead" // the position lies after the newest message
)

// Error is an error meant for the client: handlers, hooks and Authorize return
// one to choose what the client is told. Any other error of theirs reaches the
// client as CodeInternal (or CodeForbidden from Authorize) with a fixed text,
// and its own text goes to the log.
type Error struct {
	Code    Code
	Message string // says what to do; shown to the client as it is
}

// NewError returns an error that a client is told.
func NewError(code Code, message string) *Error { return &Error{Code: code, Message: message} }

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }
