package parley

import (
	"context"
	"fmt"
	"strings"
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
				want := []string{"history 7 ahead"}
				for n := 8; n <= 12; n++ {
					want = append(want, fmt.Sprintf("message %d <nil>", n))
				}
				require.Equal(t, want, heard(kim))
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

// heard returns the histories and messages that a client has got since the last call.
func heard(c *client) (got []string) {
	synctest.Wait()
	for len(c.in) > 0 {
		if m := c.next(); m.str("type") == "history" || m.str("type") == "message" {
			got = append(got, fmt.Sprintf("%s %d %v", m.str("type"), m.num("offset"), m["code"]))
		}
	}
	return got
}

// F16: what the log has lost had reached a member by its history alone, and nobody of this node live. It is told all the same.
func TestRewindOfWhatOnlyAHistoryHeld(t *testing.T) {
	for _, cut := range []int{1, 3} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store, broker := newCutStore(), newFaultyBroker()
				opts := Options{Store: store, Broker: broker}
				a, b := serve(t, opts), serve(t, opts)
				time.Sleep(2 * nodeBeat)
				for n := int64(1); n <= 7; n++ {
					say(t, a, n)
				}
				lee := b.v1()
				lee.join("tea", "lee")
				synctest.Wait()
				broker.set(func(p []byte) [][]byte {
					if strings.Contains(string(p), "tea") {
						return nil
					}
					return [][]byte{p}
				})
				time.Sleep(500 * time.Millisecond)
				for n := int64(8); n <= 10; n++ {
					say(t, a, n)
				}
				kim := b.v1()
				kim.send(map[string]any{"type": "join", "room": "tea", "username": "kim"})
				require.EqualValues(t, 10, kim.skipTo("history").num("offset"))
				store.cut(roomPrefix+"tea", cut)
				broker.set(nil)
				kim.drain()
				time.Sleep(5 * bound)
				for n := int64(11 - cut); n <= 12; n++ {
					say(t, a, n)
				}
				time.Sleep(5 * bound)
				got := heard(kim)
				require.Contains(t, got, fmt.Sprintf("message %d <nil>", 11-cut), "kim has read another message at this offset, that is lost")
			})
		})
	}
}

// A join does not get what others read before the log lost its end.
func TestSharedReadOfBeforeARewind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, broker := newCutStore(), newFaultyBroker()
		opts := Options{Store: store, Broker: broker, SyncInterval: 10 * time.Millisecond}
		a, b := serve(t, opts), serve(t, opts)
		time.Sleep(2 * nodeBeat)
		for n := int64(1); n <= 10; n++ {
			say(t, a, n)
		}
		lee, mia, zoe := b.v1(), b.v1(), b.v1()
		lee.join("tea", "lee")
		time.Sleep(time.Second)
		lee.drain()
		mia.join("tea", "mia")
		store.cut(roomPrefix+"tea", 3)
		time.Sleep(120 * time.Millisecond)
		zoe.send(map[string]any{"type": "join", "room": "tea", "username": "zoe"})
		time.Sleep(time.Second)
		for n := int64(8); n <= 12; n++ {
			say(t, a, n)
		}
		time.Sleep(5 * bound)
		got := heard(zoe)
		require.Contains(t, got, "message 8 <nil>")
	})
}
