package main

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/examples/internal/wstest"
)

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
	for _, path := range []string{"/", "/inbox", "/orders/1", "/desk"} {
		_, html := b.page(path)
		assert.Contains(t, html, `data-page="login"`, path)
	}
	assert.Equal(t, http.StatusUnauthorized, wstest.Refused(t, b.base+"/realtime"))
	assert.Equal(t, http.StatusUnauthorized, wstest.Refused(t, b.base+"/realtime", wstest.Header("Cookie", "session=guess")))
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
	for path, want := range map[string]int{
		"/static/shell.js": http.StatusOK, "/parley-inbox.js": http.StatusOK,
		"/static/": http.StatusNotFound, "/static": http.StatusNotFound, "/web/login.html": http.StatusNotFound,
	} {
		status, _ := open().page(path)
		assert.Equal(t, want, status, path)
	}
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
	assert.Equal(t, 1, s.sessions.count(t))
}

// A session ends by time: the API and the open connection with it.
func TestSessionExpires(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, alice, end := inMemory(t, t.Output())
		defer end()
		s.sessions.life = 10 * time.Minute
		require.Equal(t, http.StatusOK, alice.login("alice"))
		began := time.Now()
		window := alice.connect()
		assert.Equal(t, 4003, window.EndedWithin(time.Hour))
		assert.WithinDuration(t, began.Add(s.sessions.life), time.Now(), time.Minute)
		status, _ := alice.do(http.MethodGet, "/api/me", "", "")
		assert.Equal(t, http.StatusUnauthorized, status)
		require.Equal(t, http.StatusOK, alice.login("bob"))
		assert.Equal(t, 1, s.sessions.count(t), "sessions that have expired are forgotten")
	})
}

func (ss *sessions) count(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, ss.db.QueryRowContext(t.Context(), "SELECT count(*) FROM sessions").Scan(&n))
	return n
}
