package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/sqlstore"
	"github.com/parley-go/parley/adapters/sqlstore/pgtest"
	"github.com/parley-go/parley/integration/chatd"
	"github.com/parley-go/parley/integration/shop"
)

// eachDatabase runs f on a new database of each kind.
func eachDatabase(t *testing.T, f func(t *testing.T, cfg shop.Config)) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		f(t, shop.Config{Dialect: sqlstore.SQLite, Source: chatd.SQLite(filepath.Join(t.TempDir(), "shop.db"))})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		f(t, shop.Config{Dialect: sqlstore.PostgreSQL, Source: pgtest.Start(t)})
	})
}

// branch is a machine on which a shop dies and opens again, always at the same
// address and with the same database, and its customers, who stay connected.
type branch struct {
	t         *testing.T
	cfg       shop.Config
	url       string
	customers []*customer
	ledger    ledger
}

// ledger is what shops have said, a Write each line.
type ledger struct {
	mu        sync.Mutex      // guards the fields below
	taken     map[string]bool // ids of orders
	cancelled map[string]bool
	left      int // how many lives began with notifications that the one before had left
}

func (l *ledger) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch word, id, _ := strings.Cut(strings.TrimSpace(string(text)), " "); word {
	case "taken":
		l.taken[id] = true
	case "cancelled":
		l.cancelled[id] = true
	case "left":
		l.left++
	}
	return len(text), nil
}

func newBranch(t *testing.T, cfg shop.Config) *branch {
	t.Helper()
	cfg.Port = quietPort(t)
	b := &branch{t: t, cfg: cfg, url: "http://127.0.0.1:" + cfg.Port + "/"}
	b.ledger.taken, b.ledger.cancelled = map[string]bool{}, map[string]bool{}
	for _, name := range shop.Customers {
		b.customers = append(b.customers, newCustomer(t, b.url+"realtime", name))
	}
	return b
}

// life is a shop while it runs.
type life struct {
	b      *branch
	cmd    *exec.Cmd
	errors bytes.Buffer
	open   chan struct{} // closed when it serves
	over   chan struct{} // closed when it has said its last word
}

// begin starts a shop. Config says what it does; the rest is the branch's.
func (b *branch) begin(config shop.Config) *life {
	b.t.Helper()
	b.cfg.Run++
	b.cfg.Orders, b.cfg.Dies, b.cfg.Times = config.Orders, config.Dies, config.Times
	text, err := json.Marshal(b.cfg)
	require.NoError(b.t, err)
	self, err := os.Executable()
	require.NoError(b.t, err)
	l := &life{b: b, cmd: exec.Command(self), open: make(chan struct{}), over: make(chan struct{})}
	l.cmd.Env = append(os.Environ(), shopConfig+"="+string(text))
	l.cmd.Stderr = &l.errors
	out, err := l.cmd.StdoutPipe()
	require.NoError(b.t, err)
	require.NoError(b.t, l.cmd.Start())
	b.t.Cleanup(func() { _ = l.cmd.Process.Kill() }) // nothing, if it has ended
	go l.listen(out)
	return l
}

// listen notes what the shop says, until it ends.
func (l *life) listen(out io.Reader) {
	defer close(l.over)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "open" {
			close(l.open)
		}
		_, _ = l.b.ledger.Write(lines.Bytes()) // never fails
	}
}

// served waits until the shop serves and all customers are connected.
func (l *life) served() {
	l.b.t.Helper()
	select {
	case <-l.open:
	case <-l.over:
		require.FailNow(l.b.t, "the shop did not open", "%s", l.end())
	case <-time.After(patience):
		require.FailNow(l.b.t, "the shop does not open")
	}
	for _, c := range l.b.customers {
		c.connected(l.b.t)
	}
}

// killedAfter kills the shop when a time has passed.
func (l *life) killedAfter(d time.Duration) {
	l.b.t.Helper()
	select {
	case <-time.After(d):
	case <-l.over:
	}
	_ = l.cmd.Process.Kill()
	l.died()
}

// died waits until the shop has ended by SIGKILL, and by nothing else.
func (l *life) died() {
	l.b.t.Helper()
	select {
	case <-l.over:
	case <-time.After(patience):
		_ = l.cmd.Process.Kill()
		require.FailNow(l.b.t, "the shop does not die", "%+v\n%s", l.b.cfg, l.end())
	}
	why := l.end()
	status, ok := l.cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(l.b.t, ok && status.Signaled() && status.Signal() == syscall.SIGKILL, "%+v: %s", l.b.cfg, why)
}

// stopped ends the shop in order.
func (l *life) stopped() {
	l.b.t.Helper()
	require.NoError(l.b.t, l.cmd.Process.Signal(syscall.SIGTERM))
	<-l.over
	why := l.end()
	require.True(l.b.t, l.cmd.ProcessState.Success(), "%s", why)
}

// end waits for the process and tells how it ended.
func (l *life) end() string {
	<-l.over // Wait closes the pipe
	return fmt.Sprint(l.cmd.Wait(), "\n", l.errors.String())
}

// look opens the books of the shop, beside the one that runs.
func (b *branch) look() *shop.Books {
	b.t.Helper()
	books, err := shop.OpenBooks(b.cfg)
	require.NoError(b.t, err)
	b.t.Cleanup(books.Close)
	return books
}
