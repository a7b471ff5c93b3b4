package parley

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// flying is a client in rooms a and b, with a Store in which Appends take a second. appended returns their topics and how many entries
// they have had, since it was called last.
func flying(t *testing.T, opts Options) (s *server, c *rawClient, store *hookStore, appended func() []string) {
	var mu sync.Mutex
	var all []string
	appended = func() (since []string) {
		mu.Lock()
		defer mu.Unlock()
		since, all = all, nil
		return since
	}
	store = newHookStore()
	store.onAppend = func(ctx context.Context, topic string, entries []Entry, next func() (Log, error)) (Log, error) {
		if err := sleep(ctx, time.Second); err != nil {
			return Log{}, err
		}
		mu.Lock()
		all = append(all, fmt.Sprint(topic, " ", len(entries)))
		mu.Unlock()
		return next()
	}
	opts.Store = store
	s = serve(t, opts)
	c = s.raw("X-User", "kim", "Sec-WebSocket-Protocol", subprotocolV1)
	enter(c, "a")
	enter(c, "b")
	return s, c, store, appended
}

func enter(c *rawClient, room string) {
	c.text(`{"type":"join","room":"` + room + `","id":"join"}`)
	for c.next().str("id") != "join" {
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answers returns the ids of the next n answers, with the codes of errors.
func answers(c *rawClient, n int) (all []string) {
	for len(all) < n {
		switch m := c.next(); m.str("type") {
		case "ack":
			all = append(all, m.str("id"))
		case "error":
			all = append(all, m.str("id")+" "+m.str("code"))
		case "pong":
			all = append(all, "pong")
		}
	}
	return all
}

func sayIn(room string, ids ...int) string {
	var b strings.Builder
	for _, id := range ids {
		b.Write(rawText(fmt.Sprintf(`{"type":"message","room":"%s","content":%d,"id":"%d"}`, room, id, id)))
	}
	return b.String()
}

// What a client has sent to a room goes to the Store together; each is answered, in order.
func TestMessagesFlyTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, c, _, appended := flying(t, Options{})
		start := time.Now()
		c.write([]byte(sayIn("a", 1, 2, 3, 4, 5)))
		require.Equal(t, []string{"1", "2", "3", "4", "5"}, answers(c, 5))
		all := appended()
		require.LessOrEqual(t, len(all), 2, "%v: the first may go alone", all)
		require.LessOrEqual(t, time.Since(start), 2*time.Second)
	})
}

// Whatever else a client asks for is done after them, and answered after them: another room, a refusal, a question.
func TestOthersWaitForFlights(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, c, _, appended := flying(t, Options{})
		c.write([]byte(sayIn("a", 1, 2) + sayIn("b", 3) + sayIn("nowhere", 4) + sayIn("a", 5) + string(rawText(`{"type":"message","id":"6"}`)) +
			sayIn("a", 7) + string(rawText(`{"type":"ping"}`)) + sayIn("a", 8) + string(rawText(`{`))))
		require.Equal(t, []string{"1", "2", "3", "4 not_member", "5", "6 bad_request", "7", "pong", "8", " bad_json"}, answers(c, 10))
		require.Regexp(t, `^\[(room/a 1 room/a 1|room/a 2) room/b 1 room/a 1 room/a 1 room/a 1\]$`, fmt.Sprint(appended()))
	})
}

// F9: the Store is asked for no more than 32 messages and 64 KiB of one client at a time; what it cannot keep is told for each.
func TestFlightsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, c, store, appended := flying(t, Options{RateLimit: -1})
		ids := make([]int, 100)
		for i := range ids {
			ids[i] = i
		}
		c.write([]byte(sayIn("a", ids...)))
		got := answers(c, 100)
		require.Equal(t, "0", got[0])
		require.Equal(t, "99", got[99])
		all := appended()
		for _, a := range all {
			var n int
			_, err := fmt.Sscanf(a, "room/a %d", &n)
			require.NoError(t, err)
			require.LessOrEqual(t, n, 32)
		}
		require.Less(t, len(all), 12)

		large := `{"type":"message","room":"a","content":"` + strings.Repeat("x", 20<<10) + `","id":"l"}`
		for range 6 {
			c.text(large)
		}
		require.Len(t, answers(c, 6), 6)
		for _, a := range appended() {
			require.Contains(t, []string{"room/a 1", "room/a 2", "room/a 3"}, a)
		}

		broken := errors.New("broken")
		store.onAppend = func(context.Context, string, []Entry, func() (Log, error)) (Log, error) { return Log{}, broken }
		c.write([]byte(sayIn("a", 1, 2)))
		require.Equal(t, []string{"1 unavailable", "2 unavailable"}, answers(c, 2))
	})
}

// What was sent before a close frame is stored. When somebody is thrown out, nothing that waited for the flights is carried out.
func TestFlightsAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, c, _, appended := flying(t, Options{ClientBroadcast: true})
		c.write(append([]byte(sayIn("a", 1, 2)), rawClose(CloseNormal, "")...))
		c.expectClosed(CloseNormal)
		time.Sleep(5 * time.Second)
		page, err := s.opts.Store.Read(t.Context(), "room/a", Query{})
		require.NoError(t, err)
		require.EqualValues(t, 2, page.Top)

		c = s.raw("X-User", "kim", "Sec-WebSocket-Protocol", subprotocolV1)
		enter(c, "a")
		appended()
		c.write([]byte(sayIn("a", 3) + string(rawText(`{"type":"broadcast","message":1,"id":"4"}`))))
		synctest.Wait()
		n, err := s.DisconnectUser(t.Context(), "kim", "bye")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		code, _ := c.closeFrame()
		require.Equal(t, CloseDisconnected, code)
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"room/a 1"}, appended())
	})
}

// Who is removed from a room while a message waits for others, is not in it when that is its turn.
func TestRemovedWhileAMessageWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, c, _, appended := flying(t, Options{RateLimit: -1})
		c.write([]byte(sayIn("a", 1, 2) + sayIn("b", 3)))
		synctest.Wait()
		n, err := s.Room("b").RemoveUser(t.Context(), "kim", "enough")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, []string{"1", "2", "3 not_member"}, answers(c, 3))
		require.NotContains(t, fmt.Sprint(appended()), "room/b")

		ids := make([]int, 40)
		for i := range ids {
			ids[i] = i
		}
		c.write([]byte(sayIn("a", ids...)))
		synctest.Wait()
		_, err = s.Room("a").RemoveUser(t.Context(), "kim", "enough")
		require.NoError(t, err)
		got := answers(c, 40)
		require.Equal(t, []string{"31", "32 not_member", "33 not_member"}, got[31:34], "%v", got)
	})
}

// A connection whose client has closed it is not taken for dead while its messages are stored.
func TestGoodbyeWhileMessagesFly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan CloseCode, 1)
		_, c, _, _ := flying(t, Options{PingInterval: 200 * time.Millisecond, Hooks: Hooks{
			Disconnect: func(_ *Conn, code CloseCode) { ended <- code },
		}})
		c.write(append([]byte(sayIn("a", 1, 2)), rawClose(CloseNormal, "")...))
		require.Equal(t, CloseNormal, <-ended)
	})
}

// One that has landed is answered behind those before it. A message holds its topic no longer than it flies.
func TestFlightsAreAnsweredInOrder(t *testing.T) {
	var a flights
	room := &topic{}
	var all []*flight
	for range 3 {
		f := &flight{size: 10}
		require.True(t, a.enter(t.Context(), room, f))
		all = append(all, f)
	}
	require.Empty(t, a.land(all[1]))
	a.cancel(all[2])
	ready := a.land(all[0])
	require.Equal(t, all[:2], ready)
	a.answered(ready)
	require.Zero(t, a.bytes)
	require.Nil(t, a.topic)
	require.True(t, a.settle(t.Context()))
}
