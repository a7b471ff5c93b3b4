package client

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

// Memberships that the application ends and begins: P5.5, P5.6.

func TestLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		c := connect(t, s.network, "kim", Options{})
		r := j.join(t, c, "lobby")
		s.publish("lobby", 1)
		count, err := s.current().Room("lobby").RemoveUser(t.Context(), "kim", "this is for members")
		require.NoError(t, err)
		require.Equal(t, 1, count)
		s.publish("lobby", 2)
		synctest.Wait()
		j.expect(t, "lobby history []", "lobby 1", `lobby left "this is for members"`)
		require.Nil(t, c.Room("lobby"))
		_, err = r.Send(t.Context(), 3)
		requireCode(t, parley.CodeNotMember, err)
		requireCode(t, parley.CodeNotMember, r.Signal("typing", true))
		require.NoError(t, r.Leave(t.Context()))

		// Not even a reconnect brings it back.
		s.cut()
		time.Sleep(time.Minute)
		require.Equal(t, StateConnected, c.State())
		members, _, err := s.current().Room("lobby").Members(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, members)
		j.expect(t)

		// A later join is a new one, and Room.Leave of the server tells its end likewise.
		r = j.join(t, c, "lobby")
		s.publish("lobby", 3)
		synctest.Wait()
		hub := s.current()
		require.NoError(t, hub.Room("lobby").Leave(t.Context(), hub.User("kim")[0]))
		synctest.Wait()
		j.expect(t, "lobby history [1,2]", "lobby 3", `lobby left ""`)
		require.Equal(t, int64(3), r.Position().Offset)
	})
}

// Whoever joins again as soon as it is told is in.
func TestJoinWhenLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		c := connect(t, s.network, "kim", Options{})
		opts := j.room()
		opts.OnLeft = func(ctx context.Context, r *Room, reason string) {
			again := j.room()
			again.Position = r.Position()
			s.publish("lobby", 2)
			_, err := c.Join(ctx, r.Name(), again)
			j.add("left %q, joined again: %v", reason, err)
		}
		_, err := c.Join(t.Context(), "lobby", opts)
		require.NoError(t, err)
		s.publish("lobby", 1)
		_, err = s.current().Room("lobby").RemoveUser(t.Context(), "kim", "x")
		require.NoError(t, err)
		synctest.Wait()
		s.publish("lobby", 3)
		j.expect(t, "lobby history []", "lobby 1", `left "x", joined again: <nil>`, "lobby 2", "lobby recovered 1", "lobby 3")
	})
}

// What was sent before is answered; what was not can't be any more.
func TestRequestsWhenLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		_, r, p := joined(t, f, &j)
		sent := background(func() error { _, err := r.Send(t.Context(), 1); return err })
		m := p.expect("message")
		p.send(`{"type":"left","room":"lobby","reason":"no"}`)
		p.ack(m, `,"epoch":"e","offset":3`)
		require.NoError(t, <-sent)
		p.send(`{"type":"left","room":"lobby","reason":"again"}`)
		p.send(`{"type":"left","room":"unknown","reason":"no"}`)
		p.expectNone()
		j.expect(t, `lobby left "no"`)
	})
}

// A join that was on its way is taken back: the server may have taken it after the end of the membership (F30).
func TestLeftWhileJoining(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c, _, p := joined(t, f, &j)
		p.message(4) // 3 is missing
		join := p.expect("join")
		p.send(`{"type":"left","room":"lobby","reason":"no"}`)
		leave := p.expect("leave")
		p.history(3, 4, `,"recovered":true`)
		p.ack(join, "")
		synctest.Wait()
		require.Nil(t, c.Room("lobby"), "no room that the application has joined")
		j.expect(t, `lobby left "no"`)
		done := background(func() error { _, err := c.Join(t.Context(), "lobby", j.room()); return err })
		p.expectNone() // until the leave is answered
		p.ack(leave, "")
		require.NotContains(t, p.join(1, 4, ""), "epoch")
		require.NoError(t, <-done)
		j.expect(t, "lobby history [1,2,3,4]")
	})
}

func TestLeftBeforeJoined(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c := start(t, f.network, "", Options{})
		p := f.welcome("kim")
		done := background(func() error { _, err := c.Join(t.Context(), "lobby", j.room()); return err })
		join := p.expect("join")
		p.send(`{"type":"left","room":"lobby","reason":"for members"}`)
		p.ack(join, "")
		err := <-done
		requireCode(t, parley.CodeNotMember, err)
		require.ErrorContains(t, err, "for members")
		p.refuse(p.expect("leave"), parley.CodeNotMember)
		j.expect(t)
	})
}

func TestRoomOfTheApplication(t *testing.T) {
	bubble(t, func(t *testing.T) {
		allowed := true
		s := serve(t, parley.Options{Authorize: func(context.Context, *parley.Conn, parley.Access) error {
			if allowed {
				return nil
			}
			return parley.NewError(parley.CodeForbidden, "no more")
		}})
		s.publish("lobby", 1)
		var j journal
		opts := Options{Joined: j.room()}
		opts.Joined.Position = Position{"another", 7} // of whichever room: it counts for none
		c := connect(t, s.network, "kim", opts)
		_, err := s.current().Room("lobby").AddUser(t.Context(), "kim")
		require.NoError(t, err)
		s.publish("lobby", 2)
		j.expect(t, "lobby history [1]", "lobby 2")
		r := c.Room("lobby")
		require.NotNil(t, r)
		require.Equal(t, int64(2), r.Position().Offset)
		_, err = r.Send(t.Context(), 3)
		require.NoError(t, err)
		require.Equal(t, 1, r.Count())

		// It comes back like every other, from its position.
		s.cut()
		s.publish("lobby", 4)
		time.Sleep(time.Second)
		j.expect(t, "lobby 3", "lobby 4", "lobby recovered 1")
		require.Same(t, r, c.Room("lobby"))

		_, err = s.current().Room("lobby").RemoveUser(t.Context(), "kim", "")
		require.NoError(t, err)
		synctest.Wait()
		j.expect(t, `lobby left ""`)

		// Authorize decides about coming back.
		_, err = s.current().Room("lobby").AddUser(t.Context(), "kim")
		require.NoError(t, err)
		synctest.Wait()
		j.take()
		allowed = false
		s.cut()
		time.Sleep(time.Second)
		j.expect(t, "lobby refused forbidden")
		require.Nil(t, c.Room("lobby"))
	})
}

// Without handlers the position moves all the same, and a Join takes the room over, whenever it comes.
func TestJoinOfARoomOfTheApplication(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		c := connect(t, s.network, "kim", Options{})
		_, err := s.current().Room("lobby").AddUser(t.Context(), "kim")
		require.NoError(t, err)
		s.publish("lobby", 1, 2)
		synctest.Wait()
		given := c.Room("lobby")
		at := given.Position()
		require.Equal(t, int64(2), at.Offset)
		require.Same(t, given, j.join(t, c, "lobby"))
		s.publish("lobby", 3)
		j.expect(t, "lobby history [1,2]", "lobby 3")
		require.Len(t, given.Members(), 1)
		_, err = c.Join(t.Context(), "lobby", j.room())
		requireCode(t, parley.CodeBadRequest, err)
		require.NoError(t, given.Leave(t.Context()))

		_, err = s.current().Room("lobby").AddUser(t.Context(), "kim")
		require.NoError(t, err)
		synctest.Wait()
		opts := j.room()
		opts.Position = at
		_, err = c.Join(t.Context(), "lobby", opts)
		require.NoError(t, err)
		j.expect(t, "lobby 3", "lobby recovered 1")
	})
}

// While a room of the application is being joined again, the answer to that is not taken for the one to Join.
func TestJoinWhileARoomOfTheApplicationComesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c := start(t, f.network, "", Options{})
		p := f.welcome("kim")
		p.history(1, 2, "")
		synctest.Wait()
		require.Equal(t, Position{"e", 2}, c.Room("lobby").Position())
		p.cut()
		p = f.welcome("kim")
		rejoin := p.expect("join")
		require.Equal(t, 2.0, rejoin["offset"])
		done := background(func() error { _, err := c.Join(t.Context(), "lobby", j.room()); return err })
		leave := p.expect("leave")
		p.history(3, 3, `,"recovered":true`)
		p.ack(rejoin, "")
		p.ack(leave, "")
		require.NotContains(t, p.join(1, 3, ""), "offset")
		require.NoError(t, <-done)
		j.expect(t, "lobby history [1,2,3]")
	})
}
