package client

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

func TestConnectionLostWhileJoining(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c := start(t, f.network, "", Options{})
		p := f.welcome("kim")
		done := background(func() error { _, err := c.Join(t.Context(), "lobby", j.room()); return err })
		p.expect("join")
		p.cut()
		p = f.welcome("kim")
		p.join(1, 2, "")
		require.NoError(t, <-done)
		j.expect(t, "lobby history [1,2]")
	})
}

func TestRejoinInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c := start(t, f.network, "", Options{})
		p := f.welcome("kim")
		names := []string{"c", "a", "d", "b", "e"}
		for _, name := range names {
			go func() { _, _ = c.Join(t.Context(), name, JoinOptions{}) }()
			m := p.expect("join")
			p.sendf(`{"type":"history","room":"%s","messages":[]}`, name)
			p.ack(m, "")
		}
		p.cut()
		p = f.welcome("kim")
		for _, name := range names {
			require.Equal(t, name, p.expect("join")["room"])
		}
	})
}

func TestJoinRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c := start(t, f.network, "", Options{})
		p := f.welcome("kim")
		done := background(func() error { _, err := c.Join(t.Context(), "lobby", j.room()); return err })
		p.refuse(p.expect("join"), parley.CodeForbidden)
		requireCode(t, parley.CodeForbidden, <-done)
		require.Nil(t, c.Room("lobby"))
		// Each of these passes.
		done = background(func() error { _, err := c.Join(t.Context(), "lobby", j.room()); return err })
		for _, code := range []parley.Code{parley.CodeUnavailable, parley.CodeRateLimited, parley.CodeClosing} {
			p.refuse(p.expect("join"), code)
		}
		p.join(1, 1, "")
		require.NoError(t, <-done)
		r := c.Room("lobby")
		j.take()
		// No longer allowed when it comes back.
		p.cut()
		p = f.welcome("kim")
		m := p.expect("join")
		sent := background(func() error { _, err := r.Send(t.Context(), 1); return err })
		synctest.Wait()
		p.refuse(m, parley.CodeForbidden)
		requireCode(t, parley.CodeForbidden, <-sent)
		j.expect(t, "lobby refused forbidden")
		_, err := r.Send(t.Context(), 1)
		requireCode(t, parley.CodeNotMember, err)
		require.NoError(t, r.Leave(t.Context()))
		p.expectNone()
	})
}

func TestJoinArguments(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c, _, p := joined(t, f, &j)
		_, err := c.Join(t.Context(), "", JoinOptions{})
		requireCode(t, parley.CodeBadRequest, err)
		_, err = c.Join(t.Context(), "lobby", JoinOptions{})
		requireCode(t, parley.CodeBadRequest, err)

		// ctx ends before the answer: then the room is left.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.Join(ctx, "slow", JoinOptions{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, "slow", p.expect("join")["room"])
		require.Equal(t, "slow", p.expect("leave")["room"])
		require.Nil(t, c.Room("slow"))
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Room("lobby").Leave(ctx), context.DeadlineExceeded)
		require.Nil(t, c.Room("lobby"))
	})
}

// leaving is joined, and asks to leave the room; left gets what becomes of it.
func leaving(t *testing.T, f *fake, j *journal) (r *Room, p *peer, leave map[string]any, left <-chan error) {
	t.Helper()
	_, r, p = joined(t, f, j)
	left = background(func() error { return r.Leave(t.Context()) })
	return r, p, p.expect("leave"), left
}

func TestLeaveAndJoinAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		r, p, leave, left := leaving(t, f, &j)
		c := r.c
		done := background(func() error { _, err := c.Join(t.Context(), "lobby", j.room()); return err })
		synctest.Wait()
		p.message(3) // still for the old one
		p.history(1, 3, "")
		p.expectNone()
		p.refuse(leave, parley.CodeRateLimited) // tried again
		p.ack(p.expect("leave"), "")
		require.NoError(t, <-left)
		require.NotContains(t, p.join(2, 3, ""), "epoch")
		require.NoError(t, <-done)
		p.message(4)
		j.expect(t, "lobby history [2,3]", "lobby 4")
		require.NoError(t, r.Leave(t.Context())) // the old one again
		require.NotNil(t, c.Room("lobby"))
	})
}

func TestLeaveWhileConnectionIsLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		_, p, _, left := leaving(t, f, &j)
		p.cut()
		require.NoError(t, <-left)
		p = f.welcome("kim")
		p.expectNone() // neither the leave nor the room comes back
	})
}

func TestLeaveNeverConfirmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		r, p, leave, left := leaving(t, f, &j)
		p.refuse(leave, parley.CodeRateLimited)
		synctest.Wait()
		p.cut()
		require.NoError(t, <-left)
		p = f.welcome("kim")
		done := background(func() error { _, err := r.c.Join(t.Context(), "lobby", j.room()); return err })
		p.join(1, 2, "")
		require.NoError(t, <-done)
	})
}

func TestLeaveInHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		c := connect(t, s.network, "kim", Options{})
		opts := j.room()
		opts.OnMessage = func(ctx context.Context, r *Room, m Message) {
			j.add("%s %s", r.Name(), m.Content)
			if string(m.Content) == "2" {
				s.publish("lobby", 4)
				_ = r.Leave(ctx)
				j.add("left")
			}
		}
		_, err := c.Join(t.Context(), "lobby", opts)
		require.NoError(t, err)
		s.publish("lobby", 1, 2, 3)
		j.expect(t, "lobby history []", "lobby 1", "lobby 2", "left")
	})
}
