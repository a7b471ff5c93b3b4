package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serving is a node that answers with its name, and with what it was asked.
func serving(t *testing.T, name string, state state) *worker {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Node", name)
		w.Header().Set("Asked", r.Host+" "+r.Header.Get("X-Forwarded-For")+" "+r.URL.RequestURI())
	}))
	t.Cleanup(server.Close)
	return &worker{name: name, now: view{State: state, addr: strings.TrimPrefix(server.URL, "http://")}}
}

// ask asks a cluster of these nodes through its handler, from an address of this machine.
func ask(t *testing.T, c *cluster, method, path string, change ...func(r *http.Request)) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, "http://localhost:8080"+path, nil)
	r.RemoteAddr = "127.0.0.1:5000"
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	c.handler().ServeHTTP(w, r)
	return w.Result()
}

func of(workers ...*worker) *cluster {
	return &cluster{engine: &engine{name: "test"}, workers: workers, proxy: newProxy(workers)}
}

func TestProxyTakesTurns(t *testing.T) {
	c := of(serving(t, "a", stateReady), serving(t, "b", stateReady), serving(t, "c", stateReady))
	var got []string
	for range 6 {
		got = append(got, ask(t, c, "GET", "/nodes").Header.Get("Node"))
	}
	assert.Equal(t, []string{"a", "b", "c", "a", "b", "c"}, got)
}

// F23: that a node has died a moment ago is nothing that a client notices.
func TestProxyTriesAnotherNode(t *testing.T) {
	dead, unready, ready := serving(t, "dead", stateReady), serving(t, "unready", stateUnready), serving(t, "ready", stateReady)
	server := httptest.NewServer(nil)
	dead.now.addr = strings.TrimPrefix(server.URL, "http://")
	server.Close()
	starting := &worker{name: "starting"}
	c := of(dead, unready, starting, ready)
	for range 8 {
		assert.Equal(t, "ready", ask(t, c, "GET", "/nodes").Header.Get("Node"))
	}
	ready.set(func(v *view) { v.addr = dead.now.addr })
	assert.Equal(t, "unready", ask(t, c, "GET", "/nodes").Header.Get("Node"), "better than none")
	unready.set(func(v *view) { *v = view{State: stateDown} })
	response := ask(t, c, "GET", "/realtime")
	assert.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	assert.Equal(t, "1", response.Header.Get("Retry-After"))
}

func TestProxyTellsWhoAsks(t *testing.T) {
	c := of(serving(t, "a", stateReady))
	response := ask(t, c, "GET", "/nodes?x=1", func(r *http.Request) {
		r.RemoteAddr = "192.0.2.7:1234"
		r.Header.Set("X-Forwarded-For", "10.0.0.1") // a lie
	})
	assert.Equal(t, "localhost:8080 192.0.2.7 /nodes?x=1", response.Header.Get("Asked"))
	for _, path := range []string{"/ready", "/healthz", "/nothing", "/chat/", "/chat/web.go", "/js/"} {
		assert.Equal(t, http.StatusNotFound, ask(t, c, "GET", path).StatusCode, "%s is for nobody outside", path)
	}
}

// S34: the page cannot run what a stranger wrote.
func TestPage(t *testing.T) {
	c := of(serving(t, "a", stateReady))
	for path, contentType := range map[string]string{
		"/":                  "text/html; charset=utf-8",
		"/js/main.js":        "text/javascript; charset=utf-8",
		"/chat/js/log.js":    "text/javascript; charset=utf-8",
		"/chat/css/base.css": "text/css; charset=utf-8",
		"/chat/icon.svg":     "image/svg+xml",
		"/parley.js":         "text/javascript; charset=utf-8",
	} {
		response := ask(t, c, "GET", path)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, response.StatusCode, path)
		assert.NotEmpty(t, body, path)
		assert.Equal(t, contentType, response.Header.Get("Content-Type"), path)
		assert.Contains(t, response.Header.Get("Content-Security-Policy"), "default-src 'none'", path)
	}
}

// Whoever can make the browser of somebody send requests must not kill processes.
func TestKillIsForWhoSitsHere(t *testing.T) {
	w := serving(t, "node-1", stateReady) // it has no process: who may kill it is told so
	c := of(w)
	host := func(name string) func(r *http.Request) { return func(r *http.Request) { r.Host = name } }
	from := func(addr string) func(r *http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
	header := func(name, value string) func(r *http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for name, each := range map[string]struct {
		change func(r *http.Request)
		status int
	}{
		"a script":                  {func(*http.Request) {}, http.StatusConflict},
		"the page":                  {header("Sec-Fetch-Site", "same-origin"), http.StatusConflict},
		"an old browser":            {header("Origin", "http://localhost:8080"), http.StatusConflict},
		"IPv4":                      {host("127.0.0.1:8080"), http.StatusConflict},
		"IPv6":                      {func(r *http.Request) { r.Host, r.RemoteAddr = "[::1]:8080", "[::1]:5000" }, http.StatusConflict},
		"another site":              {header("Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		"another port":              {header("Sec-Fetch-Site", "same-site"), http.StatusForbidden},
		"another origin":            {header("Origin", "http://evil.example"), http.StatusForbidden},
		"a name for here":           {host("evil.example:8080"), http.StatusForbidden}, // DNS rebinding
		"localhost only at the end": {host("evil.localhost"), http.StatusForbidden},
		"another machine":           {from("192.0.2.7:5000"), http.StatusForbidden},
		"no address":                {from("@"), http.StatusForbidden},
	} {
		assert.Equal(t, each.status, ask(t, c, "POST", "/cluster/node-1/kill", each.change).StatusCode, name)
	}
	assert.Equal(t, http.StatusNotFound, ask(t, c, "POST", "/cluster/node-9/kill").StatusCode)
	assert.Equal(t, http.StatusNotFound, ask(t, c, "GET", "/cluster/node-1/kill").StatusCode, "a link does not kill")

	r := httptest.NewRequest("GET", "http://localhost/cluster", nil)
	r.RemoteAddr = netip.MustParseAddrPort("[::ffff:127.0.0.1]:5000").String()
	assert.True(t, mayKill(r), "as a socket for both families says it")
}

func TestParse(t *testing.T) {
	t.Setenv("HOST", "")
	t.Setenv("PORT", "")
	s, err := parse(nil)
	require.NoError(t, err)
	assert.Equal(t, "localhost:8080", s.addr)
	assert.Equal(t, 3, s.nodes)
	t.Setenv("PORT", "0")
	s, err = parse([]string{"-engine=nats"})
	require.NoError(t, err)
	assert.Equal(t, settings{addr: "localhost:0", engine: "nats", nodes: 3, restart: s.restart}, s)
	for _, bad := range [][]string{{"redis"}, {"-nodes=0"}, {"-nodes=10"}, {"-restart=-1s"}} {
		_, err := parse(bad)
		assert.Error(t, err, bad)
	}
	_, err = startEngine(t.Context(), "postgres")
	assert.ErrorContains(t, err, "must be redis or nats")
}
