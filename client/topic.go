package client

// Position is a place in the log of a topic: a room, the inbox of a user, or
// the broadcast. The zero value is no position. It can be kept as JSON.
type Position struct {
	// Epoch names the log; the server chooses it, and changes it when it lost the log.
	Epoch string `json:"epoch"`
	// Offset counts the messages of the log from 1.
	Offset int64 `json:"offset"`
}

// IsZero reports whether p is no position.
func (p Position) IsZero() bool { return p.Epoch == "" }

// topic is how far the client has come in a log. Guarded by Client.mu.
type topic struct {
	read   Position // the last message that was queued for the handlers
	handed Position // the last message that a handler was called for
	// handled is the last message that handlers have returned from. Kept for the inbox only.
	handled Position
}

type order uint8

const (
	next order = iota // follows on the last message, or has no position
	old               // was there already
	hole              // something is missing before it
)

// place tells what a live message is to the topic.
func (t *topic) place(at Position) order {
	switch {
	case at.IsZero() || t.read.IsZero():
		return next
	case at.Epoch != t.read.Epoch || at.Offset > t.read.Offset+1:
		return hole
	case at.Offset <= t.read.Offset:
		return old
	default:
		return next
	}
}

// missed returns those entries of a history or inbox that the topic has not
// seen. whole is false if there were others that the server does not have any more. Its
// word "recovered" is not enough: the offsets must close the hole.
func (t *topic) missed(h *inbound) (entries []inbound, whole bool) {
	if t.read.IsZero() || h.at.Epoch != t.read.Epoch || h.recovered == no {
		return nil, false
	}
	last := t.read.Offset
	for _, e := range h.messages {
		if e.at.Epoch == h.at.Epoch && e.at.Offset == last+1 {
			entries = append(entries, e)
			last++
		}
	}
	return entries, last == h.at.Offset
}

// gap describes what missed found lost.
func (t *topic) gap(h *inbound) Gap {
	code := h.code
	switch {
	case code != "" || t.read.IsZero() || h.at.IsZero():
	case h.at.Epoch != t.read.Epoch:
		code = CodeReset
	case h.at.Offset < t.read.Offset:
		code = CodeAhead
	default:
		code = CodeGone
	}
	return Gap{Code: code, Last: t.read}
}
