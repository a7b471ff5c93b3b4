package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// sent is a message, and what became of it.
type sent struct {
	text string
	at   place // zero: an error was returned
	err  error
}

// speaker sends numbered messages to the lobby, by application code of a node, each once, whatever is returned.
type speaker struct {
	n    *node
	name string
	stop chan struct{}
	done chan struct{}

	mu   sync.Mutex // guards list
	list []sent
}

// speak starts a speaker that sends a message every so often.
func speak(n *node, name string, every time.Duration) *speaker {
	s := &speaker{n: n, name: name, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		pace := time.NewTicker(every)
		defer pace.Stop()
		for i := 1; ; i++ {
			select {
			case <-s.stop:
				return
			case <-pace.C:
			}
			s.send(i)
		}
	}()
	n.t.Cleanup(s.end)
	return s
}

func (s *speaker) send(i int) {
	m := sent{text: fmt.Sprint(s.name, " ", i)}
	result, err := s.n.hub.Room(lobby).Send(context.Background(), m.text)
	if m.err = err; err == nil {
		m.at = place{result.Epoch, result.Offset}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, m)
}

// end stops the speaker, and waits for the send under way. It may be called twice.
func (s *speaker) end() {
	s.mu.Lock()
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	s.mu.Unlock()
	<-s.done
}

func (s *speaker) all() []sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list
}

// acked and failed count what was sent.
func (s *speaker) acked() (n int) {
	for _, m := range s.all() {
		if m.err == nil {
			n++
		}
	}
	return n
}

func (s *speaker) failed() int { return len(s.all()) - s.acked() }

// more waits until n more messages were acknowledged.
func (s *speaker) more(n int) {
	s.n.t.Helper()
	goal := s.acked() + n
	await(s.n.t, func() bool { return s.acked() >= goal }, "%s to be heard", s.name)
}

// fails waits until n more messages were refused, or nobody knows.
func (s *speaker) fails(n int) {
	s.n.t.Helper()
	goal := s.failed() + n
	await(s.n.t, func() bool { return s.failed() >= goal }, "sends of %s to fail", s.name)
}

// kept asserts that what was acknowledged is in the log where it was said to be, that everything is in it at most once, and
// that errors are those of a Store.
func kept(t *testing.T, epoch string, log []line, speakers ...*speaker) {
	t.Helper()
	at, times := map[int64]string{}, map[string]int{}
	for _, l := range log {
		at[l.Offset] = l.Text
		times[l.Text]++
	}
	for text, n := range times {
		require.Equal(t, 1, n, "%q is in the log %d times", text, n)
	}
	for _, s := range speakers {
		for _, m := range s.all() {
			if m.err != nil {
				require.ErrorIs(t, m.err, parley.ErrStore)
				continue
			}
			require.Equal(t, epoch, m.at.epoch, "%q", m.text)
			require.Equal(t, m.text, at[m.at.offset], "at %d", m.at.offset)
		}
	}
}

// say sends one message to the lobby and returns where it is.
func (n *node) say(text string) place {
	n.t.Helper()
	result, err := n.hub.Room(lobby).Send(n.t.Context(), text)
	require.NoError(n.t, err)
	return place{result.Epoch, result.Offset}
}
