package parley

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// F54, F55, S28, S29: bad input is answered by an error, with the id if it is
// readable, and the connection lives (P2.6).
func TestBadInputIsAnswered(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{RateLimit: -1})
		unharmed := s.bystanders()
		c := s.plain()
		for _, tc := range []struct {
			sent string
			code Code
			id   string
		}{
			{``, CodeBadJSON, ""},
			{`   `, CodeBadJSON, ""},
			{`hello`, CodeBadJSON, ""},
			{`null`, CodeBadJSON, ""},
			{`[]`, CodeBadJSON, ""},
			{`"text"`, CodeBadJSON, ""},
			{`{"type":"ping"`, CodeBadJSON, ""},
			{`{"type":"ping"}{}`, CodeBadJSON, ""},
			{`{"id":"7","type":"ping",}`, CodeBadJSON, "7"},
			{`{"id":"7","type":"ping","data":{"a":01}}`, CodeBadJSON, "7"},
			{`{"type":"ping","id":"7","data":` + deep(32) + `}`, CodeBadJSON, "7"}, // S28
			{strings.Repeat(`{"data":`, 8_000), CodeBadJSON, ""},
			{deep(30_000), CodeBadJSON, ""},

			{`{}`, CodeBadRequest, ""},
			{`{"id":"7"}`, CodeBadRequest, "7"},
			{`{"type":null,"id":"7"}`, CodeBadRequest, "7"},
			{`{"type":7,"id":"7"}`, CodeBadRequest, "7"},
			{`{"type":"ping","id":7}`, CodeBadRequest, ""},
			{`{"type":"ping","id":""}`, CodeBadRequest, ""},
			{`{"type":"ping","id":"` + strings.Repeat("7", 65) + `"}`, CodeBadRequest, ""},
			{`{"type":"ping","id":"7","id":"8"}`, CodeBadRequest, ""}, // S29
			{`{"type":"ping","id":"7","room":"public","ROOM":"secret"}`, CodeBadRequest, "7"},
			{`{"type":"ping","id":"7","room":"public","r\u006fom":"secret"}`, CodeBadRequest, "7"},
			{`{"type":"join","id":"7","room":""}`, CodeBadRequest, "7"},
			{`{"type":"join","id":"7","room":["a"]}`, CodeBadRequest, "7"},
			{`{"type":"join","id":"7","room":"a\nb"}`, CodeBadRequest, "7"},
			{`{"type":"join","id":"7"}`, CodeBadRequest, "7"},
			{`{"type":"history","id":"7","room":"a","limit":1e999}`, CodeBadRequest, "7"},
			{`{"type":"history","id":"7","room":"a","before":-1}`, CodeBadRequest, "7"},
			{`{"type":"history","id":"7","room":"a","before":9007199254740992}`, CodeBadRequest, "7"},
			{`{"type":"broadcast","id":"7"}`, CodeBadRequest, "7"},
			{`{"type":"private","id":"7","targetId":"x"}`, CodeBadRequest, "7"},
			{`{"type":"private","id":"7","message":1}`, CodeBadRequest, "7"},
			{`{"type":"signal","id":"7"}`, CodeBadRequest, "7"},
			{`{"type":"call","method":"m"}`, CodeBadRequest, ""},
			{`{"type":"call","id":"7"}`, CodeBadRequest, "7"},

			{`{"type":"Ping","id":"7"}`, CodeUnknownType, "7"},
			{`{"type":"connected","id":"7"}`, CodeUnknownType, "7"},
			{`{"type":"` + strings.Repeat("x", 60_000) + `","id":"7"}`, CodeUnknownType, "7"},
			{`{"type":"\u0000\n","id":"7"}`, CodeUnknownType, "7"},
			{`{"type":"\ud800","id":"7"}`, CodeBadRequest, "7"},
			{`{"type":"call","id":"7","method":"none"}`, CodeUnknownMethod, "7"},
			{`{"type":"private","id":"7","targetId":"nobody","message":1}`, CodeNotFound, "7"},
			{`{"type":"broadcast","id":"7","message":1}`, CodeForbidden, "7"},

			{`{"type":"message","id":"7","content":"x"}`, CodeNotMember, "7"},
			{`{"type":"message","id":"7","room":"a","content":"x"}`, CodeNotMember, "7"},
			{`{"type":"leave","id":"7"}`, CodeNotMember, "7"},
			{`{"type":"history","id":"7","room":"a"}`, CodeNotMember, "7"},
			{`{"type":"presence","id":"7","room":"a"}`, CodeNotMember, "7"},
			{`{"type":"signal","id":"7","room":"a","name":"x"}`, CodeNotMember, "7"},
		} {
			c.send(tc.sent)
			m := c.expect("error")
			require.Equal(t, string(tc.code), m.str("code"), "%.100q: %v", tc.sent, m)
			require.Equal(t, tc.id, m.str("id"), "%.100q", tc.sent)
			require.NotEmpty(t, m.str("message"))
			require.Less(t, len(m.str("message")), 400, "the error quotes everything")
			c.expectNone() // answered once
		}
		c.send(`{"type":"ping","id":"alive"}`)
		require.Equal(t, "alive", c.expect("pong").str("id"))
		require.Zero(t, s.Stats().HandlerErrors)
		require.Zero(t, s.Stats().Panics)
		unharmed()
	})
}

// S11, P1.6: keys that nobody knows, and those that are the server's, are ignored.
func TestForeignKeysAreIgnored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		kim, lee := s.plain(), s.plain()
		kim.send(map[string]any{
			"type": "private", "targetId": lee.id, "message": "hi", "senderId": "root", "userId": "root",
			"timestamp": 1, "offset": 9, "epoch": "E", "__proto__": map[string]any{"admin": true}, "x": nil,
		})
		m := lee.expect("private")
		require.Equal(t, kim.id, m.str("senderId"))
		require.NotEqual(t, int64(1), m.num("timestamp"))
		require.NotContains(t, m, "offset")
		require.NotContains(t, m, "__proto__")
	})
}

// P1.4, P4.7: what the first message says.
func TestConnectedMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{MaxMessageSize: 1234, PingInterval: 10 * time.Second})
		c, _, err := s.tryDial(dialOptions{user: "u1", name: "Kim", v1: true})
		require.NoError(t, err)
		c.read()
		m := c.next()
		conn := s.Conn(m.str("clientId"))
		require.Equal(t, message{
			"type": "connected", "clientId": conn.ID(), "userId": "u1", "username": "Kim",
			"maxMessageSize": 1234.0, "pingInterval": 10_000.0, "session": m.str("session"),
		}, m)
		require.True(t, validSession(m.str("session")))
		require.Len(t, conn.ID(), 26)

		c, _, err = s.tryDial(dialOptions{})
		require.NoError(t, err)
		c.read()
		m = c.next()
		require.Equal(t, m.str("clientId"), m.str("userId"))
		require.NotContains(t, m, "username")
		require.NotContains(t, m, "session", "a plain client knows no sessions")
	})
}

// S8: what a client sends after it was disconnected is not carried out.
func TestNothingIsDoneForADisconnectedClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{ClientBroadcast: true})
		calls := 0
		On(s.Hub, "call", func(context.Context, *Conn, struct{}) (int, error) { calls++; return 0, nil })
		other := s.plain()
		c := s.raw("X-User", "kim")
		require.Equal(t, 1, s.disconnect("kim", "banned"))
		c.text(`{"type":"broadcast","message":"still here"}`)
		c.text(`{"type":"call","id":"1","method":"call"}`)
		code, reason := c.closeFrame()
		require.Equal(t, CloseDisconnected, code)
		require.Equal(t, "banned", reason)
		c.expectEnd()
		other.expectNone()
		require.Zero(t, calls)
		require.Zero(t, s.Stats().Received)
	})
}

// Close codes and reasons that may not be sent are made into some that may.
func TestCloseCodesAndReasons(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		for given, sent := range map[CloseCode]CloseCode{
			1000: 1000, 3000: 3000, 4050: 4050, 4999: 4999,
			0: 4101, -1: 4101, 999: 4101, 1001: 4101, 1005: 4101, 1006: 4101, 1015: 4101, 2999: 4101, 5000: 4101, 1 << 20: 4101,
		} {
			c := s.raw()
			s.Conn(c.id).Close(given, "text")
			code, reason := c.closeFrame()
			require.Equal(t, sent, code, given)
			require.Equal(t, "text", reason)
		}
		for given, sent := range map[string]string{
			"":                              "",
			strings.Repeat("x", 123):        strings.Repeat("x", 123),
			strings.Repeat("x", 124):        strings.Repeat("x", 123),
			strings.Repeat("é", 100):        strings.Repeat("é", 61),
			"bad \xff text":                 "bad  text",
			"\xff" + strings.Repeat("x", 3): "xxx",
		} {
			c := s.raw()
			s.Conn(c.id).Close(4150, given)
			code, reason := c.closeFrame()
			require.EqualValues(t, 4150, code)
			require.Equal(t, sent, reason)
		}
	})
}

// Conn.Send reaches this connection only, and nothing that cannot be encoded
// or delivered does harm.
func TestConnSend(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		kim, lee := s.plain(), s.plain()
		conn := s.Conn(kim.id)
		require.NoError(t, conn.Send(t.Context(), map[string]int{"n": 1}))
		m := kim.expect("private")
		require.Empty(t, m.str("senderId"))
		require.Equal(t, map[string]any{"n": 1.0}, m["message"])
		lee.expectNone()

		require.Error(t, conn.Send(t.Context(), func() {}))
		require.ErrorIs(t, conn.Send(t.Context(), strings.Repeat("x", 600<<10)), ErrTooLarge)
		require.NoError(t, conn.Send(t.Context(), nil))
		require.Nil(t, kim.expect("private")["message"])
	})
}

// The context of a connection ends with it; it is what handlers get.
func TestConnContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		var cause error
		On(s.Hub, "wait", func(ctx context.Context, _ *Conn, _ struct{}) (int, error) {
			<-ctx.Done()
			cause = ctx.Err()
			return 0, nil
		})
		c := s.plain()
		conn := s.Conn(c.id)
		require.NoError(t, conn.Context().Err())
		c.send(`{"type":"call","id":"1","method":"wait"}`)
		synctest.Wait()
		require.NoError(t, cause)
		conn.Close(CloseNormal, "")
		synctest.Wait()
		require.True(t, errors.Is(cause, context.Canceled))
		require.Error(t, conn.Context().Err())
	})
}
