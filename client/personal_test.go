package client

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

// personal returns options that write down what comes to the user.
func (j *journal) personal() Options {
	return Options{
		OnPrivate:      func(_ context.Context, _ *Client, m Private) { j.add("private %s from %q", m.Message, m.SenderID) },
		OnNotification: func(_ context.Context, _ *Client, m Notification) { j.add("notification %s", m.Data) },
		OnInbox: func(_ context.Context, _ *Client, m Inbox) {
			text := ""
			for _, item := range m.Items {
				switch {
				case item.Private != nil:
					text += fmt.Sprintf(" private %s", item.Private.Message)
				case item.Notification != nil:
					text += fmt.Sprintf(" notification %s", item.Notification.Data)
				}
			}
			j.add("inbox%s", text)
		},
		OnInboxGap:       func(_ context.Context, _ *Client, g Gap) { j.add("gap %q after %d", g.Code, g.Last.Offset) },
		OnInboxRecovered: func(_ context.Context, _ *Client, r Recovered) { j.add("recovered %d", r.Missed) },
	}
}

// note is a notification in epoch "e".
func note(offset int) string {
	return fmt.Sprintf(`{"type":"notification","data":%d,"timestamp":1,"epoch":"e","offset":%d}`, offset, offset)
}

// inbox sends the inbox with the notifications from, from+1 ... to.
func (p *peer) inbox(from, to int, extra string) {
	p.t.Helper()
	var entries []json.RawMessage
	for offset := from; offset <= to; offset++ {
		entries = append(entries, json.RawMessage(note(offset)))
	}
	text, err := json.Marshal(entries)
	require.NoError(p.t, err)
	p.sendf(`{"type":"inbox","epoch":"e","offset":%d%s,"messages":%s}`, to, extra, text)
}

func TestInbox(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		_, err := s.hub.Notify(t.Context(), "kim", 1)
		require.NoError(t, err)
		_, err = s.hub.Private(t.Context(), "kim", 2)
		require.NoError(t, err)
		var j journal
		kim := connect(t, s.network, "kim", j.personal())
		lee := connect(t, s.network, "lee", Options{})
		j.expect(t, "inbox notification 1 private 2")
		ack, err := lee.Private(t.Context(), "kim", "hi")
		require.NoError(t, err)
		j.expect(t, `private "hi" from "lee"`)
		require.Equal(t, ack.Position, kim.InboxPosition())
		_, err = s.hub.NotifyAll(t.Context(), "all") // not kept: has no position
		require.NoError(t, err)
		_, err = s.hub.Notify(t.Context(), "kim", 4)
		require.NoError(t, err)
		j.expect(t, `notification "all"`, "notification 4")
		_, err = lee.Private(t.Context(), "nobody", "hi")
		requireCode(t, parley.CodeNotFound, err)
	})
}

// What comes for a user whose connection is lost is handed out when it is back, once.
func TestInboxResumes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{Inbox: parley.Retention{Messages: 3}})
		var j journal
		kim := connect(t, s.network, "kim", j.personal())
		j.expect(t, "inbox")
		notify := func(from, to int) {
			for i := from; i <= to; i++ {
				_, err := s.hub.Notify(t.Context(), "kim", i)
				require.NoError(t, err)
			}
		}
		notify(1, 1)
		j.expect(t, "notification 1")
		s.cut()
		notify(2, 3)
		time.Sleep(time.Second)
		j.expect(t, "notification 2", "notification 3", "recovered 2")
		s.cut()
		notify(4, 8)
		time.Sleep(time.Second)
		j.expect(t, `gap "gone" after 3`, "inbox notification 6 notification 7 notification 8")
		at := kim.InboxPosition()
		kim.Close()
		notify(9, 9)
		opts := j.personal() // in another process
		opts.Inbox = at
		connect(t, s.network, "kim", opts)
		j.expect(t, "notification 9", "recovered 1")
	})
}

// A hole in the live inbox: the next connection brings what is missing.
func TestInboxHole(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		start(t, f.network, "", j.personal())
		p := f.welcome("kim")
		p.inbox(1, 1, "")
		p.send(note(2))
		p.send(note(2))
		p.send(note(4))
		require.Equal(t, parley.CloseAbnormal, p.closed())
		p = f.welcome("kim")
		require.Contains(t, p.protocols, "parley.inbox.2.ZQ")
		p.inbox(3, 5, `,"recovered":true`)
		p.send(note(6))
		j.expect(t, "inbox notification 1", "notification 2", "notification 3", "notification 4", "notification 5", "recovered 3", "notification 6")
		// The log was lost meanwhile (P4.10).
		p.send(`{"type":"inbox","epoch":"e2","offset":0,"recovered":false,"code":"reset","messages":[]}`)
		j.expect(t, `gap "reset" after 6`, "inbox")
	})
}

// A session that could not be sent in a header is not (P1.8).
func TestSessionThatCannotBeSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		start(t, f.network, "", Options{})
		f.welcome("kim", `,"session":"a,b\r\n"`).cut()
		require.Equal(t, []string{"parley.v1"}, f.accept().protocols)
	})
}

// The inbox of another user is another topic.
func TestInboxOfAnotherUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c := start(t, f.network, "", j.personal())
		p := f.welcome("kim", `,"session":"s1"`)
		p.inbox(1, 7, "")
		synctest.Wait()
		require.Equal(t, Position{"e", 7}, c.InboxPosition())
		p.cut()
		p = f.welcome("ann", `,"session":"s2","resumed":false`)
		require.Equal(t, []string{"parley.v1", "parley.session.s1", "parley.inbox.7.ZQ"}, p.protocols)
		p.send(`{"type":"error","code":"bad_session","message":"go on as a new client"}`)
		p.inbox(3, 3, "")
		j.expect(t, "inbox"+repeat(" notification %d", 1, 7), "inbox notification 3")
		p.cut()
		p = f.welcome("ann", `,"resumed":true`)
		require.Equal(t, []string{"parley.v1", "parley.session.s2", "parley.inbox.3.ZQ"}, p.protocols)
		synctest.Wait()
		require.True(t, c.Identity().Resumed)
	})
}

func repeat(format string, from, to int) (text string) {
	for i := from; i <= to; i++ {
		text += fmt.Sprintf(format, i)
	}
	return text
}

// broadcasts returns options that write down what is broadcast.
func (j *journal) broadcasts() Options {
	return Options{
		OnBroadcast: func(_ context.Context, _ *Client, m Broadcast) { j.add("broadcast %s", m.Message) },
		OnBroadcastHistory: func(_ context.Context, _ *Client, all []Broadcast) {
			text := ""
			for _, m := range all {
				text += " " + string(m.Message)
			}
			j.add("history%s", text)
		},
		OnBroadcastGap:       func(_ context.Context, _ *Client, g Gap) { j.add("gap %q after %d", g.Code, g.Last.Offset) },
		OnBroadcastRecovered: func(_ context.Context, _ *Client, r Recovered) { j.add("recovered %d", r.Missed) },
	}
}

// cast is a broadcast of a client, in epoch "e".
func cast(client string, offset int) string {
	return fmt.Sprintf(`{"type":"broadcast","senderId":"u","clientId":"%s","message":%d,"epoch":"e","offset":%d}`, client, offset, offset)
}

func TestBroadcast(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{ClientBroadcast: true})
		var j journal
		kim := connect(t, s.network, "kim", j.broadcasts())
		lee := connect(t, s.network, "lee", Options{})
		_, err := lee.Broadcast(t.Context(), 1)
		require.NoError(t, err)
		_, err = kim.Broadcast(t.Context(), 2) // not to the sender
		require.NoError(t, err)
		_, err = s.hub.Broadcast(t.Context(), 3)
		require.NoError(t, err)
		j.expect(t, "broadcast 1", "broadcast 3")
		require.True(t, kim.BroadcastPosition().IsZero())
		s.cut()
		time.Sleep(time.Second)
		j.expect(t)
	})
}

func TestBroadcastResumes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{ClientBroadcast: true, BroadcastHistory: parley.Retention{Messages: 3}})
		cast := func(from, to int) {
			for i := from; i <= to; i++ {
				_, err := s.hub.Broadcast(t.Context(), i)
				require.NoError(t, err)
			}
		}
		cast(1, 2)
		var j journal
		kim := connect(t, s.network, "kim", j.broadcasts())
		cast(3, 3)
		j.expect(t, "broadcast 3")
		// The own is stored, but its ack is lost.
		deafen(s.last())
		sent := background(func() error { _, err := kim.Broadcast(t.Context(), "own"); return err })
		synctest.Wait()
		cast(5, 5)
		s.cut()
		require.NoError(t, <-sent)
		j.expect(t, "broadcast 5", "recovered 2")
		require.Equal(t, int64(5), kim.BroadcastPosition().Offset)
		s.cut()
		cast(6, 10)
		time.Sleep(time.Second)
		j.expect(t, `gap "gone" after 5`, "history 8 9 10")
	})
}

// P4.12: the ack of an own broadcast explains a hole; until it came, what follows waits.
func TestOwnBroadcastIsNoHole(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c := start(t, f.network, "", j.broadcasts())
		p := f.welcome("kim", `,"epoch":"e","offset":1`)
		p.send(cast("other", 2))
		sent := background(func() error { _, err := c.Broadcast(t.Context(), "own"); return err })
		m := p.expect("broadcast")
		p.send(cast("other", 4))
		p.send(cast("other", 5))
		j.expect(t, "broadcast 2")
		p.ack(m, `,"epoch":"e","offset":3`)
		require.NoError(t, <-sent)
		j.expect(t, "broadcast 4", "broadcast 5")
		// Given up by its caller, it is still no hole.
		ctx, cancel := context.WithCancel(t.Context())
		sent = background(func() error { _, err := c.Broadcast(ctx, "own"); return err })
		m = p.expect("broadcast")
		cancel()
		require.ErrorIs(t, <-sent, context.Canceled)
		p.send(cast("other", 7))
		p.ack(m, `,"epoch":"e","offset":6`)
		j.expect(t, "broadcast 7")
		require.Equal(t, int64(7), c.BroadcastPosition().Offset)
		// What it does not explain is fetched by coming back, before what follows.
		sent = background(func() error { _, err := c.Broadcast(t.Context(), "own"); return err })
		m = p.expect("broadcast")
		p.send(cast("other", 10))
		p.ack(m, `,"epoch":"e","offset":8`)
		require.NoError(t, <-sent)
		require.Equal(t, parley.CloseAbnormal, p.closed())
		p = f.welcome("kim", `,"epoch":"e","offset":11`)
		require.Contains(t, p.protocols, "parley.broadcast.8.ZQ")
		p.sendf(`{"type":"history","epoch":"e","offset":11,"recovered":true,"messages":[%s,%s,%s]}`,
			cast("other", 9), cast("other", 10), cast("c-kim", 11))
		j.expect(t, "broadcast 9", "broadcast 10", "recovered 3")
		require.Equal(t, int64(11), c.BroadcastPosition().Offset)
		// An ack beyond what came: something is missing, too.
		sent = background(func() error { _, err := c.Broadcast(t.Context(), "own"); return err })
		p.ack(p.expect("broadcast"), `,"epoch":"e","offset":14`)
		require.NoError(t, <-sent)
		require.Equal(t, parley.CloseAbnormal, p.closed())
	})
}

// Servers that do not replay broadcasts, or do not keep them any more.
func TestBroadcastGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		opts := j.broadcasts()
		opts.Broadcast = Position{"e", 3}
		c := start(t, f.network, "", opts)
		p := f.welcome("kim", `,"epoch":"e","offset":5`)
		require.Contains(t, p.protocols, "parley.broadcast.3.ZQ")
		p.send(cast("other", 6)) // and no history before
		j.expect(t, `gap "gone" after 3`, "broadcast 6")
		p.send(cast("other", 8)) // here a hole is a hole
		require.Equal(t, parley.CloseAbnormal, p.closed())
		p = f.welcome("kim", `,"epoch":"e2","offset":1`)
		p.sendf(`{"type":"history","epoch":"e2","offset":1,"recovered":false,"code":"reset","messages":[%s]}`,
			`{"type":"broadcast","senderId":"","message":"x","epoch":"e2","offset":1}`)
		j.expect(t, `gap "reset" after 6`, `history "x"`)
		p.send(`{"type":"broadcast","senderId":"","message":"y"}`)
		j.expect(t, `gap "" after 1`, `broadcast "y"`)
		require.True(t, c.BroadcastPosition().IsZero())
	})
}
