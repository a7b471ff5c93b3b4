package parley

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// logBuffer collects what a logger writes.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func textLogger(l *logBuffer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
}

// S35: whatever users send, a log line stays one line, and at level info
// neither payloads, nor names, nor tokens are in it.
func TestLogsAreOneLineEachAndWithoutPayloads(t *testing.T) {
	const secret = "s3cret-payload"
	record := regexp.MustCompile(`^time=\S+ level=(DEBUG|INFO|WARN|ERROR) msg="parley: `)
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		bubble(t, func(t *testing.T) {
			var log logBuffer
			s := serve(t, Options{
				ClientBroadcast: true,
				Logger:          textLogger(&log, level),
				Authenticator: AuthenticatorFunc(func(r *http.Request) (Identity, error) {
					if name := r.Header.Get("X-Bad"); name != "" {
						return Identity{ID: "a\nlevel=ERROR msg=\"parley: forged\"" + name}, nil
					}
					if token := Token(r); token != "" {
						return Identity{}, errors.New("bad token\nlevel=ERROR msg=\"parley: forged\"")
					}
					return headerAuth(r)
				}),
				Authorize: func(_ context.Context, _ *Conn, a Access) error {
					if a.Room == "closed" {
						return errors.New("no\nlevel=ERROR msg=\"parley: forged\"")
					}
					return nil
				},
			})
			On(s.Hub, "fails", func(context.Context, *Conn, struct{}) (int, error) {
				return 0, errors.New("first line\nlevel=ERROR msg=\"parley: forged\"")
			})
			On(s.Hub, "panics", func(context.Context, *Conn, struct{}) (int, error) {
				panic("first line\nlevel=ERROR msg=\"parley: forged\"")
			})
			s.status(request("X-Bad", "x"))
			s.status(request("Authorization", "Bearer "+secret))
			s.status(request("Origin", "https://"+secret+".example"))

			c := s.connect(dialOptions{user: secret, name: secret})
			for _, text := range []string{
				`{"type":"join","room":"` + secret + `","username":"` + secret + `"}`,
				`{"type":"message","content":"` + secret + `"}`,
				`{"type":"broadcast","message":"` + secret + `"}`,
				`{"type":"private","targetId":"` + secret + `","message":"` + secret + `"}`,
				`{"type":"private","targetId":"nobody-` + secret + `","message":"` + secret + `"}`,
				`{"type":"` + secret + `\nlevel=ERROR msg=\"parley: forged\""}`,
				`{"type":"message","room":"\nforged","content":1}`,
				`{"type":"join","room":"closed"}`,
				`{"type":"call","id":"1","method":"` + secret + `","data":"` + secret + `"}`,
				`{"type":"call","id":"1","method":"fails","data":{"x":"` + secret + `"}}`,
				`{"type":"ping","id":"1"} ` + secret,
			} {
				c.send(text)
			}
			c.send(`{"type":"call","id":"1","method":"panics","data":{"x":"` + secret + `"}}`)
			require.Equal(t, CloseInternal, c.closeCode())
			raw := s.raw()
			raw.write(rawClose(CloseNormal, secret+"\nlevel=ERROR msg=\"parley: forged\""))
			raw.expectClosed(CloseNormal)
			_, err := s.Notify(t.Context(), secret, secret)
			require.NoError(t, err)
			synctest.Wait()

			text := log.String()
			require.Contains(t, text, "handler failed")
			require.Contains(t, text, "identity that cannot be used")
			for line := range strings.Lines(text) {
				require.Regexp(t, record, line)
				require.NotContains(t, line, `"parley: forged"`)
			}
			if level == slog.LevelInfo {
				require.NotContains(t, text, secret)
				require.Equal(t, 3, strings.Count(text, "\n"), "one line for each fault of the application, none for a client's:\n%s", text)
			}
		})
	}
}

// A handshake that fails, of which anybody can cause any number, is not
// worth a line at level info, neither of the hub nor of net/http.
func TestFailedHandshakesAreNotLogged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log logBuffer
		logger := textLogger(&log, slog.LevelInfo)
		hub, err := New(Options{Authenticator: headerAuth, Logger: logger, MaxConnections: 1, MaxPerUser: 1})
		require.NoError(t, err)
		s := serveLogging(t, hub, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Opaque") != "" {
				w = opaqueWriter{w}
			}
			hub.ServeHTTP(w, r)
		}), logger)
		for _, headers := range [][]string{
			{"Origin", "https://evil.com"}, {"Origin", "null"}, {"X-Refuse", "1"},
			{"Upgrade", "h2c", "Connection", "close"}, {"Sec-WebSocket-Key", "bad", "Connection", "Upgrade, close"},
			{"X-Opaque", "1", "Connection", "Upgrade, close"},
		} {
			status, _, _ := s.status(request(headers...))
			require.GreaterOrEqual(t, status, 400)
		}
		c := s.raw()
		status, _, _ := s.status(request())
		require.Equal(t, http.StatusServiceUnavailable, status)
		c.write([]byte("no WebSocket frames"))
		c.expectClosed(CloseProtocol)
		for range 2 {
			synctest.Wait() // the only slot is free
			require.NoError(t, s.raw().conn.Close())
		}
		synctest.Wait()
		require.Empty(t, log.String())
	})
}

// S36: Stats is of a fixed set of numbers, whatever names users invent.
func TestStatsHaveNoLabels(t *testing.T) {
	for field := range reflect.TypeFor[Stats]().Fields() {
		kind := field.Type.Kind()
		require.True(t, kind == reflect.Int || kind == reflect.Uint64, "%s is %s", field.Name, field.Type)
	}
}

// What the counters count, from one conversation.
func TestStats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		require.Equal(t, Stats{Topics: 1}, s.Stats())
		kim, lee := s.plain(), s.plain()
		sent := `{"type":"private","targetId":"` + lee.id + `","message":1}`
		kim.send(sent)
		lee.expect("private")
		kim.send(`{"type":"message","content":1}`)
		kim.expectError(CodeNotMember)
		s.status(request("X-Refuse", "1"))
		synctest.Wait()
		stats := s.Stats()
		require.Equal(t, 2, stats.Connections)
		require.EqualValues(t, 2, stats.Accepted)
		require.EqualValues(t, 1, stats.RefusedAuth)
		require.EqualValues(t, 2, stats.Received)
		require.EqualValues(t, len(sent)+len(`{"type":"message","content":1}`), stats.ReceivedBytes)
		require.EqualValues(t, 1, stats.Refused)
		require.EqualValues(t, 4, stats.Delivered, "two greetings, the private message and the error")
		require.EqualValues(t, 4, stats.Written)
		require.NotZero(t, stats.WrittenBytes)
		require.Zero(t, stats.Dropped+stats.Panics+stats.HandlerErrors+stats.StoreErrors+stats.ProtocolViolations)
	})
}
