package parley

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// statusWriter is a logging middleware's writer, as nearly all of them look.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// gzipWriter is a compressing middleware's writer: it sets headers that
// describe a body, and compresses what is written.
type gzipWriter struct {
	http.ResponseWriter
	zip *gzip.Writer
}

func (w *gzipWriter) Write(p []byte) (int, error) { return w.zip.Write(p) }
func (w *gzipWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// opaqueWriter can neither be hijacked nor unwrapped.
type opaqueWriter struct{ http.ResponseWriter }

// brokenWriter fails to be hijacked.
type brokenWriter struct{ http.ResponseWriter }

func (brokenWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("no connection for the test")
}

type middleware func(http.Handler) http.Handler

func wrapWriter(wrap func(http.ResponseWriter) http.ResponseWriter) middleware {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(wrap(w), r) })
	}
}

func gzipped(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Vary", "Accept-Encoding")
		w.Header().Set("Content-Length", "7")
		next.ServeHTTP(&gzipWriter{w, gzip.NewWriter(w)}, r)
	})
}

// serveBehind starts a hub behind a middleware.
func serveBehind(t *testing.T, wrap middleware) *server {
	t.Helper()
	hub, err := New(Options{Authenticator: headerAuth, Logger: quiet(), MaxConnections: 2})
	require.NoError(t, err)
	return serveHandler(t, hub, wrap(hub))
}

func TestUpgradeThroughMiddleware(t *testing.T) {
	status := func(w http.ResponseWriter) http.ResponseWriter { return &statusWriter{ResponseWriter: w} }
	for name, wrap := range map[string]middleware{
		"logging":          wrapWriter(status),
		"gzip":             gzipped,
		"gzip in logging":  func(h http.Handler) http.Handler { return wrapWriter(status)(gzipped(h)) },
		"logging in gzip":  func(h http.Handler) http.Handler { return gzipped(wrapWriter(status)(h)) },
		"logging, 3 times": func(h http.Handler) http.Handler { w := wrapWriter(status); return w(w(w(h))) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serveBehind(t, wrap)
				s.bystanders()()
			})
			bubble(t, func(t *testing.T) {
				s := serveBehind(t, wrap)
				resp, conn, _ := s.exchange(request())
				require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
				for _, key := range []string{"Content-Encoding", "Content-Length", "Vary"} {
					require.Empty(t, resp.Header.Values(key), key)
				}
				require.NoError(t, conn.Close())
			})
		})
	}
}

// A writer that hides the connection cannot be upgraded; the answer says so.
func TestUpgradeWithoutHijacking(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serveBehind(t, wrapWriter(func(w http.ResponseWriter) http.ResponseWriter { return opaqueWriter{w} }))
		for range 5 { // more than MaxConnections: the slot is given back
			status, body, header := s.status(request())
			require.Equal(t, http.StatusNotImplemented, status)
			require.Equal(t, "WebSocket needs HTTP/1.1 and a ResponseWriter that can be hijacked or unwrapped", body)
			require.Empty(t, header.Get("Sec-WebSocket-Accept"))
		}
		require.EqualValues(t, 5, s.Stats().RefusedHandshake)
		require.Zero(t, s.Stats().Accepted)
	})
}

func TestUpgradeWithFailingHijack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serveBehind(t, wrapWriter(func(w http.ResponseWriter) http.ResponseWriter { return brokenWriter{w} }))
		status, body, _ := s.status(request())
		require.Equal(t, http.StatusInternalServerError, status)
		require.Equal(t, "the connection could not be taken over", body)
	})
}

func TestUpgradeKeepsCookies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serveBehind(t, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.SetCookie(w, &http.Cookie{Name: "session", Value: "1"})
				http.SetCookie(w, &http.Cookie{Name: "theme", Value: "dark", Path: "/"})
				w.Header().Set("X-Other", "dropped")
				next.ServeHTTP(w, r)
			})
		})
		resp, conn, _ := s.exchange(request())
		require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		require.Equal(t, []string{"session=1", "theme=dark; Path=/"}, resp.Header.Values("Set-Cookie"))
		require.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", accept(t, s, "dGhlIHNhbXBsZSBub25jZQ=="), "RFC 6455, section 1.3")
		require.Equal(t, "websocket", resp.Header.Get("Upgrade"))
		require.NoError(t, conn.Close())
	})
}

func accept(t *testing.T, s *server, key string) string {
	t.Helper()
	resp, conn, _ := s.exchange(request("Sec-WebSocket-Key", key))
	require.NoError(t, conn.Close())
	return resp.Header.Get("Sec-WebSocket-Accept")
}

// What a client sends right behind its request, without waiting for the
// answer, is not lost, however much it is.
func TestUpgradeKeepsEarlyBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		sent := []byte(request())
		for range 5 {
			sent = append(sent, rawText(`{"type":"ping","id":"early"}`)...)
		}
		long := `{"type":"ping","id":"long","data":"` + strings.Repeat("x", 10_000) + `"}`
		sent = append(sent, rawText(long)...)

		conn, err := s.listener.dial(context.Background())
		require.NoError(t, err)
		c := newEarlyClient(t, conn, sent)
		c.expect("connected")
		for range 5 {
			require.Equal(t, "early", c.expect("pong").str("id"))
		}
		require.Equal(t, "long", c.expect("pong").str("id"))
	})
}

// newEarlyClient writes sent and reads the response beside it.
func newEarlyClient(t *testing.T, conn net.Conn, sent []byte) *rawClient {
	t.Helper()
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		failed <- err
	}()
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	c := newRawClient(t, conn, r)
	c.readOn()
	require.NoError(t, <-failed)
	return c
}

func TestUpgradeRefusals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{MaxConnections: 2})
		for _, tc := range []struct {
			name, request, body string
			status              int
		}{
			{"plain GET", request("Upgrade", "", "Connection", "close"), "this is a WebSocket endpoint", http.StatusUpgradeRequired},
			{"other protocol", request("Upgrade", "h2c"), "this is a WebSocket endpoint", http.StatusUpgradeRequired},
			{"no Connection", request("Connection", "close"), "Connection", http.StatusUpgradeRequired},
			{"HTTP/1.0", strings.Replace(request(), "HTTP/1.1", "HTTP/1.0", 1), "HTTP/1.1", http.StatusUpgradeRequired},
			{"POST", strings.Replace(request("Content-Length", "0"), "GET", "POST", 1), "GET", http.StatusMethodNotAllowed},
			{"HEAD", strings.Replace(request(), "GET", "HEAD", 1), "", http.StatusMethodNotAllowed},
			{"no key", request("Sec-WebSocket-Key", ""), "Sec-WebSocket-Key", http.StatusBadRequest},
			{"short key", request("Sec-WebSocket-Key", "AAAA"), "Sec-WebSocket-Key", http.StatusBadRequest},
			{"bad key", request("Sec-WebSocket-Key", "!"), "Sec-WebSocket-Key", http.StatusBadRequest},
			{"no version", request("Sec-WebSocket-Version", ""), "version", http.StatusBadRequest},
			{"old version", request("Sec-WebSocket-Version", "8"), "version", http.StatusBadRequest},
		} {
			sent := tc.request
			if !strings.Contains(sent, "Connection: close") {
				// Makes the server end the connection, so that the body can be read.
				sent = strings.Replace(sent, "Connection: Upgrade", "Connection: Upgrade, close", 1)
			}
			if tc.name == "HEAD" {
				resp, conn, _ := s.exchange(sent)
				require.Equal(t, tc.status, resp.StatusCode, tc.name)
				require.NoError(t, conn.Close())
				continue
			}
			status, body, header := s.status(sent)
			require.Equal(t, tc.status, status, tc.name)
			require.Contains(t, body, tc.body, tc.name)
			if status == http.StatusUpgradeRequired && tc.name != "HTTP/1.0" {
				require.Equal(t, "websocket", header.Get("Upgrade"), tc.name)
			}
		}
		synctest.Wait()
		require.EqualValues(t, 11, s.Stats().RefusedHandshake)
		require.Zero(t, s.Stats().Connections)
		s.bystanders()() // all slots were given back
	})
}

// A client that is gone before the 101 can be written costs no log line, not
// even one of net/http's.
func TestUpgradeOfVanishedClientIsQuiet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		vanished := make(chan struct{})
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		hub, err := New(Options{MaxConnections: 1, Logger: logger, Authenticator: AuthenticatorFunc(func(*http.Request) (Identity, error) {
			<-vanished
			return Identity{}, nil
		})})
		require.NoError(t, err)
		s := serveLogging(t, hub, hub, logger)
		conn, err := s.listener.dial(context.Background())
		require.NoError(t, err)
		_, err = io.WriteString(conn, request())
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		close(vanished)
		synctest.Wait()
		require.Empty(t, log.String())
		require.Zero(t, s.Stats().Connections)
		require.EqualValues(t, 1, s.Stats().RefusedHandshake)
		s.plain() // the slot was given back
	})
}

// S5: the token entry is never echoed, in whatever order the entries come.
func TestSubprotocolTokenIsNotEchoed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var tokens []string
		s := serve(t, Options{Authenticator: AuthenticatorFunc(func(r *http.Request) (Identity, error) {
			tokens = append(tokens, Token(r))
			return Identity{}, nil
		})})
		entry := subprotocolToken + base64.RawURLEncoding.EncodeToString([]byte("s3cret/+token"))
		for _, tc := range []struct {
			offer, chosen string
			token         string
		}{
			{"parley.v1, " + entry, "parley.v1", "s3cret/+token"},
			{entry + ",parley.v1", "parley.v1", "s3cret/+token"},
			{entry + ", graphql-ws ,\tparley.v1", "parley.v1", "s3cret/+token"},
			{entry, "", "s3cret/+token"},
			{"parley.v1", "parley.v1", ""},
			{"parley.v2", "", ""},
			{"", "", ""},
		} {
			resp, conn, _ := s.exchange(request("Sec-WebSocket-Protocol", tc.offer))
			require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
			require.Equal(t, tc.chosen, resp.Header.Get("Sec-WebSocket-Protocol"), tc.offer)
			require.NotContains(t, strings.ToLower(dumpHeader(resp.Header)), "token")
			require.Equal(t, tc.token, tokens[len(tokens)-1], tc.offer)
			require.NoError(t, conn.Close())
		}
	})
}

func dumpHeader(h http.Header) string {
	var b strings.Builder
	_ = h.Write(&b)
	return b.String()
}

// P1.2: who is told that parley.v1 was chosen is a v1 client, also if it
// wrote it in another case.
func TestSubprotocolCase(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c := s.raw("Sec-WebSocket-Protocol", "Parley.V1")
		require.Equal(t, s.Conn(c.id).v1, true)
	})
}
