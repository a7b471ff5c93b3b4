package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore"
	"github.com/parley-go/parley/adapters/sqlstore/pgtest"
)

// hub returns a node's hub over s.
func hub(t testing.TB, s parley.Store) *parley.Hub {
	t.Helper()
	h, err := parley.New(parley.Options{Store: s, Authenticator: parley.AllowAnonymous, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Shutdown(context.Background())) })
	return h
}

// enqueue enqueues in a transaction of the application's own.
func (w *world) enqueue(t testing.TB, s *sqlstore.Store, commit bool, list ...sqlstore.Notification) {
	t.Helper()
	tx, err := w.db.Begin()
	require.NoError(t, err)
	for _, n := range list {
		require.NoError(t, s.Enqueue(t.Context(), tx, n))
	}
	if commit {
		require.NoError(t, tx.Commit())
	} else {
		require.NoError(t, tx.Rollback())
	}
}

// notifier lets a test come between the relay and the hub.
type notifier func(ctx context.Context, userID string, v any, opts ...parley.SendOption) (parley.Result, error)

func (f notifier) Notify(ctx context.Context, userID string, v any, opts ...parley.SendOption) (parley.Result, error) {
	return f(ctx, userID, v, opts...)
}

func TestEnqueueIsTransactional(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		s := w.node(t)
		h := hub(t, s)
		w.enqueue(t, s, false, sqlstore.Notification{UserID: "kim", Data: "rolled back"})
		require.NoError(t, s.RelaySome(t.Context(), h))
		require.Zero(t, read(t, s, "user/kim").Top, "a rollback sends nothing")

		w.enqueue(t, s, true,
			sqlstore.Notification{UserID: "kim", ID: "order-1", Kind: "order", TTL: time.Hour, Data: map[string]int{"n": 1}},
			sqlstore.Notification{UserID: "kim", Data: map[string]int{"n": 2}},
			sqlstore.Notification{UserID: "lee", Data: map[string]int{"n": 3}})
		require.NoError(t, s.RelaySome(t.Context(), h))
		page := read(t, s, "user/kim")
		require.Len(t, page.Entries, 2)
		require.Equal(t, 2, page.Unread)
		for i, part := range []string{`"id":"order-1"`, `"n":2`} {
			require.Contains(t, string(page.Entries[i].Data), part, "in the order of Enqueue")
		}
		require.Contains(t, string(page.Entries[0].Data), `"kind":"order"`)
		require.Len(t, read(t, s, "user/lee").Entries, 1)
		require.Zero(t, w.count(t, "outbox"))
		require.Equal(t, sqlstore.RelayStats{Sent: 3}, s.RelayStats())
		w.sleep(2 * time.Hour)
		require.Nil(t, read(t, s, "user/kim").Entries[0].Data, "the TTL is over")
	})
}

// A node crashes before or after the notification was stored, and another one carries on.
func TestRelayStoresExactlyOnce(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		dying, heir := w.node(t), w.node(t)
		h := hub(t, dying)
		for i := range 20 {
			w.enqueue(t, dying, true, sqlstore.Notification{UserID: "kim", Data: i})
		}
		ctx, crash := context.WithCancel(t.Context())
		calls := 0
		_ = dying.RelaySome(ctx, notifier(func(ctx context.Context, userID string, v any, opts ...parley.SendOption) (parley.Result, error) {
			if calls++; calls == 12 {
				crash()
				return parley.Result{}, ctx.Err()
			}
			return h.Notify(ctx, userID, v, opts...)
		}))
		require.Len(t, read(t, heir, "user/kim").Entries, 11)
		require.Equal(t, 9, w.count(t, "outbox"))

		next := hub(t, heir)
		require.NoError(t, heir.RelaySome(t.Context(), next))
		require.Len(t, read(t, heir, "user/kim").Entries, 11, "the lease holds")
		w.sleep(time.Minute)
		require.NoError(t, heir.RelaySome(t.Context(), next))
		page := read(t, heir, "user/kim")
		require.Len(t, page.Entries, 20)
		for i, e := range page.Entries {
			require.Contains(t, string(e.Data), fmt.Sprintf(`"data":%d`, i))
		}
		require.Zero(t, w.count(t, "outbox"))
	})
}

// The answer of the hub gets lost after the notification was stored.
func TestRelayRepeatsWithoutStoringTwice(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		s := w.node(t)
		h := hub(t, s)
		w.enqueue(t, s, true, sqlstore.Notification{UserID: "kim", Data: 1})
		lost := notifier(func(ctx context.Context, userID string, v any, opts ...parley.SendOption) (parley.Result, error) {
			_, err := h.Notify(ctx, userID, v, opts...)
			require.NoError(t, err)
			return parley.Result{}, parley.ErrStore
		})
		require.NoError(t, s.RelaySome(t.Context(), lost))
		require.Zero(t, w.count(t, "outbox"), "deleted in the transaction that stored it")

		// So it is with a notification of an id that was stored long ago.
		w.enqueue(t, s, true, sqlstore.Notification{UserID: "lee", ID: "order-1", Data: 1})
		require.NoError(t, s.RelaySome(t.Context(), h))
		w.sleep(time.Hour)
		w.enqueue(t, s, true, sqlstore.Notification{UserID: "lee", ID: "order-1", Data: 1})
		require.NoError(t, s.RelaySome(t.Context(), h))
		require.Zero(t, w.count(t, "outbox"))
		require.Len(t, read(t, s, "user/lee").Entries, 1)

		// Of a hub whose Store is another one the rows are deleted afterwards.
		w.enqueue(t, s, true, sqlstore.Notification{UserID: "kim", Data: 2})
		elsewhere := hub(t, parley.NewMemoryStore())
		require.NoError(t, s.RelaySome(t.Context(), elsewhere))
		require.Zero(t, w.count(t, "outbox"))
		require.Len(t, read(t, s, "user/kim").Entries, 1)
	})
}

func TestRelayRetriesAndSetsAside(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		s := w.node(t)
		h := hub(t, s)
		w.enqueue(t, s, true,
			sqlstore.Notification{UserID: "kim", ID: "bad\x00id", Data: 1},
			sqlstore.Notification{UserID: "kim", Data: strings.Repeat("x", 2<<20)},
			sqlstore.Notification{UserID: "kim", Data: 3})
		down := true
		flaky := notifier(func(ctx context.Context, userID string, v any, opts ...parley.SendOption) (parley.Result, error) {
			if down {
				return parley.Result{}, errors.New("down")
			}
			return h.Notify(ctx, userID, v, opts...)
		})
		require.NoError(t, s.RelaySome(t.Context(), flaky))
		require.EqualValues(t, 3, s.RelayStats().Retried)
		down = false
		require.NoError(t, s.RelaySome(t.Context(), flaky))
		require.Zero(t, read(t, s, "user/kim").Top, "not at once")
		w.sleep(2 * time.Second)
		require.NoError(t, s.RelaySome(t.Context(), flaky))
		require.Len(t, read(t, s, "user/kim").Entries, 1)
		require.Equal(t, sqlstore.RelayStats{Sent: 1, Retried: 3, SetAside: 2}, s.RelayStats())
		var reasons int
		require.NoError(t, w.db.QueryRow(`SELECT count(*) FROM parley_outbox WHERE failed LIKE '%invalid name%' OR failed LIKE '%too large%'`).Scan(&reasons))
		require.Equal(t, 2, reasons)
		w.sleep(time.Hour)
		require.NoError(t, s.RelaySome(t.Context(), flaky))
		require.EqualValues(t, 2, s.RelayStats().SetAside, "once")

		tx, err := w.db.Begin()
		require.NoError(t, err)
		defer tx.Rollback()
		require.Error(t, s.Enqueue(t.Context(), tx, sqlstore.Notification{Data: 1}), "no user")
		require.Error(t, s.Enqueue(t.Context(), tx, sqlstore.Notification{UserID: "kim", Data: func() {}}), "no JSON")
	})
}

// Wake spares the wait for the next turn, and Relay ends with its ctx and with Close.
func TestRelayLoop(t *testing.T) {
	w := openMemory(t)
	w.opts.RelayInterval = time.Hour
	s := w.node(t)
	h := hub(t, s)
	turns := make(chan string)
	between := notifier(func(ctx context.Context, userID string, v any, opts ...parley.SendOption) (parley.Result, error) {
		r, err := h.Notify(ctx, userID, v, opts...)
		turns <- userID
		return r, err
	})
	ended := make(chan error)
	go func() { ended <- s.Relay(t.Context(), between) }()
	w.enqueue(t, s, true, sqlstore.Notification{UserID: "kim", Data: 1})
	s.Wake()
	require.Equal(t, "kim", <-turns)
	w.enqueue(t, s, true, sqlstore.Notification{UserID: "lee", Data: 1})
	s.Wake()
	require.Equal(t, "lee", <-turns)
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-ended, sqlstore.ErrClosed)

	s = w.node(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Relay(ctx, between), context.Canceled)
}

// A database server dies while nodes relay: each notification is stored once.
func TestRelayPostgresKilled(t *testing.T) {
	server := pgtest.New(t)
	w := openWorld(t, sqlstore.PostgreSQL, "pgx", server.Database(t))
	s := w.node(t)
	h := hub(t, s)
	const n = 200
	for i := range n {
		w.enqueue(t, s, true, sqlstore.Notification{UserID: fmt.Sprint("u", i%5), Data: i})
	}
	killed := false
	calls := make(chan struct{}, n)
	kill := notifier(func(ctx context.Context, userID string, v any, opts ...parley.SendOption) (parley.Result, error) {
		calls <- struct{}{}
		return h.Notify(ctx, userID, v, opts...)
	})
	done := make(chan error, 1)
	go func() { done <- s.RelaySome(t.Context(), kill) }()
	for range n / 2 {
		<-calls
	}
	server.Kill(t)
	killed = true
	<-done
	server.Restart(t)
	require.True(t, killed)
	for range 20 {
		w.sleep(10 * time.Minute)
		_ = s.RelaySome(t.Context(), h)
	}
	require.Zero(t, w.count(t, "outbox"))
	total := 0
	for i := range 5 {
		for _, e := range read(t, s, fmt.Sprint("user/u", i)).Entries {
			require.NotNil(t, e.Data)
			total++
		}
	}
	require.Equal(t, n, total)
}
