package natsstore

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/internal/leaktest"
)

// patience is how long what must happen may take on a busy machine.
const patience = 3 * time.Minute

func TestMain(m *testing.M) { leaktest.Main(m, "") }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// connect returns a connection as users make it, that tries again sooner.
func connect(t testing.TB, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	conn, err := Connect(url, append([]nats.Option{nats.ReconnectWait(5 * time.Millisecond), nats.ReconnectJitter(5*time.Millisecond, 0)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// dial returns a Broker on a connection of its own.
func dial(t testing.TB, url string, opts Options) *Broker {
	t.Helper()
	return over(t, connect(t, url), opts)
}

func over(t testing.TB, conn *nats.Conn, opts Options) *Broker {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = quiet
	}
	if opts.Timeout == 0 {
		opts.Timeout = patience
	}
	b, err := New(conn, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// record is what a subscription got, in order; "<lost>" stands for nil.
type record struct {
	mu   sync.Mutex
	list []string
}

const lost = "<lost>"

func (r *record) add(payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if payload == nil {
		r.list = append(r.list, lost)
	} else {
		r.list = append(r.list, string(payload))
	}
}

func (r *record) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.list...)
}

func (r *record) count(what string) (n int) {
	for _, s := range r.all() {
		if s == what {
			n++
		}
	}
	return n
}

func subscribe(t testing.TB, b *Broker, topic string, deliver func([]byte)) (unsubscribe func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	unsubscribe, err := b.Subscribe(ctx, topic, deliver)
	require.NoError(t, err)
	t.Cleanup(unsubscribe)
	return unsubscribe
}

func publish(t testing.TB, b parley.Broker, topic, payload string) {
	t.Helper()
	require.NoError(t, b.Publish(t.Context(), topic, []byte(payload)))
}

// until waits for ok.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			require.FailNow(t, fmt.Sprintf("waited %v for %s", patience, what))
		}
	}
}

// publishes waits until publishing works (again), and something published is delivered.
func publishes(t testing.TB, from, to *Broker) {
	t.Helper()
	var r record
	topic := "probe/" + t.Name()
	unsubscribe := subscribe(t, to, topic, r.add)
	defer unsubscribe()
	until(t, "a payload to be delivered", func() bool {
		_ = from.Publish(t.Context(), topic, []byte("probe"))
		return r.count("probe") > 0
	})
}

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
