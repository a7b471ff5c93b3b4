package parley

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// overdueCalls is how many hooks run at the same time. One that hangs holds up no others.
	overdueCalls = 16
	// overdueLease is how long a node has for the hook, and to say that it was called: after it the entry is anybody's again.
	overdueLease = time.Minute
	// overdueBudget is the part of it that the hook gets.
	overdueBudget = 45 * time.Second
	// overduePause is the longest time between two looks. A look finds nothing most of the time, and then costs an index lookup.
	overduePause = 5 * time.Second
)

// Undelivered is what Hooks.Undelivered hears of: a notification or private message that
// no device of the user has received in time.
type Undelivered struct {
	UserID string
	Entry  InboxEntry
	// Inbox is how the inbox stands now. Its Epoch together with Entry.Offset names the entry: the same for every call about it.
	Inbox Log
}

func (h *Hub) watchesReceipts() bool { return h.opts.Hooks.Undelivered != nil }

// receiveIn is how long the devices have for a message, 0 for ever; own is what the send says.
func (h *Hub) receiveIn(own time.Duration) time.Duration {
	switch {
	case !h.watchesReceipts() || own < 0:
		return 0
	case own > 0:
		return own
	}
	return max(h.opts.UndeliveredAfter, 0)
}

// watchOverdue looks for undelivered messages until Shutdown, also for those of nodes that are no more.
func (h *Hub) watchOverdue() {
	defer close(h.watched)
	pause := overduePause
	if after := h.opts.UndeliveredAfter; after > 0 {
		pause = min(pause, max(after/4, 100*time.Millisecond))
	}
	calls := undeliveredCalls{hub: h, slots: make(chan struct{}, overdueCalls)}
	defer calls.running.Wait()
	for {
		select {
		case <-time.After(pause/2 + rand.N(pause/2)): // nodes take turns
		case <-h.ctx.Done():
			return
		}
		for calls.start() && h.ctx.Err() == nil {
			continue
		}
	}
}

// undeliveredCalls are the calls of the hook that run now.
type undeliveredCalls struct {
	hub     *Hub
	slots   chan struct{} // holds a token for each
	running sync.WaitGroup
}

// start takes from the Store as much as there are slots for, and reports whether there may be more to do at once.
func (o *undeliveredCalls) start() (more bool) {
	free := cap(o.slots) - len(o.slots) // only this goroutine takes slots
	if free == 0 {
		return false
	}
	h := o.hub
	ctx, cancel := context.WithTimeout(h.ctx, h.opts.StoreTimeout)
	defer cancel()
	lease := overdueLease
	if mutant("overdue-nolease") {
		lease = time.Millisecond
	}
	entries, err := h.opts.Store.Overdue(ctx, free, lease)
	if err != nil {
		if h.ctx.Err() == nil {
			_ = h.storeError("overdue", err)
		}
		return false
	}
	until := time.Now().Add(overdueLease)
	for _, e := range entries {
		o.slots <- struct{}{}
		o.running.Go(func() {
			defer func() { <-o.slots }()
			h.tellUndelivered(e, until)
		})
	}
	return len(entries) == free
}

// tellUndelivered calls the hook. Only when it has succeeded the entry is done with: until
// then, should the process end, another node calls after the lease.
func (h *Hub) tellUndelivered(o OverdueEntry, until time.Time) {
	if len(o.Topic) <= len(userPrefix) || o.Topic[:len(userPrefix)] != userPrefix {
		return // not one of ours
	}
	t := h.acquire(o.Topic)
	defer t.release()
	ctx, cancel := context.WithTimeout(h.ctx, overdueBudget)
	defer cancel()
	page, err := t.read(ctx, Query{})
	if err != nil || page.Epoch != o.Epoch { // or lost meanwhile
		return
	}
	u := Undelivered{
		UserID: t.user, Entry: newInboxEntry(o.Entry, &Page{}), Inbox: page.Log,
	}
	if err := h.callUndelivered(ctx, u); err != nil && !mutant("overdue-once") {
		h.stats.handlerErrors.Add(1)
		h.logError("parley: Undelivered hook failed: it is called again in a minute", "error", err)
		return
	}
	h.stats.undelivered.Add(1)
	if mutant("overdue-again") {
		return
	}
	t.confirm(o, until)
}

// confirm tells the Store that the hook was called, until the lease is over: should that fail, it is called again. A
// Shutdown leaves it one more try.
func (t *topic) confirm(o OverdueEntry, until time.Time) {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(t.hub.ctx), until)
	defer cancel()
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		_, err := t.storeMark(ctx, Mark{As: MarkReceived, Epoch: o.Epoch, Offsets: []int64{o.Entry.Offset}})
		if err == nil || !errors.Is(err, ErrStore) || t.hub.ctx.Err() != nil {
			return
		}
		select {
		case <-time.After(wait):
		case <-t.hub.ctx.Done(): // once more
		case <-ctx.Done():
			return
		}
	}
}

func (h *Hub) callUndelivered(ctx context.Context, u Undelivered) (err error) {
	defer func() {
		if v := recover(); v != nil {
			h.stats.panics.Add(1)
			h.logError("parley: panic", "in", "Undelivered hook", "panic", v, "stack", string(debug.Stack()))
			err = NewError(CodeInternal, "panic")
		}
	}()
	return h.opts.Hooks.Undelivered(ctx, u)
}
