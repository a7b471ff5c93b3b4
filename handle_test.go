package parley

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// call calls a method and returns the answer, the only one (P4.1).
func (d *direct) call(t *testing.T, method, data string) message {
	t.Helper()
	text := `{"type":"call","id":"c","method":"` + method + `"`
	if data != "" {
		text += `,"data":` + data
	}
	got := d.say(t, text+"}")
	require.Len(t, got, 1, "%v", got)
	require.Equal(t, "c", got[0].str("id"))
	return got[0]
}

func requireReply(t *testing.T, m message, data any) {
	t.Helper()
	require.Equal(t, message{"type": "reply", "id": "c", "data": data}, m)
}

func requireCode(t *testing.T, m message, code Code, contains string) {
	t.Helper()
	require.Equal(t, "error", m.str("type"))
	require.Equal(t, string(code), m.str("code"))
	require.Contains(t, m.str("message"), contains)
}

type point struct{ X, Y int }

func TestHandlerInput(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		d := attach(t, h, directOptions{user: "kim"})
		On(h, "struct", func(_ context.Context, _ *Conn, in point) (point, error) { return in, nil })
		On(h, "pointer", func(_ context.Context, _ *Conn, in *point) (*point, error) { return in, nil })
		On(h, "map", func(_ context.Context, _ *Conn, in map[string]int) (int, error) { return len(in), nil })
		On(h, "any", func(_ context.Context, _ *Conn, in any) (any, error) { return in, nil })
		On(h, "raw", func(_ context.Context, _ *Conn, in json.RawMessage) (json.RawMessage, error) { return in, nil })
		On(h, "string", func(_ context.Context, _ *Conn, in string) (string, error) { return in + "!", nil })
		zero, one := map[string]any{"X": 0.0, "Y": 0.0}, map[string]any{"X": 1.0, "Y": 0.0}
		for _, tt := range []struct {
			method, data string
			want         any
		}{
			{"struct", `{"X":1}`, one},
			{"struct", `{"X":1,"Z":[]}`, one}, // fields that In does not have are ignored
			{"struct", "", zero},
			{"struct", "null", zero},
			{"pointer", `{"X":1}`, one},
			{"map", `{"a":1,"b":2}`, 2.0},
			{"map", "", 0.0},
			{"any", `[1,"a",null]`, []any{1.0, "a", nil}},
			{"any", "", nil},
			{"raw", `{"a" : 1.50}`, map[string]any{"a": 1.5}},
			{"raw", "", nil},
			{"string", `"a\u2028"`, "a\u2028!"},
			{"string", "", "!"},
		} {
			requireReply(t, d.call(t, tt.method, tt.data), tt.want)
		}
		for _, tt := range []struct{ method, data string }{
			{"struct", `"text"`}, {"struct", `[]`}, {"struct", `{"X":"1"}`}, {"struct", `{"X":1.5}`},
			{"struct", `{"X":1e99}`}, {"map", `[]`}, {"string", `{}`}, {"pointer", ""}, {"pointer", "null"},
		} {
			requireCode(t, d.call(t, tt.method, tt.data), CodeBadRequest, tt.method)
		}
		require.Zero(t, h.Stats().HandlerErrors, "the client's fault")
	})
}

type byValue struct{ N int }

func (v byValue) Validate() error {
	if v.N < 1 {
		return errors.New("N must be positive")
	}
	return nil
}

type byPointer struct{ N int }

func (v *byPointer) Validate() error {
	if v.N == 0 {
		v.N = 7 // defaults can be filled in
	}
	if v.N < 0 {
		return NewError("negative", "no")
	}
	return nil
}

func TestHandlerValidation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		d := attach(t, h, directOptions{})
		called := 0
		On(h, "value", func(_ context.Context, _ *Conn, in byValue) (int, error) { called++; return in.N, nil })
		On(h, "value pointer", func(_ context.Context, _ *Conn, in *byValue) (int, error) { called++; return in.N, nil })
		On(h, "pointer", func(_ context.Context, _ *Conn, in byPointer) (int, error) { called++; return in.N, nil })
		On(h, "pointer pointer", func(_ context.Context, _ *Conn, in *byPointer) (int, error) { called++; return in.N, nil })
		for _, method := range []string{"value", "value pointer", "pointer", "pointer pointer"} {
			requireReply(t, d.call(t, method, `{"N":3}`), 3.0)
		}
		require.Equal(t, 4, called)
		requireCode(t, d.call(t, "value", `{"N":0}`), CodeInvalid, "N must be positive")
		requireCode(t, d.call(t, "value", ""), CodeInvalid, "N must be positive")
		requireCode(t, d.call(t, "value pointer", `{}`), CodeInvalid, "N must be positive")
		requireCode(t, d.call(t, "pointer", `{"N":-1}`), CodeInvalid, "no")
		requireCode(t, d.call(t, "pointer pointer", `{"N":-1}`), CodeInvalid, "no")
		require.Equal(t, 4, called)
		requireReply(t, d.call(t, "pointer", ""), 7.0)
		requireReply(t, d.call(t, "pointer", "{}"), 7.0)

		// A pointer is never nil: without data the call is refused.
		for _, data := range []string{"", "null"} {
			requireCode(t, d.call(t, "pointer pointer", data), CodeBadRequest, "missing")
			requireCode(t, d.call(t, "value pointer", data), CodeBadRequest, "missing")
		}
		require.False(t, d.ended.Load())
	})
}

func TestHandlerErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		d := attach(t, h, directOptions{})
		var result any
		var fail error
		On(h, "m", func(context.Context, *Conn, struct{}) (any, error) { return result, fail })
		for _, tt := range []struct {
			err      error
			code     Code
			contains string
		}{
			{NewError("sold_out", "try another"), "sold_out", "try another"},
			{fmt.Errorf("order 7: %w", NewError("sold_out", "try another")), "sold_out", "try another"},
			{ErrNotFound, CodeNotFound, ""},
			{fmt.Errorf("secret: %w", ErrNotFound), CodeNotFound, ""},
			{fmt.Errorf("secret: %w", ErrStore), CodeUnavailable, ""},
			{ErrClosed, CodeClosing, ""},
			{context.DeadlineExceeded, CodeUnavailable, ""},
		} {
			fail = tt.err
			m := d.call(t, "m", "")
			requireCode(t, m, tt.code, tt.contains)
			require.NotContains(t, m.str("message"), "secret")
		}
		require.Zero(t, h.Stats().HandlerErrors)

		fail = errors.New("secret")
		m := d.call(t, "m", "")
		requireCode(t, m, CodeInternal, "logged")
		require.NotContains(t, m.str("message"), "secret")
		require.EqualValues(t, 1, h.Stats().HandlerErrors)

		fail = nil
		for _, bad := range []any{make(chan int), json.RawMessage(`{`), func() {}} {
			result = bad
			requireCode(t, d.call(t, "m", ""), CodeInternal, "logged")
		}
		require.EqualValues(t, 4, h.Stats().HandlerErrors)
		result = nil
		requireReply(t, d.call(t, "m", ""), nil)
		require.False(t, d.ended.Load())
	})
}

// P5.1 and the fields of a call.
func TestBadCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		d := attach(t, h, directOptions{})
		called := 0
		On(h, "m", func(context.Context, *Conn, struct{}) (int, error) { called++; return 1, nil })
		requireCode(t, d.call(t, "unknown", ""), CodeUnknownMethod, "unknown")
		requireCode(t, d.call(t, "M", ""), CodeUnknownMethod, "")
		for _, bad := range []string{`{"type":"call","method":"m"}`, `{"type":"call","id":"","method":"m"}`, `{"type":"call","id":"c"}`} {
			requireCode(t, d.say(t, bad)[0], CodeBadRequest, "")
		}
		require.Zero(t, called)
		requireReply(t, d.call(t, "m", ""), 1.0)
	})
}

func TestHandlerRegistration(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{RateLimit: -1})
		f := func(context.Context, *Conn, struct{}) (int, error) { return 1, nil }
		On(h, "m", f)
		require.PanicsWithValue(t, `parley: On: method "m" has a handler already`, func() { On(h, "m", f) })
		for _, name := range []string{"", strings.Repeat("x", 65), "a\nb", "\xff"} {
			require.Panics(t, func() { On(h, name, f) }, "%q", name)
		}
		On(h, strings.Repeat("x", 64), f)
		d := attach(t, h, directOptions{})
		requireReply(t, d.call(t, "m", ""), 1.0) // the panics left nothing locked

		// While the hub serves, too.
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for n := range 50 {
					On(h, fmt.Sprint(i, "-", n), f)
				}
			})
		}
		for range 200 {
			d.do(t, `{"type":"call","id":"c","method":"m"}`)
		}
		wg.Wait()
		require.Len(t, ofType(d.wire.messages(t), "reply"), 200)
		requireReply(t, d.call(t, "3-49", ""), 1.0)
	})
}

// A handler is given the connection and its context, and may do with them
// whatever it likes: no lock is held (F45).
func TestHandlerUsesTheHub(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		lee := attach(t, h, directOptions{user: "lee"})
		On(h, "all", func(ctx context.Context, c *Conn, _ struct{}) ([]string, error) {
			if ctx != c.Context() {
				return nil, errors.New("another context")
			}
			room := h.Room("r")
			for _, err := range []error{
				room.Join(ctx, c), room.Join(ctx, lee.Conn), c.Send(ctx, 1),
				second(room.Send(ctx, "hi")), second(h.Broadcast(ctx, 1)), second(h.NotifyAll(ctx, 1)),
				second(h.Notify(ctx, c.UserID(), 1)), second(h.Private(ctx, c.ID(), 1)),
				second(room.History(ctx, 0, 1)), room.Leave(ctx, lee.Conn),
			} {
				if err != nil {
					return nil, err
				}
			}
			return c.Rooms(), nil
		})
		d := attach(t, h, directOptions{user: "kim"})
		got := d.say(t, `{"type":"call","id":"c","method":"all"}`)
		var types []string
		for _, m := range got {
			types = append(types, m.str("type"))
		}
		require.Equal(t, []string{
			"history", "system", "system", "private", "message", "broadcast",
			"notification", "notification", "private", "system", "reply",
		}, types)
		require.Equal(t, []any{"r"}, got[len(got)-1]["data"])
	})
}

func second[T any](_ T, err error) error { return err }

// The context of a handler ends with the connection, and nothing answers a
// connection that its handler closed.
func TestHandlerAndTheEndOfTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		waited := false
		On(h, "close", func(_ context.Context, c *Conn, _ struct{}) (int, error) {
			c.Close(4050, "enough")
			return 1, nil
		})
		On(h, "wait", func(ctx context.Context, _ *Conn, _ struct{}) (int, error) {
			<-ctx.Done()
			waited = true
			return 0, ctx.Err()
		})
		d := attach(t, h, directOptions{})
		require.Empty(t, d.say(t, `{"type":"call","id":"c","method":"close"}`))
		require.Equal(t, CloseCode(4050), d.wire.closing)

		d = attach(t, h, directOptions{})
		go d.do(t, `{"type":"call","id":"c","method":"wait"}`)
		synctest.Wait()
		require.False(t, waited)
		d.end(CloseAbnormal, "")
		synctest.Wait()
		require.True(t, waited)
		require.Zero(t, h.Stats().HandlerErrors, "a connection that ends is no fault of the handler")
	})
}
