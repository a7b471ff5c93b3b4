package parley

import (
	"context"
	"maps"
	"time"
)

const (
	// sharedLarge is the number of users above which the members of a room on several nodes are read once a second,
	// and not four times: a list of a thousand takes a Store a millisecond.
	sharedLarge = 256
	sharedPause = time.Second
	// sharedTries is how often, a sharedPause apart, a node tells the Store that the last of its users have gone. Then their
	// leases have ended anyway.
	sharedTries = int(presenceLease / sharedPause)
)

// sharedView is what a node knows of a room that other nodes share. The Store has the truth: each node writes its own users,
// tells the others that something has changed, and they read. So nothing that the Broker loses lasts longer
// than until the next renewal of the leases.
type sharedView struct {
	// Guarded by roomState.mu:
	synced  bool              // told was read from the Store, and has been kept up since
	spoken  bool              // some may have heard of told, and must hear of all that changes it
	failed  int               // how often in a row the Store has failed
	stale   bool              // the Store knows more than told
	count   int               // users in the room over all nodes
	leaving map[string]string // the names of users who were announced and have left this node; perhaps they are on another
	pause   time.Duration     // until the next flush, if that is more than a tick
}

func (s *roomState) isShared() bool { return s.topic.hub.opts.Broker != nil }

// changedElsewhere has the members read again, because another node says so.
func (s *roomState) changedElsewhere() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.users) == 0 {
		s.shared.synced = false // nobody is here to be told
		return
	}
	if !mutant("presence-local") {
		s.shared.stale = true
		s.flushLocked()
	}
}

// seed reads who is in the room, if that is not known. s.telling is held. Members who were told of something else, or are about to be because
// it is on its way, are told of the difference: else that would come last, and stay.
func (s *roomState) seed(ctx context.Context) error {
	if s.isSynced() {
		return nil
	}
	members, count, err := s.readMembers(ctx, presenceDetail+1)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := namesOf(members)
	for id := range s.users {
		name, told := s.told[id]
		if _, stored := now[id]; told && !stored && len(members) <= presenceDetail {
			now[id] = name
		}
	}
	s.shared.synced = true
	msg := s.diffLocked(now, max(count, len(now)))
	if data := s.encode(msg); s.shared.spoken && data != nil {
		if s.topic.enqueue(changesOf(data)) {
			s.topic.start() // nobody waits for it: a join does not wait for a Store that hangs
		}
	}
	return nil
}

// namesOf returns the names of members by id.
func namesOf(members []Member) map[string]string {
	names := make(map[string]string, len(members))
	for _, m := range members {
		names[m.UserID] = m.Name
	}
	return names
}

// changesOf is the publication of changes for the v1 members of this node.
func changesOf(data []byte) *publication {
	return &publication{entry: Entry{Data: data}, v1: true, local: true}
}

// sayLocked has a change of told its place in the order of the topic, in the same step as told: whoever gets a snapshot of told also gets,
// after it, all changes that come later, and of those before it the last ones or none. The returned function sends it.
func (s *roomState) sayLocked(msg presenceMessage) (send func()) {
	data := s.encode(msg)
	if data == nil {
		return func() {}
	}
	s.shared.spoken = true
	p := changesOf(data)
	lead := s.topic.enqueue(p)
	return func() { _, _ = s.topic.await(s.topic.hub.ctx, p, lead) }
}

// known sees to it that told is what the Store says, and has been kept up since.
func (s *roomState) known(ctx context.Context) error {
	if !s.isShared() || s.isSynced() {
		return nil
	}
	select {
	case s.telling <- struct{}{}:
		defer func() { <-s.telling }()
		return s.seed(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *roomState) isSynced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shared.synced
}

// guess makes what is known the beginning, because the Store does not answer. What is missing in it follows as a change.
func (s *roomState) guess() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shared.synced, s.shared.spoken, s.shared.stale, s.shared.pause = true, true, true, sharedPause
	s.flushLocked()
}

// updateShared writes what has changed here to the Store, and returns what tells the members of this node of what is different from what
// they were told. After an error that is what has changed here.
func (s *roomState) updateShared() (sends []func()) {
	h := s.topic.hub
	ctx, cancel := context.WithTimeout(h.ctx, h.opts.StoreTimeout)
	defer cancel()
	var err error
	if !h.closing.Load() {
		err = s.seed(ctx)
	}
	s.mu.Lock()
	changed, renewing := s.changed, s.renewing
	s.changed, s.renewing, s.shared.stale = make(map[string]struct{}), false, false
	here, gone := s.splitLocked(changed)
	s.mu.Unlock()

	stored := s.persist(here, gone, presenceLease)
	if stored == nil && len(changed) > 0 {
		s.topic.tell(packet{Node: h.node, Presence: true})
	}
	if h.closing.Load() {
		return nil
	}
	var members []Member
	count := 0
	if err == nil {
		members, count, err = s.readMembers(ctx, presenceDetail+1)
	}
	if renewing {
		_ = s.persist(s.renewals(members), nil, presenceLease)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		members, count = s.guessLocked(changed)
	}
	s.paceLocked(changed, stored, err, count)
	now := s.overlayLocked(members)
	count = max(count, len(now))
	sends = s.announceLocked(changed, count)
	sends = append(sends, s.farewellLocked(now, count, err)...)
	sends = append(sends, s.sayLocked(s.diffLocked(now, count)))
	s.shared.synced = s.shared.synced && len(s.users) > 0 // else nobody keeps told up
	return sends
}

// renewals returns the users of this node, to extend their leases. A user whose connections on several nodes have several names
// keeps the one that was entered last, as on one node: that is what the Store says, or the members were told. Else
// each node's renewal would change it.
func (s *roomState) renewals(members []Member) []Member {
	names := namesOf(members)
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.localLocked(len(s.users))
	for i, m := range all {
		if name, ok := names[m.UserID]; ok {
			all[i].Name = name
		} else if name, ok := s.told[m.UserID]; ok {
			all[i].Name = name
		}
	}
	return all
}

// paceLocked decides when to look again, and whether to tell the Store again what it may not have taken.
func (s *roomState) paceLocked(changed map[string]struct{}, stored, read error, count int) {
	s.shared.pause = 0
	if count > sharedLarge {
		s.shared.pause = sharedPause
	}
	if stored == nil && read == nil {
		s.shared.failed = 0
		return
	}
	s.shared.pause = sharedPause
	s.shared.failed++
	if len(s.users) == 0 && s.shared.failed > sharedTries {
		clear(s.shared.leaving)
		return
	}
	s.shared.stale = true
	if stored != nil {
		maps.Copy(s.changed, changed)
	}
}

// splitLocked splits the users that have changed into those who are here and those who are not.
func (s *roomState) splitLocked(changed map[string]struct{}) (here []Member, gone []string) {
	for id := range changed {
		if u := s.users[id]; u != nil {
			here = append(here, Member{UserID: id, Name: u.name})
		} else {
			gone = append(gone, id)
		}
	}
	return here, gone
}

// guessLocked returns who is in the room, as far as can be known without the Store.
func (s *roomState) guessLocked(changed map[string]struct{}) (members []Member, count int) {
	for id, name := range s.told {
		_, moved := changed[id]
		if !moved || s.users[id] != nil {
			members = append(members, Member{UserID: id, Name: name})
		}
	}
	return members, s.shared.count - (len(s.told) - len(members))
}

// overlayLocked adds to the members those of this node that the Store does not have yet.
func (s *roomState) overlayLocked(members []Member) map[string]string {
	now := namesOf(members)
	if len(members) > presenceDetail {
		return now
	}
	for id, u := range s.users {
		if _, ok := now[id]; !ok {
			now[id] = u.name
		}
	}
	return now
}

// announceLocked makes the system messages about users who have come to this node and were on no other. Above presenceDetail nobody knows.
//
// Nodes do not ask each other before they announce. So when the connections of a user come, or go, on several nodes at the same moment, as after
// AddUser or DisconnectUser, each of them may find that it was the first, or the last, and an announcement may come more than once (P3.5).
func (s *roomState) announceLocked(changed map[string]struct{}, count int) (sends []func()) {
	for id := range changed {
		u := s.users[id]
		if u == nil || u.judged {
			continue
		}
		_, known := s.told[id]
		_, back := s.shared.leaving[id] // before that was announced
		u.judged, u.isNew = true, !known && !back && count <= presenceDetail
		if u.announced && u.isNew {
			sends = append(sends, s.topic.system(u.name+" joined"))
		}
	}
	return sends
}

// farewellLocked makes the system messages about users who have left this node, as the Store knows by now, and are on no other.
func (s *roomState) farewellLocked(now map[string]string, count int, read error) (sends []func()) {
	for id, name := range s.shared.leaving {
		_, still := now[id]
		_, untold := s.changed[id]
		switch {
		case count > presenceDetail:
			delete(s.shared.leaving, id) // nobody knows, and later it would be no news
		case untold, read != nil:
		default:
			delete(s.shared.leaving, id)
			if !still {
				sends = append(sends, s.topic.system(name+" left"))
			}
		}
	}
	return sends
}

// diffLocked makes now what the members were told.
func (s *roomState) diffLocked(now map[string]string, count int) presenceMessage {
	msg := presenceMessage{Room: s.topic.roomName(), Count: count}
	msg.counted = count != s.shared.count
	for id, name := range s.told {
		if is, ok := now[id]; !ok || is != name {
			msg.Left = append(msg.Left, Member{UserID: id, Name: name})
		}
	}
	for id, name := range now {
		if was, ok := s.told[id]; !ok || was != name {
			msg.Joined = append(msg.Joined, Member{UserID: id, Name: name})
		}
	}
	s.told, s.shared.count = now, count
	return msg
}
