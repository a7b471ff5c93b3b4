package parley

import (
	"context"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// overdueBatch is how many undelivered entries are taken at once. Their hooks run at the same time.
	overdueBatch = 16
	// overdueLease is how long a node has for the hook: after it the entry is anybody's again.
	overdueLease = time.Minute
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
	for {
		select {
		case <-time.After(pause/2 + rand.N(pause/2)): // nodes take turns
		case <-h.ctx.Done():
			return
		}
		for h.tellOverdue() == overdueBatch && h.ctx.Err() == nil {
			continue
		}
	}
}

// tellOverdue takes a batch from the Store, calls the hook for each, and returns how many there were.
func (h *Hub) tellOverdue() int {
	ctx, cancel := context.WithTimeout(h.ctx, h.opts.StoreTimeout)
	lease := overdueLease
	if mutant("overdue-nolease") {
		lease = time.Millisecond
	}
	overdue, err := h.opts.Store.Overdue(ctx, overdueBatch, lease)
	cancel()
	if err != nil {
		if h.ctx.Err() == nil {
			h.stats.storeErrors.Add(1)
			h.logError("parley: store: overdue failed", "error", err)
		}
		return 0
	}
	var calls sync.WaitGroup
	for _, o := range overdue {
		calls.Go(func() { h.tellUndelivered(o) })
	}
	calls.Wait()
	return len(overdue)
}

// tellUndelivered calls the hook. Only when it has succeeded the entry is done with: until
// then, should the process end, another node calls after the lease.
func (h *Hub) tellUndelivered(o OverdueEntry) {
	if len(o.Topic) <= len(userPrefix) || o.Topic[:len(userPrefix)] != userPrefix {
		return // not one of ours
	}
	t := h.acquire(o.Topic)
	defer t.release()
	ctx, cancel := context.WithTimeout(h.ctx, overdueLease*3/4)
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
	// Not with h.ctx: what the hook has done must not be done again because of a Shutdown meanwhile.
	_, _ = t.storeMark(context.WithoutCancel(ctx), Mark{As: MarkReceived, Epoch: o.Epoch, Offsets: []int64{o.Entry.Offset}})
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
