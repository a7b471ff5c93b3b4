package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/examples/internal/wstest"
)

type message = wstest.Message

// browser is a client with cookies of its own.
type browser struct {
	t    *testing.T
	base string
	http *http.Client
}

// start serves a shop and returns a function that opens browsers.
func start(t *testing.T) (*shop, func() *browser) {
	t.Helper()
	s, err := newShop()
	require.NoError(t, err)
	server := httptest.NewServer(s.handler)
	t.Cleanup(func() {
		assert.NoError(t, s.hub.Shutdown(context.Background()))
		server.Close()
	})
	return s, func() *browser { return newBrowser(t, server.URL, http.DefaultTransport) }
}

func newBrowser(t *testing.T, base string, transport http.RoundTripper) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &browser{t: t, base: base, http: &http.Client{Jar: jar, Transport: transport}}
}

// do sends a request and decodes the answer, if it is JSON.
func (b *browser) do(method, path, contentType, body string, header ...string) (int, message) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, strings.NewReader(body))
	require.NoError(b.t, err)
	r.Header.Set("Content-Type", contentType)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := b.http.Do(r)
	require.NoError(b.t, err)
	defer response.Body.Close()
	var answer any
	if response.Header.Get("Content-Type") == "application/json" {
		require.NoError(b.t, json.NewDecoder(response.Body).Decode(&answer))
	}
	if list, ok := answer.([]any); ok {
		return response.StatusCode, message{"list": list}
	}
	object, _ := answer.(map[string]any)
	return response.StatusCode, object
}

func (b *browser) post(path, body string, header ...string) (int, message) {
	b.t.Helper()
	return b.do(http.MethodPost, path, "application/json", body, header...)
}

func (b *browser) login(name string) int {
	b.t.Helper()
	status, _ := b.do(http.MethodPost, "/api/login", "application/x-www-form-urlencoded", url.Values{"name": {name}}.Encode())
	return status
}

// connect opens a realtime connection with the cookies of the browser. When it
// returns, the connection is known to its session.
func (b *browser) connect() *wstest.Client {
	b.t.Helper()
	return wstest.Dial(b.t, b.base+"/realtime", wstest.V1(""), wstest.Over(b.http)).Settle()
}

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
	placed := desk.Next("notification")["data"].(map[string]any)
	assert.Equal(t, "order.placed", placed["kind"])

	status, answer := staff.post("/api/orders/1/ship", "")
	require.Equal(t, http.StatusOK, status)
	assert.Equal(t, map[string]any{"delivered": 3.0, "stored": true}, answer["notified"])
	for _, window := range windows {
		data := window.Next("notification")["data"].(map[string]any)
		assert.Equal(t, "order.shipped", data["kind"])
		assert.EqualValues(t, 1, data["order"].(map[string]any)["id"])
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

func TestNotificationWaitsForTheCustomer(t *testing.T) {
	_, open := start(t)
	alice, staff := open(), open()
	require.Equal(t, http.StatusOK, alice.login("alice"))
	require.Equal(t, http.StatusOK, staff.login("staff"))
	alice.post("/api/orders", `{"item":"teapot"}`)
	_, answer := staff.post("/api/orders/1/ship", "")
	assert.Equal(t, map[string]any{"delivered": 0.0, "stored": true}, answer["notified"])

	window := wstest.Dial(t, alice.base+"/realtime", wstest.V1(""), wstest.Over(alice.http))
	inbox := window.Next("inbox")["messages"].([]any)
	require.Len(t, inbox, 1)
	assert.Equal(t, "notification", inbox[0].(map[string]any)["type"])
}

func TestWithoutLogin(t *testing.T) {
	_, open := start(t)
	b := open()
	assert.Equal(t, http.StatusUnauthorized, b.login("mallory"))
	for _, path := range []string{"/api/me", "/api/orders"} {
		status, _ := b.do(http.MethodGet, path, "", "")
		assert.Equal(t, http.StatusUnauthorized, status, path)
	}
	for _, path := range []string{"/api/orders", "/api/orders/1/ship"} {
		status, _ := b.post(path, `{"item":"x"}`)
		assert.Equal(t, http.StatusUnauthorized, status, path)
	}
	assert.Equal(t, http.StatusUnauthorized, wstest.Refused(t, b.base+"/realtime"))
	assert.Equal(t, http.StatusUnauthorized, wstest.Refused(t, b.base+"/realtime", wstest.Header("Cookie", "session=guess")))
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
	status, _ := bob.post("/api/orders/1/ship", "")
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

func TestCookieAndPage(t *testing.T) {
	_, open := start(t)
	response, err := http.PostForm(open().base+"/api/login", url.Values{"name": {"alice"}})
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Len(t, response.Cookies(), 1)
	cookie := response.Cookies()[0]
	assert.True(t, cookie.HttpOnly)
	assert.Equal(t, http.SameSiteLaxMode, cookie.SameSite)
	assert.GreaterOrEqual(t, len(cookie.Value), 26)

	page, err := http.Get(open().base + "/")
	require.NoError(t, err)
	require.NoError(t, page.Body.Close())
	assert.Equal(t, http.StatusOK, page.StatusCode)
	assert.Contains(t, page.Header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'")
}

// A logout ends the connections of its session and no others.
func TestLogout(t *testing.T) {
	s, open := start(t)
	alice, laptop := open(), open()
	require.Equal(t, http.StatusOK, alice.login("alice"))
	require.Equal(t, http.StatusOK, laptop.login("alice"))
	first, second, other := alice.connect(), alice.connect(), laptop.connect()
	status, _ := alice.post("/api/logout", "")
	assert.Equal(t, http.StatusNoContent, status)
	assert.Equal(t, 4101, first.Ended())
	assert.Equal(t, 4101, second.Ended())
	assert.Equal(t, http.StatusUnauthorized, wstest.Refused(t, alice.base+"/realtime", wstest.Over(alice.http)))

	other.Send(message{"type": "ping", "id": "p"})
	other.Next("pong")
	other.Close()
	assert.Len(t, s.sessions.all, 1)
}

// A session ends by time: the API and the open connection with it.
func TestSessionExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := newShop()
		require.NoError(t, err)
		s.sessions.life = 10 * time.Minute
		client := wstest.Serve(t, s.handler)
		defer func() { assert.NoError(t, s.hub.Shutdown(context.Background())) }()
		alice := newBrowser(t, "http://memory", client.Transport)
		require.Equal(t, http.StatusOK, alice.login("alice"))
		began := time.Now()
		window := alice.connect()
		assert.Equal(t, 4003, window.EndedWithin(time.Hour))
		assert.WithinDuration(t, began.Add(s.sessions.life), time.Now(), time.Minute)
		status, _ := alice.do(http.MethodGet, "/api/me", "", "")
		assert.Equal(t, http.StatusUnauthorized, status)
		require.Equal(t, http.StatusOK, alice.login("bob"))
		assert.Len(t, s.sessions.all, 1, "sessions that have expired are forgotten")
	})
}
