package main

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Order is one order of a user.
type Order struct {
	ID       int64  `json:"id"`
	UserID   string `json:"userId"`
	Item     string `json:"item"`
	Status   string `json:"status"` // "placed" or "shipped"
	PlacedAt int64  `json:"placedAt"`
	// ShippedAt is 0 until then. Times are in ms since 1970.
	ShippedAt int64 `json:"shippedAt,omitempty"`
}

const (
	maxOpenOrders = 50     // of a user
	maxOrders     = 10_000 // of everybody, as they are never deleted
	listedOrders  = 200
)

var (
	errNoOrder = errors.New("no such order")
	errShipped = errors.New("this order has been shipped already")
	errTooMany = errors.New("too many open orders: wait until some have been shipped")
	errFull    = errors.New("the shop takes no more orders")
)

const orderColumns = "id, user_id, item, status, placed_at, shipped_at"

// scanOrder reads the orderColumns of a row.
func scanOrder(row interface{ Scan(...any) error }) (o Order, err error) {
	err = row.Scan(&o.ID, &o.UserID, &o.Item, &o.Status, &o.PlacedAt, &o.ShippedAt)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoOrder
	}
	return o, err
}

func placeOrder(ctx context.Context, tx *sql.Tx, userID, item string, now time.Time) (Order, error) {
	var all, open int
	err := tx.QueryRowContext(ctx,
		"SELECT count(*), coalesce(sum(CASE WHEN user_id = $1 AND status = 'placed' THEN 1 ELSE 0 END), 0) FROM orders", userID).Scan(&all, &open)
	switch {
	case err != nil:
		return Order{}, err
	case open >= maxOpenOrders:
		return Order{}, errTooMany
	case all >= maxOrders:
		return Order{}, errFull
	}
	return scanOrder(tx.QueryRowContext(ctx,
		"INSERT INTO orders (user_id, item, status, placed_at) VALUES ($1, $2, 'placed', $3) RETURNING "+orderColumns,
		userID, item, now.UnixMilli()))
}

// shipOrder marks an order as shipped. Of two calls for one order only one
// succeeds, so the customer hears of it once.
func shipOrder(ctx context.Context, tx *sql.Tx, id int64, now time.Time) (Order, error) {
	order, err := scanOrder(tx.QueryRowContext(ctx,
		"UPDATE orders SET status = 'shipped', shipped_at = $1 WHERE id = $2 AND status = 'placed' RETURNING "+orderColumns,
		now.UnixMilli(), id))
	if !errors.Is(err, errNoOrder) {
		return order, err
	}
	var known bool
	err = tx.QueryRowContext(ctx, "SELECT count(*) > 0 FROM orders WHERE id = $1", id).Scan(&known)
	switch {
	case err != nil:
		return Order{}, err
	case known:
		return Order{}, errShipped
	}
	return Order{}, errNoOrder
}

// order returns one order, if u may see it: customers their own, the staff all.
func (db database) order(ctx context.Context, u user, id int64) (Order, error) {
	order, err := scanOrder(db.QueryRowContext(ctx, "SELECT "+orderColumns+" FROM orders WHERE id = $1", id))
	if err == nil && !u.Staff && order.UserID != u.ID {
		return Order{}, errNoOrder
	}
	return order, err
}

// orders returns the newest orders that u may see, newest first.
func (db database) orders(ctx context.Context, u user) ([]Order, error) {
	rows, err := db.QueryContext(ctx,
		"SELECT "+orderColumns+" FROM orders WHERE user_id = $1 OR $2 ORDER BY id DESC LIMIT $3", u.ID, u.Staff, listedOrders)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	visible := []Order{} // not nil: JSON clients expect a list
	for rows.Next() {
		order, err := scanOrder(rows)
		if err != nil {
			return nil, err
		}
		visible = append(visible, order)
	}
	return visible, rows.Err()
}
