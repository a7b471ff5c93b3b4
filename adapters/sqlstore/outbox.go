package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Execer is a transaction of the application: *sql.Tx or *sql.Conn, or
// what an ORM has in their place.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Notification is what Enqueue writes down, to be sent by Hub.Notify.
type Notification struct {
	// UserID is whose notification it is. Needed.
	UserID string
	// ID makes it idempotent, as parley.WithID does, and beyond parley.IdempotencyWindow: a second
	// one with the same ID is not stored while the first is kept. Empty: a random one.
	ID string
	// Kind is that of parley.WithKind. Empty: none.
	Kind string
	// TTL is that of parley.WithTTL, counted from when it is stored. 0: no bound of its own.
	TTL time.Duration
	// Data is encoded as JSON at once.
	Data any
}

const enqueue = `INSERT INTO {p}outbox (user_id, id, kind, ttl, data, retry_at, attempts) VALUES (?, ?, ?, ?, ?, ?, 0)`

// Enqueue writes a notification down in a transaction of the application. If
// that is rolled back, nothing was sent. If it is committed, Relay sends the notification, on
// any node, and it is stored in the inbox exactly once, whatever crashes when. Call
// Wake after the commit if it shall be sent at once.
//
// It uses nothing but tx, and may be called before Migrate in the same process, not
// before it on the same database. Data that cannot be encoded is an error before
// anything was written.
func (s *Store) Enqueue(ctx context.Context, tx Execer, n Notification) error {
	if n.UserID == "" {
		return errors.New("sqlstore: Enqueue needs Notification.UserID")
	}
	data, err := json.Marshal(n.Data)
	if err != nil {
		return fmt.Errorf("sqlstore: Enqueue: %w", err)
	}
	if n.ID == "" {
		n.ID = rand.Text()
	}
	at := int64(0) // due, whatever the clock of the database says
	if s.clock.at.Load() > 0 {
		at = s.clock.now()
	}
	_, err = tx.ExecContext(ctx, s.text(enqueue), []byte(n.UserID), []byte(n.ID), []byte(n.Kind), millis(max(n.TTL, 0)), data, at)
	if err != nil {
		return fmt.Errorf("sqlstore: Enqueue: %w", err)
	}
	return nil
}

// Wake makes Relay look for notifications at once, without waiting for its next turn.
func (s *Store) Wake() {
	select {
	case s.relays.wake <- struct{}{}:
	default:
	}
}

// RelayStats counts what Relay has done in this Store.
type RelayStats struct {
	// Sent were handed to the hub without an error.
	Sent uint64
	// Retried failed, and are tried again later.
	Retried uint64
	// SetAside can never be sent. Their rows stay in the table outbox, with the reason in the column failed.
	SetAside uint64
}

// RelayStats returns what Relay has done since New.
func (s *Store) RelayStats() RelayStats {
	return RelayStats{Sent: s.relays.sent.Load(), Retried: s.relays.retried.Load(), SetAside: s.relays.setAside.Load()}
}
