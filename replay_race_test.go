package parley

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests of this file are about the seam between history and live messages
// (F27): the Store stops every call before and after its work, and a scheduler
// lets the stopped go on one at a time, in all orders or in random ones.

// stage is a room whose actors take turns.
type stage struct {
	hub   *Hub
	store *hookStore
	turns *turns
	wg    sync.WaitGroup

	views  map[*direct]*view
	prefix string // of the topics whose reads take turns
	all    bool   // reads of the bounds of the log take turns, too

	mu    sync.Mutex
	calls int
}

func newStage(t *testing.T) *stage {
	s := &stage{store: newHookStore(), turns: newTurns(), views: make(map[*direct]*view), prefix: roomPrefix}
	s.hub = newHub(t, Options{Store: s.store, Room: keepAll, RateLimit: -1})
	return s
}

// slow makes the calls of the Store take turns from now on.
func (s *stage) slow() {
	number := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calls++
		return s.calls
	}
	s.store.onAppend = func(_ context.Context, _ string, _ []Entry, next func() (Log, error)) (Log, error) {
		name := fmt.Sprintf("append %03d", number())
		s.turns.await(name)
		defer s.turns.await(name + " done")
		return next()
	}
	s.store.onRead = func(_ context.Context, topic string, q Query, next func() (Page, error)) (Page, error) {
		if q.Limit == 0 && !s.all || !strings.HasPrefix(topic, s.prefix) {
			return next()
		}
		name := fmt.Sprintf("read %03d", number())
		s.turns.await(name)
		defer s.turns.await(name + " done")
		return next()
	}
}

// actor does steps one after the other, waiting for its turn before each.
func (s *stage) actor(name string, steps ...func()) {
	s.wg.Go(func() {
		for i, step := range steps {
			s.turns.await(fmt.Sprintf("%s %03d", name, i))
			step()
		}
	})
}

// play lets everybody go on until all is done.
func (s *stage) play(choose func(n int) int) {
	for s.turns.next(choose) {
	}
	s.wg.Wait()
	s.store.onAppend, s.store.onRead = nil, nil
}

func (s *stage) publish(t *testing.T, content string) func() {
	return func() {
		_, err := s.hub.Room("r").Send(t.Context(), content)
		require.NoError(t, err)
	}
}

// log returns everything that was published.
func (s *stage) log(t *testing.T) []any {
	var log []any
	page, err := s.store.Read(t.Context(), roomPrefix+"r", Query{Forward: true, Limit: 100_000})
	require.NoError(t, err)
	for _, e := range page.Entries {
		_, rest, _ := strings.Cut(string(e.Data), `"content":"`)
		content, _, _ := strings.Cut(rest, `"`)
		log = append(log, content)
	}
	return log
}

const joinR = `{"type":"join","room":"r"}`

// check asserts that a member has everything in its view, in order.
func (s *stage) check(t *testing.T, d *direct) {
	t.Helper()
	if s.views[d] == nil {
		s.views[d] = &view{room: "r"}
	}
	s.views[d].apply(t, d.wire.messages(t))
	s.views[d].requireLog(t, s.log(t))
}

func TestReplayRacesLiveMessages(t *testing.T) {
	// Each scenario has few actors, so that all orders can be tried.
	for _, tt := range []struct {
		name   string
		before int // messages in the room, in which somebody already is
		actors func(t *testing.T, s *stage, a, b *direct)
	}{
		{"a join and one publisher", 1, func(t *testing.T, s *stage, a, _ *direct) {
			s.actor("publisher", s.publish(t, "1"), s.publish(t, "2"))
			s.actor("a", func() { a.do(t, joinR) })
		}},
		{"a join and two publishers", 0, func(t *testing.T, s *stage, a, _ *direct) {
			s.actor("publisher", s.publish(t, "1"))
			s.actor("other", s.publish(t, "2"))
			s.actor("a", func() { a.do(t, joinR) })
		}},
		{"joining again", 1, func(t *testing.T, s *stage, a, _ *direct) {
			s.actor("publisher", s.publish(t, "1"), s.publish(t, "2"))
			s.actor("a", func() { a.do(t, joinR) }, func() { a.do(t, joinR) })
		}},
		{"join, leave, join", 1, func(t *testing.T, s *stage, a, _ *direct) {
			s.actor("publisher", s.publish(t, "1"), s.publish(t, "2"))
			s.actor("a", func() { a.do(t, joinR) }, func() { a.do(t, `{"type":"leave"}`); a.do(t, joinR) })
		}},
		{"joined by itself and by the server", 1, func(t *testing.T, s *stage, a, _ *direct) {
			s.actor("publisher", s.publish(t, "1"))
			s.actor("a", func() { a.do(t, joinR) })
			s.actor("server", func() { require.NoError(t, s.hub.Room("r").Join(t.Context(), a.Conn)) })
		}},
		{"two first members", 0, func(t *testing.T, s *stage, a, b *direct) {
			s.actor("publisher", s.publish(t, "1"))
			s.actor("a", func() { a.do(t, joinR) })
			s.actor("b", func() { b.do(t, joinR) })
		}},
		{"the Store loses its log", 1, func(t *testing.T, s *stage, a, _ *direct) {
			s.actor("publisher", s.publish(t, "1"), s.publish(t, "2"))
			s.actor("a", func() { a.do(t, joinR) })
			s.actor("wipe", s.store.wipe)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			runs := explore(t, func(t *testing.T, choose func(int) int) {
				s := newStage(t)
				if tt.before > 0 {
					first := attach(t, s.hub, directOptions{v1: true})
					first.do(t, joinR)
					defer s.check(t, first)
				}
				for i := range tt.before {
					s.publish(t, fmt.Sprint(-i))()
				}
				a, b := attach(t, s.hub, directOptions{}), attach(t, s.hub, directOptions{v1: true})
				s.slow()
				tt.actors(t, s, a, b)
				s.play(choose)
				s.publish(t, "last")()
				s.check(t, a)
				if len(b.Rooms()) > 0 {
					s.check(t, b)
				}
			})
			t.Logf("%d orders", runs)
			require.Greater(t, runs, 50)
		})
	}
}
