package parley_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/client"
	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/parley-go/parley/parleytest"
	"github.com/stretchr/testify/require"
)

const stormRooms = 50

// countedStore counts the reads of histories; the bounds alone are not counted.
type countedStore struct {
	*parley.MemoryStore
	reads atomic.Int64
}

func (s *countedStore) Read(ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
	if q.Limit > 0 {
		s.reads.Add(1)
	}
	return s.MemoryStore.Read(ctx, topic, q)
}

// storm is a network with a server that can be replaced.
type storm struct {
	t     *testing.T
	net   *parleytest.Network
	store *countedStore
	hub   *parley.Hub
	http  *http.Server
}

func (s *storm) start() {
	hub, err := parley.New(parley.Options{
		Authenticator: parley.AllowAnonymous, Store: s.store, SessionKey: make([]byte, 32),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Room:   func(string) parley.RoomConfig { return parley.RoomConfig{AnnounceLimit: -1} },
	})
	require.NoError(s.t, err)
	s.hub, s.http = hub, &http.Server{Handler: hub}
	go func(srv *http.Server) { _ = srv.Serve(s.net.Listen()) }(s.http)
	synctest.Wait()
}

// histogram counts dials in steps of time since start.
type histogram struct {
	mu    sync.Mutex // guards the fields below
	start time.Time
	step  time.Duration
	dials []int
}

func (h *histogram) reset(step time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.start, h.step, h.dials = time.Now(), step, nil
}

func (h *histogram) dial(context.Context, *parleytest.Link) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := int(time.Since(h.start) / h.step)
	for len(h.dials) <= i {
		h.dials = append(h.dials, 0)
	}
	h.dials[i]++
	return nil
}

// F38, F39: 10,000 clients lose their server, by a restart that is announced and
// by a crash. They come back spread over time, and all of them get what they missed; the Store
// is read a few times per room.
func TestTenThousandReconnect(t *testing.T) {
	clients := 10_000
	if parley.RaceEnabled {
		clients = 1000 // with the race detector each takes 300 KB
	}
	bubbletest.Test(t, func(t *testing.T) {
		s := &storm{t: t, net: parleytest.NewNetwork(), store: &countedStore{MemoryStore: parley.NewMemoryStore()}}
		s.net.BufferSize = 4 << 10
		var dials histogram
		dials.reset(time.Second)
		s.net.OnDial(dials.dial)
		s.start()
		var received, gaps, recovered atomic.Int64
		all := make([]*client.Client, clients)
		for i := range all {
			c, err := client.New("ws://parley.test/", client.Options{Dial: s.net.Dial})
			require.NoError(t, err)
			all[i] = c
			go func() {
				_, err := c.Join(t.Context(), fmt.Sprint("room", i%stormRooms), client.JoinOptions{
					OnMessage:   func(context.Context, *client.Room, client.Message) { received.Add(1) },
					OnGap:       func(context.Context, *client.Room, client.Gap) { gaps.Add(1) },
					OnRecovered: func(context.Context, *client.Room, client.Recovered) { recovered.Add(1) },
				})
				if err != nil {
					t.Errorf("join: %v", err)
				}
			}()
		}
		synctest.Wait()
		publish := func() {
			for i := range stormRooms {
				_, err := s.hub.Room(fmt.Sprint("room", i)).Send(t.Context(), "x")
				require.NoError(t, err)
			}
		}
		publish()
		synctest.Wait()
		require.EqualValues(t, clients, received.Load())

		// An announced restart: the window is that of "bye", 5 s.
		dials.reset(500 * time.Millisecond)
		s.store.reads.Store(0)
		require.NoError(t, s.hub.Shutdown(t.Context()))
		require.NoError(t, s.http.Close())
		s.start()
		publish() // before anybody is back
		time.Sleep(20 * time.Second)
		s.check(t, "announced restart", dials.dials, 11, clients)
		require.EqualValues(t, 2*clients, received.Load())
		require.EqualValues(t, clients, recovered.Load())

		// A crash, and 3 s until the server is there again: full jitter.
		dials.reset(500 * time.Millisecond)
		s.store.reads.Store(0)
		_ = s.http.Close()
		s.net.Cut()
		crashed := s.hub
		time.Sleep(3 * time.Second)
		s.start()
		publish()
		time.Sleep(time.Minute)
		s.check(t, "crash", dials.dials, 60, 5*clients)
		require.EqualValues(t, 3*clients, received.Load())
		require.EqualValues(t, 2*clients, recovered.Load())
		require.Zero(t, gaps.Load())

		for _, c := range all {
			c.Close()
		}
		require.NoError(t, crashed.Shutdown(t.Context()))
		require.NoError(t, s.hub.Shutdown(t.Context()))
		require.NoError(t, s.http.Close())
		synctest.Wait()
	})
}

// check asserts that dials are spread, and reads shared.
func (s *storm) check(t *testing.T, what string, dials []int, steps, most int) {
	t.Helper()
	total, peak := 0, 0
	for _, n := range dials {
		total += n
		peak = max(peak, n)
	}
	t.Logf("%s: dials per 0.5 s: %v, reads of histories: %d", what, dials, s.store.reads.Load())
	require.LessOrEqual(t, len(dials), steps)
	require.LessOrEqual(t, total, most)
	// One read a second, and room, and some for positions further back.
	require.LessOrEqual(t, s.store.reads.Load(), int64(stormRooms*(len(dials)/2+4)))
	require.Less(t, peak, total/3, "dials are spread")
}
