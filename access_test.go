package parley

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// wishes is one message for each verb, and what Authorize is asked for it.
// The client is in room r; the type is what a success is answered with, and
// seen what lee, another member, gets of it.
var wishes = []struct {
	message, answer, seen string
	ask                   Access
}{
	{`{"type":"join","room":"new","id":"1"}`, "ack", "", Access{Verb: VerbJoin, Room: "new"}},
	{`{"type":"message","content":1,"id":"1"}`, "ack", "message", Access{Verb: VerbSend, Room: "r"}},
	{`{"type":"signal","name":"n","id":"1"}`, "ack", "signal", Access{Verb: VerbSignal, Room: "r"}},
	{`{"type":"signal","targetId":"lee","name":"n","id":"1"}`, "ack", "signal", Access{Verb: VerbSignal, Target: "lee"}},
	{`{"type":"history","room":"r","id":"1"}`, "history", "", Access{Verb: VerbHistory, Room: "r"}},
	{`{"type":"presence","room":"r","id":"1"}`, "presence", "", Access{Verb: VerbPresence, Room: "r"}},
	{`{"type":"private","targetId":"lee","message":1,"id":"1"}`, "ack", "private", Access{Verb: VerbPrivate, Target: "lee"}},
	{`{"type":"broadcast","message":1,"id":"1"}`, "ack", "broadcast", Access{Verb: VerbBroadcast}},
	{`{"type":"call","method":"m","id":"1"}`, "reply", "", Access{Verb: VerbCall, Target: "m"}},
}

// S10: every verb is asked for on its own, with the room or the target, and a
// refusal has no effect.
func TestAuthorize(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var asked []Access
		var verdict error
		called := 0
		h := newHub(t, Options{ClientBroadcast: true, Authorize: func(ctx context.Context, c *Conn, a Access) error {
			if c.UserID() != "kim" {
				return nil
			}
			require.Same(t, c.ctx, ctx)
			asked = append(asked, a)
			return verdict
		}})
		On(h, "m", func(context.Context, *Conn, struct{}) (int, error) { called++; return 1, nil })
		kim, lee := attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{user: "lee", v1: true})
		kim.do(t, joinR)
		lee.do(t, joinR)
		elapse(presenceTick)
		told := &Error{Code: "payment_required", Message: "pay first"}
		for _, v := range []struct {
			err        error
			code, text string
		}{
			{told, "payment_required", "pay first"},
			{&wrapped{told}, "payment_required", "pay first"},
			{errors.New("secret of the database"), "forbidden", ""},
			{nil, "", ""},
		} {
			verdict = v.err
			for _, w := range wishes {
				kim.wire.messages(t)
				lee.wire.messages(t)
				asked, called = nil, 0
				got := kim.say(t, w.message)
				require.Equal(t, []Access{w.ask}, asked, w.message)
				answers := slices.DeleteFunc(got, func(m message) bool { return m.str("id") != "1" })
				require.Len(t, answers, 1, "answered exactly once (P4.1)")
				if v.err != nil {
					require.Equal(t, "error", answers[0].str("type"))
					require.Equal(t, v.code, answers[0].str("code"))
					require.NotContains(t, answers[0].str("message"), "secret")
					if v.text != "" {
						require.Equal(t, v.text, answers[0].str("message"))
					}
					require.Empty(t, lee.wire.messages(t), w.message)
					require.Equal(t, []string{"r"}, kim.Rooms())
					require.Zero(t, called)
					continue
				}
				require.Equal(t, w.answer, answers[0].str("type"))
				require.Equal(t, w.answer == "reply", called == 1)
				if w.ask.Verb == VerbJoin {
					require.Equal(t, []string{"r", "new"}, kim.Rooms())
					kim.do(t, `{"type":"leave"}`)
				}
				seen := lee.wire.messages(t)
				if w.seen != "" {
					require.Len(t, seen, 1, w.message)
					require.Equal(t, w.seen, seen[0].str("type"))
				} else {
					require.Empty(t, seen)
				}
			}
		}
		asked = nil
		kim.do(t, `{"type":"leave"}`)
		kim.do(t, `{"type":"ping","id":"1"}`)
		require.Empty(t, asked, "leaving and pinging need no permission")
		verdict = told
		require.NoError(t, h.Room("r").Join(t.Context(), kim.Conn), "the application asks nobody")
		require.Empty(t, asked)
	})
}

type wrapped struct{ err error }

func (w *wrapped) Error() string { return "wrapped: " + w.err.Error() }
func (w *wrapped) Unwrap() error { return w.err }

// Nothing of a room can be had without being in it, whether it exists or not,
// whether the client was in it or not; Authorize is not even asked.
func TestOnlyMembersHaveAccess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var asked []Access
		h := newHub(t, Options{Authorize: func(_ context.Context, c *Conn, a Access) error {
			if c.UserID() == "kim" && a.Verb != VerbJoin {
				asked = append(asked, a)
			}
			return nil
		}})
		kim, lee := attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{user: "lee", v1: true})
		lee.do(t, joinR)
		lee.do(t, `{"type":"message","content":"secret"}`)
		kim.do(t, `{"type":"join","room":"was here"}`)
		kim.do(t, `{"type":"leave"}`)
		elapse(presenceTick)
		kim.wire.messages(t)
		lee.wire.messages(t)
		topics := h.Stats().Topics
		for _, room := range []string{"r", "was here", "nowhere", ""} {
			for typ, more := range map[string]map[string]any{
				"message":  {"content": 1},
				"signal":   {"name": "n"},
				"history":  {},
				"presence": {},
				"leave":    {},
			} {
				m := maps.Clone(more)
				m["type"], m["id"] = typ, "1"
				if room != "" {
					m["room"] = room
				}
				got := kim.say(t, m)
				require.Len(t, got, 1, "%v", m)
				require.Equal(t, "error", got[0].str("type"))
				require.Equal(t, "not_member", got[0].str("code"))
				require.Equal(t, "1", got[0].str("id"))
				require.NotContains(t, got[0].str("message"), "secret")
			}
		}
		require.Empty(t, asked)
		require.Empty(t, lee.wire.messages(t))
		require.Equal(t, topics, h.Stats().Topics)
	})
}

func TestClientBroadcastIsOffByDefault(t *testing.T) {
	bubble(t, func(t *testing.T) {
		asked := false
		h := newHub(t, Options{Authorize: func(context.Context, *Conn, Access) error { asked = true; return nil }})
		kim, lee := attach(t, h, directOptions{}), attach(t, h, directOptions{})
		got := kim.say(t, `{"type":"broadcast","message":1,"id":"1"}`)
		require.Equal(t, "forbidden", got[0].str("code"))
		require.Empty(t, lee.wire.messages(t))
		require.False(t, asked)
	})
}

// Hooks.Message sees what was authorized and can refuse it.
func TestMessageHook(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var seen []ClientMessage
		var verdict error
		h := newHub(t, Options{ClientBroadcast: true, Hooks: Hooks{
			Message: func(_ context.Context, _ *Conn, m ClientMessage) error {
				m.Content = slices.Clone(m.Content)
				seen = append(seen, m)
				return verdict
			},
		}})
		kim, lee := attach(t, h, directOptions{user: "kim"}), attach(t, h, directOptions{user: "lee", v1: true})
		kim.do(t, joinR)
		lee.do(t, joinR)
		for _, w := range []struct {
			message string
			want    ClientMessage
		}{
			{`{"type":"message","content":{"a":1},"id":"1"}`, ClientMessage{Verb: VerbSend, Room: "r", ID: "1", Content: []byte(`{"a":1}`)}},
			{`{"type":"private","targetId":"lee","message":null}`, ClientMessage{Verb: VerbPrivate, Target: "lee", Content: []byte(`null`)}},
			{`{"type":"broadcast","message":"x"}`, ClientMessage{Verb: VerbBroadcast, Content: []byte(`"x"`)}},
		} {
			for _, v := range []struct {
				err  error
				code string
			}{
				{NewError("spam", "no spam"), "spam"},
				{errors.New("secret"), "internal"},
				{nil, ""},
			} {
				kim.wire.messages(t)
				lee.wire.messages(t)
				seen, verdict = nil, v.err
				got := kim.say(t, w.message)
				require.Equal(t, []ClientMessage{w.want}, seen)
				if v.err == nil {
					require.Empty(t, ofType(got, "error"))
					require.Len(t, lee.wire.messages(t), 1)
					continue
				}
				require.Len(t, got, 1)
				require.Equal(t, v.code, got[0].str("code"))
				require.NotContains(t, got[0].str("message"), "secret")
				require.Empty(t, lee.wire.messages(t))
			}
		}
		kim.do(t, `{"type":"signal","name":"n"}`)
		require.Len(t, seen, 1, "signals are not asked about")
		require.EqualValues(t, 3, h.Stats().HandlerErrors, "logged and counted")
	})
}
