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
	// Bytes is how much their data may take altogether; the newest message is
	// kept in any case. Negative: without a bound.
	Bytes int64
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
	if r.Bytes == 0 {
		r.Bytes = d.Bytes
	}
	r.Age, r.Bytes = max(r.Age, 0), max(r.Bytes, 0) // a Store gets 0 for no bound
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
	// kept byte for byte. In a Page it is nil for an entry whose TTL has
	// passed, so that the offsets have no hole.
	Data []byte

	// The rest is for Append; Read leaves it unset.

	// Unread makes the entry count as unread until a Mark says otherwise, or
	// it leaves the log, or its TTL passes.
	Unread bool
	// TTL is how long the entry is kept at most, if that is less than
	// Retention.Age; 0: no bound of its own.
	TTL time.Duration
	// ReceiveIn makes Overdue return the entry if no Mark says within this
	// time that it was received or read; 0: never.
	ReceiveIn time.Duration
}

// Log tells how a log stands.
type Log struct {
	// Epoch names this incarnation of the log. It is never empty, also for a
	// topic that nothing was appended to.
	Epoch string
	// Unread is the number of entries kept that count as unread.
	Unread int
	// Version is the offset of the newest entry ever appended plus the number of Marks with a Marked.Changed:
	// of two values of Unread, that with the higher Version is the newer one, and whoever knows both numbers
	// notices a Mark that it has not heard of. It is never compared over epochs.
	Version int64
	// Truncated is the offset of the newest entry that was removed while it was
	// unread, to keep within Retention.Messages or Bytes; 0 if there is none. A Mark
	// that says up to this offset or further that entries are read or archived sets it to 0.
	Truncated int64
}

// Page is a stretch of a topic's log together with how the log stands, all read
// in one atomic step.
type Page struct {
	Log
	// First is the offset of the oldest entry still kept, Top that of the
	// newest ever appended. Without entries First is Top+1. Entries that are
	// trimmed late and that Read no longer returns do not count for First.
	First, Top int64
	// Entries are in ascending order of offset, without holes.
	Entries []Entry
	// Read and Archived are the entries of the whole log that are marked so, if
	// Query.Marks asks for them: ascending, and none touches the next. What is in
	// neither is unread, or was never counted.
	Read, Archived []Span
}

// Head is the end of a topic's log.
type Head struct {
	Log
	// Top is the offset of the newest entry ever appended.
	Top int64
}

// Span is a run of offsets, both ends included.
type Span struct{ From, To int64 }

// Mark is a change of the read state of entries.
type Mark struct {
	As MarkAs
	// Epoch is the epoch that UpTo and Offsets are of. Empty: whichever the log has.
	Epoch string
	// UpTo picks all entries up to an offset, Offsets and Keys those with one of
	// these offsets or keys (Entry.Key). All three together are picked. Entries that are
	// not kept (any more) are passed over.
	UpTo    int64
	Offsets []int64
	Keys    []string
}

// MarkAs is what a Mark makes of entries.
type MarkAs int

// The kinds of Mark. An entry that was appended without Unread is only ever received.
const (
	// MarkRead: read, if it was unread. An archived entry stays archived.
	MarkRead MarkAs = iota + 1
	// MarkUnread: unread again, and no longer archived.
	MarkUnread
	// MarkArchived: read, and put away.
	MarkArchived
	// MarkReceived: a device has it. That changes nothing but that Overdue no
	// longer returns it; MarkRead and MarkArchived imply it.
	MarkReceived
)

// Marked is what became of a Mark.
type Marked struct {
	Log
	// Top is the offset of the newest entry ever appended.
	Top int64
	// Changed are the entries whose state is another now, in the form of Page.Read.
	// Being received is no such change.
	Changed []Span
}

// OverdueEntry is an entry whose Entry.ReceiveIn has passed without a Mark.
type OverdueEntry struct {
	Topic string
	Epoch string
	Entry Entry
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
	// Marks asks for Page.Read and Page.Archived.
	Marks bool
}

// Member is a user in a room.
type Member struct {
	UserID string `json:"userId"`
	Name   string `json:"username"`
}

// UserStatus tells whether a user is connected.
type UserStatus struct {
	// Online: some node has the user, see Store.Connect.
	Online bool
	// Since is when the user came online, LastSeen the last sign of it, both in milliseconds since 1970 by the
	// clock of the Store. Since is 0 for users who are not online, LastSeen for users who are not known.
	Since, LastSeen int64
}

// LastSeenWindow is how long a Store remembers at least when it has last seen a user: what people may want to
// know about each other, and what keeps it from growing with everybody who has ever been there.
const LastSeenWindow = 30 * day

// IdempotencyWindow is how long a Store remembers the Key of an entry at
// least, unless the entry leaves the log earlier and the Store has to forget
// for want of space. Two minutes is what Ably grants for the same purpose; it
// covers a client's longest usual reconnect.
const IdempotencyWindow = 2 * time.Minute

// Store keeps the logs of topics, the read state of inboxes, the presence of rooms and of users, and the users of audiences. The hub is its
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
// Topics (up to 300 bytes), nodes, user ids, audiences and keys are opaque UTF-8, control characters included,
// compared byte by byte. They come partly from users: an implementation must keep them apart from its own keys.
type Store interface {
	// Append adds entries to the end of topic's log in one atomic step, in
	// order, and trims the log to keep. It sets Offset and Duplicate of each
	// entry in place, whatever they were, and returns how the log stands afterwards. Offsets are contiguous
	// over all Appends of an epoch, also those of other nodes. Without entries
	// it changes and creates nothing.
	//
	// An entry whose Key is not empty and was appended to this topic within
	// IdempotencyWindow, or earlier in the same call, is not stored: Duplicate
	// is set and Offset is that of the first one. Should the log have been
	// lost or dropped in between, the entry counts as new.
	//
	// keep.Messages is positive, keep.Bytes and keep.Age zero or positive; zero is no bound.
	// Trimming may lag behind, but Read never returns more than keep allowed
	// at the last Append, and never entries older than its Age. A Store that
	// runs out of its space may keep less than keep allows: it removes the
	// oldest entries of any topic, which raises First.
	Append(ctx context.Context, topic string, keep Retention, entries []Entry) (Log, error)

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

	// Heads returns how the logs of topics stand, in the order of topics: of each what a Read would say, in one atomic step for
	// each. For a topic that nothing was appended to, or whose log was dropped, it may return the zero Head instead.
	// Hubs of several nodes call it every few seconds for all their topics, up to 512 at once, to find what
	// the Broker has lost: it should be one round trip.
	Heads(ctx context.Context, topics []string) ([]Head, error)

	// Mark changes the read state of entries of topic in one atomic step, and
	// returns how the log stands afterwards: Unread is counted in the same step.
	//
	// Nothing changes if m.Epoch is neither empty nor that of the log, or if
	// UpTo or one of Offsets lies after Top; the caller tells by Epoch and Top. A topic that nothing
	// was appended to is no error and is not created. Keys are found as long as their entry is kept,
	// beyond IdempotencyWindow; of several entries with the same key all are picked.
	Mark(ctx context.Context, topic string, m Mark) (Marked, error)

	// Overdue returns up to limit entries, of any topic, whose ReceiveIn has passed
	// without a Mark that says that they were received or read, the longest overdue first, and puts each off by lease: until
	// that has passed no call returns it again, on whichever node. Entries that are no
	// longer kept, or whose TTL has passed, are not returned.
	Overdue(ctx context.Context, limit int, lease time.Duration) ([]OverdueEntry, error)

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

	// Connect records that users are connected to a node, until Disconnect or until lease, which is positive, has passed without a
	// further Connect, which replaces the lease. Who is connected to some node is online.
	Connect(ctx context.Context, node string, userIDs []string, lease time.Duration) error

	// Disconnect records that users are not connected to a node any more. Users that are not are no error.
	Disconnect(ctx context.Context, node string, userIDs []string) error

	// Status tells of users, in the order of userIDs, whether they are online. Since is when the first of the nodes
	// connected that have had them without a pause; a Connect after the last lease has ended begins anew. LastSeen is the time
	// of the last Connect or Disconnect, kept for LastSeenWindow.
	Status(ctx context.Context, userIDs []string) ([]UserStatus, error)

	// AddUsers puts users into an audience, RemoveUsers takes them out. Those that
	// are in it already, or are not, are no error. An audience without users does not exist.
	AddUsers(ctx context.Context, audience string, userIDs []string) error
	RemoveUsers(ctx context.Context, audience string, userIDs []string) error

	// Users returns up to limit users of an audience whose ids come after
	// after, in ascending byte order. limit is positive.
	Users(ctx context.Context, audience, after string, limit int) ([]string, error)
}
