package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

// tracker checks what one client is told: every message of a topic once and in
// order, from the beginning.
type tracker struct {
	mu    sync.Mutex
	name  string
	last  map[string]int64    // offsets, by topic
	seen  map[string][]string // payloads, by topic
	wrong []string
}

func newTracker(name string) *tracker {
	return &tracker{name: name, last: make(map[string]int64), seen: make(map[string][]string)}
}

// take notes a message. skips: own messages are left out of the topic.
func (k *tracker) take(topic string, at Position, payload []byte, skips bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if last := k.last[topic]; at.Offset <= last || at.Offset != last+1 && !skips {
		k.wrong = append(k.wrong, fmt.Sprintf("%s: %s: %d after %d", k.name, topic, at.Offset, last))
	}
	k.last[topic] = at.Offset
	k.seen[topic] = append(k.seen[topic], string(payload))
}

func (k *tracker) fail(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wrong = append(k.wrong, fmt.Sprintf(format, args...))
}

func (k *tracker) options(jitter func() float64) Options {
	return Options{
		Buffer: 20, jitter: jitter,
		OnPrivate:          func(_ context.Context, _ *Client, m Private) { k.take("inbox", m.Position, m.Message, false) },
		OnNotification:     func(_ context.Context, _ *Client, m Notification) { k.take("inbox", m.Position, m.Data, false) },
		OnBroadcast:        func(_ context.Context, _ *Client, m Broadcast) { k.take("all", m.Position, m.Message, true) },
		OnInboxGap:         func(_ context.Context, _ *Client, g Gap) { k.fail("%s: inbox gap %v", k.name, g) },
		OnBroadcastGap:     func(_ context.Context, _ *Client, g Gap) { k.fail("%s: broadcast gap %v", k.name, g) },
		OnBroadcastHistory: func(_ context.Context, _ *Client, m []Broadcast) { k.fail("%s: broadcast history %v", k.name, m) },
	}
}

func (k *tracker) room() JoinOptions {
	return JoinOptions{
		OnMessage: func(_ context.Context, r *Room, m Message) {
			time.Sleep(5 * time.Millisecond) // slower than they come
			k.take(r.Name(), m.Position, m.Content, false)
		},
		OnGap:     func(_ context.Context, r *Room, g Gap) { k.fail("%s: %s gap %v", k.name, r.Name(), g) },
		OnRefused: func(_ context.Context, r *Room, err error) { k.fail("%s: %s refused %v", k.name, r.Name(), err) },
	}
}

// Random faults: connections die before or after what was sent has arrived.
// Whatever happens, each client gets everything once and in order, and what was
// acknowledged is there once (F24, F27, F35).
func TestRandomFaults(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { soak(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func soak(t *testing.T, random *rand.Rand) {
	keep := parley.Retention{Messages: 10000}
	s := serve(t, parley.Options{
		ClientBroadcast: true, RateLimit: -1, Inbox: keep, BroadcastHistory: keep,
		Room: func(string) parley.RoomConfig { return parley.RoomConfig{History: keep} },
	})
	const clients, rounds = 3, 25
	var trackers [clients]*tracker
	var users [clients]*Client
	var acked [clients]map[string][]string // payloads, by topic
	var all sync.WaitGroup
	for i := range clients {
		name := fmt.Sprint("user", i)
		trackers[i], acked[i] = newTracker(name), make(map[string][]string)
		users[i] = connect(t, s.network, name, trackers[i].options(seeded(random.Uint64())))
		for _, room := range []string{"a", "b"} {
			_, err := users[i].Join(t.Context(), room, trackers[i].room())
			require.NoError(t, err)
		}
	}
	for i, c := range users {
		all.Go(func() {
			for n := range rounds {
				text := fmt.Sprintf("%d-%d", i, n)
				for _, room := range []string{"a", "b"} {
					if _, err := c.Room(room).Send(t.Context(), text); err == nil {
						acked[i][room] = append(acked[i][room], `"`+text+`"`)
					}
				}
				if _, err := c.Broadcast(t.Context(), text); err == nil {
					acked[i]["all"] = append(acked[i]["all"], `"`+text+`"`)
				}
				_, _ = s.hub.Notify(t.Context(), fmt.Sprint("user", n%clients), text)
			}
		})
	}
	for range 40 {
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
		l := s.before(random.IntN(clients))
		if random.IntN(2) == 0 {
			deafen(l) // what comes is lost, what was sent is not
			time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
		}
		l.Cut()
	}
	all.Wait()
	time.Sleep(5 * time.Minute)
	synctest.Wait()
	for i, k := range trackers {
		require.Empty(t, k.wrong)
		require.Equal(t, trackers[0].seen["a"], k.seen["a"])
		require.Equal(t, trackers[0].seen["b"], k.seen["b"])
		require.Len(t, acked[i]["all"], rounds)
		require.Len(t, k.seen["all"], (clients-1)*rounds)
		require.Len(t, k.seen["inbox"], int(users[i].InboxPosition().Offset))
		for _, room := range []string{"a", "b"} {
			require.Len(t, acked[i][room], rounds)
			require.Len(t, k.seen[room], clients*rounds) // so that all that was acknowledged is there once
			for _, text := range acked[i][room] {
				require.True(t, slices.Contains(k.seen[room], text), text)
			}
		}
	}
}
