package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore"
)

type interimNotification struct {
	UserID, ID, Kind string
	TTL              time.Duration
	Data             any
}
type interimStore struct {
	*sqlstore.Store
	db   *sql.DB
	wake chan struct{}
}

func interim(s *sqlstore.Store, db *sql.DB) *interimStore {
	_, err := db.Exec("CREATE TABLE IF NOT EXISTS interim (seq bigint PRIMARY KEY, user_id text, id text, kind text, data text)")
	if err != nil {
		panic(err)
	}
	return &interimStore{s, db, make(chan struct{}, 1)}
}
func (s *interimStore) Enqueue(ctx context.Context, tx *sql.Tx, n interimNotification) error {
	data, err := json.Marshal(n.Data)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO interim (user_id, id, kind, data, seq) VALUES ($1,$2,$3,$4,$5)", n.UserID, n.ID, n.Kind, string(data), time.Now().UnixNano())
	return err
}
func (s *interimStore) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
func (s *interimStore) Relay(ctx context.Context, hub *parley.Hub) error {
	for {
		for s.one(ctx, hub) {
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil
		}
	}
}
func (s *interimStore) one(ctx context.Context, hub *parley.Hub) bool {
	var seq int
	var u, id, k, d string
	if s.db.QueryRowContext(ctx, "SELECT seq, user_id, id, kind, data FROM interim ORDER BY seq LIMIT 1").Scan(&seq, &u, &id, &k, &d) != nil {
		return false
	}
	if _, err := hub.Notify(ctx, u, json.RawMessage(d), parley.WithID(id), parley.WithKind(k)); err != nil {
		return false
	}
	s.db.ExecContext(context.Background(), "DELETE FROM interim WHERE seq=$1", seq)
	return true
}
