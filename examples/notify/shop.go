package main

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore"
	"github.com/parley-go/parley/examples/internal/site"
)

const (
	maxBody = 4 << 10 // bytes of a request
	maxItem = 80      // characters
	maxNews = 200     // characters of an announcement

	// mailAfter is when an e-mail is sent for what nobody has received. Much
	// longer would suit a real shop better than somebody who tries this one.
	mailAfter = 10 * time.Second
)

// shop is the service. What is particular to realtime messages: the hub is
// mounted like any handler, its Authenticator reads the session that the
// service has anyway, its Store is in the database of the service, and
// handlers enqueue notifications in their own transactions.
type shop struct {
	db       database
	sessions *sessions
	store    *sqlstore.Store
	hub      *parley.Hub
	handler  http.Handler
	mails    io.Writer // gets a line for each e-mail

	stopRelay context.CancelFunc
	relayed   chan struct{} // closed when relay has ended
}

func newShop(ctx context.Context, db database, mails io.Writer) (s *shop, err error) {
	s = &shop{db: db, sessions: newSessions(db), mails: mails, relayed: make(chan struct{})}
	if err := db.migrate(ctx); err != nil {
		return nil, err
	}
	if s.store, err = sqlstore.New(db.DB, sqlstore.Options{Dialect: db.dialect}); err != nil {
		return nil, err
	}
	if err = s.store.Migrate(ctx); err == nil {
		err = s.openHub(ctx)
	}
	if err == nil {
		s.handler, err = s.routes()
	}
	if err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	ctx, s.stopRelay = context.WithCancel(context.WithoutCancel(ctx))
	go s.relay(ctx)
	return s, nil
}

func (s *shop) openHub(ctx context.Context) error {
	key, err := s.db.secret(ctx, "session key")
	if err != nil {
		return err
	}
	s.hub, err = parley.New(parley.Options{
		Authenticator: parley.AuthenticatorFunc(s.authenticate),
		Authorize:     s.authorize,
		Store:         s.store,
		SessionKey:    []byte(key), // pages that are open when the service starts again just go on
		Inbox:         parley.Retention{Messages: 500, Age: 30 * 24 * time.Hour},
		UserExists: func(_ context.Context, id string) (bool, error) {
			_, known := userByID(id)
			return known, nil
		},
		UndeliveredAfter: mailAfter,
		Hooks:            parley.Hooks{Connect: s.connected, Disconnect: s.disconnected, Undelivered: s.undelivered},
	})
	if err != nil {
		return err
	}
	// A real service adds them when they sign up.
	return s.hub.Audience(customers).Add(ctx, slices.Collect(ids(false))...)
}

// Shutdown ends all connections in order. Requests that are under way can go on until close.
func (s *shop) Shutdown(ctx context.Context) error {
	s.stopRelay()
	<-s.relayed
	return s.hub.Shutdown(ctx)
}

// close ends the use of the database, after Shutdown.
func (s *shop) close() { _ = s.store.Close() } // it returns nil

func (s *shop) routes() (http.Handler, error) {
	mux := http.NewServeMux()
	if err := s.addPages(mux); err != nil {
		return nil, err
	}
	mux.Handle("GET /parley.js", parley.ClientJS())
	mux.Handle("GET /parley-inbox.js", parley.InboxJS())
	mux.Handle("GET /realtime", s.hub)
	mux.HandleFunc("POST /api/login", s.login)
	mux.HandleFunc("POST /api/logout", s.logout)
	mux.HandleFunc("GET /api/me", s.user(s.me))
	mux.HandleFunc("GET /api/orders", s.user(s.list))
	mux.HandleFunc("POST /api/orders", s.user(s.place))
	mux.HandleFunc("POST /api/orders/{id}/ship", s.user(staffOnly(s.ship)))
	mux.HandleFunc("POST /api/announcements", s.user(staffOnly(s.tellAll)))
	// Refuses requests that change something and come from another site; the
	// hub checks the origin of WebSockets by itself.
	return site.Headers(http.NewCrossOriginProtection().Handler(mux)), nil
}

func staffOnly(next func(http.ResponseWriter, *http.Request, user)) func(http.ResponseWriter, *http.Request, user) {
	return func(w http.ResponseWriter, r *http.Request, u user) {
		if !u.Staff {
			fail(w, http.StatusForbidden, "only the staff may do that")
			return
		}
		next(w, r, u)
	}
}

func (s *shop) list(w http.ResponseWriter, r *http.Request, u user) {
	orders, err := s.db.orders(r.Context(), u)
	if err != nil {
		broken(w, err)
		return
	}
	reply(w, http.StatusOK, orders)
}

func (s *shop) place(w http.ResponseWriter, r *http.Request, u user) {
	var in struct {
		Item string `json:"item"`
	}
	if !decode(w, r, &in) {
		return
	}
	item, ok := text(w, "item", in.Item, maxItem)
	if !ok {
		return
	}
	var order Order
	err := s.change(r.Context(), func(tx *sql.Tx) (err error) {
		order, err = placeOrder(r.Context(), tx, u.ID, item, time.Now())
		if err != nil {
			return err
		}
		for id := range ids(true) {
			news := fmt.Sprintf("New order %d of %s: %s.", order.ID, u.Name, order.Item)
			err = errors.Join(err, s.enqueue(r.Context(), tx, id, kindPlaced, news, order))
		}
		return err
	})
	answer(w, http.StatusCreated, order, err)
}

func (s *shop) ship(w http.ResponseWriter, r *http.Request, u user) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		answer(w, 0, nil, errNoOrder)
		return
	}
	var order Order
	err = s.change(r.Context(), func(tx *sql.Tx) (err error) {
		order, err = shipOrder(r.Context(), tx, id, time.Now())
		if err != nil {
			return err
		}
		news := fmt.Sprintf("Your order %d, %s, is on its way.", order.ID, order.Item)
		return s.enqueue(r.Context(), tx, order.UserID, kindShipped, news, order)
	})
	if err == nil {
		s.seen(r.Context(), u, order.ID)
	}
	answer(w, http.StatusOK, order, err)
}

func (s *shop) tellAll(w http.ResponseWriter, r *http.Request, _ user) {
	var in struct {
		ID   string `json:"id"` // chosen by the page: a form that is sent twice announces once
		Text string `json:"text"`
	}
	if !decode(w, r, &in) {
		return
	}
	news, ok := text(w, "text", in.Text, maxNews)
	if !ok {
		return
	}
	if _, ok = text(w, "id", in.ID, maxItem); !ok {
		return
	}
	told, err := s.announce(r.Context(), in.ID, news)
	answer(w, http.StatusOK, map[string]int{"customers": told.Stored, "delivered": told.Delivered}, err)
}

// text checks what somebody typed; it has answered when it returns false.
func text(w http.ResponseWriter, name, s string, most int) (string, bool) {
	s = strings.TrimSpace(s)
	ok := s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= most
	if !ok {
		fail(w, http.StatusUnprocessableEntity, fmt.Sprintf("%s must have 1 to %d characters", name, most))
	}
	return s, ok
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

// refusals are the errors that tell a user something.
var refusals = map[error]int{
	errNoOrder: http.StatusNotFound,
	errShipped: http.StatusConflict,
	errTooMany: http.StatusConflict,
	errFull:    http.StatusConflict,
}

// answer replies with v, or says what went wrong.
func answer(w http.ResponseWriter, status int, v any, err error) {
	if err == nil {
		reply(w, status, v)
		return
	}
	for refusal, status := range refusals {
		if errors.Is(err, refusal) {
			fail(w, status, refusal.Error())
			return
		}
	}
	broken(w, err)
}

// broken answers when the database fails. Why is for the log.
func broken(w http.ResponseWriter, err error) {
	slog.Error("request failed", "error", err)
	fail(w, http.StatusServiceUnavailable, "that did not work: try again later")
}

func fail(w http.ResponseWriter, status int, message string) {
	reply(w, status, map[string]string{"error": message})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(cmp.Or(status, http.StatusOK))
	if err := json.NewEncoder(w).Encode(v); err != nil {
		slog.Debug("response not written", "error", err) // the client has gone
	}
}
