package parley

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// unknownStore takes no node into the registry while it is down.
type unknownStore struct {
	Store
	down atomic.Bool
}

func (s *unknownStore) Enter(ctx context.Context, topic, node string, members []Member, lease time.Duration) error {
	if s.down.Load() {
		return errors.New("down")
	}
	return s.Store.Enter(ctx, topic, node, members, lease)
}

// F17, F15: a node that the others cannot know of yet takes no connections, which DisconnectUser would not reach. It keeps them waiting,
// and refuses them when that takes too long.
func TestStartsWithoutStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, asked := &unknownStore{Store: NewMemoryStore()}, 0
		store.down.Store(true)
		s := serve(t, Options{Store: store, Broker: newFaultyBroker(), Authenticator: AuthenticatorFunc(func(*http.Request) (Identity, error) {
			asked++
			return Identity{ID: "kim"}, nil
		})})
		began := time.Now()
		s.requireRefused(http.StatusServiceUnavailable, "starting: the Store has not answered yet")
		require.Equal(t, s.opts.StoreTimeout, time.Since(began))
		require.EqualValues(t, 1, s.Stats().RefusedLimit)

		connected := make(chan *client)
		go func() { connected <- s.plain() }()
		synctest.Wait()
		require.Zero(t, asked, "who is kicked before this is not asked for later")
		store.down.Store(false)
		kim := <-connected
		require.Less(t, time.Since(began), 2*s.opts.StoreTimeout)
		require.NotEmpty(t, kim.id)
		store.down.Store(true)
		time.Sleep(time.Minute)
		s.plain() // it was known once
	})
}

// Whoever waits gives back the slot: by leaving, and when the hub ends.
func TestLeavesWhileStarting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := &unknownStore{Store: NewMemoryStore()}
		store.down.Store(true)
		s := serve(t, Options{Store: store, Broker: newFaultyBroker(), MaxConnections: 1, StoreTimeout: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://parley.test/realtime", nil)
		require.NoError(t, err)
		r.Header.Set("Upgrade", "websocket")
		go s.Hub.ServeHTTP(discard{}, r)
		synctest.Wait()
		s.requireRefused(http.StatusServiceUnavailable, "too many connections")
		cancel()
		synctest.Wait()
		done := make(chan int)
		go func() {
			status, _, _ := s.status(request())
			done <- status
		}()
		synctest.Wait()
		require.NoError(t, s.Shutdown(t.Context()))
		require.Equal(t, http.StatusServiceUnavailable, <-done)
	})
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// slowControl reads the log of commands slowly.
type slowControl struct {
	*MemoryStore
	delay time.Duration
}

func (s *slowControl) Read(ctx context.Context, topic string, q Query) (Page, error) {
	p, err := s.MemoryStore.Read(ctx, topic, q)
	if topic == topicControl {
		time.Sleep(s.delay)
	}
	return p, err
}

// A command that was given before a node existed is none for the connections that it takes.
func TestOldCommandsAreNotForNewNodes(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				shared, broker := NewMemoryStore(), newFaultyBroker()
				a := serve(t, Options{Store: shared, Broker: broker})
				time.Sleep(2 * nodeBeat)
				old := a.connect(dialOptions{user: "kim"})
				n, err := a.DisconnectUser(t.Context(), "kim", "log in again")
				require.NoError(t, err)
				require.Equal(t, 1, n)
				require.Equal(t, CloseDisconnected, old.closeCode())
				time.Sleep(5 * time.Second)
				b := serve(t, Options{Store: &slowControl{shared, delay}, Broker: broker})
				b.connect(dialOptions{user: "kim"})
				time.Sleep(time.Second)
				require.Len(t, b.User("kim"), 1)
				n, err = a.DisconnectUser(t.Context(), "kim", "again")
				require.NoError(t, err)
				require.Equal(t, 1, n, "a new one is")
			})
		})
	}
}
