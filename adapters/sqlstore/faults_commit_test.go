package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore"
)

var room = parley.Retention{Messages: 100, Age: time.Hour}

// F23: each statement of the transactions fails once, in each way. Every caller gets one answer, and
// what is repeated with its key is stored once.
func TestEveryStatementFailsOnce(t *testing.T) {
	faulty := map[string]func() error{
		"refused":   func() error { return errors.New("refused") },
		"lost":      func() error { return &net.OpError{Op: "read", Err: io.ErrUnexpectedEOF} },
		"busy":      func() error { return errors.New("database is locked (5) (SQLITE_BUSY)") },
		"committed": nil, // COMMIT takes place, but its answer is lost
	}
	for name, fail := range faulty {
		t.Run(name, func(t *testing.T) {
			w, f := openFaulty(t)
			s := w.node(t)
			_ = read(t, s, "t")
			for n := 1; ; n++ {
				var count, failed atomic.Int64
				if fail == nil {
					after := func() error {
						if count.Add(1) == int64(n) {
							failed.Add(1)
							return io.ErrUnexpectedEOF
						}
						return nil
					}
					f.after.Store(&after)
				} else {
					f.set(func(string) error {
						if count.Add(1) == int64(n) {
							failed.Add(1)
							return fail()
						}
						return nil
					})
				}
				check := writeAll(t, s, n)
				f.set(nil)
				f.after.Store(nil)
				check()
				if failed.Load() == 0 {
					require.Greater(t, n, 3)
					return
				}
			}
		})
	}
}

// writeAll makes writes of all kinds at once, and repeats those that fail. check checks what became of them.
func writeAll(t *testing.T, s *sqlstore.Store, n int) (check func()) {
	ctx := context.Background()
	var wg sync.WaitGroup
	do := func(f func() error) {
		wg.Go(func() {
			for try := 0; f() != nil; try++ {
				if try == 5 {
					t.Error("fails again and again")
					return
				}
			}
		})
	}
	offsets := make([]atomic.Int64, 6)
	for i := range offsets {
		do(func() error {
			list := []parley.Entry{keyed(fmt.Sprint(i))}
			_, err := s.Append(ctx, fmt.Sprint("t", n, "-", i%2), room, list)
			offsets[i].Store(list[0].Offset)
			return err
		})
	}
	do(func() error {
		_, err := s.Mark(ctx, fmt.Sprint("t", n, "-0"), parley.Mark{As: parley.MarkReceived, Keys: []string{"0"}})
		return err
	})
	do(func() error {
		return s.Enter(ctx, fmt.Sprint("t", n), "n", []parley.Member{{UserID: "kim"}}, time.Hour)
	})
	wg.Wait()
	return func() { checkAll(t, s, n, offsets) }
}

func checkAll(t *testing.T, s *sqlstore.Store, n int, offsets []atomic.Int64) {
	for half := range 2 {
		page := read(t, s, fmt.Sprint("t", n, "-", half))
		require.Len(t, page.Entries, 3)
		require.Equal(t, 3, page.Unread)
		for i := half; i < 6; i += 2 {
			at := offsets[i].Load()
			require.Equal(t, string(keyed(fmt.Sprint(i)).Data), string(page.Entries[at-1].Data), "what was answered is true")
		}
	}
	members, _, err := s.Members(t.Context(), fmt.Sprint("t", n), 9)
	require.NoError(t, err)
	require.Len(t, members, 1)
}

// A panic of the driver ends neither the process nor the committer, and each caller gets an answer (S40).
func TestDriverPanics(t *testing.T) {
	for n := range 4 {
		w, f := openFaulty(t)
		w.opts.Timeout = 2 * time.Second // what is stuck afterwards waits for so long
		s := w.node(t)
		_ = read(t, s, "t")
		count := 0
		f.set(func(string) error {
			if count++; count == n+1 {
				panic("a driver's")
			}
			return nil
		})
		_, err := s.Append(t.Context(), "t", room, []parley.Entry{keyed("a")})
		require.ErrorContains(t, err, "panic: a driver's")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, _ = s.Append(ctx, "t", room, []parley.Entry{keyed("a")}) // an error if the connection still has the lock
		cancel()
	}
}

// A database that hangs keeps no memory of callers that have gone, and their writes never take place (F9).
func TestQueueForgetsCallersThatLeft(t *testing.T) {
	w, f := openFaulty(t)
	s := w.node(t)
	_ = read(t, s, "t")
	hangs, resume := make(chan struct{}, 1), make(chan struct{})
	goOn := sync.OnceFunc(func() {
		f.set(nil)
		close(resume)
	})
	defer goOn() // also when the test fails
	f.set(func(statement string) error {
		if statement == "BEGIN" {
			hangs <- struct{}{}
			<-resume
		}
		return nil
	})
	first := make(chan error, 1)
	go func() {
		_, err := s.Append(context.Background(), "t", room, []parley.Entry{keyed("first")})
		first <- err
	}()
	<-hangs
	for i := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		before := s.Waiting()
		var wg sync.WaitGroup
		for j := range 100 {
			wg.Go(func() {
				_, err := s.Append(ctx, "t", room, []parley.Entry{keyed(fmt.Sprint(i, j))})
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		for s.Waiting() < before+100 {
			time.Sleep(time.Millisecond)
		}
		cancel()
		wg.Wait()
		require.LessOrEqual(t, s.Waiting(), 128)
	}
	goOn()
	require.NoError(t, <-first)
	e := keyed("last")
	appendOne(t, s, "t", room, &e)
	require.EqualValues(t, 2, e.Offset)
}

// Close lets the transaction under way finish, and fails what waits.
func TestCloseDuringCommit(t *testing.T) {
	w, f := openFaulty(t)
	s, err := sqlstore.New(w.db, w.opts)
	require.NoError(t, err)
	s.SetClock(w.now.Load)
	require.NoError(t, s.Migrate(t.Context()))
	_ = read(t, s, "t")
	hangs, resume := make(chan struct{}, 9), make(chan struct{})
	f.set(func(statement string) error {
		if statement == "COMMIT" {
			hangs <- struct{}{}
			<-resume
		}
		return nil
	})
	add := func(key string) chan error {
		result := make(chan error, 1)
		go func() {
			_, err := s.Append(context.Background(), "t", room, []parley.Entry{keyed(key)})
			result <- err
		}()
		return result
	}
	require.NoError(t, s.AddUsers(closeAfter(t, hangs, resume), "all", []string{"kim"})) // one commit passes
	first := add("first")
	<-hangs // that which creates the topic
	second := add("second")
	for s.Waiting() == 0 {
		time.Sleep(time.Millisecond)
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	for s.Closing() == nil {
		time.Sleep(time.Millisecond)
	}
	resume <- struct{}{}
	<-hangs
	resume <- struct{}{}
	require.NoError(t, <-first)
	require.ErrorIs(t, <-second, sqlstore.ErrClosed)
	require.NoError(t, <-closed)
	require.ErrorIs(t, <-add("third"), sqlstore.ErrClosed)
}

// closeAfter lets one COMMIT pass.
func closeAfter(t *testing.T, hangs, resume chan struct{}) context.Context {
	go func() {
		<-hangs
		resume <- struct{}{}
	}()
	return t.Context()
}

// A lock that others hold for longer than a few tries, with no busy_timeout, fails neither Migrate nor a write.
func TestBusyForLong(t *testing.T) {
	w, f := openFaulty(t)
	var count atomic.Int64
	busy := func(statement string) error {
		if statement == "BEGIN" && count.Add(1) <= 10 {
			return errors.New("database is locked (5) (SQLITE_BUSY)")
		}
		return nil
	}
	f.set(busy)
	s := w.node(t)
	count.Store(0)
	e := keyed("a")
	appendOne(t, s, "t", room, &e)
	require.Greater(t, count.Load(), int64(10))
}

// A database that refuses everything, and takes its time for it, is asked a few times and not once for each write.
func TestRefusedForLong(t *testing.T) {
	w, f := openFaulty(t)
	w.opts.Timeout = 50 * time.Millisecond
	s := w.node(t)
	_ = read(t, s, "t")
	var count atomic.Int64
	all := make(chan struct{})
	f.set(func(statement string) error {
		if statement != "BEGIN" {
			return nil
		}
		if count.Add(1) == 1 {
			<-all
		}
		time.Sleep(20 * time.Millisecond)
		return errors.New("refused")
	})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			_, err := s.Append(context.Background(), fmt.Sprint("t", i), room, []parley.Entry{keyed("a")})
			if err == nil {
				t.Error("no error")
			}
		})
	}
	for s.Waiting() < 190 {
		time.Sleep(time.Millisecond)
	}
	close(all)
	wg.Wait()
	require.Less(t, count.Load(), int64(60))
}

// A relay whose database is gone asks less and less often, and goes on when it is back.
func TestRelayWhileDatabaseIsGone(t *testing.T) {
	w, f := openFaulty(t)
	w.opts.RelayInterval = time.Millisecond
	s := w.node(t)
	h := hub(t, s)
	_ = read(t, s, "t")
	w.enqueue(t, s, true, sqlstore.Notification{UserID: "kim", Data: 1})
	failed := make(chan struct{}, 1000)
	f.set(func(statement string) error {
		if strings.Contains(statement, "parley_outbox") {
			failed <- struct{}{}
			return &net.OpError{Op: "dial", Err: io.EOF}
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended, sent := make(chan error, 1), make(chan struct{})
	start := time.Now()
	go func() {
		ended <- s.Relay(ctx, notifier(func(ctx context.Context, userID string, v any, opts ...parley.SendOption) (parley.Result, error) {
			defer close(sent)
			return h.Notify(ctx, userID, v, opts...)
		}))
	}()
	for range 11 {
		<-failed
	}
	require.GreaterOrEqual(t, time.Since(start), 1023*time.Millisecond, "1 + 2 + 4 + ... + 512")
	f.set(nil)
	<-sent
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Len(t, read(t, s, "user/kim").Entries, 1)
}

// Many users take several transactions, so that others get their turn.
func TestManyUsersInParts(t *testing.T) {
	w, f := openFaulty(t)
	w.opts.BatchRows = 10
	s := w.node(t)
	var commits atomic.Int64
	f.set(func(statement string) error {
		if statement == "COMMIT" {
			commits.Add(1)
		}
		return nil
	})
	var ids []string
	for i := range 35 {
		ids = append(ids, fmt.Sprintf("u%02d", i))
	}
	require.NoError(t, s.AddUsers(t.Context(), "all", ids))
	require.EqualValues(t, 4, commits.Load())
	users, err := s.Users(t.Context(), "all", "", 99)
	require.NoError(t, err)
	require.Equal(t, ids, users)
}
