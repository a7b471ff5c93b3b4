package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/sqlstore/pgtest"
	"github.com/parley-go/parley/examples/internal/wstest"
)

type message = wstest.Message

// sqlite opens the SQLite database at a path.
func sqlite(t *testing.T, path string) database {
	t.Helper()
	db, err := openDatabase("", path)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// eachDatabase runs a test on SQLite and on PostgreSQL.
func eachDatabase(t *testing.T, f func(t *testing.T, db database)) {
	t.Run("SQLite", func(t *testing.T) { f(t, sqlite(t, filepath.Join(t.TempDir(), "a shop?.db"))) })
	t.Run("PostgreSQL", func(t *testing.T) {
		db, err := openDatabase(pgtest.Start(t), "")
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, db.Close()) })
		f(t, db)
	})
}

// serve runs a shop until stop is called or the test ends.
func serve(t *testing.T, db database) (s *shop, base string, stop func()) {
	t.Helper()
	s, err := newShop(t.Context(), db, t.Output())
	require.NoError(t, err)
	server := httptest.NewServer(s.handler)
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			assert.NoError(t, s.Shutdown(context.Background()))
			server.Close()
			s.close()
		}
	}
	t.Cleanup(stop)
	return s, server.URL, stop
}

// start serves a shop and returns a function that opens browsers.
func start(t *testing.T) (*shop, func() *browser) {
	t.Helper()
	s, base, _ := serve(t, sqlite(t, filepath.Join(t.TempDir(), "shop.db")))
	return s, func() *browser { return newBrowser(t, base, http.DefaultTransport) }
}

// browser is a client with cookies of its own.
type browser struct {
	t    *testing.T
	base string
	http *http.Client
}

// inMemory runs a shop for a test in a synctest bubble, and opens a browser.
func inMemory(t *testing.T, mails io.Writer) (s *shop, b *browser, end func()) {
	t.Helper()
	db, err := openDatabase("", filepath.Join(t.TempDir(), "shop.db"))
	require.NoError(t, err)
	s, err = newShop(t.Context(), db, mails)
	require.NoError(t, err)
	client := wstest.Serve(t, s.handler)
	return s, newBrowser(t, "http://memory", client.Transport), func() {
		assert.NoError(t, s.Shutdown(context.Background()))
		s.close()
		assert.NoError(t, db.Close())
	}
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

// page loads a page and returns its HTML.
func (b *browser) page(path string) (int, string) {
	b.t.Helper()
	response, err := b.http.Get(b.base + path)
	require.NoError(b.t, err)
	defer response.Body.Close()
	html, err := io.ReadAll(response.Body)
	require.NoError(b.t, err)
	return response.StatusCode, string(html)
}

// arrive opens a realtime connection and reads until the notification of this
// id is there, be it in the inbox or live. It returns the ids of all, and the newest count.
func (b *browser) arrive(id string) (window *wstest.Client, ids []any, unread any) {
	b.t.Helper()
	window = wstest.Dial(b.t, b.base+"/realtime", wstest.V1(""), wstest.Over(b.http))
	for !slices.Contains(ids, any(id)) {
		switch m := window.Read(); m["type"] {
		case "inbox":
			for _, each := range m["messages"].([]any) {
				ids = append(ids, each.(map[string]any)["id"])
			}
			unread = m["unread"]
		case "notification":
			ids = append(ids, m["id"])
			unread = m["unread"]
		}
	}
	return window, ids, unread
}
