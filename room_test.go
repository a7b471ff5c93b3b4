package parley

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// P3.3: after leaving the room joined last, the one joined before it is the
// default again.
func TestDefaultRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		d := attach(t, h, directOptions{})
		in := func(want string) {
			t.Helper()
			got := ofType(d.say(t, `{"type":"message","content":1}`), "message")
			require.Len(t, got, 1)
			require.Equal(t, want, got[0].str("room"))
		}
		for _, room := range []string{"a", "b", "c", "d"} {
			d.do(t, map[string]any{"type": "join", "room": room})
			in(room)
		}
		d.do(t, `{"type":"leave","room":"b"}`) // not the last one
		in("d")
		d.do(t, `{"type":"leave"}`)
		in("c")
		d.do(t, `{"type":"join","room":"a"}`) // joined again: the last one now
		in("a")
		d.do(t, `{"type":"leave"}`)
		in("c")
		require.NoError(t, h.Room("b").Join(t.Context(), d.Conn)) // by the server, likewise
		in("b")
		require.NoError(t, h.Room("b").Leave(t.Context(), d.Conn))
		in("c")
		d.do(t, `{"type":"leave"}`)
		got := d.say(t, `{"type":"message","content":1,"id":"x"}`)
		got = got[len(got)-1:]
		require.Equal(t, "not_member", got[0].str("code"))
		require.Contains(t, got[0].str("message"), "join")
	})
}

// Who sent a message: the id and the name of the identity, the same on all
// devices. Anonymous clients choose a name at each join; without one they are guests.
func TestNamesOfMembers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		watcher := attach(t, h, directOptions{v1: true})
		watcher.do(t, joinR)
		for _, tt := range []struct {
			directOptions
			asked, want string
		}{
			{directOptions{user: "u1", name: "Kim"}, "", "Kim"},
			{directOptions{user: "u1", name: "Kim"}, "root", "Kim"},
			{directOptions{user: "u2"}, "root", "u2"},
			{directOptions{user: strings.Repeat("x", 70)}, "", strings.Repeat("x", 64)},
			{directOptions{}, "lee", "lee"},
			{directOptions{}, "", "guest-"},
		} {
			d := attach(t, h, tt.directOptions)
			join := map[string]any{"type": "join", "room": "r"}
			if tt.asked != "" {
				join["username"] = tt.asked
			}
			d.do(t, join)
			want, userID := tt.want, tt.user
			if want == "guest-" {
				want += d.ID()[:6]
			}
			if userID == "" {
				userID = d.ID()
			}
			require.Equal(t, userID, d.UserID())
			require.Equal(t, want, d.Name())
			watcher.wire.messages(t)
			d.do(t, `{"type":"message","content":1}`)
			d.do(t, `{"type":"signal","name":"s"}`)
			d.do(t, `{"type":"leave"}`)
			got := watcher.wire.messages(t)
			require.Len(t, got, 3)
			for i, typ := range []string{"message", "signal", "system"} {
				require.Equal(t, typ, got[i].str("type"))
			}
			require.Equal(t, want, got[0].str("username"))
			require.Equal(t, userID, got[0].str("userId"))
			require.Equal(t, want, got[1].str("username"))
			require.Equal(t, userID, got[1].str("senderId"))
			require.Equal(t, want+" left", got[2].str("content"))
		}
	})
}

// The name given at a join counts for that room; others keep theirs (section 3).
func TestNameOfAnAnonymousClientPerRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		d := attach(t, h, directOptions{})
		d.do(t, `{"type":"join","room":"a","username":"kim"}`)
		d.do(t, `{"type":"join","room":"b","username":"lee"}`)
		d.do(t, `{"type":"join","room":"c"}`)
		d.wire.messages(t)
		for room, name := range map[string]string{"a": "kim", "b": "lee", "c": "lee"} {
			got := d.say(t, map[string]any{"type": "message", "room": room, "content": 1})
			require.Equal(t, name, got[0].str("username"))
		}
	})
}

// S11: what clients claim for fields of the server is ignored, not stored and
// not passed on.
func TestForgedFields(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{ClientBroadcast: true})
		kim, lee := attach(t, h, directOptions{user: "kim"}), attach(t, h, directOptions{user: "lee", v1: true})
		const forged = `"senderId":"root","userId":"root","timestamp":1,"offset":77,"epoch":"forged","username":"root","type2":"x"}`
		for _, d := range []*direct{kim, lee} {
			d.do(t, `{"type":"join","room":"r",`+strings.Replace(forged, `"offset":77,`, "", 1))
		}
		lee.wire.messages(t)
		for _, m := range []string{
			`{"type":"message","content":1,`, `{"type":"broadcast","message":1,`,
			`{"type":"private","targetId":"lee","message":1,`, `{"type":"signal","name":"n","data":1,`,
			`{"type":"signal","targetId":"lee","name":"n","data":1,`,
		} {
			kim.do(t, m+forged)
		}
		now := time.Now().UnixMilli()
		got := lee.wire.messages(t)
		require.Len(t, got, 5)
		for _, m := range got {
			text := fmt.Sprint(m)
			for _, bad := range []string{"root", "forged", "77", "type2"} {
				require.NotContains(t, text, bad)
			}
			if stamp, ok := m["timestamp"]; ok {
				require.EqualValues(t, now, stamp)
			}
			for _, key := range []string{"senderId", "userId"} {
				if id, ok := m[key]; ok {
					require.Equal(t, "kim", id)
				}
			}
		}
		require.EqualValues(t, 1, got[0].num("offset"))
		history, err := h.Room("r").History(t.Context(), 0, 0)
		require.NoError(t, err)
		require.Equal(t, "kim", history.Messages[0].UserID)
	})
}

func TestRoomOperationsOfTheServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		ctx, room := t.Context(), h.Room("r")
		require.Equal(t, "r", room.Name())
		kim, lee := attach(t, h, directOptions{user: "kim"}), attach(t, h, directOptions{user: "lee"})
		r, err := room.Send(ctx, map[string]int{"n": 1})
		require.NoError(t, err)
		require.Equal(t, Result{Stored: true, Epoch: r.Epoch, Offset: 1}, r, "nobody is there, it is stored all the same")
		require.NotEmpty(t, r.Epoch)

		require.NoError(t, room.Join(ctx, kim.Conn))
		require.NoError(t, room.Join(ctx, lee.Conn))
		require.Equal(t, []string{"r"}, kim.Rooms())
		got := kim.wire.messages(t)
		require.Equal(t, []any{map[string]any{"n": 1.0}}, contents(got[0].entries()))
		require.Equal(t, "lee joined", got[2].str("content"))
		members, count, err := room.Members(ctx, 10)
		require.NoError(t, err)
		require.Equal(t, 2, count)
		require.Equal(t, []Member{{"kim", "kim"}, {"lee", "lee"}}, members)
		for limit, want := range map[int]int{-1: 0, 0: 0, 1: 1} {
			members, count, err = room.Members(ctx, limit)
			require.NoError(t, err)
			require.Equal(t, 2, count)
			require.Len(t, members, want)
		}

		r, err = room.Send(ctx, "hi")
		require.NoError(t, err)
		require.Equal(t, 2, r.Delivered)
		m := kim.wire.messages(t)[0]
		require.Equal(t, "", m["userId"], "the application has no user id (P3.7)")
		require.Equal(t, "", m["username"])

		require.NoError(t, room.Leave(ctx, kim.Conn))
		require.ErrorIs(t, room.Leave(ctx, kim.Conn), ErrNotMember)
		require.Empty(t, kim.Rooms())
		r, err = room.Send(ctx, "bye")
		require.NoError(t, err)
		require.Equal(t, 1, r.Delivered)
		require.Empty(t, kim.wire.messages(t))
	})
}

// P5.5: a v1 client is told that the application has ended its membership; a plain one, which has not asked for such types, is not (P1.2).
func TestLeftIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		room := h.Room("r")
		kim, lee := attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{user: "lee"})
		for _, d := range []*direct{kim, lee} {
			d.do(t, joinR)
			d.wire.messages(t)
			require.NoError(t, room.Leave(t.Context(), d.Conn))
			require.ErrorIs(t, room.Leave(t.Context(), d.Conn), ErrNotMember)
			_, err := room.Send(t.Context(), "nothing more comes")
			require.NoError(t, err)
		}
		require.Equal(t, []message{{"type": "left", "room": "r", "reason": ""}}, kim.wire.messages(t))
		require.Empty(t, lee.wire.messages(t))
		kim.do(t, joinR)
		require.Len(t, ofType(kim.wire.messages(t), "history"), 1, "a later join is a new one")
		kim.do(t, `{"type":"leave"}`)
		require.Empty(t, ofType(kim.wire.messages(t), "left"), "whose own leave it was needs no telling")
	})
}

// F30: joins of the client and leaves by the application at the same time: what the client was told last is what is so.
func TestLeftAndJoinsRace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{RateLimit: -1, QueueSize: 1 << 30})
		d := attach(t, h, directOptions{user: "kim", v1: true})
		told, lefts := false, 0
		for range 1000 {
			var wg sync.WaitGroup
			wg.Go(func() { d.handle([]byte(joinR)) })
			wg.Go(func() { _ = h.Room("r").Leave(t.Context(), d.Conn) })
			wg.Wait()
			for _, m := range d.wire.messages(t) {
				switch m.str("type") {
				case "history":
					told = true
				case "left":
					told = false
					lefts++
				}
			}
			require.Equal(t, len(d.Rooms()) == 1, told)
		}
		require.NotZero(t, lefts)
	})
}

// Payloads that cannot be encoded, or never be delivered, are errors of the caller.
func TestSendRefusesWhatCannotBeDelivered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		d := attach(t, h, directOptions{user: "kim"})
		d.do(t, joinR)
		d.wire.messages(t)
		for name, send := range map[string]func(v any) error{
			"Room.Send": func(v any) error { _, err := h.Room("r").Send(t.Context(), v); return err },
			"Broadcast": func(v any) error { _, err := h.Broadcast(t.Context(), v); return err },
			"Notify":    func(v any) error { _, err := h.Notify(t.Context(), "kim", v); return err },
			"NotifyAll": func(v any) error { _, err := h.NotifyAll(t.Context(), v); return err },
			"Private":   func(v any) error { _, err := h.Private(t.Context(), "kim", v); return err },
			"Conn.Send": func(v any) error { return d.Send(t.Context(), v) },
		} {
			require.ErrorContains(t, send(make(chan int)), "payload", name)
			require.ErrorContains(t, send(json.RawMessage("{")), "payload", name)
			require.ErrorIs(t, send(strings.Repeat("x", h.opts.QueueSize/2)), ErrTooLarge, name)
			require.Empty(t, d.wire.messages(t), name)
			require.NoError(t, send(strings.Repeat("x", h.opts.QueueSize/2-2)), name)
			require.Len(t, d.wire.messages(t), 1, name)
		}
	})
}

// P2.4 holds for names given by the application, too.
func TestInvalidRoomNames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		d := attach(t, h, directOptions{})
		topics := h.Stats().Topics
		calls := func(r *Room) (errs []error) {
			_, err := r.Send(t.Context(), 1)
			errs = append(errs, err, r.Join(t.Context(), d.Conn))
			_, _, err = r.Members(t.Context(), 1)
			errs = append(errs, err)
			_, err = r.History(t.Context(), 0, 1)
			return append(errs, err)
		}
		for _, name := range []string{"", strings.Repeat("x", 256), "a\nb", "\x7f", "\u0080", "\xff", "a\x00"} {
			for i, err := range calls(h.Room(name)) {
				require.ErrorIs(t, err, ErrInvalidName, "call %d, %q", i, name)
			}
			require.ErrorIs(t, h.Room(name).Leave(t.Context(), d.Conn), ErrNotMember)
		}
		require.Equal(t, topics, h.Stats().Topics)
		for _, name := range []string{"x", strings.Repeat("x", 255), " ", "日本", "../a", "a/b", "__proto__"} {
			for i, err := range calls(h.Room(name)) {
				require.NoError(t, err, "call %d, %q", i, name)
			}
		}
	})
}

// Faces of different names never meet, whatever the names are.
func TestTopicNamesDoNotMeet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		d := attach(t, h, directOptions{user: "all"})
		for _, room := range []string{"all", "user/all", "room/all", "/", "room/"} {
			require.NoError(t, h.Room(room).Join(t.Context(), d.Conn))
		}
		d.wire.messages(t)
		_, err := h.Notify(t.Context(), "all", "x")
		require.NoError(t, err)
		require.Len(t, d.wire.messages(t), 1)
		_, err = h.Room("user/all").Send(t.Context(), "x")
		require.NoError(t, err)
		got := d.wire.messages(t)
		require.Len(t, got, 1)
		require.Equal(t, "user/all", got[0].str("room"))
	})
}
