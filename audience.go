package parley

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"
)

const (
	// audiencePage is how many users of an audience are in memory at a time.
	audiencePage = 500
	// audienceParallel is how many inboxes are written at once: enough for a Store that joins writes.
	audienceParallel = 16
	// knownLife is how long a node remembers whom it has told the Store of.
	knownLife = time.Hour
	// knownUsers is the audience of KnownUsers; no name of the application has control characters.
	knownUsers = "\x00known"
	// audiencePrefix is that of all others.
	audiencePrefix = "audience/"
)

// Audience is a named group of users, kept in the Store: all admins, the followers of a
// project. What is sent to it goes to the inbox of each, where each has a read state of their own. It holds nothing itself and may
// be used by several goroutines. For messages that all see in one history, and only those who are there, see Room.
type Audience struct {
	hub  *Hub
	name string // in the Store
	err  error  // the name is not valid
}

// Audience returns the group of this name, which need not exist: without users it is empty. Rule P2.4 holds for the name as for that of a room.
func (h *Hub) Audience(name string) *Audience {
	a := &Audience{hub: h, name: audiencePrefix + name}
	if !validName(name, maxName) {
		a.err = fmt.Errorf("%w: audience %q", ErrInvalidName, name)
	}
	return a
}

// KnownUsers is the audience of all users who have ever connected while Options.TrackUsers
// was set, and of those that the application has added.
func (h *Hub) KnownUsers() *Audience { return &Audience{hub: h, name: knownUsers} }

// Add puts users into the audience. Those who are in it are no error.
func (a *Audience) Add(ctx context.Context, userIDs ...string) error {
	return a.change(ctx, userIDs, a.hub.opts.Store.AddUsers)
}

// Remove takes users out. Those who are not in it are no error.
func (a *Audience) Remove(ctx context.Context, userIDs ...string) error {
	return a.change(ctx, userIDs, a.hub.opts.Store.RemoveUsers)
}

func (a *Audience) change(ctx context.Context, userIDs []string, f func(context.Context, string, []string) error) error {
	if a.err != nil {
		return a.err
	}
	if a.hub.closing.Load() {
		return ErrClosed
	}
	for _, id := range userIDs {
		if err := checkUser(id); err != nil {
			return err
		}
	}
	if len(userIDs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.hub.opts.StoreTimeout)
	defer cancel()
	return a.hub.storeError("audience", f(ctx, a.name, userIDs))
}

// Users goes over the users in ascending byte order of their ids. It holds 500 of them at a time. An error is
// the last thing it yields. Users that are added or removed meanwhile may be in it or not.
func (a *Audience) Users(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		after := ""
		for {
			users, err := a.page(ctx, after)
			if err != nil {
				yield("", err)
				return
			}
			for _, id := range users {
				if !yield(id, nil) {
					return
				}
				after = id
			}
			if len(users) < audiencePage {
				return
			}
		}
	}
}

func (a *Audience) page(ctx context.Context, after string) ([]string, error) {
	if a.err != nil {
		return nil, a.err
	}
	ctx, cancel := context.WithTimeout(ctx, a.hub.opts.StoreTimeout)
	defer cancel()
	users, err := a.hub.opts.Store.Users(ctx, a.name, after, audiencePage)
	return users, a.hub.storeError("audience", err)
}

// Notify sends v as a notification to every user of the audience; see NotifyEach.
func (a *Audience) Notify(ctx context.Context, v any, opts ...SendOption) (Notified, error) {
	return a.hub.NotifyEach(ctx, a.Users(ctx), v, opts...)
}

// storeError counts and logs an error of the Store, and wraps it.
func (h *Hub) storeError(what string, err error) error {
	if err == nil {
		return nil
	}
	h.stats.storeErrors.Add(1)
	h.logError("parley: store: "+what+" failed", "error", err)
	return fmt.Errorf("%w: %w", ErrStore, err)
}

// Notified says what became of a notification to many users.
type Notified struct {
	// Stored is for how many of the users given it is in the inbox now, Duplicates for how many of these it was there before (WithID).
	Stored, Duplicates int
	// Delivered is the number of devices on this node that it was queued for.
	Delivered int
	// Failed is for how many users it could not be stored. The error has the first ones' reasons.
	Failed int
}

// maxReasons is how many errors a NotifyEach reports.
const maxReasons = 10

// NotifyEach sends v, encoded as JSON once, as a notification to each user of a sequence, for
// example one that reads the application's own table of users row by row: nobody holds them all. Sixteen are written
// at a time; a user for whom it fails does not stop the others. An error that the sequence yields does,
// and so does the end of ctx. With WithID it can be repeated after an error: who has it already does not get it twice, within IdempotencyWindow or as
// long as the Store remembers.
func (h *Hub) NotifyEach(ctx context.Context, users iter.Seq2[string, error], v any, opts ...SendOption) (Notified, error) {
	out, err := h.prepare(v, opts)
	if err != nil {
		return Notified{}, err
	}
	var n notifying
	turns := make(chan struct{}, audienceParallel)
	var all sync.WaitGroup
	for id, err := range users {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			n.fail(err)
			break
		}
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			r, err := h.notify(ctx, id, out)
			n.add(id, r, err)
		})
	}
	all.Wait()
	return n.Notified, errors.Join(n.reasons...)
}

// notifying adds up what became of each.
type notifying struct {
	mu sync.Mutex // guards the fields below
	Notified
	reasons []error
}

func (n *notifying) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reasons = append(n.reasons, err)
}

func (n *notifying) add(userID string, r Result, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case err != nil:
		n.Failed++
		if len(n.reasons) < maxReasons {
			n.reasons = append(n.reasons, fmt.Errorf("user %q: %w", userID, err))
		}
		return
	case r.Duplicate:
		n.Duplicates++
	}
	if r.Stored {
		n.Stored++
	}
	n.Delivered += r.Delivered
}

// known remembers whom this node has told the Store of.
type known struct {
	mu    sync.Mutex // guards users
	users aging[struct{}]
}

// track adds a user who connects to the known ones, at most once an hour. It does not hold up the connection.
func (h *Hub) track(userID string) {
	if !h.opts.TrackUsers || userID == "" {
		return
	}
	h.known.mu.Lock()
	_, told := h.known.users.get(userID)
	if !told {
		h.known.users.put(userID, struct{}{})
	}
	h.known.mu.Unlock()
	if told {
		return
	}
	h.runStarts()
	go func() { // ends with the Store call
		defer h.runEnds()
		if h.KnownUsers().Add(h.ctx, userID) != nil {
			h.known.mu.Lock()
			defer h.known.mu.Unlock()
			h.known.users.remove(userID)
		}
	}()
}
