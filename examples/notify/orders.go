package main

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// Order is one order of a user.
type Order struct {
	ID       int    `json:"id"`
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
)

var (
	errNoOrder = errors.New("no such order")
	errShipped = errors.New("this order has been shipped already")
	errTooMany = errors.New("too many open orders: wait until some have been shipped")
	errFull    = errors.New("the shop takes no more orders")
)

// orders is the database of this example. The zero value is empty and ready.
type orders struct {
	mu  sync.Mutex
	all []Order // guarded by mu: the order with id n is at n-1
}

func (o *orders) place(userID, item string, now time.Time) (Order, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	open := 0
	for _, each := range o.all {
		if each.UserID == userID && each.Status == "placed" {
			open++
		}
	}
	switch {
	case open >= maxOpenOrders:
		return Order{}, errTooMany
	case len(o.all) >= maxOrders:
		return Order{}, errFull
	}
	order := Order{ID: len(o.all) + 1, UserID: userID, Item: item, Status: "placed", PlacedAt: now.UnixMilli()}
	o.all = append(o.all, order)
	return order, nil
}

// ship marks an order as shipped. Of two calls for one order only one
// succeeds, so the customer hears of it once.
func (o *orders) ship(id int, now time.Time) (Order, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if id < 1 || id > len(o.all) {
		return Order{}, errNoOrder
	}
	order := &o.all[id-1]
	if order.Status == "shipped" {
		return Order{}, errShipped
	}
	order.Status, order.ShippedAt = "shipped", now.UnixMilli()
	return *order, nil
}

// visibleTo returns the orders that a user may see, newest first: the own
// ones, and all for the staff.
func (o *orders) visibleTo(u user) []Order {
	o.mu.Lock()
	defer o.mu.Unlock()
	visible := []Order{} // not nil: JSON clients expect a list
	for _, each := range slices.Backward(o.all) {
		if u.Staff || each.UserID == u.ID {
			visible = append(visible, each)
		}
	}
	return visible
}
