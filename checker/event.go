package checker

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-go/parley"
)

// Kind says what an Event is about.
type Kind string

// What happens to a message on its way in.
const (
	Send    Kind = "send"    // handed to the server: ID, Topic, User, ClientID, Code "signal" if it is one; once, however often it is sent again
	Sent    Kind = "sent"    // acknowledged: ID, Topic, Place
	Refused Kind = "refused" // surely not accepted: ID, Topic, Code
	Lost    Kind = "lost"    // nobody knows what became of it: ID, Topic, Code
	Stored  Kind = "stored"  // the Store took it: ID, Topic, Place
	Failed  Kind = "failed"  // the Store returned an error: ID, Topic
)

// What happens to a connection. Client, Conn and User are set.
const (
	Dial      Kind = "dial"
	Connected Kind = "connected" // ClientID, Node; Recovered tells whether the session was resumed, if it was offered
	Closed    Kind = "closed"    // Code
	Replaced  Kind = "replaced"  // the client has turned to another connection and only watches this one
	Kick      Kind = "kick"      // DisconnectUser is called: User, Node
	Kicked    Kind = "kicked"    // and has returned: Code is empty if that was on all nodes, else what may be expected, see kickedHere
)

// What the application does to memberships. Topic, User, Node and ID are set.
const (
	Add     Kind = "add"     // AddUser is called
	Added   Kind = "added"   // and has returned: Code as for Kicked
	Remove  Kind = "remove"  // RemoveUser is called, with the ID as reason
	Removed Kind = "removed" // likewise
)

// What a client sees of a topic. Client, Conn and Topic are set.
const (
	Join    Kind = "join"    // asked for, from Offered if that is not nil
	Base    Kind = "base"    // where the client stands from now on: Place, Recovered, Code, Entries
	Reached Kind = "reached" // everything up to Place has come, says a client that sorts by itself
	Deliver Kind = "deliver" // one live message: ID, User is its sender, Place unless the topic keeps nothing
	Leave   Kind = "leave"   // asked for
	Left    Kind = "left"    // acknowledged
	Ousted  Kind = "ousted"  // the client is told that the application has ended the membership: ID is that of the Remove
	Dropped Kind = "dropped" // the client gave the topic up by itself, without a connection
	Stray   Kind = "stray"   // a message on a connection that was replaced
	Roster  Kind = "roster"  // presence: Users are there
	Came    Kind = "came"    // presence: Users have come
	Went    Kind = "went"    // presence: Users have gone
	Told    Kind = "told"    // a system message: User, Code "joined" or "left"
	Signal  Kind = "signal"  // ID, User
	Page    Kind = "page"    // a page of history that was asked for: Place, Entries
)

// The rest.
const (
	Ask      Kind = "ask"      // a request that is answered exactly once on this connection: ID
	Answered Kind = "answered" // ID
	Fault    Kind = "fault"    // what was done to the network, a node or the Store: Code
	Started  Kind = "started"  // a hub has been started on Node, which remembers nothing of the one before
	Wiped    Kind = "wiped"    // the Store is about to lose everything
	Epoch    Kind = "epoch"    // a Store that does not write down what it takes has answered with a log of Topic of this epoch, for the first time, or has appended to it: Place
	Synced   Kind = "synced"   // the clients that are Present have had a healthy connection since event Since, long enough for all that was acknowledged before to come
	Reaches  Kind = "reaches"  // message ID, which is kept nowhere, has been sent to Topic when all was quiet, some time ago: the clients that are Present are there
	Quiet    Kind = "quiet"    // nothing is under way, every client is connected and has joined what it wants
	Members  Kind = "members"  // the users who are in Topic, by their own account: Users, and Present, the clients
	Flushed  Kind = "flushed"  // the log of Topic ends at Place, nothing is under way
)

// What becomes of the read state of an inbox. Topic is set. Client is who asks, or sees.
const (
	Mark      Kind = "mark"      // asked for: ID, Mark; Code "bad" if it says nothing that could be done
	MarkDone  Kind = "markdone"  // acknowledged: ID, Count, Place has the epoch, if that is told
	MarkNo    Kind = "markno"    // refused: ID, Code
	MarkLost  Kind = "marklost"  // nobody knows what became of it: ID, Code
	Applied   Kind = "applied"   // the Store has done with Mark what it could: Spans are what is changed, Count, Place is the end of the log
	Unapplied Kind = "unapplied" // the Store returned an error: Mark
	News      Kind = "news"      // a device is told that Spans have the state Mark.As now: Count, Place has the epoch
	State     Kind = "state"     // a device is told how all stands: Place, Count, Inbox
	Counted   Kind = "counted"   // how many are unread, by the account of a client: Count
	Stands    Kind = "stands"    // nothing is under way, and the Store has this: Place, Count, Inbox, First, Expired. Code says what has led to it
	Everyone  Kind = "everyone"  // a notification to an audience, ID, is in so many inboxes: Version of Count
)

// What becomes of entries that no device has received. Topic and Place are set.
const (
	Taken  Kind = "taken"  // Store.Overdue has returned it
	Hook   Kind = "hook"   // Hooks.Undelivered is called: ID, Node
	Hooked Kind = "hooked" // and has returned: Code is not empty if it failed
)

// Codes of Kicked and Removed: what may be expected after an error.
const (
	kickedHere  = "here"  // it is done on this node; others may never hear of it
	kickedLater = "later" // the others do it as soon as they hear of it
	kickedEnd   = "end"   // this node is being shut down, which ends all of its connections; the others may never hear of it
)

// App is the Client of what the application itself does.
const App = -1

// Place is a position in the log of a topic.
type Place struct {
	Epoch  string
	Offset int64
}

func (p Place) String() string { return fmt.Sprintf("%s:%d", p.Epoch, p.Offset) }

// Answer is a yes, a no, or nothing said.
type Answer int8

// The values of Answer.
const (
	Unsaid Answer = iota
	Yes
	No
)

// Seen is one message of a history.
type Seen struct {
	Place Place
	ID    string
	User  string // its sender
	Own   bool   // see Event
	Label string // the kind of a notification
	// Expired: only the place is left. ID, User and Label are empty.
	Expired bool
}

// Event is one line of a history. Which fields are set depends on Kind.
type Event struct {
	N         int           // place in the history, from 1
	At        time.Duration // since the start
	Kind      Kind
	Client    int // App for the application
	Conn      int // numbers connections over all clients, from 1
	Node      int
	Topic     string
	ID        string
	User      string
	ClientID  string
	Code      string
	Place     Place
	Offered   *Place
	Recovered Answer
	Own       bool // a broadcast of this client itself, which it does not hand out
	Given     bool // a Base of a room that the application has made the client a member of, perhaps once more; a gap there may answer a join as well
	Asked     bool // a Base that answers a Join or a connection, not one that comes by itself
	Entries   []Seen
	Users     []string
	Present   []int // of Members: the clients that these users are there with; also of others
	Since     int   // of Synced

	// Of inboxes.
	Label     string        // of a Send or Deliver: the kind of a notification; of Kicked: the error
	TTL       time.Duration // of a Send or Stored
	ReceiveIn time.Duration // likewise: when Hooks.Undelivered hears of it
	Expired   bool          // a Deliver of nothing but a place
	Count     *Count
	Mark      *Marking
	Spans     []parley.Span
	Inbox     *Standing
	First     int64 // of Stands: the oldest entry that is kept
}

func (e Event) String() string {
	var b strings.Builder
	who := fmt.Sprintf("c%d", e.Client)
	if e.Client == App {
		who = "app"
	}
	fmt.Fprintf(&b, "%5d %9s %-4s %-9s", e.N, e.At.Truncate(time.Millisecond), who, e.Kind)
	field := func(name string, set bool, value any) {
		if set {
			fmt.Fprintf(&b, " %s=%v", name, value)
		}
	}
	field("conn", e.Conn != 0, e.Conn)
	field("node", e.Kind == Connected || e.Kind == Kick || e.Kind == Add || e.Kind == Remove || e.Kind == Started || e.Kind == Hook, e.Node)
	field("topic", e.Topic != "", e.Topic)
	field("id", e.ID != "", e.ID)
	field("user", e.User != "", e.User)
	field("clientId", e.ClientID != "", e.ClientID)
	field("code", e.Code != "", e.Code)
	field("place", e.Place != Place{}, e.Place)
	if e.Offered != nil {
		field("offered", true, *e.Offered)
	}
	field("recovered", e.Recovered != Unsaid, e.Recovered == Yes)
	field("own", e.Own, true)
	field("given", e.Given, true)
	field("mark", e.Mark != nil, e.Mark)
	field("spans", len(e.Spans) > 0, e.Spans)
	field("count", e.Count != nil, e.Count)
	field("inbox", e.Inbox != nil, e.Inbox)
	field("ttl", e.TTL != 0, e.TTL)
	field("receiveIn", e.ReceiveIn != 0, e.ReceiveIn)
	field("expired", e.Expired, true)
	field("present", len(e.Present) > 0, e.Present)
	field("since", e.Since != 0, e.Since)
	field("label", e.Label != "", e.Label)
	field("first", e.First != 0, e.First)
	for _, s := range e.Entries {
		name := s.ID
		if s.Expired {
			name = "expired"
		}
		fmt.Fprintf(&b, " [%d %s]", s.Place.Offset, name)
	}
	field("users", len(e.Users) > 0, e.Users)
	return b.String()
}

// Recorder collects events. It may be used by several goroutines at once.
type Recorder struct {
	start time.Time

	mu     sync.Mutex // guards events
	events []Event
}

// NewRecorder returns a Recorder whose time starts now.
func NewRecorder() *Recorder { return &Recorder{start: time.Now()} }

// Add appends an event and returns its place.
func (r *Recorder) Add(e Event) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.N, e.At = len(r.events)+1, time.Since(r.start)
	r.events = append(r.events, e)
	return e.N
}

// Events returns a copy of what was collected.
func (r *Recorder) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}
