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

func usersOf(t *testing.T, a *Audience) (all []string) {
	t.Helper()
	for id, err := range a.Users(t.Context()) {
		require.NoError(t, err)
		all = append(all, id)
	}
	return all
}

// One call reaches all of an audience, whoever is connected, and each has a read state of their own.
func TestAudience(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		admins := h.Audience("admins")
		require.NoError(t, admins.Add(t.Context(), "lee", "kim"))
		require.NoError(t, admins.Add(t.Context(), "kim", "max"))
		require.NoError(t, admins.Remove(t.Context(), "max", "nobody"))
		require.NoError(t, admins.Add(t.Context()))
		require.Equal(t, []string{"kim", "lee"}, usersOf(t, admins))
		kim, max := attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{user: "max", v1: true})

		for _, want := range []Notified{{Stored: 2, Delivered: 1}, {Stored: 2, Duplicates: 2}} {
			n, err := h.Audience("admins").Notify(t.Context(), "disk full", WithID("disk-1"), WithKind("alert"))
			require.NoError(t, err)
			require.Equal(t, want, n)
		}
		require.Equal(t, "alert", requireOne(t, kim, "notification").str("kind"))
		require.Empty(t, max.wire.messages(t))
		_, err := h.Inbox("kim").MarkRead(t.Context(), Selection{IDs: []string{"disk-1"}})
		require.NoError(t, err)
		require.EqualValues(t, 1, inboxOf(t, h, "lee").num("unread"))
		require.EqualValues(t, 0, inboxOf(t, h, "kim").num("unread"))

		n, err := h.Audience("nobody").Notify(t.Context(), 1)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

// An audience is read page by page.
func TestLargeAudience(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		var want []string
		for n := range 2*audiencePage + 1 {
			want = append(want, fmt.Sprintf("user%05d", n))
		}
		all := h.Audience("all")
		for part := range slices.Chunk(want, 100) {
			require.NoError(t, all.Add(t.Context(), part...))
		}
		require.Equal(t, want, usersOf(t, all))
		n, err := all.Notify(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, Notified{Stored: len(want)}, n)
		for range all.Users(t.Context()) {
			break // early
		}
	})
}

func TestBadAudience(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		for _, name := range []string{"", "a\x00", strings.Repeat("x", 256)} {
			a := h.Audience(name)
			require.ErrorIs(t, a.Add(t.Context(), "kim"), ErrInvalidName)
			require.ErrorIs(t, a.Remove(t.Context(), "kim"), ErrInvalidName)
			_, err := a.Notify(t.Context(), 1)
			require.ErrorIs(t, err, ErrInvalidName)
		}
		require.ErrorIs(t, h.Audience("a").Add(t.Context(), "kim", ""), ErrInvalidName)
		require.Empty(t, usersOf(t, h.Audience("a")), "nobody, not only the good ones")
	})
}

// Whom it fails for is told, and does not stop the others; the sequence's own error does.
func TestNotifyEach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		away := errors.New("the users' table is away")
		users := func(yield func(string, error) bool) {
			_ = yield("kim", nil) && yield("", nil) && yield("lee", nil) && yield("", away)
		}
		n, err := h.NotifyEach(t.Context(), users, 1)
		require.Equal(t, Notified{Stored: 2, Failed: 1}, n)
		require.ErrorIs(t, err, ErrInvalidName)
		require.ErrorIs(t, err, away)

		ctx, cancel := context.WithCancel(t.Context())
		n, err = h.NotifyEach(ctx, func(yield func(string, error) bool) {
			for n := 0; yield(fmt.Sprint("u", n), nil); n++ {
				if n == 100 {
					cancel()
				}
			}
		}, 1)
		require.ErrorIs(t, err, context.Canceled)
		require.GreaterOrEqual(t, n.Stored, 80)
		_, err = h.NotifyEach(t.Context(), users, make(chan int))
		require.Error(t, err)
	})
}

// Users who connect become known, with one write an hour, also if the Store was away at first.
func TestKnownUsers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		s := serve(t, Options{Store: store, TrackUsers: true})
		for range 3 {
			for _, user := range []string{"kim", "lee", ""} {
				s.connect(dialOptions{user: user, v1: true}).close()
			}
			elapse(time.Minute)
		}
		require.Equal(t, []string{"kim", "lee"}, usersOf(t, s.Hub.KnownUsers()))
		require.Empty(t, usersOf(t, s.Hub.Audience("known")))
		n, err := s.Hub.KnownUsers().Notify(t.Context(), "hello again")
		require.NoError(t, err)
		require.Equal(t, 2, n.Stored)
		synctest.Wait()
	})
}
