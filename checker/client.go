package checker

import (
	"context"
	"time"

	"github.com/parley-go/parley/parleytest"
)

// client is one device of a user in a run. Its methods do not wait, except Stop.
type client interface {
	// Join and Leave say what rooms are wanted; from asks to go on from where the
	// room was left, if it was.
	Join(room string, from bool)
	Leave(room string)
	// Send sends a message and returns a channel that is closed when its fate
	// is known, or nil if it cannot be sent by this client.
	Send(s sending) <-chan struct{}
	// Ask makes a request that is answered once.
	Ask(question, room string)
	// Mark changes the read state of its inbox.
	Mark(m marking)
	// Away loses the connection, and does not come back for some time.
	Away(d time.Duration)
	// Counted is how many entries of the inbox are unread, by its own account, if it has one.
	Counted() *Count
	// Takeover opens another connection although there is one.
	Takeover()
	// Link is the current connection's, nil if there is none.
	Link() *parleytest.Link
	// Back lets a client come back that was told not to.
	Back(oldSession bool)
	// Rest reports what the client still waits for, "" for nothing.
	Rest() string
	// Rooms returns the rooms it is in by its own account, User the user that it is.
	Rooms() []string
	User() string
	ClientID() string
	Stop()
}

// sending is one message that a client is to send.
type sending struct {
	ID     string
	Kind   string // "message", "broadcast", "private" or "signal"
	Target string // room, user or client id
	Topic  string
	Size   int // bytes of padding
}

// surroundings are what clients need of the run.
type surroundings struct {
	*Recorder
	dial    func(ctx context.Context, node int) (*parleytest.Conn, error)
	nodes   int
	silence time.Duration // how much longer than the server's ping interval a client waits for a sign of life
	keeps   func(topic string) bool
	connect func() int // numbers a connection
}

const (
	// dialPatience is how long an attempt to connect may take.
	dialPatience = 10 * time.Second
	// resendWindow is how long after a message was first sent it may be sent
	// again: shorter than the server knows its id (P4.2 of the protocol).
	resendWindow = 100 * time.Second
)
