package parleytest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

func (s *Server) notify(t *testing.T, user string, v any, opts ...parley.SendOption) {
	t.Helper()
	_, err := s.Hub.Notify(context.Background(), user, v, opts...)
	require.NoError(t, err)
}

func TestMarks(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		s.notify(t, "kim", 1)
		kim, other, plain := s.Connect(User("kim")), s.Connect(User("kim")), s.Connect(User("kim"), Plain())
		require.EqualValues(t, 1, kim.Unread())
		require.EqualValues(t, 0, plain.Unread()) // nobody has told
		s.notify(t, "kim", map[string]any{"a": 2, "b": 3}, parley.WithKind("k"), parley.WithID("x"))
		s.notify(t, "kim", 3)
		// The number is known before the messages are taken.
		kim.ExpectUnread(3)
		plain.ExpectUnread(3)
		second := kim.ExpectNotification("k", map[string]any{"a": 2})
		require.Equal(t, "x", second.Str("id"))
		third := kim.ExpectNotification("", 3)
		first := kim.Inbox().List("messages")[0]
		require.Equal(t, "unread", kim.Inbox().State(first))

		told := kim.Mark("read", third, first)
		require.Equal(t, "read", told.Str("as"))
		require.Equal(t, []int64{1, 3}, told.Offsets("offsets"))
		kim.ExpectUnread(1)
		require.Nil(t, kim.Mark("read", first))
		require.NotNil(t, kim.Mark("archive", second))
		require.NotNil(t, kim.Mark("unread", first))
		kim.ExpectNone()
		other.WaitFor(Message{"type": "notification", "data": 3})
		other.ExpectMarked("read", first, third, first)
		other.ExpectMarked("archived", second)
		other.ExpectMarked("unread", first)
		other.ExpectNone()
		require.Nil(t, plain.Mark("archive", first))
		plain.ExpectUnread(0)
		require.Len(t, plain.Drain(), 2)

		again := s.Connect(User("kim")).Inbox()
		require.Equal(t, []string{"archived", "archived", "read"}, []string{again.State(first), again.State(second), again.State(third)})
		page := kim.Request(Message{"type": "history", "topic": "inbox", "before": 3, "limit": 1})
		require.Len(t, page.List("messages"), 1)
		require.Equal(t, "archived", page.State(page.List("messages")[0]))
		require.Nil(t, page.Offsets("none"))
		require.Nil(t, page.Offsets("messages"))
	})
}

// The id of a notification answers nothing, even if it is that of a request.
func TestNotificationID(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		kim := s.Connect(User("kim"))
		parley.On(s.Hub, "f", func(context.Context, *parley.Conn, any) (int, error) {
			_, err := s.Hub.Notify(context.Background(), "kim", 1, parley.WithID("same"))
			return 2, err
		})
		answer := kim.Request(Message{"type": "call", "method": "f", "id": "same", "data": nil})
		require.Equal(t, "reply", answer.Type())
		require.Equal(t, "same", kim.ExpectNotification("", 1).Str("id"))
	})
}

func TestFailureOfInbox(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := newServer(t, parley.Options{})
		kim := s.Connect(User("kim"))
		next := func() Message {
			s.notify(t, "kim", 1, parley.WithKind("k"))
			return kim.Expect("notification")
		}
		first, second := next(), next()
		require.Contains(t, failure(t, s, func() { kim.ExpectUnread(3) }), "kim: expected 3 unread in the inbox, got 2\n")
		s.notify(t, "kim", 1, parley.WithKind("k"))
		require.Contains(t, failure(t, s, func() { kim.ExpectNotification("other", nil) }), `because
	kind is "k", expected "other"`)
		s.notify(t, "kim", 1, parley.WithKind("k"))
		require.Contains(t, failure(t, s, func() { kim.ExpectNotification("", nil) }), "expected a notification without a kind, got\n\t{\"type\":\"notification\",\"kind\":\"k\"")
		s.notify(t, "kim", 1, parley.WithKind("k"))
		require.Contains(t, failure(t, s, func() { kim.ExpectNotification("k", 2) }), "data is 1, expected 2")

		require.Contains(t, failure(t, s, func() { kim.Mark("read") }), `could not mark [] as "read": {`)
		require.Contains(t, failure(t, s, func() { kim.Mark("read", Message{"epoch": "other", "offset": first["offset"]}) }), `"code":"reset"`)
		require.Contains(t, failure(t, s, func() { kim.Mark("seen", first) }), `"code":"unknown_type"`)
		mark := func(as parley.Selection) {
			_, err := s.Hub.Inbox("kim").MarkRead(context.Background(), as)
			require.NoError(t, err)
		}
		mark(parley.Selection{UpTo: 1})
		require.Contains(t, failure(t, s, func() { kim.ExpectMarked("unread", first) }), `as is "read", expected "unread"`)
		mark(parley.Selection{UpTo: 3})
		require.Contains(t, failure(t, s, func() { kim.ExpectMarked("read", second) }), "expected that [2] are marked as read, got [2 3] in\n\t{")
	})
}

// P8.1: the newest version counts; of another log only that of an inbox.
func TestCount(t *testing.T) {
	c := newClient(&Server{labels: make(map[string]int)}, dialOptions{})
	unread := func(typ, epoch, code string, unread, version int, id any) int64 {
		m, err := parse([]byte(Message{"type": typ, "epoch": epoch, "code": code, "unread": unread, "version": version, "id": id}.String()))
		require.NoError(t, err)
		if id == nil {
			delete(m, "id")
		}
		c.count(m)
		return c.unread.unread
	}
	require.EqualValues(t, 5, unread("inbox", "e", "", 5, 10, nil))
	require.EqualValues(t, 5, unread("notification", "e", "", 6, 9, nil))
	require.EqualValues(t, 7, unread("notification", "e", "", 7, 10, nil))
	require.EqualValues(t, 7, unread("ack", "old", "", 1, 99, "1"))
	require.EqualValues(t, 7, unread("inbox", "old", "", 1, 99, "2"))
	require.EqualValues(t, 3, unread("inbox", "e", "ahead", 3, 2, nil))
	require.EqualValues(t, 3, unread("inbox", "e", "", 4, 1, nil))
	require.EqualValues(t, 0, unread("inbox", "new", "", 0, 0, nil))
}
