package checker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/parley-go/parley"
	parleyclient "github.com/parley-go/parley/client"
)

// inboxHandlers writes down all that comes of the inbox.
func (a *apiClient) inboxHandlers(o *parleyclient.Options, add func(Event)) {
	record := func(e Event) {
		a.mu.Lock()
		a.inboxed, a.inbox = true, e.Place
		a.mu.Unlock()
		add(e)
	}
	deliver := func(s Seen, mark parleyclient.Mark) {
		e := Event{Kind: Deliver, Place: s.Place, ID: s.ID, User: s.User, Label: s.Label}
		if mark != "" {
			e.Mark = &Marking{As: markAs(string(mark))}
		}
		a.mu.Lock()
		a.inbox = s.Place
		a.mu.Unlock()
		add(e)
	}
	o.OnNotification = func(_ context.Context, _ *parleyclient.Client, m parleyclient.Notification) {
		a.known(m.ID)
		deliver(seenNotification(m), m.Mark)
	}
	o.OnPrivate = func(_ context.Context, _ *parleyclient.Client, m parleyclient.Private) {
		deliver(seenPrivate(m), m.Mark)
	}
	var gap *parleyclient.Gap
	first := true
	o.OnInboxGap = func(_ context.Context, _ *parleyclient.Client, g parleyclient.Gap) {
		gap, first = &g, false // the inbox follows
	}
	o.OnInbox = func(_ context.Context, _ *parleyclient.Client, m parleyclient.Inbox) {
		for _, item := range m.Items {
			if item.Notification != nil {
				a.known(item.Notification.ID)
			}
		}
		e := baseOf(gap, m.Position, seenItems(m.Items), first)
		e.Count, e.Inbox = stateOf(m.InboxState)
		record(e)
		gap, first = nil, false
	}
	o.OnInboxState = func(_ context.Context, _ *parleyclient.Client, s parleyclient.InboxState) {
		e := Event{Kind: State, Place: Place(s.Position)}
		e.Count, e.Inbox = stateOf(s)
		record(e)
	}
	o.OnInboxRecovered = func(_ context.Context, _ *parleyclient.Client, r parleyclient.Recovered) {
		record(Event{Kind: Reached, Place: Place(r.Position)})
	}
	o.OnMarked = func(_ context.Context, _ *parleyclient.Client, m parleyclient.Marked) {
		add(Event{
			Kind: News, Mark: &Marking{As: markAs(string(m.As))}, Spans: m.Offsets,
			Place: Place{Epoch: m.Epoch}, Count: &Count{m.Unread, m.Version},
		})
	}
}

func seenNotification(m parleyclient.Notification) Seen {
	return Seen{Place: Place(m.Position), ID: idOf(m.Data), Label: m.Kind}
}

func seenPrivate(m parleyclient.Private) Seen {
	return Seen{Place: Place(m.Position), ID: idOf(m.Message), User: m.SenderID}
}

func seenItems(items []parleyclient.InboxItem) (entries []Seen) {
	for _, item := range items {
		if n := item.Notification; n != nil {
			entries = append(entries, seenNotification(*n))
		} else {
			entries = append(entries, seenPrivate(*item.Private))
		}
	}
	return entries
}

func stateOf(s parleyclient.InboxState) (*Count, *Standing) {
	return &Count{s.Unread, s.Version}, &Standing{Truncated: s.Truncated, Read: s.Read, Archived: s.Archived}
}

// known remembers the id of a notification.
func (a *apiClient) known(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if id != "" && !slices.Contains(a.ids, id) {
		a.ids = append(a.ids, id)
		a.ids = a.ids[max(0, len(a.ids)-idsKnown):]
	}
}

// Mark implements client.
func (a *apiClient) Mark(m marking) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused || a.stopping || a.user == "" || a.inbox == (Place{}) || a.waiting > 100 {
		return
	}
	s, bad := m.selection(a.inbox, a.ids)
	if bad {
		return // the client itself refuses it
	}
	a.marks++
	e := Event{Kind: Mark, Client: a.number, Topic: userPrefix + a.user, ID: fmt.Sprintf("mark-%d-%d", a.number, a.marks), Mark: s}
	a.env.Add(e)
	c := a.client
	a.later(a.tasks, func() {
		pick := parleyclient.Selection{Offsets: s.Offsets, IDs: s.IDs, Epoch: s.Epoch}
		if s.UpTo > 0 {
			pick.UpTo, pick.Epoch = parleyclient.Position{Epoch: s.Epoch, Offset: s.UpTo}, ""
		}
		f := map[parley.MarkAs]func(context.Context, parleyclient.Selection) (parleyclient.ReadState, error){
			parley.MarkRead: c.MarkRead, parley.MarkUnread: c.MarkUnread, parley.MarkArchived: c.Archive,
		}[m.As]
		state, err := f(context.Background(), pick)
		e.Kind, e.Mark, e.Count = MarkDone, nil, &Count{state.Unread, state.Version}
		if err != nil {
			e.Kind, e.Code, e.Count = MarkLost, string(parleyclient.CodeOf(err)), nil
			if e.Code == "reset" || e.Code == "ahead" {
				e.Kind = MarkNo
			}
		}
		a.env.Add(e)
	})
}

// askInbox asks for a page of the inbox.
func (a *apiClient) askInbox(c *parleyclient.Client, conn int) {
	page, err := c.InboxHistory(context.Background(), 0, 0)
	if err != nil {
		return
	}
	e := Event{
		Kind: Page, Client: a.number, Conn: conn, Topic: userPrefix + a.user,
		Place: Place(page.Position), Entries: seenItems(page.Items),
	}
	e.Count, e.Inbox = stateOf(page.InboxState)
	a.env.Add(e)
}

// Away implements client.
func (a *apiClient) Away(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.away = time.Now().Add(d)
	if a.link != nil {
		a.env.Add(Event{Kind: Fault, Client: a.number, Code: fmt.Sprint("away for ", d)})
		a.link.Cut()
	}
}

// Counted implements client.
func (a *apiClient) Counted() *Count {
	a.mu.Lock()
	c := a.client
	a.mu.Unlock()
	s := c.ReadState()
	return &Count{s.Unread, s.Version}
}
