package filestore

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/storetest"
)

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestStore(t *testing.T) {
	cfg := storetest.Config{
		Bubble: synctest.Test,
		Wipe:   func(t *testing.T, s parley.Store) { require.NoError(t, s.(*Store).Lose()) },
	}
	cfg.Run(t, func(t *testing.T) parley.Store { return open(t, filepath.Join(t.TempDir(), "log")) })
}

// reopening is a Store whose process dies after every Append and starts again
// before the next call. Presence stays, because it is not meant to survive.
type reopening struct {
	*parley.MemoryStore
	t    testing.TB
	path string

	mu   sync.Mutex // guards open, and is held during calls
	open *Store     // nil: dead
}

// alive returns the Store, started again if it has died. The caller holds r.mu.
func (r *reopening) alive() *Store {
	if r.open == nil {
		r.open = open(r.t, r.path)
	}
	return r.open
}

func (r *reopening) die() {
	if r.open != nil {
		require.NoError(r.t, r.open.Close())
		r.open = nil
	}
}

func (r *reopening) Append(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.die()
	return r.alive().Append(ctx, topic, keep, entries)
}

func (r *reopening) Read(ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.alive().Read(ctx, topic, q)
}

// F14, F23: nothing in the contract depends on the process that wrote.
func TestStoreSurvivesEveryAppend(t *testing.T) {
	cfg := storetest.Config{Bubble: synctest.Test, Wipe: func(t *testing.T, s parley.Store) {
		r := s.(*reopening)
		r.mu.Lock()
		defer r.mu.Unlock()
		require.NoError(t, r.alive().Lose())
		r.die()
	}}
	cfg.Run(t, func(t *testing.T) parley.Store {
		return &reopening{MemoryStore: parley.NewMemoryStore(), t: t, path: filepath.Join(t.TempDir(), "log")}
	})
}

func entries(texts ...string) []parley.Entry {
	var list []parley.Entry
	for _, text := range texts {
		list = append(list, parley.Entry{Key: "key of " + text, Time: 7, Data: fmt.Appendf(nil, "{%q:1}", text)})
	}
	return list
}

var (
	keep10     = parley.Retention{Messages: 10}
	everything = parley.Query{Forward: true, Limit: 100}
)

func appendAll(t testing.TB, s *Store, list []parley.Entry) string {
	t.Helper()
	epoch, err := s.Append(context.Background(), "t", keep10, list)
	require.NoError(t, err)
	return epoch
}

func readAll(t testing.TB, s *Store) parley.Page {
	t.Helper()
	page, err := s.Read(context.Background(), "t", everything)
	require.NoError(t, err)
	return page
}

// A process dies while it writes, at every byte of the last record.
func TestStoreToleratesTornTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	epoch := appendAll(t, s, entries("a", "b"))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	appendAll(t, s, entries("c"))
	longer, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, s.Close())

	for size := len(whole); size < len(longer); size++ {
		require.NoError(t, os.WriteFile(path, longer[:size], 0o600))
		s := open(t, path)
		page := readAll(t, s)
		require.Equal(t, epoch, page.Epoch, "%d bytes", size)
		require.EqualValues(t, 2, page.Top, "%d bytes", size)

		again := entries("b", "c", "d")
		require.Equal(t, epoch, appendAll(t, s, again))
		require.Equal(t, []int64{2, 3, 4}, []int64{again[0].Offset, again[1].Offset, again[2].Offset}, "%d bytes", size)
		require.Equal(t, []bool{true, false, false}, []bool{again[0].Duplicate, again[1].Duplicate, again[2].Duplicate})
		require.NoError(t, s.Close())
		require.EqualValues(t, 4, readAll(t, open(t, path)).Top, "%d bytes, opened once more", size)
	}
}

// A new file dies before its first record is whole: nobody has seen its epoch.
func TestStoreToleratesTornHead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, []byte(`{"epo`), 0o600))
	s := open(t, path)
	epoch := appendAll(t, s, entries("a"))
	require.NoError(t, s.Close())
	require.Equal(t, epoch, readAll(t, open(t, path)).Epoch)
}

// What cannot be a torn tail is not passed over in silence.
func TestStoreRefusesDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	appendAll(t, s, entries("a"))
	appendAll(t, s, entries("b"))
	require.NoError(t, s.Close())
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := bytes.SplitAfter(good, []byte("\n"))

	for name, bad := range map[string][]byte{
		"garbage in the middle": bytes.Join([][]byte{lines[0], []byte("garbage\n"), lines[2]}, nil),
		"no epoch":              bytes.Join(lines[1:], nil),
		"an empty object":       append(bytes.Clone(good), "{}\n"...),
		"another program's":     []byte("hello\n"),
	} {
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		_, err := Open(path)
		require.ErrorContains(t, err, "damaged at byte", name)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, bad, after, "%s: left as it was", name)
	}
}

// Every Append after a write that failed is refused: the file may hold a part of a record.
func TestStoreRefusesAfterFailedWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	epoch := appendAll(t, s, entries("a"))
	require.NoError(t, s.file.Close())
	for range 2 {
		_, err := s.Append(context.Background(), "t", keep10, entries("b"))
		require.ErrorContains(t, err, "a write failed earlier")
	}
	page := readAll(t, s)
	require.Equal(t, epoch, page.Epoch)
	require.EqualValues(t, 1, page.Top, "what is not durable is not visible")
	require.EqualValues(t, 1, readAll(t, open(t, path)).Top)
}

// Ages and the idempotency window go on while no process runs.
func TestStoreCountsTimeWithoutProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, path)
		aged := parley.Retention{Messages: 10, Age: time.Minute}
		_, err := s.Append(context.Background(), "t", aged, entries("a"))
		require.NoError(t, err)
		require.NoError(t, s.Close())
		time.Sleep(time.Minute)
		s = open(t, path)
		page := readAll(t, s)
		require.Empty(t, page.Entries)
		require.Equal(t, [2]int64{2, 1}, [2]int64{page.First, page.Top})

		again := entries("a")
		appendAll(t, s, again)
		require.True(t, again[0].Duplicate, "within the window")
		require.NoError(t, s.Close())
		time.Sleep(parley.IdempotencyWindow)
		again = entries("a")
		appendAll(t, open(t, path), again)
		require.False(t, again[0].Duplicate, "after the window")
		require.EqualValues(t, 2, again[0].Offset)
	})
}
