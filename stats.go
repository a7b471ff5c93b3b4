package parley

import (
	"net/http"
	"sync/atomic"
)

// Stats are counters since the hub was made, and gauges of now. They are read one
// by one: a snapshot under load need not add up.
type Stats struct {
	// Gauges.
	Connections int // upgraded and not yet ended
	Topics      int // rooms, users and the broadcast in use on this node

	// Connections.
	Accepted           uint64
	RefusedAuth        uint64 // 401 and 403
	RefusedLimit       uint64 // 429 and 503
	RefusedHandshake   uint64 // everything else
	ClosedSlow         uint64 // code 4001
	ClosedOverBudget   uint64 // of these, because of Options.QueueBudget
	ClosedNoHeartbeat  uint64 // code 4002
	ClosedAbuse        uint64 // codes 1002, 1003, 1007, 1008, 1009, 4005 and 4102
	Resumed            uint64 // connections that kept the client id of an earlier one
	Replaced           uint64 // of these, while the earlier one seemed to be open
	SessionsRefused    uint64 // connections that offered a session and became new clients
	ProtocolViolations uint64 // streams that were no WebSocket

	// Messages.
	Received        uint64 // messages of clients
	ReceivedBytes   uint64
	Refused         uint64 // answered by an error
	RateLimited     uint64 // of these, for the rate limit
	Delivered       uint64 // messages queued for a connection
	Dropped         uint64 // messages not queued because a connection was too slow
	SignalsReplaced uint64 // signals replaced by newer ones on slow connections
	SignalsDropped  uint64
	Written         uint64 // frames written to sockets
	WrittenBytes    uint64
	Writes          uint64 // write calls: Written/Writes is how well frames are joined

	// Inboxes.
	Marked      uint64 // entries marked as read, unread or archived
	Undelivered uint64 // entries that Hooks.Undelivered took care of

	// Faults.
	Panics        uint64 // in application code
	HandlerErrors uint64 // errors of handlers and hooks that were no *Error
	StoreErrors   uint64
	BrokerErrors  uint64 // failed calls of the Broker
	// Of several nodes.
	Nodes          int    // gauge: the other living nodes, by the Store
	BrokerReceived uint64 // payloads of other nodes
	BrokerMissed   uint64 // messages that the Broker has lost, and that were found in the Store by comparing
	BrokerGarbage  uint64 // payloads of the Broker that no node of this version has sent
	// LogsSuppressed are errors not logged because there were more than 20 at once, or 1 a second.
	LogsSuppressed uint64
}

// counters are the atomics behind Stats.
type counters struct {
	accepted, refusedAuth, refusedLimit, refusedHandshake                                                                                              atomic.Uint64
	resumed, replaced, sessionsRefused                                                                                                                 atomic.Uint64
	closedSlow, closedOverBudget, closedNoHeartbeat, closedAbuse, protocolErrors                                                                       atomic.Uint64
	receivedMessages, receivedBytes, refused, rateLimited                                                                                              atomic.Uint64
	marked, undelivered                                                                                                                                atomic.Uint64
	delivered, dropped, signalsReplaced, signalsDropped                                                                                                atomic.Uint64
	writtenFrames, writtenBytes, writes, panics, handlerErrors, storeErrors, brokerErrors, brokerReceived, brokerMissed, brokerGarbage, logsSuppressed atomic.Uint64
}

func (s *counters) received(n int) {
	s.receivedMessages.Add(1)
	s.receivedBytes.Add(uint64(n))
}

// fannedOut counts a frame once, after it went to all its receivers.
func (s *counters) fannedOut(f *frame) {
	s.delivered.Add(uint64(f.delivered))
	if f.dropped > 0 {
		s.dropped.Add(uint64(f.dropped))
	}
}

func (s *counters) wrote(frames, n int) {
	s.writtenFrames.Add(uint64(frames))
	s.writtenBytes.Add(uint64(n))
	s.writes.Add(1)
}

func (s *counters) handshakeRefused(status int) {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		s.refusedAuth.Add(1)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		s.refusedLimit.Add(1)
	default:
		s.refusedHandshake.Add(1)
	}
}

func (s *counters) closed(code CloseCode) {
	switch code {
	case CloseReplaced:
		s.replaced.Add(1)
	case CloseSlow:
		s.closedSlow.Add(1)
	case CloseNoHeartbeat:
		s.closedNoHeartbeat.Add(1)
	case CloseProtocol, CloseBinary, CloseInvalidUTF8, ClosePolicy, CloseTooLarge, CloseIncomplete, CloseRateLimit:
		s.closedAbuse.Add(1)
	}
}

// Stats returns the counters. It is cheap enough to be called every second.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	connections := len(h.conns) + len(h.replaced)
	h.mu.Unlock()
	h.table.mu.Lock()
	topics := len(h.table.topics)
	h.table.mu.Unlock()
	if h.control != nil {
		topics--
	}
	s := &h.stats
	return Stats{
		Connections: connections, Topics: topics,
		Accepted: s.accepted.Load(), RefusedAuth: s.refusedAuth.Load(),
		RefusedLimit: s.refusedLimit.Load(), RefusedHandshake: s.refusedHandshake.Load(),
		ClosedSlow: s.closedSlow.Load(), ClosedOverBudget: s.closedOverBudget.Load(), ClosedNoHeartbeat: s.closedNoHeartbeat.Load(),
		Resumed: s.resumed.Load(), Replaced: s.replaced.Load(), SessionsRefused: s.sessionsRefused.Load(),
		ClosedAbuse: s.closedAbuse.Load(), ProtocolViolations: s.protocolErrors.Load(),
		Received: s.receivedMessages.Load(), ReceivedBytes: s.receivedBytes.Load(),
		Refused: s.refused.Load(), RateLimited: s.rateLimited.Load(),
		Delivered: s.delivered.Load(), Dropped: s.dropped.Load(),
		SignalsReplaced: s.signalsReplaced.Load(), SignalsDropped: s.signalsDropped.Load(),
		Written: s.writtenFrames.Load(), WrittenBytes: s.writtenBytes.Load(), Writes: s.writes.Load(),
		Marked: s.marked.Load(), Undelivered: s.undelivered.Load(),
		Panics: s.panics.Load(), HandlerErrors: s.handlerErrors.Load(), StoreErrors: s.storeErrors.Load(),
		BrokerErrors: s.brokerErrors.Load(), Nodes: h.monitor.others(), BrokerReceived: s.brokerReceived.Load(),
		BrokerMissed: s.brokerMissed.Load(), BrokerGarbage: s.brokerGarbage.Load(), LogsSuppressed: s.logsSuppressed.Load(),
	}
}
