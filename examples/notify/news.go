package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore"
)

// The kinds of notifications, by which a page chooses how to show them.
const (
	kindPlaced       = "order.placed"  // for the staff
	kindShipped      = "order.shipped" // for the customer
	kindAnnouncement = "announcement"  // for all customers
)

const (
	// customers is the audience of announcements.
	customers = "customers"
	// desk is the room in which the staff sees the e-mails that would be sent.
	desk = "desk"
	// announcementLife is how long an announcement is worth reading.
	announcementLife = 7 * 24 * time.Hour
)

// News is what a notification of the shop says.
type News struct {
	Text  string `json:"text"`
	Order *Order `json:"order,omitempty"` // as it is now
}

// newsID names what happened to an order. Whoever knows the order knows it,
// and can mark the notification as read without having seen it.
func newsID(kind string, orderID int64) string { return fmt.Sprintf("%s/%d", kind, orderID) }

// change runs f in a transaction, and sends what it enqueues if, and only if,
// that is committed: also when the process dies right afterwards.
func (s *shop) change(ctx context.Context, f func(tx *sql.Tx) error) error {
	if err := s.db.transaction(ctx, f); err != nil {
		return err
	}
	s.store.Wake()
	return nil
}

// enqueue puts the news of an order into the transaction that changes the order.
func (s *shop) enqueue(ctx context.Context, tx *sql.Tx, userID, kind, text string, order Order) error {
	return s.store.Enqueue(ctx, tx, sqlstore.Notification{
		UserID: userID, ID: newsID(kind, order.ID), Kind: kind, Data: News{Text: text, Order: &order},
	})
}

// relay sends what is enqueued until ctx ends. What is left then is sent after the next start.
func (s *shop) relay(ctx context.Context) {
	defer close(s.relayed)
	if err := s.store.Relay(ctx, s.hub); err != nil && ctx.Err() == nil {
		slog.Error("notifications are not sent any more", "error", err)
	}
}

// seen marks what was said about an order as read, on all devices of the user,
// who has opened or shipped the order itself.
func (s *shop) seen(ctx context.Context, u user, orderID int64) {
	about := parley.Selection{IDs: []string{newsID(kindPlaced, orderID), newsID(kindShipped, orderID)}}
	if _, err := s.hub.Inbox(u.ID).MarkRead(ctx, about); err != nil {
		slog.Error("notification not marked as read", "user", u.ID, "error", err)
	}
}

// announce tells all customers, those who are away, too. With the same id it
// can be repeated: who has it already does not get it again.
func (s *shop) announce(ctx context.Context, id, text string) (parley.Notified, error) {
	return s.hub.Audience(customers).Notify(ctx, News{Text: text},
		parley.WithKind(kindAnnouncement), parley.WithID("announcement/"+id), parley.WithTTL(announcementLife))
}

// Mail is an e-mail that a real shop would send.
type Mail struct {
	To      string `json:"to"`
	Subject string `json:"subject"`
}

// undelivered is called for what no device of a user has received for a while.
// It can happen that it is called again for the same notification, after a
// crash: the id keeps that from becoming a second e-mail. A real mail service takes one, too.
func (s *shop) undelivered(ctx context.Context, u parley.Undelivered) error {
	to, known := userByID(u.UserID)
	if !known {
		return nil
	}
	var news News
	if err := json.Unmarshal(u.Entry.Message, &news); err != nil {
		return err
	}
	id := fmt.Sprintf("%s/%s/%d", u.UserID, u.Inbox.Epoch, u.Entry.Offset)
	sent, err := s.hub.Room(desk).Send(ctx, Mail{To: to.Name, Subject: news.Text}, parley.WithID(id))
	if err == nil && !sent.Duplicate {
		fmt.Fprintf(s.mails, "would send an e-mail to %s: %q\n", to.Name, news.Text)
	}
	return err
}

// authorize lets everybody read on in their own inbox, and the staff see the
// e-mails. Nobody sends anything by WebSocket here.
func (s *shop) authorize(_ context.Context, c *parley.Conn, a parley.Access) error {
	u, _ := userByID(c.Identity().ID)
	switch {
	case a.Verb == parley.VerbHistory && a.Room == "": // of the inbox; there is no way to name that of another
		return nil
	case u.Staff && a.Room == desk && a.Verb != parley.VerbSend:
		return nil
	}
	return parley.NewError(parley.CodeForbidden, "this shop has no rooms for customers")
}
