package parley

import (
	"context"
	"time"
)

// Retention says how much of a topic's log is kept. The zero value of a field
// means the default that the surrounding option documents; a negative
// Messages means that nothing is kept, and the topic then has no positions.
type Retention struct {
	// Messages is how many of the newest messages are kept.
	Messages int
	// Age is how long a message is kept at most; negative: without a bound.
	Age time.Duration
}

// keeps reports whether anything is kept at all.
func (r Retention) keeps() bool { return r.Messages > 0 }

// orElse fills the zero fields of r from d.
func (r Retention) orElse(d Retention) Retention {
	if r.Messages == 0 {
		r.Messages = d.Messages
	}
	if r.Age == 0 {
		r.Age = d.Age
	}
	r.Age = max(r.Age, 0) // a Store gets 0 for no bound
	return r
}

// Entry is one message in the log of a topic.
type Entry struct {
	// Offset is the place in the log: 1 for the first entry of an epoch, then
	// one more each. Append sets it.
	Offset int64
	// Key, if not empty, identifies the message for the idempotency window:
	// a second entry with the same key is not stored. At most 400 bytes. Read leaves it unset.
	Key string
	// Duplicate is set by Append when Key was found; Offset is then that of
	// the entry stored first.
	Duplicate bool
	// Time is when the server took the message, in milliseconds since 1970.
	// Retention.Age does not count from it, but from the Append, by the Store's clock.
	Time int64
	// Data is the message, one JSON object, without offset and epoch. It is
	// kept byte for byte.
	Data []byte
}

// Page is a stretch of a topic's log together with the log's bounds, all read
// in one atomic step.
type Page struct {
	// Epoch names this incarnation of the log. It is never empty, also for a
	// topic that nothing was appended to.
	Epoch string
	// First is the offset of the oldest entry still kept, Top that of the
	// newest ever appended. Without entries First is Top+1. Entries that are
	// trimmed late and that Read no longer returns do not count for First.
	First, Top int64
	// Entries are in ascending order of offset, without holes.
	Entries []Entry
}

// Query picks a stretch of a topic's log. None of its numbers is ever negative.
type Query struct {
	// Forward picks the direction: true gives the oldest entries with an
	// offset above After, false the newest ones with an offset below Before.
	Forward bool
	After   int64
	// Before is ignored when Forward is set; 0 means "from the newest on".
	Before int64
	// Limit is the largest number of entries wanted; 0 gives the bounds only.
	Limit int
}

// Member is a user in a room.
type Member struct {
	UserID string `json:"userId"`
	Name   string `json:"username"`
}

// IdempotencyWindow is how long a Store remembers the Key of an entry at
// least, unless the entry leaves the log earlier and the Store has to forget
// for want of space. Two minutes is what Ably grants for the same purpose; it
// covers a client's longest usual reconnect.
const IdempotencyWindow = 2 * time.Minute

// Store keeps the logs of topics and the presence of rooms. The hub is its
// only caller. [NewMemoryStore] is the one for a single node; the storetest
// package checks any other against this contract.
//
// All methods may be called concurrently and honour ctx: they return an error
// that wraps ctx.Err() soon after it ended. An error means that
// the caller does not know whether the effect took place: the hub repeats an
// Append only with the same Keys. Implementations neither keep nor change
// slices that they were given after a call returned, and never change slices
// that they returned: the hub treats Entry.Data as immutable, too.
//
// Topics (up to 300 bytes), nodes, user ids and keys are opaque UTF-8, control characters included,
// compared byte by byte. They come partly from users: an implementation must keep them apart from its own keys.
type Store interface {
	// Append adds entries to the end of topic's log in one atomic step, in
	// order, and trims the log to keep. It sets Offset and Duplicate of each
	// entry in place, whatever they were, and returns the epoch of the log. Offsets are contiguous
	// over all Appends of an epoch, also those of other nodes. Without entries
	// it returns the epoch and creates nothing.
	//
	// An entry whose Key is not empty and was appended to this topic within
	// IdempotencyWindow, or earlier in the same call, is not stored: Duplicate
	// is set and Offset is that of the first one. Should the log have been
	// lost or dropped in between, the entry counts as new.
	//
	// keep.Messages is positive, keep.Age zero or positive; zero is no bound.
	// Trimming may lag behind, but Read never returns more than keep allowed
	// at the last Append, and never entries older than its Age. A Store that
	// runs out of its space may keep less than keep allows: it removes the
	// oldest entries of any topic, which raises First.
	Append(ctx context.Context, topic string, keep Retention, entries []Entry) (epoch string, err error)

	// Read returns a stretch of topic's log and its bounds. A topic that
	// nothing was appended to is no error: it has an epoch, First 1, Top 0.
	//
	// Epoch and Top only ever change together with the log: as long as the
	// log is kept, Top never falls; when it is lost, dropped or wiped, the
	// epoch becomes one that was never used for this topic before. Entries
	// that left the log by age do not lower Top. A Store may drop a log that
	// has had no entries for some time, not sooner than an hour after the
	// last one expired, or sooner when it runs out of its space, but never
	// while somebody is in the room. The first Append to a topic
	// uses the epoch that Read reported before, unless a log was dropped in between.
	Read(ctx context.Context, topic string, q Query) (Page, error)

	// Enter records that users are in a room on a node, until Leave or until
	// lease, which is positive, has passed without a further Enter. A repeated
	// Enter replaces lease and name.
	Enter(ctx context.Context, topic, node string, members []Member, lease time.Duration) error

	// Leave removes users from a room on a node. Users that are not there
	// are no error.
	Leave(ctx context.Context, topic, node string, userIDs []string) error

	// Members returns up to limit users of a room over all nodes, each once,
	// in ascending byte order of user id, and how many there are altogether. A
	// user on several nodes has the name of any of them, preferably the newest.
	Members(ctx context.Context, topic string, limit int) (members []Member, count int, err error)
}
