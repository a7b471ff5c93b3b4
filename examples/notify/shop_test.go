package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/examples/internal/wstest"
)

// The story: an order is shipped, and both windows of the customer hear of it.
func TestShippedOrderReachesBothWindows(t *testing.T) {
	_, open := start(t)
	alice, laptop, bob, staff := open(), open(), open(), open()
	for b, name := range map[*browser]string{alice: "alice", laptop: "alice", bob: "bob", staff: "staff"} {
		require.Equal(t, http.StatusOK, b.login(name))
	}
	windows := []*wstest.Client{alice.connect(), alice.connect(), laptop.connect()}
	others, desk := bob.connect(), staff.connect()
	assert.Equal(t, "user-1", windows[0].Hello["userId"])

	status, order := alice.post("/api/orders", `{"item":" teapot "}`)
	require.Equal(t, http.StatusCreated, status)
	assert.Equal(t, "teapot", order["item"])
	assert.Equal(t, "order.placed", desk.Next("notification")["kind"])

	status, order = staff.post("/api/orders/1/ship", "")
	require.Equal(t, http.StatusOK, status)
	assert.Equal(t, "shipped", order["status"])
	for _, window := range windows {
		m := window.Next("notification")
		assert.Equal(t, "order.shipped", m["kind"])
		assert.Equal(t, "order.shipped/1", m["id"])
		assert.EqualValues(t, 1, m["unread"])
		assert.EqualValues(t, 1, m["data"].(map[string]any)["order"].(map[string]any)["id"])
	}
	// Nobody else hears of it: the answer to a ping is all that comes.
	others.Send(message{"type": "ping", "id": "p"})
	assert.Equal(t, "pong", others.Next("pong")["type"])
	status, _ = staff.post("/api/orders/1/ship", "")
	assert.Equal(t, http.StatusConflict, status, "shipped once, told once")
	for _, id := range []string{"0", "2", "-1", "x"} {
		status, _ = staff.post("/api/orders/"+id+"/ship", "")
		assert.Equal(t, http.StatusNotFound, status, id)
	}
}

// Who opens the page of an order has read what was said about it, in all windows.
func TestOrderPageMarksAsRead(t *testing.T) {
	s, open := start(t)
	alice, staff := open(), open()
	require.Equal(t, http.StatusOK, alice.login("alice"))
	require.Equal(t, http.StatusOK, staff.login("staff"))
	for _, item := range []string{"teapot", "<b>cup</b>"} {
		alice.post("/api/orders", `{"item":"`+item+`"}`)
	}
	staff.arrive("order.placed/2") // else it may come after what marks it as read
	staff.post("/api/orders/1/ship", "")
	staff.post("/api/orders/2/ship", "")
	window, ids, unread := alice.arrive("order.shipped/2")
	assert.Equal(t, []any{"order.shipped/1", "order.shipped/2"}, ids)
	assert.EqualValues(t, 2, unread)
	_, html := alice.page("/")
	assert.Contains(t, html, "<title>(2) Orders")

	inbox, err := s.hub.Inbox("staff-1").Unread(t.Context())
	require.NoError(t, err)
	assert.Zero(t, inbox.Unread, "who ships an order knows of it")
	status, html := alice.page("/orders/2")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, html, "<title>(1) Order")
	assert.Contains(t, html, "&lt;b&gt;cup&lt;/b&gt;", "S34: what a user types is never HTML")
	marked := window.Next("marked")
	assert.Equal(t, "read", marked["as"])
	assert.Equal(t, []any{[]any{2.0, 2.0}}, marked["offsets"])
	assert.EqualValues(t, 1, marked["unread"])
}

func TestOrdersArePrivateAndChecked(t *testing.T) {
	_, open := start(t)
	alice, bob := open(), open()
	require.Equal(t, http.StatusOK, alice.login("alice"))
	require.Equal(t, http.StatusOK, bob.login("bob"))
	alice.post("/api/orders", `{"item":"teapot"}`)
	_, answer := bob.do(http.MethodGet, "/api/orders", "", "")
	assert.Empty(t, answer["list"])
	for body, want := range map[string]int{
		`{"item":""}`: http.StatusUnprocessableEntity,
		`{"item":"` + strings.Repeat("x", maxItem+1) + `"}`: http.StatusUnprocessableEntity,
		`{"item":1}`: http.StatusBadRequest,
		`teapot`:     http.StatusBadRequest,
		`{"item":"` + strings.Repeat("x", maxBody) + `"}`: http.StatusRequestEntityTooLarge,
	} {
		status, answer := bob.post("/api/orders", body)
		assert.Equal(t, want, status, "%.40s", body)
		assert.NotEmpty(t, answer["error"])
	}
	for _, path := range []string{"/orders/1", "/orders/2", "/orders/x", "/desk"} {
		status, _ := bob.page(path)
		assert.Equal(t, http.StatusNotFound, status, path)
	}
	status, _ := bob.post("/api/announcements", `{"id":"1","text":"sale"}`)
	assert.Equal(t, http.StatusForbidden, status)
	window := bob.connect()
	for _, m := range []message{{"type": "join", "room": "desk"}, {"type": "private", "targetId": "user-1", "message": "psst"}} {
		window.Send(m)
		assert.Equal(t, "forbidden", window.Next("error")["code"], m)
	}
	status, _ = bob.post("/api/orders/1/ship", "")
	assert.Equal(t, http.StatusForbidden, status)
	for range maxOpenOrders {
		status, _ := bob.post("/api/orders", `{"item":"cup"}`)
		require.Equal(t, http.StatusCreated, status)
	}
	status, _ = bob.post("/api/orders", `{"item":"cup"}`)
	assert.Equal(t, http.StatusConflict, status)
}

// S1: another site can neither send requests nor connect in the name of a user.
func TestOtherSites(t *testing.T) {
	_, open := start(t)
	alice := open()
	require.Equal(t, http.StatusOK, alice.login("alice"))
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
	} {
		status, _ := alice.post("/api/orders", `{"item":"teapot"}`, header...)
		assert.Equal(t, http.StatusForbidden, status, header)
	}
	status, _ := alice.post("/api/orders", `{"item":"teapot"}`, "Sec-Fetch-Site", "same-origin", "Origin", alice.base)
	assert.Equal(t, http.StatusCreated, status)
	over := wstest.Over(alice.http)
	assert.Equal(t, http.StatusForbidden, wstest.Refused(t, alice.base+"/realtime", over, wstest.Header("Origin", "https://evil.example")))
}
