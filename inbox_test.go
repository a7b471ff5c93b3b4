package parley

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// spans returns the pairs of a message as "1-3 5".
func (m message) spans(key string) string {
	list, _ := m[key].([]any)
	all := make([]string, len(list))
	for i, e := range list {
		pair := e.([]any)
		all[i] = fmt.Sprint(pair[0])
		if pair[0] != pair[1] {
			all[i] += fmt.Sprint("-", pair[1])
		}
	}
	return strings.Join(all, " ")
}

// notify sends n notifications to kim.
func notify(t *testing.T, h *Hub, n int, opts ...SendOption) (last Result) {
	t.Helper()
	for i := range n {
		var err error
		last, err = h.Notify(t.Context(), "kim", i+1, opts...)
		require.NoError(t, err)
	}
	return last
}

// F33, P8.1, P8.2: what one device marks, all devices know at once, and those that come later; the count is the Store's.
func TestMarksReachAllDevices(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		one, two := attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{user: "kim", v1: true})
		plain := attach(t, h, directOptions{user: "kim"})
		lee := attach(t, h, directOptions{user: "lee", v1: true})
		epoch := notify(t, h, 6).Epoch
		last := two.wire.messages(t)[5]
		require.EqualValues(t, 6, last.num("unread"))
		require.EqualValues(t, 6, last.num("version"))
		one.wire.messages(t)
		plain.wire.messages(t)

		for i, step := range []struct {
			say                         map[string]any
			as, offsets, read, archived string
			unread                      int
		}{
			{map[string]any{"type": "read", "epoch": epoch, "offset": 2}, "read", "1-2", "1-2", "", 4},
			{map[string]any{"type": "read", "epoch": epoch, "offset": 2}, "", "", "1-2", "", 4},
			{map[string]any{"type": "archive", "epoch": epoch, "offsets": []int{6, 4}}, "archived", "4 6", "1-2", "4 6", 2},
			{map[string]any{"type": "read", "epoch": epoch, "offset": 6}, "read", "3 5", "1-3 5", "4 6", 0},
			{map[string]any{"type": "unread", "epoch": epoch, "offsets": []int{4, 5}}, "unread", "4-5", "1-3", "6", 2},
			{map[string]any{"type": "archive", "epoch": epoch, "offset": 1}, "archived", "1", "2-3", "1 6", 2},
		} {
			step.say["id"] = fmt.Sprint("m", i)
			got := one.say(t, step.say)
			ack := got[len(got)-1]
			require.Equal(t, "ack", ack.str("type"), "%v", got)
			require.Equal(t, epoch, ack.str("epoch"))
			require.EqualValues(t, step.unread, ack.num("unread"))
			told := two.wire.messages(t)
			if step.as == "" {
				require.Empty(t, told, "nothing has changed (P8.4)")
				require.Len(t, got, 1)
			} else {
				require.Len(t, told, 1)
				require.Equal(t, told[0], got[0], "the device that asked, too")
				require.Equal(t, step.as, told[0].str("as"))
				require.Equal(t, step.offsets, told[0].spans("offsets"))
				require.EqualValues(t, step.unread, told[0].num("unread"))
				require.Equal(t, ack.num("version"), told[0].num("version"))
				require.Equal(t, epoch, told[0].str("epoch"))
			}
			later := inboxOf(t, h, "kim")
			require.Equal(t, step.read, later.spans("read"))
			require.Equal(t, step.archived, later.spans("archived"))
			require.EqualValues(t, step.unread, later.num("unread"))
			require.Equal(t, ack.num("version"), later.num("version"))
		}
		require.Empty(t, plain.wire.messages(t), "not a type of section 3 (P1.2)")
		require.Empty(t, lee.wire.messages(t))
		require.EqualValues(t, 2+2+2+2+1, h.Stats().Marked)
	})
}

// The application marks by the ids that it knows, beyond the idempotency window.
func TestInboxOfTheApplication(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		kim := attach(t, h, directOptions{user: "kim", v1: true})
		_, err := h.Notify(t.Context(), "kim", map[string]int{"order": 7}, WithID("order-7"), WithKind("order.shipped"))
		require.NoError(t, err)
		m := requireOne(t, kim, "notification")
		require.Equal(t, "order-7", m.str("id"))
		require.Equal(t, "order.shipped", m.str("kind"))
		kim.do(t, map[string]any{"type": "private", "targetId": "kim", "message": "note to self"})
		elapse(time.Hour)
		kim.wire.messages(t)

		log, err := h.Inbox("kim").MarkRead(t.Context(), Selection{IDs: []string{"order-7", "order-8"}})
		require.NoError(t, err)
		require.Equal(t, 1, log.Unread)
		require.Equal(t, "1", requireOne(t, kim, "marked").spans("offsets"))

		page, err := h.Inbox("kim").Read(t.Context(), 0, 10)
		require.NoError(t, err)
		require.Equal(t, log, page.Log)
		require.Len(t, page.Entries, 2)
		shipped, note := page.Entries[0], page.Entries[1]
		require.Equal(t, []any{"order-7", "order.shipped", false, false, `{"order":7}`},
			[]any{shipped.ID, shipped.Kind, shipped.Unread, shipped.Private, string(shipped.Message)})
		require.Equal(t, []any{"kim", true, true, `"note to self"`}, []any{note.Sender, note.Unread, note.Private, string(note.Message)})

		log, err = h.Inbox("kim").Archive(t.Context(), Selection{UpTo: 2})
		require.NoError(t, err)
		require.Zero(t, log.Unread)
		log, err = h.Inbox("kim").MarkUnread(t.Context(), Selection{Epoch: log.Epoch, Offsets: []int64{2}})
		require.NoError(t, err)
		require.Equal(t, 1, log.Unread)
		page, err = h.Inbox("kim").Read(t.Context(), 2, 1)
		require.NoError(t, err)
		require.True(t, page.Entries[0].Archived && !page.Entries[0].Unread && !page.More)
		now, err := h.Inbox("kim").Unread(t.Context())
		require.NoError(t, err)
		require.Equal(t, log, now)

		nobody, err := h.Inbox("nobody").Unread(t.Context())
		require.NoError(t, err)
		require.Zero(t, nobody.Unread)
		require.Equal(t, 2, h.Stats().Topics)
	})
}

// P8.4: a bad mark is refused with a code, and nothing is changed.
func TestBadMarks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		kim, nobody := attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{v1: true})
		epoch := notify(t, h, 3).Epoch
		before := inboxOf(t, h, "kim")
		kim.wire.messages(t)
		for _, typ := range []string{"read", "unread", "archive"} {
			for fields, code := range map[string]Code{
				``: CodeBadRequest, `,"epoch":"E"`: CodeBadRequest, `,"offset":1`: CodeBadRequest, `,"offsets":[1]`: CodeBadRequest,
				`,"epoch":"E","offset":1,"ids":["x"]`: CodeBadRequest, `,"epoch":"E","offset":0`: CodeBadRequest,
				`,"epoch":"E","offsets":[0]`: CodeBadRequest, `,"epoch":"E","offset":4`: codeAhead,
				`,"epoch":"E","offsets":[1,9007199254740991]`: codeAhead, `,"epoch":"other","offset":1`: codeReset,
				`,"epoch":"other","offsets":[1]`: codeReset,
			} {
				got := kim.say(t, `{"id":"q","type":"`+typ+`"`+strings.ReplaceAll(fields, `"E"`, `"`+epoch+`"`)+`}`)
				require.Len(t, got, 1, "%s", fields)
				require.Equal(t, string(code), got[0].str("code"), "%s %s: %v", typ, fields, got[0])
				require.Equal(t, "q", got[0].str("id"))
			}
			got := nobody.say(t, map[string]any{"type": typ, "ids": []string{"x"}})
			require.Equal(t, "forbidden", got[0].str("code"))
			got = kim.say(t, map[string]any{"type": typ, "ids": []string{"unknown"}, "id": "q"})
			require.Equal(t, "ack", got[0].str("type"), "passed over")
		}
		for _, typ := range []string{`{"type":"received"}`, `{"type":"received","epoch":"x"}`, `{"type":"history","topic":"outbox"}`} {
			require.Equal(t, "bad_request", kim.say(t, typ)[0].str("code"))
		}
		require.Equal(t, "forbidden", nobody.say(t, `{"type":"received","epoch":"x","offset":1}`)[0].str("code"))
		require.Equal(t, "forbidden", nobody.say(t, `{"type":"history","topic":"inbox"}`)[0].str("code"))
		require.Equal(t, before, inboxOf(t, h, "kim"))

		in := h.Inbox("kim")
		for _, s := range []Selection{
			{}, {UpTo: 1, IDs: []string{"x"}}, {UpTo: -1}, {Offsets: []int64{0}}, {UpTo: 4}, {Offsets: []int64{1, 4}}, {Epoch: "other", UpTo: 1},
		} {
			_, err := in.MarkRead(t.Context(), s)
			require.ErrorIs(t, err, ErrPosition, "%+v", s)
		}
		_, err := in.Archive(t.Context(), Selection{IDs: []string{"a\x00b"}})
		require.ErrorIs(t, err, ErrInvalidName)
		_, err = h.Inbox("").Read(t.Context(), 0, 0)
		require.ErrorIs(t, err, ErrInvalidName)
		require.Equal(t, before, inboxOf(t, h, "kim"))
	})
}

// Bad input to Notify changes nothing and says why.
func TestBadNotifications(t *testing.T) {
	bubble(t, func(t *testing.T) {
		known := []string{"kim"}
		h := newHub(t, Options{UserExists: func(_ context.Context, id string) (bool, error) {
			if id == "broken" {
				return false, errors.New("the users' table is away")
			}
			return slices.Contains(known, id), nil
		}})
		for _, c := range []struct {
			user string
			v    any
			opts []SendOption
			err  error
		}{
			{"lee", 1, nil, ErrNotFound}, {"", 1, nil, ErrInvalidName}, {"a\nb", 1, nil, ErrInvalidName}, {strings.Repeat("x", 256), 1, nil, ErrInvalidName},
			{"kim", strings.Repeat("x", 1<<20), nil, ErrTooLarge}, {"kim", 1, []SendOption{WithID("a\x00")}, ErrInvalidName},
			{"kim", 1, []SendOption{WithKind(strings.Repeat("k", 65))}, ErrInvalidName}, {"kim", make(chan int), nil, nil}, {"broken", 1, nil, nil},
		} {
			r, err := h.Notify(t.Context(), c.user, c.v, c.opts...)
			require.Error(t, err)
			require.Zero(t, r)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
			}
		}
		require.Empty(t, inboxOf(t, h, "kim").entries())
		require.Equal(t, 1, h.Stats().Topics)
		lee := attach(t, h, directOptions{user: "lee", v1: true})
		_, err := h.Notify(t.Context(), "lee", 1)
		require.NoError(t, err, "who is connected exists")
		requireOne(t, lee, "notification")
	})
}

// F70: with UserExists clients can write to users who are away.
func TestPrivateToAUserWhoIsAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{UserExists: func(_ context.Context, id string) (bool, error) { return id != "nobody", nil }})
		kim := attach(t, h, directOptions{user: "kim", v1: true})
		require.Equal(t, "ack", kim.say(t, `{"type":"private","targetId":"lee","message":"hi","id":"1"}`)[0].str("type"))
		require.Equal(t, "not_found", kim.say(t, `{"type":"private","targetId":"nobody","message":"hi","id":"1"}`)[0].str("code"))
		got := inboxOf(t, h, "lee")
		require.Equal(t, "kim", got.entries()[0].str("senderId"))
		require.EqualValues(t, 1, got.num("unread"))
	})
}

// F27: a client cannot fill the inboxes of others beyond its quota, over whatever connections.
func TestPrivateQuota(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{PrivateQuota: 10, UserExists: func(context.Context, string) (bool, error) { return true, nil }})
		attach(t, h, directOptions{user: "here"})
		sent := 0
		send := func(d *direct, to string) string {
			sent++
			return d.say(t, map[string]any{"type": "private", "targetId": to, "message": "spam", "id": fmt.Sprint(sent)})[0].str("code")
		}
		for i := range 10 {
			kim := attach(t, h, directOptions{user: "kim"})
			require.Empty(t, send(kim, fmt.Sprint("victim", i%3)))
			kim.end(CloseNormal, "")
		}
		kim := attach(t, h, directOptions{user: "kim"})
		require.Equal(t, "limit", send(kim, "victim0"))
		require.Empty(t, send(kim, "here"), "who is there can do without the quota")
		require.Empty(t, send(attach(t, h, directOptions{user: "lee"}), "victim0"), "others have their own")
		elapse(7 * time.Minute)
		require.Empty(t, send(kim, "victim0"))
		require.Equal(t, "limit", send(kim, "victim0"))
		elapse(3 * time.Hour)
		for range 10 {
			require.Empty(t, send(kim, "victim0"))
		}
		require.Equal(t, "limit", send(kim, "victim0"))
	})
}

// F27, P8.3: the caps hold by count and by bytes, and what was unread and had to go is told until it is marked.
func TestInboxCaps(t *testing.T) {
	for name, keep := range map[string]Retention{"count": {Messages: 3}, "bytes": {Messages: 100, Bytes: 200}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHub(t, Options{Inbox: keep})
				notify(t, h, 3)
				require.Zero(t, inboxOf(t, h, "kim").num("truncated"))
				epoch := notify(t, h, 2).Epoch
				got := inboxOf(t, h, "kim")
				require.EqualValues(t, 2, got.num("truncated"))
				require.EqualValues(t, 3, got.num("unread"))
				require.Len(t, got.entries(), 3)
				_, err := h.Inbox("kim").MarkRead(t.Context(), Selection{Epoch: epoch, UpTo: 3})
				require.NoError(t, err)
				require.NotContains(t, inboxOf(t, h, "kim"), "truncated")
				notify(t, h, 1)
				require.NotContains(t, inboxOf(t, h, "kim"), "truncated", "what went was read")
			})
		})
	}
}

// P8.7: what has expired leaves no hole, and is unread no longer.
func TestInboxTTL(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		notify(t, h, 1)
		notify(t, h, 1, WithTTL(time.Minute))
		epoch := notify(t, h, 1).Epoch
		require.EqualValues(t, 3, inboxOf(t, h, "kim").num("unread"))
		elapse(time.Minute)
		got := inboxOf(t, h, "kim")
		require.EqualValues(t, 2, got.num("unread"))
		require.Len(t, got.entries(), 3)
		require.Equal(t, message{"type": "expired", "epoch": epoch, "offset": float64(2)}, got.entries()[1])
		page, err := h.Inbox("kim").Read(t.Context(), 0, 0)
		require.NoError(t, err)
		require.Len(t, page.Entries, 2)
	})
}

// Pages of the own inbox; nobody can name another's.
func TestInboxHistory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Authorize: func(_ context.Context, _ *Conn, a Access) error {
			t.Errorf("asked for %+v: the own inbox is the user's", a)
			return nil
		}})
		epoch := notify(t, h, 7).Epoch
		kim := attach(t, h, directOptions{user: "kim", v1: true})
		got := requireAnswer(t, kim, `{"type":"history","topic":"inbox","id":"h","before":6,"limit":2,"targetId":"lee","room":"lee"}`)
		require.Equal(t, []any{"inbox", "h", epoch, int64(7), int64(7), true},
			[]any{got.str("type"), got.str("id"), got.str("epoch"), got.num("offset"), got.num("unread"), got["more"]})
		require.EqualValues(t, 4, got.entries()[0].num("offset"))
		require.Len(t, got.entries(), 2)
		require.Equal(t, false, requireAnswer(t, kim, `{"type":"history","topic":"inbox","id":"h","before":3}`)["more"])
	})
}

func requireAnswer(t *testing.T, d *direct, say string) message {
	t.Helper()
	got := d.say(t, say)
	require.Len(t, got, 1)
	return got[0]
}

// F12: a Store that fails a mark is unavailable, not silent; nobody is told of marks that were not stored.
func TestMarkWithABrokenStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		h := newHub(t, Options{Store: store})
		one, two := attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{user: "kim", v1: true})
		epoch := notify(t, h, 1).Epoch
		one.wire.messages(t)
		two.wire.messages(t)
		for _, broken := range []func() (Marked, error){
			func() (Marked, error) { return Marked{}, errors.New("away") },
			func() (Marked, error) { panic("in the Store") },
			func() (Marked, error) { return Marked{Changed: []Span{{1, 1}}}, nil },
		} {
			store.onMark = func(context.Context, string, Mark, func() (Marked, error)) (Marked, error) { return broken() }
			got := one.say(t, map[string]any{"type": "read", "epoch": epoch, "offset": 1, "id": "x"})
			require.Equal(t, "unavailable", got[0].str("code"))
			_, err := h.Inbox("kim").MarkRead(t.Context(), Selection{UpTo: 1})
			require.ErrorIs(t, err, ErrStore)
		}
		require.Empty(t, two.wire.messages(t))
		require.EqualValues(t, 6, h.Stats().StoreErrors)
	})
}

// P8.5 with two nodes: marks and counts reach the devices on the other one.
func TestMarksOverNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, broker := NewMemoryStore(), NewMemoryBroker()
		a, b := newHub(t, Options{Store: store, Broker: broker}), newHub(t, Options{Store: store, Broker: broker})
		here, there := attach(t, a, directOptions{user: "kim", v1: true}), attach(t, b, directOptions{user: "kim", v1: true})
		notify(t, a, 2)
		synctest.Wait()
		got := there.wire.messages(t)
		require.EqualValues(t, 2, got[1].num("unread"))
		require.EqualValues(t, 2, got[1].num("version"))
		_, err := b.Inbox("kim").MarkRead(t.Context(), Selection{UpTo: 1})
		require.NoError(t, err)
		synctest.Wait()
		marked := ofType(here.wire.messages(t), "marked")
		require.Len(t, marked, 1)
		require.EqualValues(t, 1, marked[0].num("unread"))
		require.Equal(t, marked, there.wire.messages(t))
	})
}

// An inbox that keeps nothing delivers what comes live, without positions, and refuses marks.
func TestInboxThatKeepsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Inbox: Retention{Messages: -1}})
		kim := attach(t, h, directOptions{user: "kim", v1: true})
		r, err := h.Notify(t.Context(), "kim", 1)
		require.NoError(t, err)
		require.Equal(t, Result{Delivered: 1}, r)
		require.NotContains(t, requireOne(t, kim, "notification"), "unread")
		require.Equal(t, "ahead", kim.say(t, `{"type":"read","epoch":"e","offset":1}`)[0].str("code"))
		_, err = h.Inbox("kim").MarkRead(t.Context(), Selection{IDs: []string{"x"}})
		require.ErrorIs(t, err, ErrPosition)
	})
}
