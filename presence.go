package parley

import (
	"cmp"
	"context"
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

	mu    sync.Mutex // guards the fields below; topicTable.mu or topic.mu is taken while it is held
	users map[string]*roomUser
	// changed holds the users whose presence may differ from what was told
	// last, with whether they were told present.
	changed map[string]toldMember
	ticking bool // flush will run
}

type roomUser struct {
	name  string
	conns int
	told  bool        // the room was told that the user joined
	grace *time.Timer // runs while conns is 0
}

type toldMember struct {
	Member
	present bool
}

func newRoomState(t *topic, cfg RoomConfig) *roomState {
	return &roomState{topic: t, config: cfg, users: make(map[string]*roomUser), changed: make(map[string]toldMember)}
}

// enter counts a connection of a user in.
func (s *roomState) enter(userID, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[userID]
	if u == nil {
		s.markLocked(userID, toldMember{Member: Member{UserID: userID, Name: name}})
		s.users[userID] = &roomUser{name: name, conns: 1}
		return
	}
	if u.grace != nil && u.grace.Stop() {
		s.topic.release()
	}
	u.grace = nil
	u.conns++
	if u.name != name {
		s.markLocked(userID, toldMember{Member: Member{UserID: userID, Name: u.name}, present: true})
		u.name = name
	}
}

// arrived tells the room of a user whose join has succeeded, once until the user is gone.
func (s *roomState) arrived(userID string) {
	s.mu.Lock()
	u := s.users[userID]
	if u == nil || u.told {
		s.mu.Unlock()
		return
	}
	u.told = true
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
	delete(s.users, userID)
	s.markLocked(userID, toldMember{Member: Member{UserID: userID, Name: u.name}, present: true})
	if !u.told {
		return func() {}
	}
	return s.topic.system(u.name + " left")
}

// markLocked remembers what was told of a user before its first change, and has it told.
func (s *roomState) markLocked(userID string, told toldMember) {
	if _, ok := s.changed[userID]; !ok {
		s.changed[userID] = told
	}
	if !s.ticking {
		s.ticking = true
		s.topic.retain()
		time.AfterFunc(presenceTick, s.flush)
	}
}

// flush tells the Store and the v1 members what has changed since the last time.
func (s *roomState) flush() {
	defer s.topic.release()
	s.tell()
	s.again()
}

// close ends all graces and tells the Store at once, at the end of the hub.
func (s *roomState) close() {
	s.mu.Lock()
	for id, u := range s.users {
		if u.grace != nil && u.grace.Stop() {
			s.topic.release()
		}
		if u.conns == 0 {
			s.removeLocked(id, u)
		}
	}
	s.mu.Unlock()
	s.tell()
}

func (s *roomState) tell() {
	s.mu.Lock()
	changed := s.changed
	s.changed = make(map[string]toldMember)
	msg := presenceMessage{Room: s.topic.roomName(), Count: len(s.users)}
	for id, told := range changed {
		u := s.users[id]
		renamed := u != nil && told.present && u.name != told.Name
		if told.present && (u == nil || renamed) {
			msg.Left = append(msg.Left, told.Member)
		}
		if u != nil && (!told.present || renamed) {
			msg.Joined = append(msg.Joined, Member{UserID: id, Name: u.name})
		}
	}
	s.mu.Unlock()

	s.persist(msg.Joined, msg.Left)
	if len(msg.Joined)+len(msg.Left) > 0 && !s.topic.hub.closing.Load() {
		sortMembers(msg.Joined)
		sortMembers(msg.Left)
		if msg.Count > presenceDetail {
			msg.Joined, msg.Left = nil, nil
		}
		s.topic.announce(appendPresence(nil, msg), true)
	}
}

// again plans the next flush if there are new changes. There is only ever one
// at a time, so that the Store sees changes of a user in order.
func (s *roomState) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ticking = len(s.changed) > 0
	if s.ticking {
		s.topic.retain()
		time.AfterFunc(presenceTick, s.flush)
	}
}

// persist writes changes to the Store. What fails is repaired by the next
// renewal, or by the end of the lease.
func (s *roomState) persist(joined, left []Member) {
	h := s.topic.hub
	ctx, cancel := context.WithTimeout(h.ctx, h.opts.StoreTimeout)
	defer cancel()
	ids := make([]string, 0, len(left))
	for _, m := range left {
		if !slices.ContainsFunc(joined, func(j Member) bool { return j.UserID == m.UserID }) {
			ids = append(ids, m.UserID)
		}
	}
	var err error
	if len(ids) > 0 {
		err = h.opts.Store.Leave(ctx, s.topic.name, h.node, ids)
	}
	if len(joined) > 0 && err == nil {
		err = h.opts.Store.Enter(ctx, s.topic.name, h.node, joined, presenceLease)
	}
	if err != nil {
		h.stats.storeErrors.Add(1)
		h.log.Error("parley: store: presence failed", "error", err)
	}
}

// renew extends the lease of everybody in the room.
func (s *roomState) renew(ctx context.Context) error {
	s.mu.Lock()
	all := s.localLocked(len(s.users))
	s.mu.Unlock()
	if len(all) == 0 {
		return nil
	}
	return s.topic.hub.opts.Store.Enter(ctx, s.topic.name, s.topic.hub.node, all, presenceLease)
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
	h := s.topic.hub
	if h.opts.Broker != nil {
		ctx, cancel := context.WithTimeout(ctx, h.opts.StoreTimeout)
		defer cancel()
		all, count, err := h.opts.Store.Members(ctx, s.topic.name, limit)
		if err != nil {
			h.stats.storeErrors.Add(1)
			h.log.Error("parley: store: members not read", "error", err)
			return nil, 0, fmt.Errorf("%w: %w", ErrStore, err)
		}
		return all, count, nil
	}
	// The only node knows better than the Store, which lags by a tick.
	s.mu.Lock()
	all := s.localLocked(len(s.users))
	s.mu.Unlock()
	sortMembers(all)
	return all[:min(max(limit, 0), len(all))], len(all), nil
}

// snapshot is the presence message that a joining client gets. In a large
// room it holds some of the users: which ones does not matter, sorting all of them
// at every join would.
func (s *roomState) snapshot(ctx context.Context, id string) (*frame, error) {
	msg := presenceMessage{ID: id, Room: s.topic.roomName(), Snapshot: true}
	if s.topic.hub.opts.Broker != nil {
		var err error
		if msg.Members, msg.Count, err = s.members(ctx, presenceRoster); err != nil {
			return nil, err
		}
	} else {
		s.mu.Lock()
		msg.Members, msg.Count = s.localLocked(presenceRoster), len(s.users)
		s.mu.Unlock()
		sortMembers(msg.Members)
	}
	return newFrame(appendPresence(newBuffer(64+64*len(msg.Members)), msg)), nil
}

func sortMembers(m []Member) {
	slices.SortFunc(m, func(a, b Member) int { return cmp.Compare(a.UserID, b.UserID) })
}
