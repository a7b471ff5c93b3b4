package parley

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// statusChunk is how many users are told to the Store at once.
const statusChunk = 500

// statuses keeps in the Store which users are connected to this node, with Options.TrackPresence. Like the presence of rooms it
// collects changes for a tick, so that a storm of connects costs few calls.
type statuses struct {
	hub *Hub

	telling chan struct{} // holds a token during the Store calls of tell, so that they come in order; mu is taken meanwhile

	mu      sync.Mutex // guards the fields below
	users   map[string]*userConns
	changed map[string]struct{}
	ticking bool // tell will run
	ended   bool
}

// userConns is a user who is connected, or was until just now.
type userConns struct {
	conns int
	grace *time.Timer // runs while conns is 0
}

func newStatuses(h *Hub) *statuses {
	return &statuses{hub: h, telling: make(chan struct{}, 1), users: make(map[string]*userConns), changed: make(map[string]struct{})}
}

// enter counts a connection of a user in.
func (s *statuses) enter(userID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[userID]
	if u == nil {
		u = new(userConns)
		s.users[userID] = u
		s.changeLocked(userID)
	}
	if u.grace != nil {
		u.grace.Stop()
		u.grace = nil
	}
	u.conns++
}

// exit counts one out. After the last one the user is gone: now, or after grace.
func (s *statuses) exit(userID string, grace time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[userID]
	if u == nil {
		return
	}
	if u.conns--; u.conns > 0 {
		return
	}
	if grace <= 0 || s.ended {
		s.removeLocked(userID)
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(grace, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if u.conns == 0 && u.grace == timer && s.users[userID] == u {
			s.removeLocked(userID)
		}
	})
	u.grace = timer
}

func (s *statuses) removeLocked(userID string) {
	delete(s.users, userID)
	s.changeLocked(userID)
}

func (s *statuses) changeLocked(userID string) {
	s.changed[userID] = struct{}{}
	if !s.ticking && !s.ended {
		s.ticking = true
		time.AfterFunc(presenceTick, func() {
			s.mu.Lock()
			s.ticking = false
			s.mu.Unlock()
			_ = s.tell(s.hub.ctx, false)
		})
	}
}

// tell tells the Store what has changed, or, to renew the leases, of everybody. What fails is told again with the next renewal;
// who is gone meanwhile, by the end of the lease.
func (s *statuses) tell(ctx context.Context, everybody bool) error {
	select {
	case s.telling <- struct{}{}:
		defer func() { <-s.telling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var here, gone []string
	s.mu.Lock()
	for id := range s.changed {
		if s.users[id] == nil {
			gone = append(gone, id)
		} else if !everybody {
			here = append(here, id)
		}
	}
	clear(s.changed)
	if everybody {
		for id := range s.users {
			here = append(here, id)
		}
	}
	s.mu.Unlock()
	h := s.hub
	var errs []error
	for part := range slices.Chunk(gone, statusChunk) {
		errs = append(errs, s.call(ctx, func(ctx context.Context) error { return h.opts.Store.Disconnect(ctx, h.node, part) }))
	}
	for part := range slices.Chunk(here, statusChunk) {
		errs = append(errs, s.call(ctx, func(ctx context.Context) error { return h.opts.Store.Connect(ctx, h.node, part, presenceLease) }))
	}
	return errors.Join(errs...)
}

func (s *statuses) call(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.hub.opts.StoreTimeout)
	defer cancel()
	err := f(ctx)
	if err != nil && s.hub.ctx.Err() == nil {
		err = s.hub.storeError("user status", err)
	}
	return err
}

// close tells the Store that nobody is here any more, at the end of the hub.
func (s *statuses) close(ctx context.Context) {
	s.mu.Lock()
	s.ended = true
	for id, u := range s.users {
		if u.grace != nil {
			u.grace.Stop()
		}
		delete(s.users, id)
		s.changed[id] = struct{}{}
	}
	s.mu.Unlock()
	_ = s.tell(ctx, false)
}

var errNotTracked = errors.New("parley: Status: set Options.TrackPresence, on all nodes")

// Status tells of users whether they are online on some node, since when, and when they were last seen, in the order of userIDs. It
// needs Options.TrackPresence. Whoever lost all connections is online for Options.LeaveGrace more; users of a node that has died are for a minute
// more. Anonymous users have no status. ErrInvalidName if an id breaks rule P2.4; ErrStore if the Store fails; ErrClosed after Shutdown.
//
// It asks nobody whether one user may know this of another: that is for the caller.
func (h *Hub) Status(ctx context.Context, userIDs ...string) ([]UserStatus, error) {
	if h.statuses == nil {
		return nil, errNotTracked
	}
	if h.closing.Load() {
		return nil, ErrClosed
	}
	for _, id := range userIDs {
		if err := checkUser(id); err != nil {
			return nil, err
		}
	}
	all := make([]UserStatus, 0, len(userIDs))
	for part := range slices.Chunk(userIDs, statusChunk) {
		callCtx, cancel := context.WithTimeout(ctx, h.opts.StoreTimeout)
		some, err := h.opts.Store.Status(callCtx, part)
		cancel()
		if err == nil && len(some) != len(part) {
			err = errStatuses
		}
		if err != nil {
			return nil, h.storeError("user status", err)
		}
		all = append(all, some...)
	}
	return all, nil
}

var (
	errStatuses = errors.New("broken Store: Status did not answer for all users")
	errHeads    = errors.New("broken Store: Heads did not answer for all topics")
)
