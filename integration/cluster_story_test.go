package integration

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// place is where a message is.
type place struct {
	epoch  string
	offset int64
}

// story is what a member was told of the lobby.
type story struct {
	shown  []line           // as an application shows it: since the last gap
	said   map[place]string // all messages ever
	resets []string         // the codes of the gaps that were told
	end    place
	came   []string // users of whom it was told that they joined
	left   []string // users of whom it was told that they left
	wrong  []string // what must never be
}

// ear takes what a member is told. It may be used concurrently.
type ear struct {
	t    *testing.T
	name string

	mu sync.Mutex // guards s
	s  story
}

func newEar(t *testing.T, name string) *ear {
	return &ear{t: t, name: name, s: story{said: map[place]string{}}}
}

// note changes the story.
func (e *ear) note(f func(s *story)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.s)
}

// story returns a copy of the story so far.
func (e *ear) story() story {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.s
	s.said, s.shown, s.resets = maps.Clone(s.said), slices.Clone(s.shown), slices.Clone(s.resets)
	s.wrong, s.came, s.left = slices.Clone(s.wrong), slices.Clone(s.came), slices.Clone(s.left)
	return s
}

func (e *ear) end() place {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.s.end
}

// page takes the place of what is shown.
func (s *story) page(end place, messages []line) {
	s.shown = nil
	for i, m := range messages {
		if i > 0 && m.Offset != messages[i-1].Offset+1 {
			s.wrong = append(s.wrong, fmt.Sprintf("a history in which %d follows on %d", m.Offset, messages[i-1].Offset))
		}
		s.take(place{end.epoch, m.Offset}, m.Text)
	}
	if n := len(messages); n > 0 && messages[n-1].Offset != end.offset {
		s.wrong = append(s.wrong, fmt.Sprintf("a history up to %d that ends with %d", end.offset, messages[n-1].Offset))
	}
	s.end = end
}

// message goes on after what is shown: without being told of a gap, offsets go on by one.
func (s *story) message(at place, text string) {
	if at.epoch != s.end.epoch || at.offset != s.end.offset+1 {
		s.wrong = append(s.wrong, fmt.Sprintf("%v (%s) comes after %v", at, text, s.end))
	}
	s.end = at
	s.take(at, text)
}

func (s *story) take(at place, text string) {
	if was, ok := s.said[at]; ok && was != text {
		s.wrong = append(s.wrong, fmt.Sprintf("%v was %q and is %q", at, was, text))
	}
	s.said[at] = text
	s.shown = append(s.shown, line{at.offset, text})
}

// knows waits until the member has come to a place.
func (e *ear) knows(at place) {
	e.t.Helper()
	defer e.explain()
	await(e.t, func() bool { end := e.end(); return end.epoch == at.epoch && end.offset >= at.offset }, "%s to get %v", e.name, at)
}

// sawAll waits for this, and asserts that the member was told of no gap, and got all of it, in order, once.
func (e *ear) sawAll(want []line) {
	e.t.Helper()
	defer e.explain()
	await(e.t, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.s.shown) >= len(want)
	}, "%s to get %d messages", e.name, len(want))
	s := e.story()
	require.Empty(e.t, s.wrong, e.name)
	require.Empty(e.t, s.resets, "%s was told of gaps", e.name)
	same(e.t, want, s.shown, "messages of "+e.name)
}

// explain logs what the member was told last, if the test has failed.
func (e *ear) explain() {
	if e.t.Failed() {
		s := e.story()
		e.t.Logf("%s is at %v, after the gaps %q; wrong: %q; shown last: %v", e.name, s.end, s.resets, s.wrong, s.shown[max(0, len(s.shown)-5):])
	}
}

// agreed waits until everybody is at the end of the log, and asserts that all show what is in it, and that nobody has ever seen
// another message than somebody else in one place. Gaps may have been told.
func agreed(t *testing.T, epoch string, log []line, ears ...*ear) {
	t.Helper()
	said := map[place]string{}
	for _, e := range ears {
		e.knows(place{epoch, log[len(log)-1].Offset})
		s := e.story()
		require.Empty(t, s.wrong, e.name)
		require.LessOrEqual(t, len(s.shown), len(log), e.name)
		same(t, log[len(log)-len(s.shown):], s.shown, "what "+e.name+" sees")
		for at, text := range s.said {
			was, ok := said[at]
			require.True(t, !ok || was == text, "%s saw %q at %v, somebody else %q", e.name, text, at, was)
			said[at] = text
		}
	}
}
