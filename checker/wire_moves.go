package checker

import (
	"slices"
	"time"
)

// given takes a room that the application has made the client a member of (P5.6).
func (c *wireClient) given(w *wireConn, r *wireRoom) {
	switch r.state {
	case roomLeaving:
		return // it leaves that, too
	case roomJoining:
		r.given = true
	case roomOut:
		r.state, r.want = roomIn, true
		if c.room(r.name) == nil {
			c.rooms = append(c.rooms, r)
		}
	}
	r.live = true
	c.getReady(w)
	c.flush()
}

// ousted takes the word that the application has ended the membership (P5.5).
func (c *wireClient) ousted(w *wireConn, m *wireMessage) {
	c.recordTopic(w, Event{Kind: Ousted, Topic: roomPrefix + m.Room, ID: m.Reason})
	r := c.room(m.Room)
	if r == nil {
		return
	}
	r.live = false
	switch r.state {
	case roomLeaving:
		return
	case roomJoining:
		r.want, r.ousted = false, true
		return
	}
	r.want, r.state = false, roomOut
	c.rooms = slices.DeleteFunc(c.rooms, func(other *wireRoom) bool { return other == r })
	c.getReady(w) // it may have waited for this room only
	c.flush()
}

// joined takes the answer to a join.
func (c *wireClient) joined(w *wireConn, r *wireRoom, failed bool) {
	given, ousted := r.given, r.ousted
	r.state, r.given, r.ousted = roomIn, false, false
	switch {
	case failed && (!r.live || given): // else it is in the room as before
		r.state = roomOut
		time.AfterFunc(joinRetry, func() { c.retry(w, r) })
		return
	case ousted && !failed:
		c.leave(r) // takes back what may have been carried out after the removal
	default:
		c.step(r)
	}
	c.getReady(w)
	c.flush()
}
