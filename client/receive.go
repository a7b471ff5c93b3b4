package client

import (
	"errors"
	"time"

	"github.com/coder/websocket"
)

// receive carries out one message of the server, in the goroutine that reads.
func (c *Client) receive(k *conn, typ websocket.MessageType, p []byte) {
	m, err := decode(p)
	if typ != websocket.MessageText {
		err = errors.New("binary message")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state.final(), errors.Is(err, errUnknownType): // P1.6
	case err != nil:
		c.offerLocked(c.errorEvent(CodeBadMessage, "malformed message of the server: "+err.Error()))
	case m.typ == "connected":
		c.connectedLocked(k, m)
	case k.up: // nothing comes before "connected" (P1.4)
		c.dispatchLocked(k, m)
	}
}

func (c *Client) dispatchLocked(k *conn, m inbound) {
	if m.malformed > 0 {
		c.offerLocked(c.errorEvent(CodeBadMessage, "malformed entry in a history of the server"))
	}
	switch m.typ {
	case "ack":
		c.ackLocked(k, m)
	case "reply", "pong":
		c.answeredLocked(m)
	case "error":
		c.refusedLocked(k, m)
	case "private", "notification", "expired":
		c.personalLocked(k, m)
	case "marked":
		c.markedLocked(k, m)
	case "inbox":
		if m.id != "" {
			c.countLocked(m.count)
			c.answeredLocked(m)
			return
		}
		c.inboxLocked(k, m)
	case "broadcast":
		c.broadcastLocked(k, m)
	case "bye":
		c.bye = &Bye{m.closeCode, m.reason, m.retryMin, max(m.retryMin, m.retryMax)}
		c.offerLocked(tell(c.opts.OnBye, c, *c.bye))
	case "history":
		switch {
		case m.id != "":
			c.answeredLocked(m)
		case m.room == "":
			c.broadcastHistoryLocked(k, m)
		default:
			c.dispatchRoomLocked(m)
		}
	case "signal":
		if m.room == "" {
			c.signalledLocked(nil, m)
			return
		}
		c.dispatchRoomLocked(m)
	default:
		c.dispatchRoomLocked(m)
	}
}

// dispatchRoomLocked carries out what is for a room, if that is joined.
func (c *Client) dispatchRoomLocked(m inbound) {
	if _, leaving := c.leaving[m.room]; leaving {
		return
	}
	r := c.rooms[m.room]
	switch {
	case r != nil:
	case m.typ == "history": // the application has joined it for us (P5.6)
		r = c.givenLocked(m.room)
	default:
		return
	}
	switch m.typ {
	case "message":
		c.messageLocked(r, m)
	case "history":
		c.historyLocked(r, m)
	case "presence":
		c.presenceLocked(r, m)
	case "system":
		c.systemLocked(r, m)
	case "signal":
		c.signalledLocked(r, m)
	case "left":
		c.leftLocked(r, m.reason)
	}
}

// connectedLocked takes the first message of a connection, and brings
// everything to where it was before.
func (c *Client) connectedLocked(k *conn, m inbound) {
	if k.up {
		return
	}
	k.welcome()
	k.up, k.since, k.maxSize, k.receipts = true, time.Now(), m.maxMessageSize, m.receipts == yes
	interval := m.pingInterval
	if interval == 0 {
		interval = defaultPing
	}
	k.writer.Go(func() { c.write(k, max(interval, probeTimeout)) })
	if m.userID == "" {
		m.userID = m.clientID
	}
	if before := c.identity.UserID; before != "" && before != m.userID {
		c.anotherUserLocked()
		c.forgetInboxLocked()
	}
	c.session = m.session
	c.identity = Identity{m.clientID, m.userID, m.username, m.resumed == yes}
	c.setStateLocked(StateChange{State: StateConnected})
	c.offerLocked(tell(c.opts.OnConnected, c, c.identity))
	c.broadcastStartLocked(k, m)
	c.rejoinAllLocked()
	c.flushLocked(nil)
}
