package checker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-go/parley"
)

// appCall is a send of the application.
type appCall func(*parley.Hub, context.Context, ...parley.SendOption) (parley.Result, error)

// app has the application send.
func (r *runner) app(o Op, room string) {
	for range max(o.Count, 1) {
		id := r.id("a")
		body := payload{ID: id}
		e := Event{Kind: Send, Client: App, ID: id}
		var opts []parley.SendOption
		if o.Flag {
			opts = append(opts, parley.WithID(id))
		}
		var call appCall
		user := userName(o.Target)
		switch o.Do {
		case DoApp:
			e.Topic = roomPrefix + room
			call = func(h *parley.Hub, ctx context.Context, opts ...parley.SendOption) (parley.Result, error) {
				return h.Room(room).Send(ctx, body, opts...)
			}
		case DoAppAll:
			e.Topic = topicAll
			call = func(h *parley.Hub, ctx context.Context, opts ...parley.SendOption) (parley.Result, error) {
				return h.Broadcast(ctx, body, opts...)
			}
		case DoAppMail:
			opts = r.personal(&e, o, opts)
			call = func(h *parley.Hub, ctx context.Context, opts ...parley.SendOption) (parley.Result, error) {
				return h.Private(ctx, user, body, opts...)
			}
		default:
			opts = r.personal(&e, o, opts)
			if o.Room > 0 {
				e.Label = fmt.Sprint("kind", o.Room)
				opts = append(opts, parley.WithKind(e.Label))
			}
			call = func(h *parley.Hub, ctx context.Context, opts ...parley.SendOption) (parley.Result, error) {
				return h.Notify(ctx, user, body, opts...)
			}
		}
		r.Add(e)
		r.calls.Go(func() { r.call(o, e.Topic, id, call, opts) })
	}
}

// personal fills in what is special about messages to the inbox of a user.
func (r *runner) personal(e *Event, o Op, opts []parley.SendOption) []parley.SendOption {
	e.Topic, e.TTL = userPrefix+userName(o.Target), o.For
	if r.plan.Receipts {
		e.ReceiveIn = receiveIn
	}
	if o.For > 0 {
		opts = append(opts, parley.WithTTL(o.For))
	}
	if o.Room == 3 {
		e.ReceiveIn = 0
		opts = append(opts, parley.WithUndeliveredAfter(-1))
	}
	if o.Flag && o.Do == DoNotify {
		r.named = append(r.named, e.ID)
	}
	return opts
}

// call makes one call of the application, and repeats it with the same id if it failed and has one.
func (r *runner) call(o Op, topic, id string, call appCall, opts []parley.SendOption) {
	for attempt := range 3 {
		hub := r.nodes[o.Node%len(r.nodes)].current()
		if hub == nil {
			if attempt == 0 {
				r.Add(Event{Kind: Refused, Client: App, Topic: topic, ID: id, Code: "no node"})
				return
			}
			break
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		result, err := call(hub, ctx, opts...)
		cancel()
		if err == nil {
			e := Event{Kind: Sent, Client: App, Topic: topic, ID: id, Place: Place{result.Epoch, result.Offset}}
			r.Add(e)
			return
		}
		if !o.Flag || r.plan.keep(topic) == 0 {
			break
		}
		time.Sleep(time.Second)
	}
	r.Add(Event{Kind: Lost, Client: App, Topic: topic, ID: id, Code: "failed"})
}

// marks are what entries can be marked as.
var marks = []parley.MarkAs{parley.MarkRead, parley.MarkUnread, parley.MarkArchived}

// appMark has the application change the read state of an inbox.
func (r *runner) appMark(o Op) {
	hub := r.nodes[o.Node%len(r.nodes)].current()
	if hub == nil {
		return
	}
	user := userName(o.Target)
	page, err := r.page(userPrefix + user)
	if err != nil {
		if r.backend == nil {
			r.leak("reading the inbox of %s: %v", user, err)
		}
		return
	}
	as := marks[o.Room%len(marks)]
	s, bad := marking{as, o.Count}.selection(Place{page.Epoch, page.Top}, r.named[max(0, len(r.named)-idsKnown):])
	e := Event{Kind: Mark, Client: App, Topic: userPrefix + user, ID: r.id("k"), Mark: s}
	if bad {
		e.Code = "bad"
	}
	r.Add(e)
	r.calls.Go(func() {
		in := hub.Inbox(user)
		f := map[parley.MarkAs]func(context.Context, parley.Selection) (parley.Log, error){
			parley.MarkRead: in.MarkRead, parley.MarkUnread: in.MarkUnread, parley.MarkArchived: in.Archive,
		}[as]
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		log, err := f(ctx, parley.Selection{Epoch: s.Epoch, UpTo: s.UpTo, Offsets: s.Offsets, IDs: s.IDs})
		e := Event{Kind: MarkDone, Client: App, Topic: e.Topic, ID: e.ID, Place: Place{Epoch: log.Epoch}, Count: countOf(log)}
		switch {
		case errors.Is(err, parley.ErrPosition):
			e.Kind, e.Code, e.Count = MarkNo, "position", nil
		case err != nil:
			e.Kind, e.Code, e.Count = MarkLost, err.Error(), nil
		}
		r.Add(e)
	})
}

const audienceName = "everybody"

// audience makes one of all users.
func (r *runner) audience() {
	for i := range r.plan.Users {
		if err := r.nodes[0].current().Audience(audienceName).Add(context.Background(), userName(i)); err != nil {
			r.leak("adding to an audience: %v", err)
		}
	}
}

// everyone sends a notification to it. After a wipe nobody is in it.
func (r *runner) everyone(o Op) {
	hub := r.nodes[o.Node%len(r.nodes)].current()
	if hub == nil {
		return
	}
	id := r.id("a")
	e := Event{Kind: Send, Client: App, ID: id, Topic: topicEveryone}
	if r.plan.Receipts {
		e.ReceiveIn = receiveIn
	}
	r.Add(e)
	var opts []parley.SendOption
	if o.Flag {
		opts = append(opts, parley.WithID(id))
		r.named = append(r.named, id)
	}
	r.calls.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		n, err := hub.Audience(audienceName).Notify(ctx, payload{ID: id}, opts...)
		if n.Failed > 0 && err == nil {
			r.leak("%d of an audience have failed, and no error says so", n.Failed)
		}
		r.Add(Event{Kind: Everyone, Client: App, ID: id, Topic: topicEveryone, Count: &Count{Version: int64(n.Stored)}})
	})
}

// undelivered is Hooks.Undelivered. One in four calls fails, and one in four takes some time.
func (n *node) undelivered(ctx context.Context, u parley.Undelivered) error {
	w := n.world
	e := Event{
		Kind: Hook, Client: App, Node: n.number, Topic: userPrefix + u.UserID, ID: idOf(u.Entry.Message),
		User: u.Entry.Sender, Label: u.Entry.Kind, Place: Place{u.Inbox.Epoch, u.Entry.Offset},
	}
	w.Add(e)
	w.mu.Lock()
	fate := w.hooks.IntN(4)
	w.mu.Unlock()
	var err error
	switch {
	case fate == 0 && !w.calm.Load():
		err = errors.New("nobody could be told")
	case fate == 1:
		err = sleep(ctx, 2*time.Second)
	}
	e.Kind = Hooked
	if err != nil {
		e.Code = err.Error()
		n.hookFailures.Add(1)
	}
	w.Add(e)
	return err
}

// stand writes down how the inboxes stand, and compares it with the word of the hubs.
func (r *runner) stand(code string) {
	for i, c := range r.clients {
		if count := c.Counted(); count != nil && c.User() != "" && r.plan.keep(userPrefix+c.User()) > 0 {
			r.Add(Event{Kind: Counted, Client: i, Topic: userPrefix + c.User(), Count: count})
		}
	}
	for i := range r.plan.Users {
		topic := userPrefix + userName(i)
		page, err := r.page(topic)
		if err != nil {
			r.leak("reading %s: %v", topic, err)
			continue
		}
		e := Event{
			Kind: Stands, Client: App, Topic: topic, Code: code, Place: Place{page.Epoch, page.Top},
			Count: countOf(page.Log), Inbox: standingOf(page), First: page.First,
		}
		for _, entry := range page.Entries {
			e.Entries = append(e.Entries, Seen{Place: Place{page.Epoch, entry.Offset}, Expired: entry.Data == nil})
		}
		r.Add(e)
		for _, n := range r.nodes {
			difference := r.compare(n, userName(i), page)
			for range 5 { // in real time something may have expired in between
				if difference == "" || r.backend == nil {
					break
				}
				if page, err = r.page(topic); err == nil {
					difference = r.compare(n, userName(i), page)
				}
			}
			if difference != "" {
				r.leak("%s", difference)
			}
		}
	}
}

// compare compares what hub.Inbox says with what the Store has.
func (r *runner) compare(n *node, user string, page parley.Page) (difference string) {
	in := n.current().Inbox(user)
	log, err := in.Unread(context.Background())
	if err != nil || log != page.Log {
		return fmt.Sprintf("node %d: the inbox of %s stands at %+v (%v), but the Store says %+v", n.number, user, log, err, page.Log)
	}
	read, err := in.Read(context.Background(), 0, 0)
	if err != nil || read.Log != page.Log || read.More {
		return fmt.Sprintf("node %d: reading the inbox of %s says %+v, more %t (%v), but the Store says %+v", n.number, user, read.Log, read.More, err, page.Log)
	}
	kept := slices.DeleteFunc(slices.Clone(page.Entries), func(e parley.Entry) bool { return e.Data == nil })
	standing := standingOf(page)
	same := slices.EqualFunc(read.Entries, kept, func(a parley.InboxEntry, b parley.Entry) bool {
		state := standing.state(b.Offset)
		seen, err := readEntry(b.Data)
		return a.Offset == b.Offset && a.Unread == (state == parley.MarkUnread) && a.Archived == (state == parley.MarkArchived) &&
			err == nil && a.Kind == seen.Label && a.Sender == seen.User && idOf(a.Message) == seen.ID
	})
	if !same {
		return fmt.Sprintf("node %d: the inbox of %s is %+v, but the Store has %v, %s", n.number, user, read.Entries, kept, standing)
	}
	return ""
}
