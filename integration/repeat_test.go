package integration

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/integration/shop"
)

// notifier sends numbered notifications to a customer, each until it is stored.
type notifier struct {
	b    *branch
	to   string
	stop chan struct{}

	// Valid when it has ended.
	sent       []string // the ids, in order
	duplicates int      // were stored already when they were repeated
}

// notifiers are one for each customer.
type notifiers struct {
	stop    chan struct{}
	running sync.WaitGroup
	list    []*notifier
}

func (b *branch) notify() *notifiers {
	all := &notifiers{stop: make(chan struct{})}
	for _, name := range shop.Customers {
		n := &notifier{b: b, to: name, stop: all.stop}
		all.list = append(all.list, n)
		all.running.Go(func() { n.run(b.t) })
	}
	return all
}

// end waits until what is being sent is stored. It returns the ids by customer, and how many were repeated for nothing.
func (all *notifiers) end() (sent map[string][]string, duplicates int) {
	close(all.stop)
	all.running.Wait()
	sent = map[string][]string{}
	for _, n := range all.list {
		sent[n.to] = n.sent
		duplicates += n.duplicates
	}
	return sent, duplicates
}

// run sends until stop is closed, at a pace that the inboxes can hold.
func (n *notifier) run(t *testing.T) {
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for i := 1; ; i++ {
		select {
		case <-n.stop:
			return
		case <-pace.C:
		}
		id := fmt.Sprint(n.to, " ", i)
		if !n.send(t, id) {
			return
		}
		n.sent = append(n.sent, id)
	}
}

// send repeats a notification until the shop has it. It reports false when the test is over.
func (n *notifier) send(t *testing.T, id string) bool {
	for {
		req, err := http.NewRequest(http.MethodPost, n.b.url+"notify/"+n.to, nil)
		if err != nil {
			t.Error(err)
			return false
		}
		req.Header.Set("Idempotency-Key", id)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			answer, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err == nil && resp.StatusCode == http.StatusOK {
				if string(answer) == "duplicate" {
					n.duplicates++
				}
				return true
			}
		}
		select {
		case <-t.Context().Done():
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// F10, F23, F24: who notifies through a server that gets killed repeats it with the same id, and
// it is stored once.
func TestNotifyIsRepeatedByID(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, cfg shop.Config) {
		b := newBranch(t, cfg)
		l := b.begin(shop.Config{})
		l.served()
		notifiers := b.notify()
		l.killedAfter(50 * time.Millisecond)
		chance := rand.New(rand.NewPCG(1, 2))
		for i := range kills(t, 30) {
			place := []shop.Place{shop.AfterAppend, shop.BeforeAppend}[i%2]
			b.begin(shop.Config{Dies: place, Times: chance.IntN(20)}).died()
		}
		l = b.begin(shop.Config{})
		l.served()
		sent, duplicates := notifiers.end()
		books := b.look()
		for _, c := range b.customers {
			inbox := c.inbox(t, books.Store)
			want := []line{}
			for i, id := range sent[c.name] {
				want = append(want, line{int64(i) + 1, id})
			}
			same(t, want, inbox, "notifications of "+c.name)
			c.hasGot(t, inbox)
		}
		require.Positive(t, duplicates, "some were stored when the server died")
		l.stopped()
	})
}

// kills is how often a server is killed: n times, less with -short.
func kills(t *testing.T, n int) int {
	if testing.Short() {
		n /= 10
	}
	return n
}
