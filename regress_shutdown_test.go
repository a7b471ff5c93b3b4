package parley

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// F9, F37: Shutdown returns at the end of its context, although the Store
// answers none of its calls.
func TestShutdownWithAHangingStore(t *testing.T) {
	for name, respectsContext := range map[string]bool{"until its context ends": true, "whatever its context says": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store, release := newHookStore(), make(chan struct{})
				hang := func(ctx context.Context) error {
					done := ctx.Done()
					if !respectsContext {
						done = nil
					}
					select {
					case <-release:
						return nil
					case <-done:
						return ctx.Err()
					}
				}
				store.onEnter = func(ctx context.Context, _, _ string, _ []Member, _ time.Duration, _ func() error) error {
					return hang(ctx)
				}
				store.onLeave = func(ctx context.Context, _, _ string, _ []string, _ func() error) error { return hang(ctx) }
				s := serve(t, Options{Store: store})
				c := s.plain()
				for i := range 100 {
					c.send(map[string]any{"type": "join", "room": fmt.Sprint(i), "username": "kim"})
					c.expect("history")
					c.expect("system")
				}
				time.Sleep(10 * time.Minute)
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				defer cancel()
				start := time.Now()
				require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
				require.Equal(t, 3*time.Second, time.Since(start))
				require.Equal(t, CloseShutdown, c.closeCode())
				close(release)
				require.NoError(t, s.Shutdown(context.Background()))
			})
		})
	}
}

// F7, F9: a Store that never answers keeps no silent client.
func TestHangingStoreDoesNotStopTheHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, release := newHookStore(), make(chan struct{})
		store.onEnter = func(context.Context, string, string, []Member, time.Duration, func() error) error {
			<-release
			return nil
		}
		s := serve(t, Options{Store: store})
		unharmed := s.bystanders()
		c := s.raw()
		c.text(`{"type":"join","room":"tea","username":"kim"}`)
		c.expect("history")
		time.Sleep(10 * time.Minute)
		c.pong.Store(false)
		start := time.Now()
		c.expectClosed(CloseNoHeartbeat)
		require.LessOrEqual(t, time.Since(start), 2*s.opts.PingInterval+s.opts.CloseTimeout)
		unharmed()
		close(release)
	})
}

// F36: an unbounded Shutdown takes everybody out of a slow Store, in however
// many rooms they were.
func TestShutdownLeavesAllRoomsInTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const rooms = 500
		store := newHookStore()
		store.onLeave = func(ctx context.Context, _, _ string, _ []string, next func() error) error {
			select {
			case <-time.After(time.Second):
				return next()
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		s := serve(t, Options{Store: store, MaxRooms: rooms, RateLimit: -1})
		c := s.plain()
		for i := range rooms {
			c.send(map[string]any{"type": "join", "room": fmt.Sprint(i), "username": "kim"})
			c.expect("history")
			c.expect("system")
		}
		time.Sleep(time.Second)
		count := func() (stored int) {
			for i := range rooms {
				_, n, err := store.Members(t.Context(), roomPrefix+fmt.Sprint(i), 0)
				require.NoError(t, err)
				stored += n
			}
			return stored
		}
		require.Equal(t, rooms, count())
		require.NoError(t, s.Shutdown(context.Background()))
		require.Zero(t, count())
		require.Zero(t, s.Stats().StoreErrors)
	})
}

// F36: a Shutdown waits for the presence that is on its way to the Store, and
// what it says itself comes after that.
func TestShutdownWaitsForPresenceUnderWay(t *testing.T) {
	for _, call := range []string{"Leave", "Enter"} {
		t.Run(call, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store, gate := newHookStore(), newBarrier()
				slow := func(ctx context.Context, what string, next func() error) error {
					if what == call {
						if err := gate.passCtx(ctx); err != nil && call == "Leave" {
							return err // the Store may carry a call out that was given up
						}
					}
					return next()
				}
				store.onEnter = func(ctx context.Context, _, _ string, _ []Member, _ time.Duration, next func() error) error {
					return slow(ctx, "Enter", next)
				}
				store.onLeave = func(ctx context.Context, _, _ string, _ []string, next func() error) error {
					return slow(ctx, "Leave", next)
				}
				s := serve(t, Options{Store: store})
				c := s.plain()
				c.join("tea", "kim")
				time.Sleep(2 * presenceTick)
				if call == "Leave" {
					c.send(`{"type":"leave"}`)
					time.Sleep(2 * presenceTick)
				}
				synctest.Wait()
				require.EqualValues(t, 1, gate.hit.Load())
				done := make(chan error, 1)
				go func() { done <- s.Shutdown(context.Background()) }()
				time.Sleep(time.Second)
				gate.open()
				require.NoError(t, <-done)
				synctest.Wait()
				_, count, err := store.Members(t.Context(), "room/tea", 0)
				require.NoError(t, err)
				require.Zero(t, count, "a ghost")
				require.Zero(t, s.Stats().StoreErrors)
			})
		})
	}
}
