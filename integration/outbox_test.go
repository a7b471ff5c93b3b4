package integration

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/integration/shop"
)

// F8, F23, F34: a notification that was enqueued in the transaction of an order
// is sent once if the order is there, and never if it is not, whenever the
// server is killed: at any time, its start included, and at each place between the
// transaction and the inbox.
func TestOutboxSurvivesKills(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, cfg shop.Config) {
		b := newBranch(t, cfg)
		l := b.begin(shop.Config{})
		l.served() // so the customers are there before the first order
		l.killedAfter(0)
		chance := rand.New(rand.NewPCG(3, 4))
		for i := range kills(t, 100) {
			if i%2 == 0 {
				b.begin(shop.Config{Orders: 40}).killedAfter(time.Duration(chance.IntN(400)) * time.Millisecond)
				continue
			}
			place := shop.Places[i/2%len(shop.Places)]
			b.begin(shop.Config{Orders: 40, Dies: place, Times: chance.IntN(8)}).died()
		}
		start := time.Now()
		l = b.begin(shop.Config{})
		l.served()
		b.balance(nil)
		t.Logf("%v until what was left was sent and compared", time.Since(start))
		l.stopped()
		assert.Positive(t, b.ledger.left, "a server was killed between a commit and the notification")
	})
}

// balance waits until the shop that runs has sent everything, and compares what it has said, what is in
// its books, the inboxes and what the customers have got. Beside their orders they were sent others.
func (b *branch) balance(others map[string][]string) {
	b.t.Helper()
	books := b.look()
	b.quiet(books)
	orders, err := books.Orders(b.t.Context())
	require.NoError(b.t, err)
	there := map[string]bool{}
	for _, c := range b.customers {
		for _, id := range orders[c.name] {
			there[id] = true
		}
		inbox := c.inbox(b.t, books.Store)
		once(b.t, slices.Concat(orders[c.name], others[c.name]), inbox, "notifications of "+c.name)
		c.hasGot(b.t, inbox)
	}
	b.ledger.mu.Lock()
	defer b.ledger.mu.Unlock()
	b.t.Logf("orders: %d there, %d said to be taken, %d cancelled", len(there), len(b.ledger.taken), len(b.ledger.cancelled))
	for id := range b.ledger.taken {
		assert.True(b.t, there[id], "order %s was committed", id)
	}
	for id := range b.ledger.cancelled {
		assert.False(b.t, there[id], "order %s was rolled back", id)
	}
	assert.NotEmpty(b.t, b.ledger.taken)
	assert.NotEmpty(b.t, b.ledger.cancelled)
}

// quiet waits until the outbox is empty.
func (b *branch) quiet(books *shop.Books) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(10 * time.Millisecond) {
		n, err := books.Waiting(b.t.Context())
		require.NoError(b.t, err)
		if n == 0 {
			return
		}
		require.True(b.t, time.Now().Before(deadline), "%d notifications are still in the outbox", n)
	}
}
