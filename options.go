package parley

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"time"
)

// Options configure a Hub. Only Authenticator must be set; every other zero
// value is a good default. Options are read once, by New.
type Options struct {
	// Authenticator decides who connects. Required: use AllowAnonymous to let everyone in.
	Authenticator Authenticator

	// Authorize is asked before a client's wish is carried out, after the
	// rules of the hub itself (sending, signals, history and presence need
	// membership; broadcasts need ClientBroadcast). It can only narrow them.
	// Nil allows what the hub's rules allow.
	Authorize AuthorizeFunc

	// ClientBroadcast lets clients broadcast to everybody. Default: refused.
	ClientBroadcast bool

	// Origins are the web origins ("https://app.example.com", with the port
	// if it is not the default one) that may connect besides the hub's own, which is the same host and
	// the same scheme. Compared exactly, without wildcards. Requests without an
	// Origin header, which browsers never send, are let in unless RequireOrigin is set.
	Origins       []string
	RequireOrigin bool
	// Hosts are the values of the Host header that are served ("app.example.com",
	// with the port if there is one), without scheme or wildcard. Setting it defeats DNS rebinding. Empty: any host.
	Hosts []string
	// Secure says how to find out whether the client used https, for the
	// "same scheme" comparison, behind a proxy that ends TLS. Default: r.TLS != nil,
	// and for requests without TLS an https Origin of the same host is accepted too,
	// because a TLS proxy is the usual reason for it.
	Secure func(r *http.Request) bool

	// Store keeps history and presence. Default: NewMemoryStore(), which holds
	// up to 256 MiB in the process.
	Store Store
	// StoreTimeout bounds every call of the Store. Default 5 s. Store.Append gets up to an eighth less, because calls share contexts.
	StoreTimeout time.Duration
	// Broker connects several nodes, which share Store, too. Default nil: this is the only node.
	Broker Broker
	// NodeName names this node in Hub.Nodes, errors and logs, for people: at most 64 bytes. Default: an id that is new for each hub.
	NodeName string
	// SyncInterval is how often the topics in use on this node are compared with the Store, by one call of Store.Heads
	// for each 512 of them. With a Broker only: what it has lost comes at most so much later, plus the time of
	// two calls of the Store. Default 3 s.
	SyncInterval time.Duration
	// TrackPresence keeps in the Store which identified users are connected, for Hub.Status; set it on all nodes or none. Members of rooms are known without it. It costs a write when a user comes
	// and goes, and one every 20 s for each 500 connected users. Default: off.
	TrackPresence bool

	// Room configures a room by its name; it is called when the room comes
	// into use and must always answer the same for the same name. Nil: the
	// zero RoomConfig for every room.
	Room func(name string) RoomConfig
	// Inbox is how much is kept for each identified user: notifications and
	// private messages. Default 100 messages, 1 MiB, 7 days. Nothing is kept for anonymous users. Whoever fills an
	// inbox pushes out what is oldest, and the user is told that something unread went (P8.3).
	Inbox Retention
	// UserExists is asked before something is stored for a user who is not connected to this node. Nil: the application
	// is trusted to notify only users who exist, and clients can send private messages only to users who are connected; but with
	// a Broker, as they may be so on another node, to any id, as far as PrivateQuota goes: set it there. An error fails the send. It runs without any lock held.
	UserExists func(ctx context.Context, userID string) (bool, error)
	// PrivateQuota is how many private messages a user may send in an hour to users who are not
	// connected to this node, over all connections to it; anonymous users of one ClientIP share one. More are refused with CodeLimit. What goes to users
	// who are connected is bounded by RateLimit alone; Authorize can narrow it. Default 60, and 1,200 with a
	// Broker and without TrackPresence, where those on other nodes count as not connected; negative: no limit.
	PrivateQuota int
	// UndeliveredAfter is the time after which Hooks.Undelivered hears of what no device has received. Default 1 min; negative: only of
	// sends with WithUndeliveredAfter. Without the hook it has no effect. The hook is called up to a quarter of this time later, and up to 5 s.
	UndeliveredAfter time.Duration
	// TrackUsers adds every identified user who connects to Hub.KnownUsers, with a write to the Store at most once an hour a user and node. Default: off.
	TrackUsers bool
	// BroadcastHistory is how much is kept of broadcasts, if its Messages is set. Default: nothing. An Age of 0 is no bound.
	BroadcastHistory Retention

	// MaxMessageSize is the largest message taken from a client, in bytes. Default 64 KiB.
	MaxMessageSize int
	// AssemblyTimeout is how long a message may take from its first byte to
	// its last. Default 10 s.
	AssemblyTimeout time.Duration
	// QueueSize is how many bytes may wait for a slow connection before it is
	// closed with code 4001. Default 1 MiB.
	QueueSize int
	// QueueBudget is how many bytes may wait for all connections together that
	// have been behind for a second or more; a message that waits for many counts once.
	// Above it those that have been behind the longest are closed with code 4001. Default
	// 256 MiB, or QueueSize if that is more.
	QueueBudget int
	// PingInterval is the heartbeat. Default 30 s, because proxies cut idle
	// connections at 60 s.
	PingInterval time.Duration
	// CloseTimeout is how long a closing connection waits for queued messages
	// to be written and for the peer's close frame. Default 1 s. One that is
	// closed for reading too slowly (4001) gets ten times as long, to be told so.
	CloseTimeout time.Duration
	// SessionWindow is how long after its connection ended a v1 client can come back
	// and keep its client id (P1.9). Default 2 min, which is IdempotencyWindow.
	SessionWindow time.Duration
	// SessionKey signs the sessions of v1 clients. Nodes with the same key, and a
	// process that is started again with it, accept each other's sessions for 24 hours, so that clients keep
	// their client ids, and anonymous ones their user ids. At least 32 bytes from a
	// secure random source, kept secret; a new key costs clients no more than their client ids.
	// Default: a random one, which ends with the hub.
	SessionKey []byte
	// LeaveGrace is how long a v1 client that lost its connection stays in
	// its rooms (P3.6). Default 10 s; negative: none.
	LeaveGrace time.Duration
	// RetryWindow is the time over which clients are told to spread their
	// reconnects after Shutdown. Default 5 s.
	RetryWindow time.Duration

	// RateLimit is the number of messages per second a connection may send,
	// RateBurst how many at once. Default 50 and 200. Negative RateLimit: no limit.
	// Each 4 KiB of a message, and each 16 KiB of history asked for, counts as one more.
	RateLimit float64
	RateBurst int
	// MaxConnections refuses connections above it with 503. Default 0: none but the
	// operating system's. MaxPerUser does so per identified user with 429;
	// default 16, negative: no limit. MaxPerIP does so per ClientIP; default 0: no limit.
	MaxConnections int
	MaxPerUser     int
	MaxPerIP       int
	// ClientIP finds the address of the client, for MaxPerIP. Default: the
	// host part of r.RemoteAddr. Read a header of a proxy only if that proxy always sets it.
	ClientIP func(r *http.Request) string
	// MaxRooms is how many rooms one connection may be in. Default 128.
	MaxRooms int

	// Compression offers permessage-deflate (without context takeover) for
	// messages of 512 bytes and more. Default off: it costs CPU, 0.3 ms a large message,
	// and a message that mixes secrets with text of an attacker can be guessed by its length (CRIME).
	Compression bool

	// Hooks are called at events; each may be nil.
	Hooks Hooks
	// Logger gets structured logs without payloads. Default slog.Default().
	Logger *slog.Logger
}

// RoomConfig configures a room. The zero value is the default.
type RoomConfig struct {
	// History is how much is kept. Default 100 messages, 24 h, whatever their size; Messages < 0: nothing.
	History Retention
	// AnnounceLimit is up to how many connections in the room on this node joins and leaves are told by
	// system messages (P3.5); each costs a message to everyone. Default 256; negative: never.
	AnnounceLimit int
}

// Hooks are the application's ears. Each is called without any lock held, so
// it may call every method of the hub. A panic in a hook closes the
// connection it served with code 1011, and nothing else.
type Hooks struct {
	// Connect runs after the connection is registered and its "connected"
	// message is queued: what it sends comes after that. Messages of the
	// client wait until it returns, those of others do not. An error closes the
	// connection with code 4100 and, for an *Error, with its text as reason.
	Connect func(ctx context.Context, c *Conn) error
	// Disconnect runs once for each connection whose Connect was called,
	// after it has left its rooms, except those it keeps for LeaveGrace.
	Disconnect func(c *Conn, code CloseCode)
	// Drop runs when a connection did not get messages because it reads too
	// slowly: in a goroutine of its own, one call at a time for a connection, perhaps beside and after its other hooks.
	Drop func(c *Conn, d Drop)
	// Join and Leave run when a connection has become a member of a room and
	// when it has ceased to be one.
	Join  func(ctx context.Context, c *Conn, room *Room)
	Leave func(c *Conn, room *Room)
	// Undelivered runs when a notification or private message has waited for Options.UndeliveredAfter
	// and no device of the user has received it, to send an e-mail or a push: once per cluster, in a goroutine of its own. ctx ends after 45
	// s or with Shutdown. After an error, a panic, a longer run or the end of the process it runs again, a minute later or on another
	// node: a provider's idempotency key can be made of Inbox.Epoch and Entry.Offset. With this hook v1 clients send receipts (P8.6);
	// plain clients cannot, so for users who have only these it runs always. Set it on all nodes or none: one without it asks for
	// no receipts. What Options.Inbox pushed out, or what expired, before the time was over is not told.
	Undelivered func(ctx context.Context, u Undelivered) error
	// Message runs before a client's room message, private message or
	// broadcast is accepted, after Authorize. An error refuses it, see Error. It runs for one message of
	// a connection at a time, in order; messages to the same room before it may not be stored yet.
	Message func(ctx context.Context, c *Conn, m ClientMessage) error
}

// ClientMessage is what Hooks.Message sees.
type ClientMessage struct {
	Verb    Verb   // VerbSend, VerbPrivate or VerbBroadcast
	Room    string // for VerbSend
	Target  string // for VerbPrivate
	ID      string // the client's id of the message, may be empty
	Content []byte // JSON; must not be changed or kept
}

const (
	defaultAnnounceLimit = 256
	defaultHistory       = 100
)

// setDefaults fills zero fields and reports what cannot work.
func (o *Options) setDefaults() error {
	if o.Authenticator == nil {
		return errors.New("parley: Options.Authenticator is nil: set your own, or parley.AllowAnonymous to let everyone in")
	}
	for _, origin := range o.Origins {
		if normalOrigin(origin) == "" {
			return fmt.Errorf("parley: Options.Origins: %q is not of the form scheme://host[:port]", origin)
		}
	}
	for _, host := range o.Hosts {
		if strings.ContainsAny(host, "/*@ ") || host == "" {
			return fmt.Errorf("parley: Options.Hosts: %q is not of the form host[:port], as in the Host header", host)
		}
	}
	if o.NodeName != "" && !validName(o.NodeName, maxShortName) {
		return fmt.Errorf("parley: Options.NodeName: %q is longer than %d bytes, or has control characters", o.NodeName, maxShortName)
	}
	if o.Broker != nil && o.Store == nil {
		return errors.New("parley: Options.Broker is set, but Options.Store is not: nodes need a Store that they share")
	}
	if o.Store == nil {
		o.Store = NewMemoryStore()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Inbox = o.Inbox.orElse(defaultInbox)
	o.BroadcastHistory = o.BroadcastHistory.orElse(Retention{})
	or(&o.StoreTimeout, 5*time.Second)
	or(&o.SyncInterval, 3*time.Second)
	or(&o.MaxMessageSize, 64<<10)
	or(&o.AssemblyTimeout, 10*time.Second)
	or(&o.QueueSize, 1<<20)
	or(&o.QueueBudget, max(256<<20, o.QueueSize))
	or(&o.PingInterval, 30*time.Second)
	or(&o.CloseTimeout, time.Second)
	or(&o.SessionWindow, IdempotencyWindow)
	or(&o.LeaveGrace, 10*time.Second)
	or(&o.RetryWindow, 5*time.Second)
	or(&o.RateLimit, 50)
	or(&o.RateBurst, 200)
	or(&o.MaxPerUser, 16)
	if o.Broker != nil && !o.TrackPresence {
		or(&o.PrivateQuota, 1200)
	}
	or(&o.PrivateQuota, 60)
	or(&o.UndeliveredAfter, time.Minute)
	or(&o.MaxRooms, 128)
	return o.check()
}

// check refuses values that could only be mistakes: a size or time that is
// negative does not mean "unlimited".
func (o *Options) check() error {
	for _, v := range []struct {
		name string
		ok   bool
	}{
		{"StoreTimeout (more than 0)", o.StoreTimeout > 0},
		{"SyncInterval (at least 10 ms)", o.SyncInterval >= 10*time.Millisecond},
		{"MaxMessageSize (at least 1)", o.MaxMessageSize > 0},
		{"AssemblyTimeout (more than 0)", o.AssemblyTimeout > 0},
		{fmt.Sprintf("PingInterval (at least %d ms)", beatPhases), o.PingInterval >= beatPhases*time.Millisecond},
		{"CloseTimeout (more than 0)", o.CloseTimeout > 0},
		{"RetryWindow (more than 0)", o.RetryWindow > 0},
		{"QueueBudget (it must hold one queue of QueueSize)", o.QueueBudget >= o.QueueSize},
		{"SessionWindow (more than 0)", o.SessionWindow > 0},
		{"SessionKey (at least 32 bytes)", len(o.SessionKey) == 0 || len(o.SessionKey) >= 32},
		{"RateLimit (a number, of messages per second)", !math.IsNaN(o.RateLimit)},
		{"RateBurst (at least 1)", o.RateBurst > 0},
		{"MaxRooms (at least 1)", o.MaxRooms > 0},
		{"QueueSize (it must hold four messages of MaxMessageSize)", o.QueueSize >= 4*o.MaxMessageSize},
		{"QueueSize (40 bytes for each of Inbox.Messages: the read state goes with the first page)", o.QueueSize >= 40*o.Inbox.Messages},
	} {
		if !v.ok {
			return fmt.Errorf("parley: Options.%s is out of range", v.name)
		}
	}
	return nil
}

func or[T int | time.Duration | float64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
