package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/examples/internal/site"
)

//go:embed web
var web embed.FS

const (
	maxBody = 4 << 10 // bytes of a request
	maxItem = 80      // characters
)

// shop is the service. What is particular to realtime messages: the hub is
// mounted like any handler, its Authenticator reads the session that the
// service has anyway, and handlers call Notify.
type shop struct {
	sessions *sessions
	orders   orders
	hub      *parley.Hub
	handler  http.Handler
}

func newShop() (*shop, error) {
	s := &shop{sessions: newSessions()}
	hub, err := parley.New(parley.Options{
		Authenticator: parley.AuthenticatorFunc(s.authenticate),
		Hooks:         parley.Hooks{Connect: s.connected, Disconnect: s.disconnected},
	})
	if err != nil {
		return nil, err
	}
	s.hub = hub
	files, err := fs.Sub(web, "web")
	if err != nil {
		return nil, fmt.Errorf("embedded files: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", site.Files(files))
	mux.Handle("GET /parley.js", parley.ClientJS())
	mux.Handle("GET /realtime", hub)
	mux.HandleFunc("POST /api/login", s.login)
	mux.HandleFunc("POST /api/logout", s.logout)
	mux.HandleFunc("GET /api/me", s.user(s.me))
	mux.HandleFunc("GET /api/orders", s.user(s.list))
	mux.HandleFunc("POST /api/orders", s.user(s.place))
	mux.HandleFunc("POST /api/orders/{id}/ship", s.user(s.ship))
	// Refuses requests that change something and come from another site; the
	// hub checks the origin of WebSockets by itself.
	s.handler = site.Headers(http.NewCrossOriginProtection().Handler(mux))
	return s, nil
}

// OrderPlaced is the notification for the staff, OrderShipped the one for the
// customer. Kind lets a page tell them apart.
type (
	OrderPlaced struct {
		Kind  string `json:"kind"` // "order.placed"
		Order Order  `json:"order"`
	}
	OrderShipped struct {
		Kind  string `json:"kind"` // "order.shipped"
		Order Order  `json:"order"`
	}
)

// notified tells the caller of an API what became of the notification.
type notified struct {
	Delivered int  `json:"delivered"` // windows and devices that got it at once
	Stored    bool `json:"stored"`    // the others find it when they come
}

// notify sends a notification. The order has changed whether or not that
// works, so a failure is for the log and not for the customer.
func (s *shop) notify(ctx context.Context, userID string, v any) notified {
	result, err := s.hub.Notify(ctx, userID, v)
	if err != nil && !errors.Is(err, parley.ErrNotFound) {
		slog.Error("notification not sent", "user", userID, "error", err)
	}
	return notified{Delivered: result.Delivered, Stored: result.Stored}
}

func (s *shop) list(w http.ResponseWriter, _ *http.Request, u user) {
	reply(w, http.StatusOK, s.orders.visibleTo(u))
}

func (s *shop) place(w http.ResponseWriter, r *http.Request, u user) {
	var in struct {
		Item string `json:"item"`
	}
	if !decode(w, r, &in) {
		return
	}
	item := strings.TrimSpace(in.Item)
	if item == "" || !utf8.ValidString(item) || utf8.RuneCountInString(item) > maxItem {
		fail(w, http.StatusUnprocessableEntity, fmt.Sprintf("item must have 1 to %d characters", maxItem))
		return
	}
	order, err := s.orders.place(u.ID, item, time.Now())
	if err != nil {
		fail(w, http.StatusConflict, err.Error())
		return
	}
	for _, each := range users {
		if each.Staff {
			s.notify(r.Context(), each.ID, OrderPlaced{Kind: "order.placed", Order: order})
		}
	}
	reply(w, http.StatusCreated, order)
}

func (s *shop) ship(w http.ResponseWriter, r *http.Request, u user) {
	if !u.Staff {
		fail(w, http.StatusForbidden, "only the staff ships orders")
		return
	}
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		fail(w, http.StatusNotFound, "no such order")
		return
	}
	order, err := s.orders.ship(id, time.Now())
	switch {
	case errors.Is(err, errNoOrder):
		fail(w, http.StatusNotFound, err.Error())
		return
	case err != nil:
		fail(w, http.StatusConflict, err.Error())
		return
	}
	result := s.notify(r.Context(), order.UserID, OrderShipped{Kind: "order.shipped", Order: order})
	reply(w, http.StatusOK, struct {
		Order    Order    `json:"order"`
		Notified notified `json:"notified"`
	}{order, result})
}

// decode reads a JSON body; it has answered when it returns false.
func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(into)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		fail(w, http.StatusRequestEntityTooLarge, "the request is too large")
	case err != nil:
		fail(w, http.StatusBadRequest, "the request is not the JSON that was expected")
	}
	return err == nil
}

func fail(w http.ResponseWriter, status int, message string) {
	reply(w, status, map[string]string{"error": message})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		slog.Debug("response not written", "error", err) // the client has gone
	}
}
