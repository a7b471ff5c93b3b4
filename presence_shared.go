package parley

import (
	"context"
	"time"
)

const (
	// sharedLarge is the number of users above which the members of a room on several nodes are read once a second,
	// and not four times: a list of a thousand takes a Store a millisecond.
	sharedLarge = 256
	sharedPause = time.Second
)

// sharedView is what a node knows of a room that other nodes share. The Store has the truth: each node writes its own users,
// tells the others that something has changed, and they read. So nothing that the Broker loses lasts longer
// than until the next renewal of the leases.
type sharedView struct {
	// Guarded by roomState.mu:
	synced  bool              // told was read from the Store, and has been kept up since
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

// seed reads who is in the room, if that is not known. s.telling is held.
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
	s.told = make(map[string]string, len(members))
	for _, m := range members {
		s.told[m.UserID] = m.Name
	}
	s.shared.count, s.shared.synced = count, true
	return nil
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
	s.shared.synced, s.shared.stale, s.shared.pause = true, true, sharedPause
	s.flushLocked()
}

// updateShared writes what has changed here to the Store, and returns what is different from what the members of this node were
// told. After an error that is what has changed here.
func (s *roomState) updateShared() (msg presenceMessage, announce []func()) {
	h := s.topic.hub
	ctx, cancel := context.WithTimeout(h.ctx, h.opts.StoreTimeout)
	defer cancel()
	err := s.seed(ctx)

	s.mu.Lock()
	changed := s.changed
	s.changed = make(map[string]struct{})
	here, gone := s.splitLocked(changed)
	changes := len(here)+len(gone) > 0
	if s.renewing {
		s.renewing = false
		here = s.localLocked(len(s.users))
	}
	s.shared.stale = false
	s.mu.Unlock()

	if stored := s.persist(here, gone); stored == nil && changes {
		s.topic.tell(packet{Node: h.node, Presence: true})
	}
	if h.closing.Load() {
		return msg, nil
	}
	var members []Member
	count := 0
	if err == nil {
		members, count, err = s.readMembers(ctx, presenceDetail+1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shared.pause = 0
	if err != nil {
		s.shared.pause, s.shared.stale = sharedPause, len(s.users) > 0
		members, count = s.guessLocked(changed)
	} else if count > sharedLarge {
		s.shared.pause = sharedPause
	}
	now := s.overlayLocked(members)
	count = max(count, len(now))
	announce = s.announceLocked(changed, now, err == nil && count == len(now))
	msg = s.diffLocked(now, count)
	s.shared.synced = s.shared.synced && len(s.users) > 0 // else nobody keeps told up
	return msg, announce
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
	now := make(map[string]string, len(members))
	for _, m := range members {
		now[m.UserID] = m.Name
	}
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

// announceLocked makes the system messages about users who have come to this node and were on no other, and who
// have left it and are on no other. complete: now has all users.
func (s *roomState) announceLocked(changed map[string]struct{}, now map[string]string, complete bool) (send []func()) {
	for id := range changed {
		u := s.users[id]
		if u == nil || u.judged {
			continue
		}
		_, known := s.told[id]
		u.judged, u.isNew = true, !known
		if u.announced && u.isNew {
			send = append(send, s.topic.system(u.name+" joined"))
		}
	}
	for id, name := range s.shared.leaving {
		_, still := now[id]
		if !complete && !still {
			continue // nobody knows
		}
		if delete(s.shared.leaving, id); !still {
			send = append(send, s.topic.system(name+" left"))
		}
	}
	return send
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
