package main

import (
	"bytes"
	"database/sql"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// Orders, sessions, inboxes, read state and counts are the same after a restart.
func TestRestart(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		_, base, stop := serve(t, db)
		alice, staff := newBrowser(t, base, http.DefaultTransport), newBrowser(t, base, http.DefaultTransport)
		require.Equal(t, http.StatusOK, alice.login("alice"))
		require.Equal(t, http.StatusOK, staff.login("staff"))
		for _, id := range []string{"1", "2", "3"} {
			alice.post("/api/orders", `{"item":"cup"}`)
			status, _ := staff.post("/api/orders/"+id+"/ship", "")
			require.Equal(t, http.StatusOK, status)
		}
		_, _, unread := alice.arrive("order.shipped/3")
		assert.EqualValues(t, 3, unread)
		alice.page("/orders/2")
		stop()

		_, alice.base, _ = serve(t, db)
		window, ids, unread := alice.arrive("order.shipped/3")
		assert.Equal(t, []any{"order.shipped/1", "order.shipped/2", "order.shipped/3"}, ids)
		assert.EqualValues(t, 2, unread)
		_, html := alice.page("/inbox")
		assert.Contains(t, html, "<title>(2) Inbox")
		_, orders := alice.do(http.MethodGet, "/api/orders", "", "")
		assert.Len(t, orders["list"], 3)

		staff.base = alice.base
		alice.post("/api/orders", `{"item":"saucer"}`)
		staff.post("/api/orders/4/ship", "")
		assert.EqualValues(t, 3, window.Next("notification")["unread"])
	})
}

// What was committed is sent, even if the process ended before it could be.
func TestCommittedIsSentAfterTheEnd(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		s, base, stop := serve(t, db)
		alice, staff := newBrowser(t, base, http.DefaultTransport), newBrowser(t, base, http.DefaultTransport)
		require.Equal(t, http.StatusOK, alice.login("alice"))
		require.Equal(t, http.StatusOK, staff.login("staff"))
		s.stopRelay()
		<-s.relayed
		alice.post("/api/orders", `{"item":"teapot"}`)
		status, _ := staff.post("/api/orders/1/ship", "")
		require.Equal(t, http.StatusOK, status)
		inbox, err := s.hub.Inbox("user-1").Unread(t.Context())
		require.NoError(t, err)
		require.Zero(t, inbox.Unread)
		stop()

		_, alice.base, _ = serve(t, db)
		_, ids, unread := alice.arrive("order.shipped/1")
		assert.Equal(t, []any{"order.shipped/1"}, ids)
		assert.EqualValues(t, 1, unread)
	})
}

// What is rolled back is not sent.
func TestRollbackSendsNothing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		s, base, _ := serve(t, db)
		alice, staff := newBrowser(t, base, http.DefaultTransport), newBrowser(t, base, http.DefaultTransport)
		require.Equal(t, http.StatusOK, alice.login("alice"))
		require.Equal(t, http.StatusOK, staff.login("staff"))
		alice.post("/api/orders", `{"item":"teapot"}`)
		alice.post("/api/orders", `{"item":"cup"}`)

		lightning := errors.New("lightning")
		err := s.change(t.Context(), func(tx *sql.Tx) error {
			order, err := shipOrder(t.Context(), tx, 1, time.Now())
			require.NoError(t, err)
			require.NoError(t, s.enqueue(t.Context(), tx, order.UserID, kindShipped, "too early", order))
			return lightning
		})
		require.ErrorIs(t, err, lightning)
		order, err := s.db.order(t.Context(), users["alice"], 1)
		require.NoError(t, err)
		assert.Equal(t, "placed", order.Status)

		status, _ := staff.post("/api/orders/2/ship", "")
		require.Equal(t, http.StatusOK, status)
		_, ids, unread := alice.arrive("order.shipped/2")
		assert.Equal(t, []any{"order.shipped/2"}, ids)
		assert.EqualValues(t, 1, unread)
	})
}

// An announcement is in the inbox of every customer, once, however often the form is sent.
func TestAnnouncement(t *testing.T) {
	s, open := start(t)
	alice, bob, staff := open(), open(), open()
	for b, name := range map[*browser]string{alice: "alice", bob: "bob", staff: "staff"} {
		require.Equal(t, http.StatusOK, b.login(name))
	}
	window := alice.connect()
	for _, delivered := range []float64{1, 0} {
		status, answer := staff.post("/api/announcements", `{"id":"a","text":" There is tea again. "}`)
		require.Equal(t, http.StatusOK, status)
		assert.Equal(t, message{"customers": 2.0, "delivered": delivered}, message(answer))
	}
	m := window.Next("notification")
	assert.Equal(t, "announcement", m["kind"])
	assert.Equal(t, map[string]any{"text": "There is tea again."}, m["data"])
	_, ids, unread := bob.arrive("announcement/a")
	assert.Len(t, ids, 1)
	assert.EqualValues(t, 1, unread)
	inbox, err := s.hub.Inbox("staff-1").Unread(t.Context())
	require.NoError(t, err)
	assert.Zero(t, inbox.Unread)
	for _, body := range []string{`{"id":"","text":"x"}`, `{"id":"b","text":" "}`} {
		status, _ := staff.post("/api/announcements", body)
		assert.Equal(t, http.StatusUnprocessableEntity, status, body)
	}
}

// Who has received nothing gets an e-mail, once; who has received or read it gets none.
func TestUndelivered(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		var mails bytes.Buffer
		s, alice, end := inMemory(t, &mails)
		defer end()
		require.Equal(t, http.StatusOK, alice.login("alice"))
		window := alice.connect()
		_, err := s.announce(t.Context(), "a", "Tea!")
		require.NoError(t, err)
		m := window.Next("notification")
		window.Send(message{"type": "received", "epoch": m["epoch"], "offset": m["offset"]})
		window.Settle()
		time.Sleep(2 * mailAfter)
		synctest.Wait()
		window.Close()
		assert.Equal(t, "would send an e-mail to Bob: \"Tea!\"\n", mails.String())

		time.Sleep(5 * time.Minute) // much longer than until a second try
		synctest.Wait()
		assert.Equal(t, "would send an e-mail to Bob: \"Tea!\"\n", mails.String(), "once")
		sent, err := s.hub.Room(desk).History(t.Context(), 0, 10)
		require.NoError(t, err)
		require.Len(t, sent.Messages, 1)
		assert.JSONEq(t, `{"to":"Bob","subject":"Tea!"}`, string(sent.Messages[0].Content))

		mails.Reset()
		_, err = s.announce(t.Context(), "b", "Read elsewhere")
		require.NoError(t, err)
		for id := range ids(false) {
			_, err = s.hub.Inbox(id).MarkRead(t.Context(), parley.Selection{IDs: []string{"announcement/b"}})
			require.NoError(t, err)
		}
		time.Sleep(2 * mailAfter)
		synctest.Wait()
		assert.Empty(t, mails.String())
	})
}
