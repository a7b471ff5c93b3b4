package client

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

// marks returns options that write down what comes to the user, and its read state.
func (j *journal) marks() Options {
	opts := j.personal()
	opts.OnPrivate = func(_ context.Context, _ *Client, m Private) { j.add("private %s %s", m.Message, m.Mark) }
	opts.OnNotification = func(_ context.Context, _ *Client, m Notification) {
		j.add("notification %s%s%s %s", m.ID, m.Kind, m.Data, m.Mark)
	}
	opts.OnInbox = func(_ context.Context, _ *Client, m Inbox) { j.add("inbox%s", itemsText(m.Items)) }
	opts.OnInboxState = func(_ context.Context, _ *Client, s InboxState) {
		j.add("state at %d read %v archived %v truncated %d", s.Position.Offset, s.Read, s.Archived, s.Truncated)
	}
	opts.OnMarked = func(_ context.Context, _ *Client, m Marked) { j.add("marked %s %v", m.As, m.Offsets) }
	opts.OnUnread = func(_ context.Context, _ *Client, s ReadState) { j.add("unread %d", s.Unread) }
	return opts
}

func itemsText(items []InboxItem) (text string) {
	for _, item := range items {
		text += fmt.Sprintf(" %d:%s", item.Position().Offset, item.Mark())
	}
	return text
}

func TestMarks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		_, err := s.hub.Notify(t.Context(), "kim", 1, parley.WithID("o1."), parley.WithKind("shipped:"))
		require.NoError(t, err)
		var phone, laptop journal
		kim := connect(t, s.network, "kim", phone.marks())
		connect(t, s.network, "kim", laptop.marks())
		lee := connect(t, s.network, "lee", Options{})
		phone.expect(t, "inbox 1:unread", "unread 1")
		laptop.expect(t, "inbox 1:unread", "unread 1")
		sent, err := lee.Private(t.Context(), "kim", "hi")
		require.NoError(t, err)
		_, err = s.hub.Notify(t.Context(), "kim", 3, parley.WithID("o3."), parley.WithKind("shipped:"))
		require.NoError(t, err)
		phone.expect(t, `private "hi" unread`, "unread 2", "notification o3.shipped:3 unread", "unread 3")
		laptop.take()

		at := sent.Position
		require.Equal(t, 3, kim.ReadState().Unread)
		state, err := kim.MarkRead(t.Context(), Selection{UpTo: at})
		require.NoError(t, err)
		require.Equal(t, 1, state.Unread)
		require.Equal(t, state, kim.ReadState())
		archived, err := kim.Archive(t.Context(), Selection{IDs: []string{"o1.", "o3.", "none"}})
		require.NoError(t, err)
		require.Equal(t, 0, archived.Unread)
		require.Greater(t, archived.Version, state.Version)
		_, err = kim.MarkUnread(t.Context(), Selection{Epoch: at.Epoch, Offsets: []int64{1}})
		require.NoError(t, err)
		told := []string{"marked read [{1 2}]", "unread 1", "marked archived [{1 1} {3 3}]", "unread 0", "marked unread [{1 1}]", "unread 1"}
		phone.expect(t, told...)
		laptop.expect(t, told...)
		// Without a change nobody is told, and the answer is the same.
		state, err = kim.MarkUnread(t.Context(), Selection{IDs: []string{"o1."}})
		require.NoError(t, err)
		require.Equal(t, kim.ReadState(), state)
		phone.expect(t)

		page, err := kim.InboxHistory(t.Context(), 0, 2)
		require.NoError(t, err)
		require.True(t, page.More)
		require.Equal(t, " 2:read 3:archived", itemsText(page.Items))
		require.Equal(t, "o3.", page.Items[1].Notification.ID)
		require.Equal(t, kim.ReadState(), page.ReadState)
		require.Equal(t, MarkUnread, page.Mark(1))
		page, err = kim.InboxHistory(t.Context(), 2, 0)
		require.NoError(t, err)
		require.False(t, page.More)
		require.Equal(t, " 1:unread", itemsText(page.Items))
		require.Equal(t, Position{at.Epoch, 3}, page.Position)

		// A user who has lost nothing is not told of what is no news.
		_, err = s.hub.Inbox("kim").MarkRead(t.Context(), parley.Selection{IDs: []string{"o1."}})
		require.NoError(t, err)
		phone.expect(t, "marked read [{1 1}]", "unread 0")
		// For everybody, and so in nobody's inbox.
		_, err = s.hub.NotifyAll(t.Context(), 4, parley.WithKind("k"))
		require.NoError(t, err)
		phone.expect(t, "notification k4 ")
	})
}

func TestMarksRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		sent, err := s.hub.Notify(t.Context(), "kim", 1)
		require.NoError(t, err)
		kim := connect(t, s.network, "kim", Options{})
		mark := func(sel Selection) error { _, err := kim.MarkRead(t.Context(), sel); return err }
		many := make([]int64, 101)
		for _, bad := range []Selection{
			{},
			{Epoch: sent.Epoch},
			{UpTo: Position{sent.Epoch, 1}, IDs: []string{"a"}},
			{Epoch: sent.Epoch, Offsets: []int64{1}, IDs: []string{"a"}},
			{Offsets: []int64{1}},
			{UpTo: Position{"", 1}},
			{Epoch: sent.Epoch, Offsets: many},
			{IDs: make([]string, 101)},
		} {
			requireCode(t, parley.CodeBadRequest, mark(bad))
		}
		requireCode(t, CodeReset, mark(Selection{UpTo: Position{"other", 1}}))
		requireCode(t, CodeReset, mark(Selection{Epoch: "other", Offsets: []int64{1}}))
		requireCode(t, CodeAhead, mark(Selection{UpTo: Position{sent.Epoch, 2}}))
		requireCode(t, CodeAhead, mark(Selection{Epoch: sent.Epoch, Offsets: []int64{1, 2}}))
		require.Equal(t, 1, kim.ReadState().Unread)
		guest := connect(t, s.network, "", Options{})
		_, err = guest.Archive(t.Context(), Selection{IDs: []string{"a"}})
		requireCode(t, parley.CodeForbidden, err)
		_, err = guest.InboxHistory(t.Context(), 0, 0)
		requireCode(t, parley.CodeForbidden, err)
	})
}

// What other devices mark while the connection is lost is told when it is back (P8.2).
func TestMarksMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{Inbox: parley.Retention{Messages: 4}})
		notify := func(from, to int) {
			for i := from; i <= to; i++ {
				_, err := s.hub.Notify(t.Context(), "kim", i, parley.WithID(fmt.Sprint(i)))
				require.NoError(t, err)
			}
		}
		notify(1, 3)
		var j journal
		connect(t, s.network, "kim", j.marks())
		j.expect(t, "inbox 1:unread 2:unread 3:unread", "unread 3")
		s.cut()
		notify(4, 4)
		inbox := s.hub.Inbox("kim")
		_, err := inbox.MarkRead(t.Context(), parley.Selection{IDs: []string{"1", "4"}})
		require.NoError(t, err)
		_, err = inbox.Archive(t.Context(), parley.Selection{UpTo: 2})
		require.NoError(t, err)
		time.Sleep(time.Second)
		j.expect(t, "notification 44 read", "state at 4 read [{4 4}] archived [{1 2}] truncated 0", "recovered 1", "unread 1")
		// The inbox runs over, and something unread with it (P8.3).
		s.cut()
		notify(5, 7)
		time.Sleep(time.Second)
		j.expect(t, "notification 55 unread", "notification 66 unread", "notification 77 unread",
			"state at 7 read [{4 4}] archived [] truncated 3", "recovered 3", "unread 3")
	})
}

// P8.7: what has expired moves the position and is nothing else.
func TestExpired(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		kim := connect(t, s.network, "kim", j.marks())
		j.expect(t, "inbox", "unread 0")
		s.cut()
		s.Refuse(true)
		for i, ttl := range []time.Duration{0, time.Second, 0, time.Second} {
			_, err := s.hub.Notify(t.Context(), "kim", i+1, parley.WithTTL(ttl))
			require.NoError(t, err)
		}
		time.Sleep(time.Minute)
		s.Refuse(false)
		time.Sleep(time.Minute)
		j.expect(t, "notification 1 unread", "notification 3 unread", "state at 4 read [] archived [] truncated 0", "recovered 4", "unread 2")
		require.Equal(t, int64(4), kim.InboxPosition().Offset)
		page, err := kim.InboxHistory(t.Context(), 0, 0)
		require.NoError(t, err)
		require.Equal(t, " 1:unread 3:unread", itemsText(page.Items))
	})
}

// S33: a mark is sent again, with the same id, until it is answered.
func TestMarkOutlivesConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c := start(t, f.network, "", Options{})
		p := f.welcome("kim", `,"session":"s"`)
		states := make(chan ReadState, 1)
		marked := background(func() error {
			state, err := c.MarkRead(t.Context(), Selection{Epoch: "e", Offsets: []int64{3, 5}})
			states <- state
			return err
		})
		m := p.expect("read")
		require.Equal(t, map[string]any{"type": "read", "id": m["id"], "epoch": "e", "offsets": []any{3.0, 5.0}}, m)
		p.cut()
		p = f.welcome("kim", `,"resumed":true`)
		require.Equal(t, m, p.expect("read"))
		p.refuse(m, parley.CodeUnavailable)
		require.Equal(t, m, p.expect("read"))
		p.ack(m, `,"epoch":"e","unread":2,"version":9`)
		require.NoError(t, <-marked)
		require.Equal(t, ReadState{2, 9}, <-states)
		require.Equal(t, ReadState{2, 9}, c.ReadState())
		// A page, too.
		page := background(func() error {
			page, err := c.InboxHistory(t.Context(), 7, 2)
			require.Equal(t, " 5:read", itemsText(page.Items))
			return err
		})
		m = p.expect("history")
		require.Equal(t, map[string]any{"type": "history", "id": m["id"], "topic": "inbox", "before": 7.0, "limit": 2.0}, m)
		p.cut()
		p = f.welcome("kim", `,"resumed":true`)
		require.Equal(t, m, p.expect("history"))
		p.inbox(5, 5, fmt.Sprintf(`,"id":"%s","more":false,"unread":2,"version":9,"read":[[4,5]]`, m["id"]))
		require.NoError(t, <-page)
		require.True(t, c.InboxPosition().IsZero()) // it moves nothing
	})
}

// What was to be done to the inbox of one user is not done to that of another, whether it was sent or not.
func TestMarksOfAnotherUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c := start(t, f.network, "", j.marks())
		p := f.welcome("kim")
		p.inbox(1, 2, `,"unread":2,"version":4`)
		j.expect(t, "inbox 1:unread 2:unread", "unread 2")
		mark := func() error { _, err := c.MarkRead(t.Context(), Selection{IDs: []string{"welcome"}}); return err }
		sent := background(mark)
		p.expect("read")
		p.cut()
		synctest.Wait()
		unsent := background(mark)
		synctest.Wait()
		p = f.welcome("ann", `,"resumed":false`)
		requireCode(t, CodeDisconnected, <-sent)
		requireCode(t, CodeDisconnected, <-unsent)
		p.expectNone()
		require.Equal(t, ReadState{}, c.ReadState())
		p.inbox(1, 1, `,"unread":1,"version":1`)
		j.expect(t, "unread 0", "inbox 1:unread", "unread 1")
	})
}

// counted is a notification that says how many are unread.
func counted(offset, unread, version int) string {
	return fmt.Sprintf(`{"type":"notification","data":%d,"timestamp":1,"epoch":"e","offset":%d,"unread":%d,"version":%d}`, offset, offset, unread, version)
}

func marked(as, epoch, offsets string, unread, version int) string {
	return fmt.Sprintf(`{"type":"marked","as":"%s","epoch":"%s","offsets":%s,"unread":%d,"version":%d}`, as, epoch, offsets, unread, version)
}

// P8.1: within an epoch the higher version is the newer number.
func TestVersions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c := start(t, f.network, "", j.marks())
		p := f.welcome("kim")
		p.inbox(1, 1, `,"unread":1,"version":10`)
		p.send(counted(2, 3, 12)) // a mark has overtaken it
		p.send(marked("unread", "e", "[[1,1]]", 2, 11))
		p.send(counted(3, 3, 12)) // the number is the same
		p.send(counted(4, 4, 12)) // of equal ones the last counts
		j.expect(t, "inbox 1:unread", "unread 1", "notification 2 unread", "unread 3", "marked unread [{1 1}]",
			"notification 3 unread", "notification 4 unread", "unread 4")
		require.Equal(t, ReadState{4, 12}, c.ReadState())
		p.send(`{"type":"expired","epoch":"e","offset":5,"unread":3,"version":13}`)
		j.expect(t, "unread 3")
		require.Equal(t, Position{"e", 5}, c.InboxPosition())
		// The ack of a mark whose log is gone says nothing of this one.
		done := background(func() error { _, err := c.MarkRead(t.Context(), Selection{IDs: []string{"a"}}); return err })
		p.ack(p.expect("read"), `,"epoch":"old","unread":7,"version":99`)
		require.NoError(t, <-done)
		j.expect(t)
		// Lost versions count anew, also in the same epoch.
		p.send(`{"type":"inbox","epoch":"e","offset":1,"recovered":false,"code":"ahead","messages":[],"unread":1,"version":2}`)
		p.send(counted(2, 2, 3))
		j.expect(t, `gap "ahead" after 5`, "inbox", "unread 1", "notification 2 unread", "unread 2")
		p.send(`{"type":"inbox","epoch":"e2","offset":0,"recovered":false,"code":"reset","messages":[],"unread":0,"version":1}`)
		j.expect(t, `gap "reset" after 2`, "inbox", "unread 0")
		require.Equal(t, ReadState{0, 1}, c.ReadState())
	})
}

// Pages of nothing but expired entries can be passed (P8.7).
func TestPagesOfExpired(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c := start(t, f.network, "", Options{})
		p := f.welcome("kim")
		var pages []InboxPage
		done := background(func() error {
			before := int64(0)
			for {
				page, err := c.InboxHistory(t.Context(), before, 2)
				if pages = append(pages, page); err != nil || !page.More {
					return err
				}
				before = page.Oldest
			}
		})
		answer := func(before any, more bool, entries string) {
			m := p.expect("history")
			require.Equal(t, before, m["before"])
			p.sendf(`{"type":"inbox","id":"%s","epoch":"e","offset":6,"more":%t,"messages":[%s]}`, m["id"], more, entries)
		}
		expired := func(offset int) string { return fmt.Sprintf(`{"type":"expired","epoch":"e","offset":%d}`, offset) }
		answer(nil, true, expired(5)+","+note(6))
		answer(5.0, true, expired(3)+","+expired(4))
		answer(3.0, true, note(1)+","+expired(2))
		answer(1.0, false, "")
		require.NoError(t, <-done)
		var texts []string
		for _, page := range pages {
			texts = append(texts, fmt.Sprint(page.Oldest, itemsText(page.Items)))
		}
		require.Equal(t, []string{"5 6:unread", "3", "1 1:unread", "0"}, texts)
	})
}
