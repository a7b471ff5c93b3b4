package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/parleytest"
	"github.com/stretchr/testify/require"
)

// F24, F35: the ack is lost with the connection; the message is sent again with
// the same id, and the server has it once.
func TestAckLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		c := connect(t, s.network, "kim", Options{})
		r := j.join(t, c, "lobby")
		j.take()
		deafen(s.last())
		var ack Ack
		sent := background(func() (err error) { ack, err = r.Send(t.Context(), "once"); return err })
		synctest.Wait()
		s.cut()
		require.NoError(t, <-sent)
		require.Equal(t, Ack{Position{ack.Position.Epoch, 1}, true}, ack)
		j.expect(t, `lobby "once"`, "lobby recovered 1")
		page, err := r.History(t.Context(), 0, 0)
		require.NoError(t, err)
		require.Equal(t, `["once"]`, contents(page.Messages))
	})
}

// What was not answered is sent again after a lost connection: the same ids, in the same order.
func TestResentInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c, r, p := joined(t, f, &j)
		var ids []any
		var sent []<-chan error
		for i := range 20 {
			sent = append(sent, background(func() error { _, err := r.Send(t.Context(), i); return err }))
			ids = append(ids, p.expect("message")["id"])
		}
		private := background(func() error { _, err := c.Private(t.Context(), "lee", "hi"); return err })
		id := p.expect("private")["id"]
		p.cut()
		synctest.Wait()
		sent = append(sent, background(func() error { _, err := r.Send(t.Context(), 20); return err })) // while there is no connection

		p = f.welcome("kim")
		m := p.expect("join")
		m2 := p.expect("private") // does not wait for the room
		require.Equal(t, id, m2["id"])
		p.ack(m2, "")
		require.NoError(t, <-private)
		p.expectNone()
		p.history(3, 2, `,"recovered":true`)
		p.ack(m, "")
		for i, done := range sent {
			m := p.expect("message")
			require.Equal(t, float64(i), m["content"])
			if i < len(ids) {
				require.Equal(t, ids[i], m["id"])
			}
			p.ack(m, "")
			require.NoError(t, <-done)
		}
		p.expectNone()
	})
}

// P4.13: another user after the reconnect. What was sent may have been stored:
// it is not sent again. What was not sent is.
func TestAnotherUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c := start(t, f.network, "", Options{})
		p := f.welcome("kim")
		sent := background(func() error { _, err := c.Private(t.Context(), "lee", 1); return err })
		p.expect("private")
		p.cut()
		synctest.Wait()
		waiting := background(func() error { _, err := c.Private(t.Context(), "lee", 2); return err })
		p = f.welcome("ann")
		requireCode(t, CodeDisconnected, <-sent)
		m := p.expect("private")
		require.Equal(t, 2.0, m["message"])
		p.ack(m, "")
		require.NoError(t, <-waiting)
		require.Equal(t, "ann", c.Identity().UserID)
	})
}

func TestQueueFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.Refuse(true)
		c := start(t, f.network, "", Options{Queue: 3})
		var sent []<-chan error
		for i := range 3 {
			sent = append(sent, background(func() error { _, err := c.Private(t.Context(), "lee", i); return err }))
			synctest.Wait()
		}
		_, err := c.Private(t.Context(), "lee", 3)
		requireCode(t, CodeQueueFull, err)
		_, err = Call[int](t.Context(), c, "m", nil)
		requireCode(t, CodeQueueFull, err)
		f.Refuse(false)
		p := f.welcome("kim")
		for i, done := range sent {
			m := p.expect("private")
			require.Equal(t, float64(i), m["message"])
			p.ack(m, "")
			require.NoError(t, <-done)
		}
		// With a connection nothing waits, however much is unanswered.
		for range 5 {
			sent = append(sent, background(func() error { _, err := c.Private(t.Context(), "lee", 1); return err }))
			p.expect("private")
		}
		p.close(parley.CloseRefused, "")
		for _, done := range sent[3:] {
			requireCode(t, CodeClosed, <-done)
		}
	})
}

// What was not sent when ctx ended never is; what was, is not sent again.
func TestContextOfSend(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c := start(t, f.network, "", Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := c.Private(ctx, "lee", "not sent")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "not sent")
		require.Empty(t, CodeOf(err))
		_, err = c.Private(ctx, "lee", "ended before")
		require.ErrorIs(t, err, context.DeadlineExceeded)

		p := f.welcome("kim")
		p.expectNone()
		ctx, cancel = context.WithCancel(t.Context())
		sent := background(func() error { _, err := c.Private(ctx, "lee", "sent"); return err })
		p.expect("private")
		cancel()
		err = <-sent
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "outcome unknown")
		p.cut()
		p = f.welcome("kim")
		p.expectNone()

		// It ends while there is no connection to send it again on.
		ctx, cancel = context.WithCancel(t.Context())
		sent = background(func() error { _, err := c.Private(ctx, "lee", "sent"); return err })
		p.expect("private")
		p.cut()
		synctest.Wait()
		cancel()
		require.ErrorContains(t, <-sent, "outcome unknown")
		p = f.welcome("kim")
		p.expectNone()
	})
}

// What waits behind a slow write, and is given up there, is not written either.
func TestContextWhileOthersAreWritten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.BufferSize = 1 // so that writes block
		c := start(t, f.network, "", Options{})
		p := f.welcome("kim")
		synctest.Wait()
		f.last().Stall(parleytest.ToServer)
		first := background(func() error { _, err := c.Private(t.Context(), "lee", 1); return err })
		time.Sleep(time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := c.Private(ctx, "lee", 2)
		require.ErrorContains(t, err, "not sent")
		f.last().Resume()
		m := p.expect("private")
		require.Equal(t, 1.0, m["message"])
		p.ack(m, "")
		require.NoError(t, <-first)
		p.expectNone()
	})
}

// The room is left, and then the connection lost, before the answer.
func TestSentToRoomThatWasLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		_, r, p := joined(t, f, &j)
		answered := background(func() error { _, err := r.Send(t.Context(), 1); return err })
		m := p.expect("message")
		lost := background(func() error { _, err := r.Send(t.Context(), 2); return err })
		p.expect("message")
		left := background(func() error { return r.Leave(t.Context()) })
		p.ack(m, "")
		require.NoError(t, <-answered)
		p.ack(p.expect("leave"), "")
		require.NoError(t, <-left)
		p.cut()
		requireCode(t, CodeDisconnected, <-lost)
	})
}

func TestTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c := start(t, f.network, "", Options{})
		p := f.welcome("kim")
		answered := background(func() error { _, err := c.Private(t.Context(), "lee", 1); return err })
		m := p.expect("private")
		r := c.pending[m["id"].(string)]
		p.ack(m, "")
		require.NoError(t, <-answered)
		require.False(t, r.timer.Stop(), "the timer of an answered request runs") // F46
		begin := time.Now()
		_, err := c.Private(t.Context(), "lee", 1)
		requireCode(t, CodeTimeout, err)
		require.Equal(t, 2*time.Minute, time.Since(begin))
		p.ack(p.expect("private"), "") // too late, and harmless
		synctest.Wait()
		require.Empty(t, c.pending)
	})
}

// What the server could not store is tried again, with the same id.
func TestUnavailableIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		_, r, p := joined(t, f, &j)
		sent := background(func() error { _, err := r.Send(t.Context(), 1); return err })
		m := p.expect("message")
		for _, code := range []parley.Code{parley.CodeUnavailable, parley.CodeClosing} {
			p.refuse(m, code)
			next := p.expect("message")
			require.Equal(t, m["id"], next["id"])
		}
		p.ack(m, `,"epoch":"e","offset":3,"duplicate":true`)
		require.NoError(t, <-sent)
		// Others are final.
		sent = background(func() error { _, err := r.Send(t.Context(), 1); return err })
		p.refuse(p.expect("message"), parley.CodeRateLimited)
		requireCode(t, parley.CodeRateLimited, <-sent)
		// But of one that is repeated a refusal says nothing about the first time.
		sent = background(func() error { _, err := r.Send(t.Context(), 1); return err })
		p.expect("message")
		p.cut()
		p = f.welcome("kim")
		p.join(3, 2, `,"recovered":true`)
		p.refuse(p.expect("message"), parley.CodeRateLimited)
		p.ack(p.expect("message"), "")
		require.NoError(t, <-sent)
	})
}

func TestTooLarge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c := start(t, f.network, "", Options{})
		p := f.welcome("kim", `,"maxMessageSize":200`)
		_, err := c.Private(t.Context(), "lee", strings.Repeat("x", 300))
		requireCode(t, parley.CodeTooLarge, err)
		p.expectNone()
		_, err = c.Private(t.Context(), "lee", func() {})
		require.ErrorContains(t, err, "payload")
	})
}

type sum struct{ A, B int }

func TestCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		parley.On(s.hub, "add", func(_ context.Context, _ *parley.Conn, in sum) (int, error) {
			if in.A < 0 {
				return 0, parley.NewError("negative", "A must not be negative")
			}
			return in.A + in.B, nil
		})
		c := connect(t, s.network, "kim", Options{})
		n, err := Call[int](t.Context(), c, "add", sum{1, 2})
		require.NoError(t, err)
		require.Equal(t, 3, n)
		_, err = Call[int](t.Context(), c, "add", sum{-1, 2})
		requireCode(t, "negative", err)
		_, err = Call[int](t.Context(), c, "subtract", sum{})
		requireCode(t, parley.CodeUnknownMethod, err)
		_, err = Call[string](t.Context(), c, "add", sum{1, 2})
		require.ErrorContains(t, err, "reply")
		_, err = Call[int](t.Context(), c, "add", func() {})
		require.ErrorContains(t, err, "payload")
		pong, err := c.Ping(t.Context())
		require.NoError(t, err)
		require.Equal(t, time.Now().UnixMilli(), pong.Time.UnixMilli())
	})
}

// A call that was sent is never repeated; one that was not yet waits.
func TestCallIsNotRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c := start(t, f.network, "", Options{})
		waiting := background(func() error { _, err := Call[int](t.Context(), c, "m", nil); return err })
		p := f.welcome("kim")
		m := p.expect("call")
		p.sendf(`{"type":"reply","id":"%s","data":1}`, m["id"])
		require.NoError(t, <-waiting)
		lost := background(func() error { _, err := Call[int](t.Context(), c, "m", nil); return err })
		p.expect("call")
		ping := background(func() error { _, err := c.Ping(t.Context()); return err })
		p.expect("ping")
		p.cut()
		requireCode(t, CodeDisconnected, <-lost)
		requireCode(t, CodeDisconnected, <-ping)
		p = f.welcome("kim")
		p.expectNone()
	})
}

// An answer of another type than the request wants is none.
func TestWrongAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c := start(t, f.network, "", Options{OnError: func(_ context.Context, _ *Client, err error) { j.add("%v", err) }})
		p := f.welcome("kim")
		called := background(func() error { _, err := Call[int](t.Context(), c, "m", nil); return err })
		m := p.expect("call")
		p.ack(m, "")
		p.sendf(`{"type":"pong","id":"%s","timestamp":1}`, m["id"])
		p.send(`{"type":"reply","id":"unknown","data":1}`)
		p.send(`{"type":"error","id":"unknown","message":"whatever"}`)
		p.sendf(`{"type":"reply","id":"%s","data":1}`, m["id"])
		require.NoError(t, <-called)
		j.expect(t, "unknown: whatever")
	})
}

// F42: after the end every method says so, and none blocks.
func TestAfterTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		c := connect(t, s.network, "kim", Options{})
		r, err := c.Join(t.Context(), "lobby", JoinOptions{})
		require.NoError(t, err)
		c.Close()
		c.Close() // F43
		<-c.Done()
		_, joinErr := c.Join(t.Context(), "other", JoinOptions{})
		_, sendErr := r.Send(t.Context(), 1)
		_, historyErr := r.History(t.Context(), 0, 0)
		_, privateErr := c.Private(t.Context(), "lee", 1)
		_, broadcastErr := c.Broadcast(t.Context(), 1)
		_, callErr := Call[int](t.Context(), c, "m", nil)
		_, pingErr := c.Ping(t.Context())
		for i, err := range []error{
			joinErr, sendErr, historyErr, privateErr, broadcastErr, callErr, pingErr, r.Signal("s", 1), c.Signal("lee", "s", 1),
			c.Err(), c.WaitConnected(t.Context()),
		} {
			requireCode(t, CodeClosed, err)
			require.False(t, errors.Is(err, ErrUnauthorized), i)
		}
		require.NoError(t, r.Leave(t.Context()))
		require.Equal(t, StateClosed, c.State())
		require.Nil(t, c.Room("lobby"))
	})
}

// Signals of one name are one state: only the newest waits.
func TestSignalsReplaceEachOther(t *testing.T) {
	k := newConn()
	for i := range 3 {
		k.pushLocked(outgoing{text: []byte{byte(i)}, signal: "a"})
		k.pushLocked(outgoing{text: []byte{byte(i)}, signal: "b"})
	}
	require.Equal(t, []outgoing{{text: []byte{2}, signal: "a"}, {text: []byte{2}, signal: "b"}}, k.out)
	for i := range 2 * maxSignals {
		k.pushLocked(outgoing{signal: fmt.Sprint(i)})
	}
	require.Len(t, k.out, maxSignals)
	k.pushLocked(outgoing{}) // what must not be lost
	require.Len(t, k.out, maxSignals+1)
}
