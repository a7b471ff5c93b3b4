package parley

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func getClient(t *testing.T, header map[string]string) *http.Response {
	t.Helper()
	return getModule(t, ClientJS(), header)
}

func getModule(t *testing.T, module http.Handler, header map[string]string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/static/some.js?v=1", nil)
	for key, value := range header {
		r.Header.Set(key, value)
	}
	w := httptest.NewRecorder()
	module.ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t *testing.T, r *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return b
}

// What the hub serves is what is published, byte for byte: js/test/package.test.js
// compares the package with the same file.
func TestClientJSIsThePublishedFile(t *testing.T) {
	isPublished(t, ClientJS(), "js/parley.js")
}

func TestInboxJSIsThePublishedFile(t *testing.T) {
	isPublished(t, InboxJS(), "js/inbox.js")
	require.NotEqual(t, getModule(t, ClientJS(), nil).Header.Get("ETag"), getModule(t, InboxJS(), nil).Header.Get("ETag"))
}

func isPublished(t *testing.T, module http.Handler, path string) {
	t.Helper()
	published, err := os.ReadFile(path)
	require.NoError(t, err)

	plain := getModule(t, module, nil)
	require.Equal(t, http.StatusOK, plain.StatusCode)
	require.Empty(t, plain.Header.Get("Content-Encoding"))
	require.Equal(t, strconv.Itoa(len(published)), plain.Header.Get("Content-Length"))
	require.Equal(t, string(published), string(bodyOf(t, plain)))

	zipped := getModule(t, module, map[string]string{"Accept-Encoding": "gzip, deflate, br"})
	require.Equal(t, http.StatusOK, zipped.StatusCode)
	require.Equal(t, "gzip", zipped.Header.Get("Content-Encoding"))
	body := bodyOf(t, zipped)
	require.Equal(t, strconv.Itoa(len(body)), zipped.Header.Get("Content-Length"))
	require.Less(t, len(body), len(published)/2)
	unzip, err := gzip.NewReader(bytes.NewReader(body))
	require.NoError(t, err)
	unzipped, err := io.ReadAll(unzip)
	require.NoError(t, err)
	require.Equal(t, string(published), string(unzipped))

	for _, r := range []*http.Response{plain, zipped} {
		require.Equal(t, "text/javascript; charset=utf-8", r.Header.Get("Content-Type"))
		require.Equal(t, "no-cache", r.Header.Get("Cache-Control"))
		require.Equal(t, "nosniff", r.Header.Get("X-Content-Type-Options"))
		require.Equal(t, []string{"Accept-Encoding"}, r.Header.Values("Vary"))
	}
	require.NotEqual(t, plain.Header.Get("ETag"), zipped.Header.Get("ETag"))
}

func TestClientJSIsRevalidated(t *testing.T) {
	for _, encoding := range []string{"", "gzip"} {
		accept := map[string]string{"Accept-Encoding": encoding}
		first := getClient(t, accept)
		require.Regexp(t, `^"[0-9a-f]{16}(-gzip)?"$`, first.Header.Get("ETag"))
		accept["If-None-Match"] = first.Header.Get("ETag")
		again := getClient(t, accept)
		require.Equal(t, http.StatusNotModified, again.StatusCode)
		require.Empty(t, bodyOf(t, again))
		require.Equal(t, []string{"Accept-Encoding"}, again.Header.Values("Vary"))

		other := "gzip"
		if encoding == other {
			other = ""
		}
		accept["Accept-Encoding"] = other
		require.Equal(t, http.StatusOK, getClient(t, accept).StatusCode, "the other form is another representation")
	}
}

func TestClientJSRange(t *testing.T) {
	for _, encoding := range []string{"", "gzip"} {
		whole := bodyOf(t, getClient(t, map[string]string{"Accept-Encoding": encoding}))
		part := getClient(t, map[string]string{"Accept-Encoding": encoding, "Range": "bytes=10-19"})
		require.Equal(t, http.StatusPartialContent, part.StatusCode)
		require.Equal(t, "10", part.Header.Get("Content-Length"))
		require.Equal(t, whole[10:20], bodyOf(t, part))
	}
}

func TestClientJSEncoding(t *testing.T) {
	for accept, gzipped := range map[string]bool{
		"":                            false,
		"identity":                    false,
		"br":                          false,
		"gzip":                        true,
		"GZip":                        true,
		"x-gzip":                      true,
		"br;q=1.0, gzip;q=0.8, *;q=0": true,
		"gzip;q=0":                    false,
		"gzip;q=0.000":                false,
		"gzip; q=0.5":                 true,
		"gzip;Q=1":                    true,
		"gzip;q=2":                    false,
		"gzip;q=-1":                   false,
		"gzip;q=NaN":                  false,
		"gzip;q=":                     false,
		"gzip;level=9":                false,
		"*":                           true,
		"*;q=0":                       false,
		"*;q=0.1, gzip;q=0":           false,
		"gzip;q=0, *":                 false,
		"not-gzip, gzipped":           false,
		",,;,gzip":                    true,
	} {
		r := getClient(t, map[string]string{"Accept-Encoding": accept})
		require.Equal(t, gzipped, r.Header.Get("Content-Encoding") == "gzip", "Accept-Encoding: %s", accept)
	}
}
