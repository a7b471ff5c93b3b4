package checker

import (
	"fmt"
	"slices"
	"time"
)

const (
	// closeReplaced says that another connection has the session.
	closeReplaced = "4103"
	// sessionTime is surely shorter than a session lives after its connection:
	// that may have ended for the server some time before the client knew.
	sessionTime = time.Minute
	// receiptTime is how long an answer may take on clocks that do not stand still while all is quiet: a
	// client says then, too, what it has received.
	receiptTime = 5 * time.Second
)

// forGood reports whether a close code tells a client not to come back (docs/protocol.md, section 7).
func forGood(code string) bool {
	switch code {
	case "1000", "1002", "1003", "1007", "1008", "1009":
		return true
	}
	return len(code) == 4 && code >= "4100" && code < "4200"
}

// connection is what is known of one while a history is judged.
type connection struct {
	connected Event
	closed    Event
	kicked    Event // DisconnectUser has returned for its user, and has reached its node, after it was there
	ordered   Event // likewise, but it may take some time to reach its node
	replaced  bool
	successor Event // the Connected of the connection that resumed its session
}

// checkConnections judges P9 for connections: nothing comes after
// DisconnectUser has returned or another connection has resumed the session, and
// no session is resumed that was ended.
func (j *judge) checkConnections() {
	conns := make(map[int]*connection)
	latest := make(map[int]int) // by client: its newest connection
	kicks := make(map[string]Event)
	started := make(map[int]Event)
	kicked := make(map[string]Event) // by user: the last time
	for _, e := range j.history.Events {
		c := conns[e.Conn]
		switch e.Kind {
		case Started:
			started[e.Node] = e
		case Connected:
			j.resumes(conns[latest[e.Client]], started[e.Node], kicked[e.User], e)
			conns[e.Conn], latest[e.Client] = &connection{connected: e}, e.Conn
		case Replaced:
			if c != nil {
				c.replaced = true
			}
		case Closed:
			if c != nil {
				c.closed = e
				if e.Code == closeReplaced && !c.replaced {
					j.fault("P9", "a connection was ended as replaced, but its client has no other", c.connected, e)
				}
			}
		case Kick:
			kicks[fmt.Sprint(e.User, " ", e.Node, " ", e.ID)] = e
		case Kicked:
			kicked[e.User] = e
			called := kicks[fmt.Sprint(e.User, " ", e.Node, " ", e.ID)]
			for _, c := range conns {
				if c.connected.User == e.User && c.connected.N < called.N {
					c.disconnected(e, c.connected.Node == e.Node && c.connected.N > started[e.Node].N)
				}
			}
		case Synced:
			j.obeyed(conns, latest, e)
		case Deliver, Stray, Signal:
			if c != nil {
				j.late(c, e)
			}
		case Quiet:
			j.ended(conns, e)
		}
	}
}

// disconnected notes that DisconnectUser has returned. here says that it was called on the node of the connection.
func (c *connection) disconnected(e Event, here bool) {
	switch {
	case e.Code == kickedEnd && here, kicksEverywhere && e.Code == kickedLater && !here:
		if c.ordered.N == 0 {
			c.ordered = e
		}
	case e.Code == kickedEnd:
	case here || kicksEverywhere && e.Code == "":
		c.kicked = e
	}
}

// obeyed judges that nodes that were not reached at first have learned of it.
func (j *judge) obeyed(conns map[int]*connection, latest map[int]int, e Event) {
	for _, client := range e.Present {
		if c := conns[latest[client]]; c != nil && c.ordered.N > 0 && c.ordered.N < e.Since {
			j.ordered(c, e)
		}
	}
}

// ordered judges a connection that was to be closed some time ago. What was stored of that may be lost.
func (j *judge) ordered(c *connection, e Event) {
	lost := slices.ContainsFunc(j.wipes, func(w Event) bool { return w.At > c.ordered.At-sessionTime && w.N < e.N })
	if c.closed.N == 0 && !lost {
		j.fault("P9", "a connection of a disconnected user is still open, on a node that should have heard of it by now", c.connected, c.ordered, e)
	}
}

// resumes judges a session that a client came back with. Of an earlier hub a
// new one knows only that it has given the session.
func (j *judge) resumes(old *connection, started, kicked, e Event) {
	if old == nil || e.Recovered == Unsaid {
		return
	}
	here := old.connected.Node == e.Node && old.connected.N > started.N
	switch {
	case e.Recovered == No:
		// Who was disconnected during its handshake may have learned neither of the one nor of the other.
		banned := kicked.N != 0 && kicked.At > old.connected.At-dialPatience
		if j.history.Nodes == 1 && !forGood(old.closed.Code) && !banned && e.At-old.closed.At < sessionTime {
			j.fault("P9", "a session was refused, although it was new", old.connected, old.closed, e)
		}
	case old.connected.ClientID != e.ClientID:
		j.fault("P9", "a session was resumed with another client id", old.connected, e)
	case here && forGood(old.closed.Code) && old.closed.Code != closeReplaced:
		j.fault("P9", "a session was resumed although it had been ended for good", old.closed, e)
	case here:
		old.successor = e
	}
}

// late judges a message by when it was sent: afterwards, or before and only read late.
func (j *judge) late(c *connection, e Event) {
	m := j.messages[e.ID]
	switch {
	case m == nil:
	case c.kicked.N != 0 && m.send.N > c.kicked.N:
		j.fault("P9", "a message that was sent after the user had been disconnected", c.connected, c.kicked, m.send, e)
	case e.Kind == Stray && c.successor.N != 0 && m.send.N > c.successor.N:
		j.fault("P9", "a message that was sent after another connection had resumed the session", c.connected, c.successor, m.send, e)
	}
}

// ended checks that connections whose end was ordered are closed by now.
func (j *judge) ended(conns map[int]*connection, quiet Event) {
	for _, c := range conns {
		switch {
		case c.closed.N != 0:
		case c.kicked.N != 0:
			j.fault("P9", "a connection of a disconnected user is still open", c.connected, c.kicked, quiet)
		case c.successor.N != 0:
			j.fault("P9", "a connection whose session another one has resumed is still open", c.connected, c.successor, quiet)
		case c.ordered.N != 0:
			j.ordered(c, quiet)
		}
	}
}

// checkAnswers judges that every request is answered once, on the connection
// that it was made on, if that lasts (P4.1 of the protocol).
func (j *judge) checkAnswers() {
	type key struct {
		conn int
		id   string
	}
	asked, answered, closed := make(map[key]Event), make(map[key]Event), make(map[int]bool)
	var order []key
	for _, e := range j.history.Events {
		k := key{e.Conn, e.ID}
		switch e.Kind {
		case Ask:
			asked[k] = e
			order = append(order, k)
		case Answered:
			if asked[k].N == 0 {
				j.fault("P1", "an answer to a question that was not asked", e)
			} else if answered[k].N != 0 {
				j.fault("P2", "a second answer", asked[k], answered[k], e)
			}
			answered[k] = e
		case Closed, Replaced:
			closed[e.Conn] = true
		case Quiet:
			var recent []key
			for _, k := range order {
				switch {
				case answered[k].N != 0 || closed[k.conn]:
				case j.history.Slack > 0 && e.At-asked[k].At < receiptTime:
					recent = append(recent, k)
				default:
					j.fault("P4", "a request that is not answered", asked[k], e)
				}
			}
			order = recent
		}
	}
}
