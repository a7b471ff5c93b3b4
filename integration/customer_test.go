package integration

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/client"
)

// customer is connected all the time, as far as there is somebody to be connected to.
type customer struct {
	name   string
	client *client.Client

	mu   sync.Mutex // guards the fields below
	seen []line     // with the ids of the notifications, in the order in which it came
	gaps []client.Gap
	came int // how often it was connected
}

func newCustomer(t *testing.T, url, name string) *customer {
	t.Helper()
	c := &customer{name: name}
	opts := client.Options{
		Header:     http.Header{"Cookie": {"user=" + name}},
		BackoffMin: 5 * time.Millisecond, BackoffMax: 50 * time.Millisecond,
		OnInbox: func(_ context.Context, _ *client.Client, in client.Inbox) {
			for _, item := range in.Items {
				c.take(*item.Notification)
			}
		},
		OnNotification: func(_ context.Context, _ *client.Client, n client.Notification) { c.take(n) },
		OnConnected: func(context.Context, *client.Client, client.Identity) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.came++
		},
		OnInboxGap: func(_ context.Context, _ *client.Client, g client.Gap) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.gaps = append(c.gaps, g)
		},
	}
	var err error
	c.client, err = client.New(url, opts)
	require.NoError(t, err)
	t.Cleanup(c.client.Close)
	return c
}

func (c *customer) take(n client.Notification) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, line{n.Position.Offset, n.ID})
}

func (c *customer) letters() []line {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]line{}, c.seen...)
}

// counts returns how many notifications came of orders, and how many others.
func (c *customer) counts() (orders, others int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.seen {
		if strings.HasPrefix(l.Text, c.name) {
			others++
		}
	}
	return len(c.seen) - others, others
}

// neverLeft expects the customer to have been connected all the time.
func (c *customer) neverLeft(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	assert.Equal(t, 1, c.came, "connections of %s", c.name)
}

// connected waits until the customer is connected.
func (c *customer) connected(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, c.client.WaitConnected(ctx), "connection of %s", c.name)
}

// inbox returns what the store has of the customer's, and expects all of it to be unread.
func (c *customer) inbox(t *testing.T, store parley.Store) []line {
	t.Helper()
	page, err := store.Read(t.Context(), "user/"+c.name, parley.Query{Forward: true, Limit: 100_000})
	require.NoError(t, err)
	letters := []line{}
	for _, e := range page.Entries {
		var n struct{ ID string }
		require.NoError(t, json.Unmarshal(e.Data, &n))
		letters = append(letters, line{e.Offset, n.ID})
	}
	assert.EqualValues(t, len(letters), page.Top, "the inbox of %s is complete", c.name)
	assert.Equal(t, len(letters), page.Unread, "unread notifications of %s", c.name)
	return letters
}

// hasGot expects the customer to have got an inbox once and in order, without being told of a gap,
// and to know how many are unread.
func (c *customer) hasGot(t *testing.T, inbox []line) {
	t.Helper()
	got := func() bool { return len(c.letters()) >= len(inbox) && c.client.ReadState().Unread == len(inbox) }
	for deadline := time.Now().Add(patience); !got() && time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
	}
	same(t, inbox, c.letters(), "notifications that "+c.name+" got")
	assert.Equal(t, len(inbox), c.client.ReadState().Unread, "unread notifications, as %s was told", c.name)
	c.mu.Lock()
	defer c.mu.Unlock()
	assert.Empty(t, c.gaps, "%s was told that notifications are missing", c.name)
}

// once expects each of ids to be in an inbox once, and nothing else.
func once(t *testing.T, ids []string, inbox []line, what string) {
	t.Helper()
	count := map[string]int{}
	for _, l := range inbox {
		count[l.Text]++
	}
	missing, others := []string{}, []string{}
	for _, id := range ids {
		if count[id] == 0 {
			missing = append(missing, id)
		}
		count[id]--
	}
	for id, n := range count {
		if n > 0 {
			others = append(others, id)
		}
	}
	assert.Empty(t, missing, "%s: missing", what)
	assert.Empty(t, others, "%s: doubled, or never sent", what)
}
