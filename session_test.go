package parley

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func testKey(b byte) []byte { return []byte(strings.Repeat(string(rune('a'+b)), 32)) }

// back connects a v1 client that offers a session, and entries.
func (s *server) back(session string, o dialOptions, entries ...string) *client {
	s.t.Helper()
	o.v1 = true
	if session != "" {
		o.protocols = append(o.protocols, subprotocolSession+session)
	}
	o.protocols = append(o.protocols, entries...)
	return s.connect(o)
}

func at(kind, epoch string, offset int64) string {
	return fmt.Sprintf("%s%d.%s", kind, offset, base64.RawURLEncoding.EncodeToString([]byte(epoch)))
}

// cut loses the connection without a word.
func (c *client) cut() {
	c.t.Helper()
	require.NoError(c.t, c.raw.Close())
	<-c.done
	synctest.Wait()
}

// hookLog collects what happens in several goroutines.
type hookLog struct {
	mu   sync.Mutex // guards list
	list []string
}

func (l *hookLog) add(what ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprint(what...))
}

func (l *hookLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list)
}

// requireRefusedSession asserts that c is a new client, is told so by one code, and nothing else.
func (c *client) requireRefusedSession() {
	c.t.Helper()
	require.Equal(c.t, false, c.hello["resumed"])
	m := c.expectError(CodeBadSession)
	require.NotContains(c.t, m, "id")
}

// P1.8: a client that comes back keeps its client id, and so an anonymous one its user id.
func TestSessionIsResumed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		watcher := s.v1()
		watcher.join("lobby", "w")
		c := s.v1()
		require.NotContains(t, c.hello, "resumed", "no session was offered")
		c.join("lobby", "kim")
		time.Sleep(time.Second)
		watcher.drain()
		c.cut()
		time.Sleep(2 * time.Second)

		again := s.back(c.hello.str("session"), dialOptions{})
		require.Equal(t, true, again.hello["resumed"])
		require.Equal(t, c.id, again.id)
		require.Equal(t, c.id, again.hello.str("userId"))
		require.NotEqual(t, c.hello.str("session"), again.hello.str("session"))
		require.True(t, s.Conn(c.id).Resumed())
		again.join("lobby", "kim")
		time.Sleep(time.Minute)
		watcher.expectNone() // F69: neither left nor joined
		require.EqualValues(t, 1, s.Stats().Resumed)
		require.Zero(t, s.Stats().SessionsRefused)
	})
}

// P1.9: replayed, foreign, forged and late sessions make new clients, and say nothing more.
func TestSessionRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{SessionKey: testKey(0)})
		anonymous := s.v1()
		first := anonymous.hello.str("session")
		victim := s.back(first, dialOptions{})
		victim.send(`{"type":"ping"}`)
		victim.expect("pong")
		kim := s.connect(dialOptions{v1: true, user: "kim"})
		kim.expect("inbox")
		foreignKey, err := New(Options{Authenticator: AllowAnonymous, SessionKey: testKey(1)})
		require.NoError(t, err)
		forged := foreignKey.sessions.issue(victim.id, "", 1)
		raw, err := base64.RawURLEncoding.DecodeString(victim.hello.str("session"))
		require.NoError(t, err)
		for name, tc := range map[string]struct{ session, user string }{
			"replayed: a newer one was used": {first, ""},
			"of another user":                {kim.hello.str("session"), "lee"},
			"of a user, by nobody":           {kim.hello.str("session"), ""},
			"of nobody, by a user":           {victim.hello.str("session"), "lee"},
			"signed with another key":        {forged, ""},
			"made up":                        {"abc", ""},
			"too long":                       {victim.hello.str("session") + "AAAA", ""},
		} {
			c := s.back(tc.session, dialOptions{user: tc.user})
			require.NotEqual(t, victim.id, c.id, name)
			require.NotEqual(t, kim.id, c.id, name)
			c.requireRefusedSession()
		}
		for i := range raw {
			raw[i] ^= 1
			_, ok := s.sessions.verify(base64.RawURLEncoding.EncodeToString(raw), "")
			require.False(t, ok, "byte %d counts", i)
			raw[i] ^= 1
		}
		victim.expectNone()
		kim.expectNone()
		require.NotNil(t, s.Conn(victim.id))

		victim.cut()
		time.Sleep(IdempotencyWindow + time.Minute)
		late := s.back(victim.hello.str("session"), dialOptions{})
		late.requireRefusedSession()
		require.Empty(t, s.sessions.parked.order, "what is too old is forgotten")
		require.Empty(t, s.sessions.parked.entries)
	})
}

// A "connected" that never arrived: the client comes with the session before it.
func TestSessionAfterALostGreeting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c := s.v1()
		c.cut()
		for range 3 {
			lost := s.back(c.hello.str("session"), dialOptions{})
			require.Equal(t, c.id, lost.id)
			lost.cut() // before the client has answered anything
		}
		again := s.back(c.hello.str("session"), dialOptions{})
		require.Equal(t, c.id, again.id)
		require.Equal(t, true, again.hello["resumed"])

		// A pong is an answer, too: now the old one is worth nothing.
		time.Sleep(time.Minute)
		replay := s.back(c.hello.str("session"), dialOptions{})
		replay.requireRefusedSession()
		again.expectNone()
	})
}

// F3: the old socket is half-open, and neither reads nor says anything.
func TestHalfOpenConnectionIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log hookLog
		s := serve(t, Options{MaxPerUser: 1, Hooks: Hooks{
			Connect:    func(_ context.Context, c *Conn) error { log.add("connect ", c.Resumed()); return nil },
			Disconnect: func(_ *Conn, code CloseCode) { log.add("disconnect ", code) },
			Leave:      func(*Conn, *Room) { log.add("leave") },
			Join:       func(context.Context, *Conn, *Room) { log.add("join") },
		}})
		old := s.connect(dialOptions{v1: true, user: "kim"})
		old.expect("inbox")
		old.join("lobby", "x")
		old.drain()
		_, resp, err := s.tryDial(dialOptions{v1: true, user: "kim"})
		require.Error(t, err)
		require.Equal(t, 429, resp.StatusCode, "another client of this user is one too many")

		again := s.back(old.hello.str("session"), dialOptions{user: "kim"})
		require.Equal(t, old.id, again.id)
		require.Equal(t, CloseReplaced, old.closeCode(), "which is told, should it still be there")
		again.expect("inbox")
		again.join("lobby", "x")
		again.drain()
		require.Equal(t, []string{"connect false", "join", "leave", "disconnect 4103", "connect true", "join"}, log.all())
		require.Len(t, s.User("kim"), 1)
		require.Equal(t, 1, s.Stats().Connections)
		require.EqualValues(t, 1, s.Stats().Replaced)

		again.send(`{"type":"message","content":1}`)
		require.Equal(t, "kim", again.expect("message").str("userId"))
	})
}

// The hooks of a client id are in order, also when the old connection is busy.
func TestConnectWaitsForTheHooksBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := make(chan struct{})
		var log hookLog
		s := serve(t, Options{Hooks: Hooks{
			Connect: func(_ context.Context, c *Conn) error {
				log.add("connect ", c.Resumed())
				if !c.Resumed() {
					<-gate
				}
				return nil
			},
			Disconnect: func(*Conn, CloseCode) { log.add("disconnect") },
		}})
		old := s.v1()
		impatient := s.back(old.hello.str("session"), dialOptions{})
		again := s.back(impatient.hello.str("session"), dialOptions{})
		require.Equal(t, CloseReplaced, impatient.closeCode())
		synctest.Wait()
		close(gate)
		again.send(`{"type":"ping"}`)
		again.expect("pong")
		// The one in between has ended before its turn came, and was never told of.
		require.Equal(t, []string{"connect false", "disconnect", "connect true"}, log.all())
	})
}

// P1.9: who was told not to come back, or said goodbye, has no session any more.
func TestSessionEndsWithItsConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		gone := s.v1()
		gone.close()
		synctest.Wait() // the library answers the close frame before we know of it
		s.back(gone.hello.str("session"), dialOptions{}).requireRefusedSession()

		kicked := s.v1()
		require.Equal(t, 1, s.disconnect(kicked.id, "banned"))
		s.back(kicked.hello.str("session"), dialOptions{}).requireRefusedSession()
		require.Equal(t, CloseDisconnected, kicked.closeCode())
		s.back(kicked.hello.str("session"), dialOptions{}).requireRefusedSession()

		away := s.v1()
		away.cut()
		require.Zero(t, s.disconnect(away.id, "banned while away"))
		s.back(away.hello.str("session"), dialOptions{}).requireRefusedSession()
	})
}

// A process that is started again, or another node, takes sessions signed with its key.
func TestSessionOfAnotherProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		before := serve(t, Options{SessionKey: testKey(0)})
		c, other := before.v1(), before.v1()
		after := serve(t, Options{SessionKey: testKey(0)})
		again := after.back(c.hello.str("session"), dialOptions{})
		require.Equal(t, c.id, again.id)
		again.send(`{"type":"ping"}`)
		again.expect("pong")
		after.back(c.hello.str("session"), dialOptions{}).requireRefusedSession()

		stranger := serve(t, Options{SessionKey: testKey(1)})
		stranger.back(c.hello.str("session"), dialOptions{}).requireRefusedSession()
		require.NoError(t, before.Shutdown(t.Context()))
		time.Sleep(sessionAge + time.Minute)
		after.back(other.hello.str("session"), dialOptions{}).requireRefusedSession()
	})
}

// A plain client has no session and cannot take over one.
func TestPlainClientHasNoSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c := s.v1()
		plain := s.connect(dialOptions{protocols: []string{subprotocolSession + c.hello.str("session")}})
		require.NotEqual(t, c.id, plain.id)
		require.NotContains(t, plain.hello, "resumed")
		plain.expectNone()
		c.expectNone()
	})
}

func TestMalformedOffer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c := s.back("", dialOptions{user: "kim"}, "parley.inbox.-1.ZQ", "parley.session.a.b")
		require.NotContains(t, c.hello, "resumed")
		c.expectError(CodeBadRequest)
		require.NotContains(t, c.expect("inbox"), "recovered")
		c.expectNone()
	})
}

// The memory for sessions of connections that are gone is bounded.
func TestParkedSessionsAreBounded(t *testing.T) {
	a := newAging[int](time.Minute)
	for i := range maxAging + 10 {
		a.put("same", i)
	}
	require.Len(t, a.order, maxAging)
	require.Len(t, a.entries, 1)
	for i := range maxAging + 10 {
		a.put(fmt.Sprint(i), i)
	}
	require.Len(t, a.entries, maxAging)
	require.NotContains(t, a.entries, "same")
	got, ok := a.get(fmt.Sprint(maxAging + 9))
	require.True(t, ok)
	require.Equal(t, maxAging+9, got)
}

// P4.2: what an anonymous client sends again after it came back is stored once.
func TestResentAfterResume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c := s.v1()
		c.join("lobby", "kim")
		c.drain()
		c.send(`{"type":"message","id":"m1","content":1}`)
		c.skipTo("message")
		c.cut() // the ack may not have arrived
		again := s.back(c.hello.str("session"), dialOptions{})
		again.join("lobby", "kim")
		again.drain()
		again.send(`{"type":"message","id":"m1","content":1}`)
		ack := again.expect("ack")
		require.Equal(t, true, ack["duplicate"])
		require.EqualValues(t, 1, ack.num("offset"))
		again.expectNone()
	})
}

// P4.11: inbox and broadcast are resumed by position, all or nothing.
func TestPositionsAtConnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{Inbox: Retention{Messages: 3}, BroadcastHistory: Retention{Messages: 3}})
		ctx := t.Context()
		c := s.connect(dialOptions{v1: true, user: "kim"})
		inbox := c.expect("inbox")
		e, all := inbox.str("epoch"), c.hello.str("epoch")
		require.NotEmpty(t, all)
		c.cut()
		for i := range 5 {
			_, err := s.Notify(ctx, "kim", i)
			require.NoError(t, err)
			_, err = s.Broadcast(ctx, i)
			require.NoError(t, err)
		}
		data := func(m message, key string) (got []float64) {
			for _, e := range m["messages"].([]any) {
				got = append(got, e.(map[string]any)[key].(float64))
			}
			return got
		}
		for _, tc := range []struct {
			name   string
			epoch  func(string) string
			offset int64
			code   any
			want   []float64
		}{
			{"all that was missed", nil, 3, nil, []float64{3, 4}},
			{"F65: exactly at the edge", nil, 2, nil, []float64{2, 3, 4}},
			{"nothing missed", nil, 5, nil, nil},
			{"F64: more than is kept", nil, 1, "gone", []float64{2, 3, 4}},
			{"F11: another log", func(e string) string { return e + "x" }, 3, "reset", []float64{2, 3, 4}},
			{"of the future", nil, 6, "ahead", []float64{2, 3, 4}},
			{"of the far future", nil, maxOffset, "ahead", []float64{2, 3, 4}},
		} {
			if tc.epoch == nil {
				tc.epoch = func(e string) string { return e }
			}
			c := s.back("", dialOptions{user: "kim"}, at(subprotocolInbox, tc.epoch(e), tc.offset), at(subprotocolBroadcast, tc.epoch(all), tc.offset))
			require.EqualValues(t, 5, c.hello.num("offset"))
			for _, key := range []string{"message", "data"} {
				m := c.next()
				require.Equal(t, map[string]string{"message": "history", "data": "inbox"}[key], m.str("type"))
				require.NotContains(t, m, "room")
				require.Equal(t, tc.code == nil, m["recovered"], tc.name)
				require.Equal(t, tc.code, m["code"], tc.name)
				require.EqualValues(t, 5, m.num("offset"))
				require.Equal(t, tc.want, data(m, key), tc.name)
			}
			c.expectNone()
			_ = c.ws.CloseNow()
		}
	})
}

// P4.12: the sender's own broadcast can be told when it is replayed.
func TestBroadcastNamesItsClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{ClientBroadcast: true, BroadcastHistory: Retention{Messages: 10}})
		c, other := s.v1(), s.v1()
		c.send(`{"type":"broadcast","id":"b1","message":1}`)
		c.expect("ack")
		require.Equal(t, c.id, other.expect("broadcast").str("clientId"))
		c.cut()
		again := s.back(c.hello.str("session"), dialOptions{}, at(subprotocolBroadcast, c.hello.str("epoch"), 0))
		missed := again.expect("history")["messages"].([]any)
		require.Len(t, missed, 1)
		require.Equal(t, again.id, missed[0].(map[string]any)["clientId"])
	})
}

// P5.4: what was missed of the broadcast follows when the Store is well again,
// before anything that came since.
func TestBroadcastIsResumedLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		var down atomic.Bool
		store.onRead = func(_ context.Context, _ string, _ Query, next func() (Page, error)) (Page, error) {
			if down.Load() {
				return Page{}, errors.New("down")
			}
			return next()
		}
		s := serve(t, Options{Store: store, BroadcastHistory: Retention{Messages: 10}})
		c := s.v1()
		c.cut()
		_, err := s.Broadcast(t.Context(), 1)
		require.NoError(t, err)
		down.Store(true)
		time.Sleep(2 * recentLife)
		again := s.back(c.hello.str("session"), dialOptions{}, at(subprotocolBroadcast, c.hello.str("epoch"), 0))
		require.NotContains(t, again.hello, "epoch")
		again.expectError(CodeUnavailable)
		_, err = s.Broadcast(t.Context(), 2)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		again.expectNone()
		down.Store(false)
		got := again.expect("history")
		require.Equal(t, true, got["recovered"])
		require.Len(t, got["messages"], 2)
		_, err = s.Broadcast(t.Context(), 3)
		require.NoError(t, err)
		require.EqualValues(t, 3, again.expect("broadcast").num("offset"))
	})
}
