package parley

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// cutStore has logs of its own that can be cut.
type cutStore struct {
	*MemoryStore
	mu   sync.Mutex
	logs map[string][]Entry
}

func newCutStore() *cutStore {
	return &cutStore{MemoryStore: NewMemoryStore(), logs: map[string][]Entry{}}
}

func (s *cutStore) Append(ctx context.Context, topic string, keep Retention, entries []Entry) (Log, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range entries {
		entries[i].Offset = int64(len(s.logs[topic]) + 1)
		s.logs[topic] = append(s.logs[topic], entries[i])
	}
	return Log{Epoch: "E"}, nil
}

func (s *cutStore) Read(ctx context.Context, topic string, q Query) (Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[topic]
	first, last := q.stretch(1, int64(len(l)))
	p := Page{Log: Log{Epoch: "E"}, First: 1, Top: int64(len(l))}
	if last >= first {
		p.Entries = append([]Entry{}, l[first-1:last]...)
	}
	return p, nil
}

func (s *cutStore) Heads(ctx context.Context, topics []string) ([]Head, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var hs []Head
	for _, t := range topics {
		hs = append(hs, Head{Log: Log{Epoch: "E"}, Top: int64(len(s.logs[t]))})
	}
	return hs, nil
}

func (s *cutStore) cut(topic string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs[topic] = s.logs[topic][:len(s.logs[topic])-n]
}

// F16, F11: a log that has lost its end is told to members, also to one that has got nothing live since its history, and nothing
// that follows is taken for old.
func TestRewindIsTold(t *testing.T) {
	for _, live := range []bool{true, false} {
		t.Run(fmt.Sprintf("something live before %v", live), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store, broker := newCutStore(), newFaultyBroker()
				opts := Options{Store: store, Broker: broker}
				a, b := serve(t, opts), serve(t, opts)
				time.Sleep(2 * nodeBeat)
				for n := int64(1); n <= 10; n++ {
					say(t, a, n)
				}
				kim := b.v1()
				kim.send(map[string]any{"type": "join", "room": "tea", "username": "kim"})
				require.EqualValues(t, 10, kim.skipTo("history").num("offset"))
				if live {
					say(t, a, 11)
					kim.skipTo("message")
					store.cut(roomPrefix+"tea", 1)
				}
				time.Sleep(time.Second)
				kim.drain()
				store.cut(roomPrefix+"tea", 3)
				time.Sleep(5 * bound)
				for n := int64(8); n <= 12; n++ {
					say(t, a, n)
				}
				time.Sleep(5 * bound)
				var got []string
				for len(kim.in) > 0 {
					if m := kim.next(); m.str("type") == "history" || m.str("type") == "message" {
						got = append(got, fmt.Sprintf("%s %d %v", m.str("type"), m.num("offset"), m["code"]))
					}
				}
				want := []string{"history 7 ahead"}
				for n := 8; n <= 12; n++ {
					want = append(want, fmt.Sprintf("message %d <nil>", n))
				}
				require.Equal(t, want, got)
			})
		})
	}
}

// S8: a command from before a node existed is not carried out on a connection that came later, when the log of commands has lost its end.
func TestOldCommandAfterRewind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, broker := newCutStore(), newFaultyBroker()
		opts := Options{Store: store, Broker: broker}
		a := serve(t, opts)
		time.Sleep(2 * nodeBeat)
		_, err := a.DisconnectUser(t.Context(), "kim", "log in again")
		require.NoError(t, err)
		time.Sleep(5 * time.Second)
		b := serve(t, opts)
		kim := b.connect(dialOptions{user: "kim"})
		time.Sleep(20 * time.Second)
		_, err = a.DisconnectUser(t.Context(), "lee", "")
		require.NoError(t, err)
		time.Sleep(30 * time.Second)
		require.Len(t, b.User("kim"), 1)
		store.cut(topicControl, 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		select {
		case <-kim.done:
			require.Fail(t, "kim, who came after the command, was disconnected by it", "code %v", kim.closeCode())
		default:
		}
	})
}
