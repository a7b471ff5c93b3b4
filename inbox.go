package parley

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Inbox is what is kept for one identified user: the notifications and private messages
// of the topic that Notify and Private append to, with their read state.
// It holds nothing itself and may be used by several goroutines.
type Inbox struct {
	hub    *Hub
	userID string
}

// Inbox returns the inbox of a user. It asks nobody whether the user exists: that of an
// unknown user is empty.
func (h *Hub) Inbox(userID string) *Inbox { return &Inbox{h, userID} }

// UserID returns whose inbox it is.
func (in *Inbox) UserID() string { return in.userID }

// Selection picks entries of an inbox. Exactly one of UpTo, Offsets and IDs must be set.
// Entries that are not kept any more are passed over.
type Selection struct {
	// Epoch is the epoch that UpTo and Offsets are of. Empty: whichever the inbox has, which after a loss of
	// the log may pick other entries than meant.
	Epoch string
	// UpTo picks all entries up to this offset.
	UpTo int64
	// Offsets picks these entries.
	Offsets []int64
	// IDs picks the notifications that were sent with these ids (WithID), for
	// code that knows what a notification was about, but not where it is.
	IDs []string
}

// InboxEntry is a notification or private message in an inbox.
type InboxEntry struct {
	Offset   int64
	Time     time.Time
	Unread   bool
	Archived bool
	// Message is what was sent. For a private message Sender is the user id of the client
	// that sent it, or "" if that was the application.
	ID, Kind string
	Private  bool
	Sender   string
	Message  json.RawMessage
}

// InboxPage is a stretch of an inbox, oldest first, and how all of it stands.
type InboxPage struct {
	Log
	Entries []InboxEntry
	// More tells whether older entries are kept.
	More bool
}

// Read returns up to limit entries with offsets below before, the newest of these; before 0: the
// newest of all. limit is 1 to 100; anything else means 100. Entries whose time is over are left out.
// ErrInvalidName, ErrClosed; ErrStore if the Store fails.
func (in *Inbox) Read(ctx context.Context, before int64, limit int) (InboxPage, error) {
	t, err := in.acquire()
	if err != nil {
		return InboxPage{}, err
	}
	defer t.release()
	for {
		page, err := t.read(ctx, Query{Before: max(before, 0), Limit: pageLimit(limit)})
		if err != nil {
			return InboxPage{}, err
		}
		p := newInboxPage(page)
		if len(p.Entries) > 0 || !p.More {
			return p, nil
		}
		before = page.Entries[0].Offset // all of these have expired: there is nothing in them to go on from
	}
}

func newInboxPage(page Page) InboxPage {
	p := InboxPage{Log: page.Log, More: moreBefore(page)}
	for _, e := range page.Entries {
		if e.Data != nil {
			p.Entries = append(p.Entries, newInboxEntry(e, &page))
		}
	}
	return p
}

// Unread returns how the inbox stands: Log.Unread is the number of unread entries. ErrStore if the Store fails.
func (in *Inbox) Unread(ctx context.Context) (Log, error) {
	t, err := in.acquire()
	if err != nil {
		return Log{}, err
	}
	defer t.release()
	page, err := t.read(ctx, Query{})
	return page.Log, err
}

// MarkRead marks entries as read. It, MarkUnread and Archive change the read state of entries, in the Store and on all connected devices of
// the user, and return how the inbox stands afterwards. To archive is to mark as read and to put away: the entry stays in the inbox,
// until it leaves it by Options.Inbox, and devices show it elsewhere or not at all. MarkUnread takes it back.
//
// ErrPosition if Selection.Epoch is not that of the log, or an offset lies after its newest entry; nothing is changed then. ErrStore if the
// Store fails: whether something was changed is unknown, and doing it again does no harm.
func (in *Inbox) MarkRead(ctx context.Context, s Selection) (Log, error) {
	return in.mark(ctx, MarkRead, s)
}

// MarkUnread makes entries unread again; see MarkRead.
func (in *Inbox) MarkUnread(ctx context.Context, s Selection) (Log, error) {
	return in.mark(ctx, MarkUnread, s)
}

// Archive marks entries as read and puts them away; see MarkRead.
func (in *Inbox) Archive(ctx context.Context, s Selection) (Log, error) {
	return in.mark(ctx, MarkArchived, s)
}

func (in *Inbox) mark(ctx context.Context, as MarkAs, s Selection) (Log, error) {
	m, err := s.mark(as)
	if err != nil {
		return Log{}, err
	}
	t, err := in.acquire()
	if err != nil {
		return Log{}, err
	}
	defer t.release()
	return t.mark(ctx, m)
}

// acquire returns the topic; for reading, too, so that its Store calls are those of every other one.
func (in *Inbox) acquire() (*topic, error) {
	if err := checkUser(in.userID); err != nil {
		return nil, err
	}
	if in.hub.closing.Load() {
		return nil, ErrClosed
	}
	return in.hub.acquire(userPrefix + in.userID), nil
}

// mark checks s and makes the Mark of it.
func (s Selection) mark(as MarkAs) (Mark, error) {
	m := Mark{As: as, Epoch: s.Epoch, UpTo: s.UpTo, Offsets: s.Offsets}
	picked := 0
	for _, set := range []bool{s.UpTo != 0, len(s.Offsets) > 0, len(s.IDs) > 0} {
		if set {
			picked++
		}
	}
	if picked != 1 || s.UpTo < 0 || len(s.Offsets) > 0 && slices.Min(s.Offsets) < 1 {
		return m, fmt.Errorf("%w: a Selection needs exactly one of UpTo, Offsets and IDs, and offsets from 1", ErrPosition)
	}
	for _, id := range s.IDs {
		if !validName(id, maxName) {
			return m, fmt.Errorf("%w: id %q", ErrInvalidName, id)
		}
		m.Keys = append(m.Keys, applicationKey(id))
	}
	return m, nil
}

// markNames are the states on the wire (docs/protocol.md, section 8).
var markNames = map[MarkAs]string{MarkRead: "read", MarkUnread: "unread", MarkArchived: "archived"}

// mark changes the read state in the Store and tells the devices.
func (t *topic) mark(ctx context.Context, m Mark) (Log, error) {
	done, err := t.storeMark(ctx, m)
	if errors.Is(err, ErrStore) && !mutant("mark-unresolved") {
		t.resolve()
	}
	if err != nil || len(done.Changed) == 0 {
		return done.Log, err
	}
	t.hub.stats.marked.Add(uint64(countSpans(done.Changed)))
	t.tellMarked(ctx, m.As, done, false, done.Version-done.Top+1)
	return done.Log, nil
}

// tellMarked tells the devices. What becomes of the message does not change that the marks are stored: those that
// miss it find them in their inbox when they come back. marks is as in publication: 0 if this is a part of what there is to tell,
// and who hears it alone is still to find out that it misses the rest.
func (t *topic) tellMarked(ctx context.Context, as MarkAs, done Marked, local bool, marks int64) {
	if len(done.Changed) > 0 && !mutant("mark-silent") {
		p := &publication{entry: Entry{Data: appendMarked(nil, markNames[as], done)}, v1: true, local: local}
		if marks > 0 {
			p.marks, p.news, p.of = marks, true, done.Epoch
		}
		_, _ = t.publish(ctx, p)
	}
}

// resolve tells the devices the read state of everything, as soon as the Store is well: of a Mark that has failed
// nobody knows whether it was made, and if it was, then to repeat it changes nothing, and they would not hear of it.
func (t *topic) resolve() {
	if t.resolving.Swap(true) {
		return
	}
	t.retain()
	go func() { // ends when it is told, or with the hub
		defer t.release()
		for wait := rereadMin; ; wait = min(2*wait, rereadMax) {
			select {
			case <-time.After(wait/2 + rand.N(wait/2)):
			case <-t.hub.ctx.Done():
			}
			t.resolving.Store(false) // what fails from now on may not be in what is read
			if t.readMarks(false) == nil || t.hub.ctx.Err() != nil || t.resolving.Swap(true) {
				return
			}
		}
	}()
}

// readMarks tells the devices what the Store says, those on this node if it is local. It takes its turn: when a Store is well again, many want to know.
func (t *topic) readMarks(local bool) error {
	ctx, cancel := context.WithTimeout(t.hub.ctx, t.hub.opts.StoreTimeout)
	defer cancel()
	if err := t.takeTurn(ctx); err != nil {
		return err
	}
	defer t.endTurn()
	page, err := t.read(ctx, Query{Limit: 1})
	if err == nil && t.at(page.Epoch) { // of another log the devices are told with its first message
		t.tellMarks(page, local)
	}
	return err
}

// at reports whether the last message fanned out is of this epoch.
func (t *topic) at(epoch string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.epoch == epoch
}

// tellMarks tells the devices the read state of all that is kept.
func (t *topic) tellMarks(page Page, local bool) {
	var unread []Span
	for offset := page.First; offset <= page.Top; offset++ {
		if !within(page.Read, offset) && !within(page.Archived, offset) {
			unread = extendSpans(unread, offset)
		}
	}
	t.tellMarked(t.hub.ctx, MarkRead, Marked{Log: page.Log, Top: page.Top, Changed: page.Read}, local, 0)
	t.tellMarked(t.hub.ctx, MarkArchived, Marked{Log: page.Log, Top: page.Top, Changed: page.Archived}, local, 0)
	t.tellMarked(t.hub.ctx, MarkUnread, Marked{Log: page.Log, Top: page.Top, Changed: unread}, local, 0)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch == page.Epoch {
		t.marks = page.Version - page.Top // if there is news already, comparing finds out
	}
}

// storeMark calls the Store with its timeout.
func (t *topic) storeMark(ctx context.Context, m Mark) (Marked, error) {
	if !t.keep.keeps() {
		return Marked{}, positionError{codeAhead} // Options.Inbox keeps nothing: after that is everything
	}
	ctx, cancel := context.WithTimeout(ctx, t.hub.opts.StoreTimeout)
	defer cancel()
	if mutant("mark-anyepoch") {
		m.Epoch = ""
	}
	if mutant("mark-part") && len(m.Offsets) > 1 {
		m.Offsets = m.Offsets[1:]
	}
	done, err := t.hub.opts.Store.Mark(ctx, t.name, m)
	if err == nil && done.Epoch == "" {
		err = errNoEpoch
	}
	if err != nil {
		t.hub.stats.storeErrors.Add(1)
		t.hub.logError("parley: store: mark failed", "topic", t.kind(), "error", err)
		return Marked{}, fmt.Errorf("%w: %w", ErrStore, err)
	}
	if code := m.refusal(done); code != "" {
		return done, positionError{code}
	}
	return done, nil
}

// refusal tells why the Store did not carry out m; "" if it did.
func (m Mark) refusal(done Marked) Code {
	newest := m.UpTo
	for _, offset := range m.Offsets {
		newest = max(newest, offset)
	}
	switch {
	case m.Epoch != "" && m.Epoch != done.Epoch:
		return codeReset
	case newest > done.Top:
		return codeAhead
	}
	return ""
}

// positionError is an ErrPosition with the code that a client is told.
type positionError struct{ code Code }

var positionTexts = map[Code]string{
	codeReset: "the position is of another epoch: the log was lost, take what the inbox says now",
	codeAhead: "the position lies after the newest message",
}

func (e positionError) Error() string { return ErrPosition.Error() + ": " + positionTexts[e.code] }

func (e positionError) Unwrap() error { return ErrPosition }

func countSpans(spans []Span) (n int64) {
	for _, s := range spans {
		n += s.To - s.From + 1
	}
	return n
}

func within(spans []Span, offset int64) bool {
	_, found := slices.BinarySearchFunc(spans, offset, func(s Span, offset int64) int {
		switch {
		case s.To < offset:
			return -1
		case s.From > offset:
			return 1
		}
		return 0
	})
	return found
}

// storedMessage is a message of an inbox as encode.go makes it.
type storedMessage struct {
	Type     string          `json:"type"`
	ID       string          `json:"id"`
	Kind     string          `json:"kind"`
	SenderID string          `json:"senderId"`
	Data     json.RawMessage `json:"data"`
	Message  json.RawMessage `json:"message"`
}

func newInboxEntry(e Entry, page *Page) InboxEntry {
	var m storedMessage
	_ = json.Unmarshal(e.Data, &m) // it is ours; a Store that breaks it gives empty fields
	entry := InboxEntry{
		Offset: e.Offset, Time: time.UnixMilli(e.Time), Archived: within(page.Archived, e.Offset),
		ID: m.ID, Kind: m.Kind, Sender: m.SenderID, Private: m.Type == "private", Message: m.Data,
	}
	entry.Unread = !entry.Archived && !within(page.Read, e.Offset)
	if entry.Private {
		entry.Message = m.Message
	}
	return entry
}
