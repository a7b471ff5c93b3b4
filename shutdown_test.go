package parley

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// F36: v1 clients are told when to come back, all get 4000, and the hub is
// left empty.
func TestShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var ends endings
		s := serve(t, Options{RetryWindow: 7 * time.Second, Hooks: Hooks{Disconnect: ends.disconnect}})
		plain, v1 := s.plain(), s.v1()
		v1.join("tea", "kim")
		start := time.Now()
		require.NoError(t, s.Shutdown(t.Context()))
		require.Zero(t, time.Since(start), "everybody answers at once")

		require.Equal(t, message{
			"type": "bye", "code": 4000.0, "reason": "shutting down", "retryMin": 0.0, "retryMax": 7000.0,
		}, v1.skipTo("bye"))
		require.Equal(t, CloseShutdown, v1.closeCode())
		require.Equal(t, CloseShutdown, plain.closeCode())
		require.Empty(t, plain.in, "bye is for v1 clients only")
		require.Empty(t, v1.in)
		require.Equal(t, []CloseCode{CloseShutdown}, ends.of(plain.id))
		require.Equal(t, []CloseCode{CloseShutdown}, ends.of(v1.id))
		require.Zero(t, s.Stats().Connections)
	})
}

// F44: what is done after Shutdown.
func TestOperationsAfterShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := t.Context()
		s := serve(t, Options{})
		kim := s.connect(dialOptions{user: "kim"})
		conn, room := s.Conn(kim.id), s.Room("tea")
		require.NoError(t, room.Join(ctx, conn))
		require.NoError(t, s.Shutdown(ctx))
		for name, send := range map[string]func() (Result, error){
			"Broadcast":         func() (Result, error) { return s.Broadcast(ctx, 1) },
			"Room.Send":         func() (Result, error) { return room.Send(ctx, 1) },
			"Notify":            func() (Result, error) { return s.Notify(ctx, "kim", 1) },
			"NotifyAll":         func() (Result, error) { return s.NotifyAll(ctx, 1) },
			"Private to a user": func() (Result, error) { return s.Private(ctx, "kim", 1) },
			"Private":           func() (Result, error) { return s.Private(ctx, kim.id, 1) },
			"Members":           func() (Result, error) { _, _, err := room.Members(ctx, 1); return Result{}, err },
			"History":           func() (Result, error) { _, err := room.History(ctx, 0, 1); return Result{}, err },
		} {
			result, err := send()
			require.ErrorIs(t, err, ErrClosed, name)
			require.Zero(t, result, name)
		}
		require.ErrorIs(t, conn.Send(ctx, 1), ErrConnClosed)
		require.ErrorIs(t, room.Join(ctx, conn), ErrConnClosed)
		require.ErrorIs(t, room.Leave(ctx, conn), ErrNotMember)
		require.Zero(t, s.disconnect("kim", ""))
		conn.Close(CloseNormal, "")
		s.requireRefused(http.StatusServiceUnavailable, "shutting down")
	})
}

// F43: again, at once and after each other, with and without connections.
func TestShutdownTwice(t *testing.T) {
	for _, connections := range []int{0, 3} {
		bubble(t, func(t *testing.T) {
			s := serve(t, Options{})
			for range connections {
				s.raw() // never answers the close frame: Shutdown takes a while
			}
			start := time.Now()
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() { require.NoError(t, s.Shutdown(context.Background())) })
			}
			all.Wait()
			require.NoError(t, s.Shutdown(context.Background()))
			if connections > 0 {
				require.Equal(t, s.opts.CloseTimeout, time.Since(start))
			}
		})
	}
}

// F58: clients that ignore the close frame, or do not even read, cost the
// close timeout once and not each.
func TestShutdownWithMuteClients(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var ends endings
		s := serve(t, Options{QueueSize: 300 << 10, Hooks: Hooks{Disconnect: ends.disconnect}})
		for range 20 {
			s.raw()
		}
		for range 20 {
			s.rawUnread("Sec-WebSocket-Protocol", subprotocolV1)
		}
		synctest.Wait()
		for range 2 { // fills the queues of those who do not read
			_, err := s.Broadcast(t.Context(), string(make([]byte, 20_000)))
			require.NoError(t, err)
		}
		for range 20 {
			s.plain()
		}
		start := time.Now()
		require.NoError(t, s.Shutdown(t.Context()))
		require.LessOrEqual(t, time.Since(start), s.opts.CloseTimeout)
		require.Zero(t, s.Stats().Connections)
		require.Len(t, ends.codes, 60)
		for _, codes := range ends.codes {
			require.Len(t, codes, 1)
		}
	})
}

// A connection that is being closed for its slowness has patience, but
// Shutdown has not.
func TestShutdownHurriesSlowConnections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{QueueSize: 300 << 10})
		s.rawUnread()
		synctest.Wait()
		for range 5 {
			_, err := s.Broadcast(t.Context(), string(make([]byte, 20_000)))
			require.NoError(t, err)
		}
		require.EqualValues(t, 1, s.Stats().ClosedSlow)
		start := time.Now()
		require.NoError(t, s.Shutdown(t.Context()))
		require.LessOrEqual(t, time.Since(start), s.opts.CloseTimeout)
	})
}

// F37: application code that never returns is waited for until ctx ends; the
// sockets are cut then.
func TestShutdownWithBlockedApplication(t *testing.T) {
	block := make(map[string]func(release chan struct{}) Options)
	block["handler"] = func(chan struct{}) Options { return Options{} }
	block["Connect"] = func(release chan struct{}) Options {
		return Options{Hooks: Hooks{Connect: func(context.Context, *Conn) error { <-release; return nil }}}
	}
	block["Disconnect"] = func(release chan struct{}) Options {
		return Options{Hooks: Hooks{Disconnect: func(*Conn, CloseCode) { <-release }}}
	}
	for name, opts := range block {
		for _, endedBefore := range []bool{false, true} {
			bubble(t, func(t *testing.T) {
				release := make(chan struct{})
				s := serve(t, opts(release))
				On(s.Hub, "block", func(context.Context, *Conn, struct{}) (int, error) { <-release; return 0, nil })
				c := s.raw()
				if name == "handler" {
					c.text(`{"type":"call","id":"1","method":"block"}`)
					synctest.Wait()
				}
				if endedBefore {
					s.Conn(c.id).Close(4050, "")
					synctest.Wait()
				}
				for range 2 {
					ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
					start := time.Now()
					require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded, name)
					cancel()
					require.Equal(t, 20*time.Second, time.Since(start))
					<-c.done // the socket is closed
				}
				require.Equal(t, 1, s.Stats().Connections)
				close(release)
				require.NoError(t, s.Shutdown(context.Background()), name)
				require.Zero(t, s.Stats().Connections)
			})
		}
	}
}

// F37: a context that has ended already cuts everything at once.
func TestShutdownWithoutTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c := s.raw()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		start := time.Now()
		err := s.Shutdown(ctx)
		require.True(t, err == nil || errors.Is(err, context.Canceled), "%v", err)
		<-c.done
		require.Zero(t, time.Since(start))
	})
}

// F36: handshakes that overlap with Shutdown end either way, and are not forgotten.
func TestShutdownDuringHandshakes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		entered := make(chan struct{}, 10)
		proceed := make(chan struct{})
		s := serve(t, Options{MaxConnections: 5, Authenticator: AuthenticatorFunc(func(*http.Request) (Identity, error) {
			entered <- struct{}{}
			<-proceed
			return Identity{ID: "kim"}, nil
		})})
		var dials sync.WaitGroup
		for range 5 {
			dials.Go(func() {
				conn, err := s.listener.dial(context.Background())
				require.NoError(t, err)
				defer func() { _ = conn.Close() }()
				_, err = conn.Write([]byte(request()))
				require.NoError(t, err)
				// The upgrade was accepted too late: nothing but the end may follow.
				var rest [4096]byte
				for err == nil {
					_, err = conn.Read(rest[:])
				}
			})
		}
		for range 5 {
			<-entered
		}
		require.NoError(t, s.Shutdown(t.Context()))
		close(proceed)
		dials.Wait()
		synctest.Wait()
		require.Zero(t, s.Stats().Connections)
		s.slots.mu.Lock()
		defer s.slots.mu.Unlock()
		require.Zero(t, s.slots.total)
		require.Empty(t, s.slots.users)
	})
}

// F36: messages that clients send while the hub shuts down are refused, not
// half carried out.
func TestMessagesDuringShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		inHook, proceed := make(chan struct{}), make(chan struct{})
		s := serve(t, Options{ClientBroadcast: true, Hooks: Hooks{Message: func(context.Context, *Conn, ClientMessage) error {
			close(inHook)
			<-proceed
			return nil
		}}})
		other := s.raw()
		c := s.raw()
		c.text(`{"type":"broadcast","id":"1","message":"during shutdown"}`)
		<-inHook
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(context.Background()) }()
		synctest.Wait()
		close(proceed)
		require.NoError(t, <-done)
		for _, c := range []*rawClient{c, other} {
			code, _ := c.closeFrame()
			require.Equal(t, CloseShutdown, code)
			c.expectEnd()
		}
		require.EqualValues(t, 1, s.Stats().Refused)
	})
}

// F36: what is on its way to a slow Store when the hub ends is stored, and its publisher told so.
func TestShutdownFinishesPublishes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		store.onAppend = func(ctx context.Context, _ string, _ []Entry, next func() (Log, error)) (Log, error) {
			select {
			case <-time.After(2 * time.Second):
				return next()
			case <-ctx.Done():
				return Log{}, ctx.Err()
			}
		}
		h := newHub(t, Options{Store: store})
		results := make(chan error, 2)
		for i := range 2 {
			go func() {
				_, err := h.Room("r").Send(context.Background(), i)
				results <- err
			}()
			synctest.Wait()
		}
		require.NoError(t, h.Shutdown(t.Context()))
		require.NoError(t, <-results)
		require.NoError(t, <-results)
		page, err := store.Read(t.Context(), roomPrefix+"r", Query{Limit: 10})
		require.NoError(t, err)
		require.Len(t, page.Entries, 2)
	})
}

// F37: it waits for them no longer than it may.
func TestShutdownDoesNotWaitForAHangingStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		store.onAppend = func(ctx context.Context, _ string, _ []Entry, _ func() (Log, error)) (Log, error) {
			<-ctx.Done()
			return Log{}, ctx.Err()
		}
		h := newHub(t, Options{Store: store, StoreTimeout: time.Hour})
		go func() { _, _ = h.Room("r").Send(context.Background(), 1) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, h.Shutdown(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
	})
}
