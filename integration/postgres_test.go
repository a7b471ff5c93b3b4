package integration

import (
	"context"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/sqlstore"
	"github.com/parley-go/parley/adapters/sqlstore/pgtest"
	"github.com/parley-go/parley/integration/shop"
)

// F8, F14: the database server is killed again and again while orders are taken
// and notifications sent. What was acknowledged is there, once, and the service
// goes on without being started again; its customers stay connected to it.
func TestHubSurvivesKillsOfPostgreSQL(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	b := newBranch(t, shop.Config{Dialect: sqlstore.PostgreSQL, Source: server.Database(t), Run: 1, Orders: math.MaxInt, Log: newTail(t)})
	s, err := shop.Open(&b.ledger, b.cfg)
	require.NoError(t, err)
	defer s.Close()
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", b.cfg.Port))
	require.NoError(t, err)
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(ln) }() // ends with Close
	defer srv.Close()
	for _, c := range b.customers {
		c.connected(t)
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var trading sync.WaitGroup
	trading.Go(func() {
		_ = s.Trade(ctx, func(error) bool { // without a database all fail
			<-time.After(5 * time.Millisecond)
			return ctx.Err() == nil
		})
	})
	notifiers := b.notify()
	chance := rand.New(rand.NewPCG(5, 6))
	for range kills(t, 10) {
		b.busy()
		<-time.After(time.Duration(chance.IntN(20)) * time.Millisecond) // anywhere in a transaction
		server.Kill(t)
		server.Restart(t)
	}
	b.busy()
	stop()
	trading.Wait()
	sent, _ := notifiers.end()
	b.balance(sent)
	for _, c := range b.customers {
		c.neverLeft(t)
	}
}

// busy waits until every customer has got some more notifications, of both kinds.
func (b *branch) busy() {
	b.t.Helper()
	for _, c := range b.customers {
		orders, others := c.counts()
		for deadline := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) {
			o, n := c.counts()
			if o >= orders+5 && n >= others+5 {
				break
			}
			require.True(b.t, time.Now().Before(deadline), "%s gets nothing: %d orders and %d others before, %d and %d now", c.name, orders, others, o, n)
		}
	}
}
