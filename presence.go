package parley

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// presenceTick is how long changes of a room's presence are collected:
	// what people do not notice, and what keeps a thousand joins in a second
	// from costing a million messages.
	presenceTick = 250 * time.Millisecond
	// presenceRoster is the largest roster sent to a client, presenceDetail
	// the number of users above which only counts are.
	presenceRoster = 100
	presenceDetail = 1000
	// presenceLease is how long a node's members outlive it in the Store; it renews them
	// three times in that time.
	presenceLease = 60 * time.Second
)

// roomState is who is in a room on this node: users, each with the number of
// connections, so that several devices are one presence.
type roomState struct {
	topic  *topic
	config RoomConfig

	// telling holds a token during the Store calls of tell, which only flush and close
	// make: what close tells comes after a flush under way, and close returns after
	// both. Nobody else waits for it. A channel, because the wait may be as long as a
	// Store call, which a mutex is not for. mu is taken while it is held.
	telling chan struct{}

	mu    sync.Mutex // guards the fields below; topicTable.mu or topic.mu is taken while it is held
	users map[string]*roomUser
	// told are the names of the users whom the last flush left the v1 members
	// with. Snapshots are made of it, so that the next changes fit all of them.
	told     map[string]string
	changed  map[string]struct{} // users of whom told may be wrong
	renewing bool                // the next flush renews all leases
	timer    *time.Timer         // runs flush; nil while none is planned and none runs
	closed   bool                // the hub ends: no flush is planned any more
	shared   sharedView          // with several nodes
}

type roomUser struct {
	name      string
	conns     int
	announced bool        // by a system message; with several nodes: as soon as it is known that isNew
	judged    bool        // isNew is known
	isNew     bool        // was on no other node
	grace     *time.Timer // runs while conns is 0
}

func newRoomState(t *topic, cfg RoomConfig) *roomState {
	return &roomState{
		topic: t, config: cfg, telling: make(chan struct{}, 1),
		shared: sharedView{leaving: make(map[string]string)},
		users:  make(map[string]*roomUser), told: make(map[string]string), changed: make(map[string]struct{}),
	}
}

// enter counts a connection of a user in.
func (s *roomState) enter(userID, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[userID]
	if u == nil {
		s.markLocked(userID)
		s.users[userID] = &roomUser{name: name, conns: 1}
		return
	}
	if u.grace != nil && u.grace.Stop() {
		s.topic.release()
	}
	u.grace = nil
	u.conns++
	if u.name != name {
		s.markLocked(userID)
		u.name = name
	}
}

// arrived tells the room of a user whose join has succeeded, once until the user is gone.
func (s *roomState) arrived(userID string) {
	s.mu.Lock()
	u := s.users[userID]
	if u == nil || u.announced {
		s.mu.Unlock()
		return
	}
	u.announced = true
	if s.isShared() && !(u.judged && u.isNew) {
		s.mu.Unlock()
		return // a flush judges
	}
	send := s.topic.system(u.name + " joined")
	s.mu.Unlock()
	send()
}

// exit counts a connection out. After the last one the user is gone: now, or after grace.
func (s *roomState) exit(userID string, grace time.Duration) {
	s.mu.Lock()
	u := s.users[userID]
	u.conns--
	if u.conns > 0 {
		s.mu.Unlock()
		return
	}
	if s.closed || s.topic.hub.closing.Load() && !s.isShared() {
		grace = 0 // nobody comes back to a hub that ends; to another node clients do, see close
	}
	if grace > 0 {
		s.topic.retain()
		var timer *time.Timer
		timer = time.AfterFunc(grace, func() { s.expire(userID, &timer) })
		u.grace = timer
		s.mu.Unlock()
		return
	}
	send := s.removeLocked(userID, u)
	s.mu.Unlock()
	send()
}

// expire ends a grace, unless the user came back.
func (s *roomState) expire(userID string, timer **time.Timer) {
	defer s.topic.release()
	s.mu.Lock()
	u := s.users[userID]
	if u == nil || u.conns > 0 || u.grace != *timer {
		s.mu.Unlock()
		return
	}
	send := s.removeLocked(userID, u)
	s.mu.Unlock()
	send()
}

// removeLocked removes a user. The room is told by the returned function,
// but in the order of the removals and arrivals: who is back has not left last.
func (s *roomState) removeLocked(userID string, u *roomUser) (send func()) {
	if !mutant("ghost") {
		delete(s.users, userID)
	}
	s.markLocked(userID)
	if !u.announced {
		return func() {}
	}
	if s.isShared() {
		s.shared.leaving[userID] = u.name
		return func() {}
	}
	return s.topic.system(u.name + " left")
}

// markLocked has a change of a user told.
func (s *roomState) markLocked(userID string) {
	s.changed[userID] = struct{}{}
	s.flushLocked()
}

// flushLocked plans a flush. There is only ever one at a time, so that the
// Store sees the changes of a user in order.
func (s *roomState) flushLocked() {
	if s.timer == nil && !s.closed {
		s.topic.retain()
		s.timer = time.AfterFunc(max(presenceTick, s.shared.pause), s.flush)
	}
}

// flush tells the Store and the v1 members what has changed since the last time.
func (s *roomState) flush() {
	defer s.topic.release()
	s.tell(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	if len(s.changed) > 0 || s.renewing || s.shared.stale {
		s.flushLocked()
	}
}

// close ends all graces and tells the Store at once, at the end of the hub. With several nodes those in their grace are
// handed over: clients are told when to come back, to another node, and until then they stay in the room.
func (s *roomState) close() {
	s.mu.Lock()
	s.closed = true
	if s.timer != nil && s.timer.Stop() {
		s.timer = nil
		s.topic.release()
	}
	var handed []Member
	for id, u := range s.users {
		inGrace := u.grace != nil && u.grace.Stop()
		if inGrace {
			s.topic.release()
		}
		switch {
		case u.conns > 0:
		case inGrace && s.isShared():
			handed = append(handed, Member{UserID: id, Name: u.name})
			delete(s.users, id)
			delete(s.changed, id)
		default:
			s.removeLocked(id, u)
		}
	}
	s.mu.Unlock()
	s.tell(true)
	opts := &s.topic.hub.opts
	_ = s.persist(handed, nil, opts.LeaveGrace+opts.RetryWindow)
}

// tell tells the Store, and then the members of this node. last: what close tells, after which there is nothing to tell.
func (s *roomState) tell(last bool) {
	for _, send := range s.update(last) {
		send()
	}
}

// update takes the changes, tells the Store, and returns what tells the members of this node.
func (s *roomState) update(last bool) (sends []func()) {
	s.telling <- struct{}{}
	defer func() { <-s.telling }()
	if !last && s.isClosed() {
		return nil
	}
	if s.isShared() {
		return s.updateShared()
	}
	msg := s.tellStore()
	return []func(){func() {
		if data := s.encode(msg); data != nil {
			s.topic.announce(data)
		}
	}}
}

func (s *roomState) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// encode returns a message with changes, or nil if there is nothing to tell or nobody to be told.
func (s *roomState) encode(msg presenceMessage) []byte {
	if len(msg.Joined)+len(msg.Left) == 0 && !msg.counted || s.topic.hub.closing.Load() {
		return nil
	}
	sortMembers(msg.Joined)
	sortMembers(msg.Left)
	if msg.Count > presenceDetail {
		msg.Joined, msg.Left = nil, nil
	}
	return appendPresence(nil, msg)
}

// tellStore is update for the only node.
func (s *roomState) tellStore() presenceMessage {
	s.mu.Lock()
	msg := presenceMessage{Room: s.topic.roomName(), Count: len(s.users)}
	var gone []string
	for id := range s.changed {
		u := s.users[id]
		name, told := s.told[id]
		if told && (u == nil || u.name != name) {
			msg.Left = append(msg.Left, Member{UserID: id, Name: name})
			delete(s.told, id)
		}
		if told && u == nil {
			gone = append(gone, id)
		}
		if u != nil && (!told || u.name != name) {
			msg.Joined = append(msg.Joined, Member{UserID: id, Name: u.name})
			s.told[id] = u.name
		}
	}
	s.changed = make(map[string]struct{})
	present := msg.Joined
	if s.renewing {
		s.renewing = false
		present = s.localLocked(len(s.users))
	}
	s.mu.Unlock()

	_ = s.persist(present, gone, presenceLease)
	return msg
}

// persist writes changes to the Store. What fails is repaired by the next
// renewal, or by the end of the lease; with several nodes it is tried again before.
func (s *roomState) persist(present []Member, gone []string, lease time.Duration) error {
	h := s.topic.hub
	ctx, cancel := context.WithTimeout(h.ctx, h.opts.StoreTimeout)
	defer cancel()
	var err error
	if len(gone) > 0 {
		err = h.opts.Store.Leave(ctx, s.topic.name, h.node, gone)
	}
	if len(present) > 0 {
		err = errors.Join(err, h.opts.Store.Enter(ctx, s.topic.name, h.node, present, lease))
	}
	if err != nil {
		h.stats.storeErrors.Add(1)
		h.logError("parley: store: presence failed", "error", err)
	}
	return err
}

// renew has the next flush extend the lease of everybody in the room.
func (s *roomState) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.users) > 0 {
		s.renewing, s.shared.stale = true, s.isShared()
		s.flushLocked()
	}
}

// localLocked returns up to limit users of this node.
func (s *roomState) localLocked(limit int) []Member {
	some := make([]Member, 0, min(limit, len(s.users)))
	for id, u := range s.users {
		if len(some) == limit {
			break
		}
		some = append(some, Member{UserID: id, Name: u.name})
	}
	return some
}

// members returns up to limit users of the room over all nodes, in ascending order of id.
func (s *roomState) members(ctx context.Context, limit int) ([]Member, int, error) {
	if s.isShared() {
		return s.readMembers(ctx, limit)
	}
	// The only node knows better than the Store, which lags by a tick.
	s.mu.Lock()
	all := s.localLocked(len(s.users))
	s.mu.Unlock()
	sortMembers(all)
	return all[:min(max(limit, 0), len(all))], len(all), nil
}

func (s *roomState) readMembers(ctx context.Context, limit int) ([]Member, int, error) {
	h := s.topic.hub
	ctx, cancel := context.WithTimeout(ctx, h.opts.StoreTimeout)
	defer cancel()
	all, count, err := h.opts.Store.Members(ctx, s.topic.name, limit)
	if err != nil {
		h.stats.storeErrors.Add(1)
		h.logError("parley: store: members not read", "error", err)
		return nil, 0, fmt.Errorf("%w: %w", ErrStore, err)
	}
	return all, count, nil
}

// snapshot is the presence message that a client gets when it asks: who was told
// to be there, and self. In a large room it holds some of the users: which ones does not
// matter, sorting all of them at every join would.
func (s *roomState) snapshot(ctx context.Context, id string, self Member) (*frame, error) {
	if err := s.known(ctx); err != nil {
		return nil, err
	}
	return s.rosterFrame(id, self), nil
}

// welcome is the snapshot that a client gets when it joins, in any case: what it does not hold because the Store does
// not answer follows as a change.
func (s *roomState) welcome(ctx context.Context, self Member) *frame {
	if s.known(ctx) != nil {
		s.guess()
	}
	return s.rosterFrame("", self)
}

func (s *roomState) rosterFrame(id string, self Member) *frame {
	msg := presenceMessage{ID: id, Room: s.topic.roomName(), Snapshot: true}
	msg.Members, msg.Count = s.toldTo(self)
	sortMembers(msg.Members)
	return newFrame(appendPresence(newBuffer(64+64*len(msg.Members)), msg))
}

func (s *roomState) toldTo(self Member) (some []Member, count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count = max(len(s.told), s.shared.count)
	some = make([]Member, 0, min(count+1, presenceRoster))
	name, told := s.told[self.UserID]
	if told {
		self.Name = name // until the next changes
	} else {
		count++
	}
	some = append(some, self)
	for id, name := range s.told {
		if len(some) == presenceRoster {
			break
		}
		if id != self.UserID {
			some = append(some, Member{UserID: id, Name: name})
		}
	}
	return some, count
}

func sortMembers(m []Member) {
	slices.SortFunc(m, func(a, b Member) int { return cmp.Compare(a.UserID, b.UserID) })
}
