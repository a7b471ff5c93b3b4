package client

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

// screen shows an inbox as an application would, by what its handlers are told and by nothing else.
type screen struct {
	mu     sync.Mutex
	states map[int64]Mark
	unread int
}

func (s *screen) options(jitter func() float64) Options {
	locked := func(f func()) {
		time.Sleep(3 * time.Millisecond) // so that they are too slow at times
		s.mu.Lock()
		defer s.mu.Unlock()
		f()
	}
	return Options{
		Buffer: 20, jitter: jitter,
		OnNotification: func(_ context.Context, _ *Client, m Notification) {
			locked(func() { s.states[m.Position.Offset] = m.Mark })
		},
		OnInbox: func(_ context.Context, _ *Client, m Inbox) {
			locked(func() {
				s.states = make(map[int64]Mark)
				for _, item := range m.Items {
					s.states[item.Position().Offset] = item.Mark()
				}
			})
		},
		OnInboxState: func(_ context.Context, _ *Client, all InboxState) {
			locked(func() {
				for offset := range s.states {
					s.states[offset] = all.Mark(offset)
				}
			})
		},
		OnMarked: func(_ context.Context, _ *Client, m Marked) {
			locked(func() {
				for offset := range s.states {
					if within(m.Offsets, offset) {
						s.states[offset] = m.As
					}
				}
			})
		},
		OnUnread: func(_ context.Context, _ *Client, r ReadState) { locked(func() { s.unread = r.Unread }) },
	}
}

// Whatever becomes of the connections, the devices of a user show in the end what the
// Store has (F27, S33).
func TestReadStateConverges(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { converge(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func converge(t *testing.T, random *rand.Rand) {
	s := serve(t, parley.Options{RateLimit: -1, Inbox: parley.Retention{Messages: 1000}})
	const devices, rounds = 3, 30
	var screens [devices]*screen
	var clients [devices]*Client
	var all sync.WaitGroup
	var seeds [devices]uint64
	for i := range devices {
		screens[i] = &screen{states: make(map[int64]Mark)}
		clients[i] = connect(t, s.network, "kim", screens[i].options(seeded(random.Uint64())))
		seeds[i] = random.Uint64()
	}
	for i, c := range clients {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seeds[i], 2))
			for range rounds {
				sent, err := s.hub.Notify(t.Context(), "kim", 1)
				require.NoError(t, err)
				time.Sleep(time.Duration(random.IntN(50)) * time.Millisecond)
				at := 1 + random.Int64N(sent.Offset)
				some := Selection{Epoch: sent.Epoch, Offsets: []int64{at, 1 + random.Int64N(sent.Offset)}}
				switch random.IntN(4) {
				case 0:
					_, err = c.MarkRead(t.Context(), some)
				case 1:
					_, err = c.MarkUnread(t.Context(), some)
				case 2:
					_, err = c.Archive(t.Context(), some)
				default:
					_, err = c.MarkRead(t.Context(), Selection{UpTo: Position{sent.Epoch, at}})
				}
				require.NoError(t, err)
			}
		})
	}
	for range 30 {
		time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
		l := s.before(random.IntN(devices))
		if random.IntN(2) == 0 {
			deafen(l)
			time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
		}
		l.Cut()
	}
	all.Wait()
	time.Sleep(5 * time.Minute)
	synctest.Wait()
	want := make(map[int64]Mark)
	unread := 0
	page, err := s.hub.Inbox("kim").Read(t.Context(), 0, 100)
	require.NoError(t, err)
	require.Len(t, page.Entries, devices*rounds)
	for _, e := range page.Entries {
		switch {
		case e.Archived:
			want[e.Offset] = MarkArchived
		case e.Unread:
			want[e.Offset] = MarkUnread
			unread++
		default:
			want[e.Offset] = MarkRead
		}
	}
	require.Len(t, countBy(want), 3) // else this shows little
	for i, c := range clients {
		require.Equal(t, want, screens[i].states, "device %d", i)
		require.Equal(t, unread, screens[i].unread)
		require.Equal(t, ReadState{page.Unread, page.Version}, c.ReadState())
		require.Equal(t, unread, page.Unread)
	}
}

func countBy(states map[int64]Mark) map[Mark]bool {
	kinds := make(map[Mark]bool)
	for mark := range maps.Values(states) {
		kinds[mark] = true
	}
	return kinds
}
