package client

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

// joined connects a client to a fake server and lets it into room "lobby",
// whose messages are 1 and 2.
func joined(t *testing.T, f *fake, j *journal) (*Client, *Room, *peer) {
	t.Helper()
	c := start(t, f.network, "", j.states())
	p := f.welcome("kim")
	go p.join(1, 2, "")
	r := j.join(t, c, "lobby")
	j.expect(t, "connected", "lobby history [1,2]")
	return c, r, p
}

func TestDuplicatesAreDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		_, _, p := joined(t, f, &j)
		for _, offset := range []int{2, 3, 1, 3, 4} {
			p.message(offset)
		}
		j.expect(t, "lobby 3", "lobby 4")
	})
}

func TestHoleIsFilled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		_, _, p := joined(t, f, &j)
		p.message(3)
		p.message(5) // 4 is missing
		p.message(6)
		m := p.expect("join")
		require.Equal(t, "e", m["epoch"])
		require.Equal(t, 3.0, m["offset"])
		p.expectNone() // one join fills it
		j.expect(t, "lobby 3")
		p.history(4, 6, `,"recovered":true`)
		p.ack(m, "")
		p.message(6)
		p.message(7)
		j.expect(t, "lobby 4", "lobby 5", "lobby 6", "lobby recovered 3", "lobby 7")
	})
}

// A hole that the server cannot fill any more, whatever it says.
func TestGapIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		extra    string
		from, to int
		told     string
	}{
		"gone":              {`,"recovered":false,"code":"gone"`, 8, 9, `lobby gap "gone" after 2`},
		"reset":             {`,"recovered":false,"code":"reset"`, 1, 1, `lobby gap "reset" after 2`},
		"ahead":             {`,"recovered":false,"code":"ahead"`, 1, 1, `lobby gap "ahead" after 2`},
		"ahead, untold":     {`,"recovered":true`, 1, 1, `lobby gap "ahead" after 2`},
		"not what was said": {`,"recovered":true`, 8, 9, `lobby gap "gone" after 2`},
		"nothing said":      {``, 8, 9, `lobby gap "gone" after 2`},
		"not complete":      {`,"recovered":false,"code":"gone"`, 3, 4, `lobby gap "gone" after 2`},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				var j journal
				_, r, p := joined(t, f, &j)
				p.cut()
				p = f.welcome("kim")
				j.take()
				p.join(test.from, test.to, test.extra)
				lines := j.take()
				require.Len(t, lines, 2)
				require.Equal(t, test.told, lines[0])
				require.Contains(t, lines[1], "lobby history")
				require.Equal(t, int64(test.to), r.Position().Offset)
				p.message(test.to + 1)
				require.Len(t, j.take(), 1)
			})
		})
	}
}

// After a Leave or Close in OnGap the history is not told any more.
func TestEndInGapHandler(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, r *Room){
		"leave": func(ctx context.Context, r *Room) {
			ctx, cancel := context.WithTimeout(ctx, time.Second) // nobody answers
			defer cancel()
			_ = r.Leave(ctx)
		},
		"close": func(_ context.Context, r *Room) { r.c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				var j journal
				opts := j.room()
				opts.Position = Position{"e", 3}
				opts.OnGap = func(ctx context.Context, r *Room, g Gap) {
					j.add("gap")
					end(ctx, r)
				}
				c := start(t, f.network, "", Options{})
				p := f.welcome("kim")
				done := background(func() error { _, err := c.Join(t.Context(), "lobby", opts); return err })
				p.expect("join")
				p.history(7, 8, "")
				<-done
				time.Sleep(2 * time.Second)
				j.expect(t, "gap")
			})
		})
	}
}

// What comes for a room before its history is part of that.
func TestMessageBeforeHistory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c := start(t, f.network, "", Options{})
		p := f.welcome("kim")
		done := background(func() error { _, err := c.Join(t.Context(), "lobby", j.room()); return err })
		m := p.expect("join")
		p.message(2)
		p.history(1, 2, "")
		p.ack(m, "")
		require.NoError(t, <-done)
		j.expect(t, "lobby history [1,2]")
	})
}

// The connection is lost before the join is answered.
// P4.10: the log was lost while the client is in the room.
func TestLogLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		_, r, p := joined(t, f, &j)
		p.send(`{"type":"history","room":"lobby","epoch":"e2","offset":0,"recovered":false,"code":"reset","messages":[]}`)
		j.expect(t, `lobby gap "reset" after 2`, "lobby history []")
		require.Equal(t, Position{"e2", 0}, r.Position())
		p.send(`{"type":"message","room":"lobby","userId":"u","username":"u","content":"new","timestamp":1,"epoch":"e2","offset":1}`)
		j.expect(t, `lobby "new"`)
		// A live message of another log: ask what became of ours.
		p.message(9)
		require.Equal(t, "e2", p.expect("join")["epoch"])
	})
}

func TestRoomWithoutHistory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{Room: func(string) parley.RoomConfig {
			return parley.RoomConfig{History: parley.Retention{Messages: -1}}
		}})
		var j journal
		c := connect(t, s.network, "kim", Options{})
		r := j.join(t, c, "lobby")
		s.publish("lobby", 1)
		j.expect(t, "lobby history []", "lobby 1")
		require.True(t, r.Position().IsZero())
		s.cut()
		time.Sleep(time.Second)
		// Nobody knows whether something was missed, and that is what is told.
		j.expect(t, `lobby gap "" after 0`, "lobby history []")
	})
}

// A service that restarts goes on where it was.
func TestResumeInAnotherClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{Room: func(string) parley.RoomConfig {
			return parley.RoomConfig{History: parley.Retention{Messages: 5}}
		}})
		s.publish("lobby", 1)
		var j journal
		c := connect(t, s.network, "kim", Options{})
		r := j.join(t, c, "lobby")
		s.publish("lobby", 2)
		j.expect(t, "lobby history [1]", "lobby 2")
		at := r.Position()
		c.Close()

		s.publish("lobby", 3, 4)
		c = connect(t, s.network, "kim", Options{})
		opts := j.room()
		opts.Position = at
		r, err := c.Join(t.Context(), "lobby", opts)
		require.NoError(t, err)
		j.expect(t, "lobby 3", "lobby 4", "lobby recovered 2")
		at = r.Position()
		c.Close()

		s.publish("lobby", 5, 6, 7, 8, 9, 10)
		c = connect(t, s.network, "kim", Options{})
		opts.Position = at
		_, err = c.Join(t.Context(), "lobby", opts)
		require.NoError(t, err)
		j.expect(t, `lobby gap "gone" after 4`, "lobby history [6,7,8,9,10]")
	})
}

// F30: the last action wins, and nothing of the old membership reaches the new.
// The server refuses the leave for now, and then the connection is lost: left all the same.
// What waits for the handlers is not told any more after a Leave in one of them (F31).
func TestPresence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		kim := connect(t, s.network, "kim", Options{})
		opts := JoinOptions{OnPresence: func(_ context.Context, r *Room, p Presence) {
			j.add("%v %v +%v -%v %d", p.Snapshot, p.Members, p.Joined, p.Left, p.Count)
		}, OnSystem: func(_ context.Context, _ *Room, text string) { j.add("%s", text) }}
		room, err := kim.Join(t.Context(), "lobby", opts)
		require.NoError(t, err)
		time.Sleep(time.Second)
		j.expect(t, "true [{kim kim}] +[] -[] 1", "kim joined", "false [] +[{kim kim}] -[] 1")
		lee := connect(t, s.network, "lee", Options{})
		_, err = lee.Join(t.Context(), "lobby", JoinOptions{})
		require.NoError(t, err)
		time.Sleep(time.Second)
		j.expect(t, "lee joined", "false [] +[{lee lee}] -[] 2")
		require.Equal(t, []parley.Member{{UserID: "kim", Name: "kim"}, {UserID: "lee", Name: "lee"}}, room.Members())
		lee.Close()
		time.Sleep(time.Second)
		j.expect(t, "lee left", "false [] +[] -[{lee lee}] 1")
		require.Equal(t, 1, room.Count())
		require.Len(t, room.Members(), 1)
	})
}

// P5.3: a snapshot replaces what was known.
func TestPresenceSnapshot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		_, r, p := joined(t, f, &j)
		p.send(`{"type":"presence","room":"lobby","members":[{"userId":"a","username":"A"},{"userId":"b","username":"B"}],"count":2}`)
		p.send(`{"type":"presence","room":"lobby","members":[{"userId":"c","username":"C"}],"count":1}`)
		p.send(`{"type":"presence","room":"lobby","joined":[{"userId":"c","username":"D"}],"left":[{"userId":"c","username":"C"}],"count":1}`)
		synctest.Wait()
		require.Equal(t, []parley.Member{{UserID: "c", Name: "D"}}, r.Members())
		p.send(`{"type":"presence","room":"lobby","count":2000}`)
		synctest.Wait()
		require.Equal(t, 2000, r.Count())
	})
}

func TestHistoryPages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		s.publish("lobby", 1, 2, 3, 4, 5)
		c := connect(t, s.network, "kim", Options{})
		r, err := c.Join(t.Context(), "lobby", JoinOptions{})
		require.NoError(t, err)
		page, err := r.History(t.Context(), 0, 2)
		require.NoError(t, err)
		require.Equal(t, "[4,5]", contents(page.Messages))
		require.True(t, page.More)
		require.Equal(t, int64(5), page.Position.Offset)
		page, err = r.History(t.Context(), 4, 100)
		require.NoError(t, err)
		require.Equal(t, "[1,2,3]", contents(page.Messages))
		require.False(t, page.More)
		require.NoError(t, r.Leave(t.Context()))
		_, err = r.History(t.Context(), 0, 0)
		requireCode(t, parley.CodeNotMember, err)
	})
}

func TestSignals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		heard := func(m Signal) { j.add("%s %s %s %s %s", m.Room, m.SenderID, m.Username, m.Name, m.Data) }
		kim := connect(t, s.network, "kim", Options{})
		lee := connect(t, s.network, "lee", Options{OnSignal: func(_ context.Context, _ *Client, m Signal) { heard(m) }})
		r, err := kim.Join(t.Context(), "lobby", JoinOptions{})
		require.NoError(t, err)
		_, err = lee.Join(t.Context(), "lobby", JoinOptions{OnSignal: func(_ context.Context, _ *Room, m Signal) { heard(m) }})
		require.NoError(t, err)
		require.NoError(t, r.Signal("typing", true))
		j.expect(t, "lobby kim kim typing true")
		require.NoError(t, kim.Signal("lee", "ring", 7))
		j.expect(t, " kim  ring 7")
		requireCode(t, parley.CodeBadRequest, kim.Signal("", "ring", 7))
		requireCode(t, parley.CodeTooLarge, r.Signal("large", make([]byte, 64<<10)))
		require.Error(t, r.Signal("not JSON", func() {}))
		s.cut() // that of lee
		s.Refuse(true)
		require.NoError(t, r.Leave(t.Context()))
		requireCode(t, parley.CodeNotMember, r.Signal("typing", true))
	})
}
