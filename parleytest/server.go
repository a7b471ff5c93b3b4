package parleytest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-go/parley"
)

const (
	// defaultURL is where README and package documentation mount the hub.
	defaultURL = "ws://parley.test/realtime"
	// shutdownBudget is how long the cleanup waits for application code.
	shutdownBudget = 10 * time.Second
)

// Authenticator takes the identity that a client was given by [User] or [Identity]; without
// one it is anonymous. It refuses requests that did not come through a
// [Server] of this package, so that it is of no use outside of tests.
var Authenticator parley.Authenticator = parley.AuthenticatorFunc(func(r *http.Request) (parley.Identity, error) {
	link, ok := r.Context().Value(linkKey{}).(*Link)
	if !ok {
		return parley.Identity{}, errors.New("parleytest.Authenticator is for requests to a parleytest.Server only")
	}
	return link.identity, nil
})

type linkKey struct{}

// Server is a hub behind a real HTTP server on a [Network] in memory. It ends
// with the test.
type Server struct {
	Hub     *parley.Hub
	Network *Network

	// URL is what clients connect to. Set it, before the first client connects, if
	// the hub is mounted somewhere else, or asks for another host. It must
	// begin with ws://. Default "ws://parley.test/realtime".
	URL string
	// Timeout is how long a client waits for what it expects. Default 10 s; in a
	// synctest bubble, where it costs nothing, a minute of its time.
	Timeout time.Duration

	t      testing.TB
	bubble bool
	turn   chan struct{} // held while settling in a bubble: only one may wait there

	mu      sync.Mutex // guards the fields below
	clients []*Client
	labels  map[string]int
}

// NewServer starts a hub with these options. Two of them have other defaults
// than usual: Authenticator is [Authenticator], and Logger writes to the log of
// the test. The hub is shut down at the end of the test.
func NewServer(t testing.TB, opts parley.Options) *Server {
	t.Helper()
	out := &testLog{t: t}
	if opts.Authenticator == nil {
		opts.Authenticator = Authenticator
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.NewTextHandler(out, nil))
	}
	hub, err := parley.New(opts)
	if err != nil {
		t.Fatalf("parleytest: %v", err)
	}
	return serve(t, hub, hub, out)
}

// Serve starts an HTTP server with a hub and handler of your own: the service
// as it is, with the hub mounted at the path of [Server.URL]. The hub's Authenticator
// may be [Authenticator] or a real one; [Header] sends it what it needs. Server
// and hub are shut down at the end of the test.
func Serve(t testing.TB, hub *parley.Hub, handler http.Handler) *Server {
	t.Helper()
	return serve(t, hub, handler, &testLog{t: t})
}

func serve(t testing.TB, hub *parley.Hub, handler http.Handler, out *testLog) *Server {
	s := &Server{
		Hub: hub, Network: NewNetwork(), URL: defaultURL, Timeout: 10 * time.Second,
		t: t, bubble: inBubble(), turn: make(chan struct{}, 1), labels: make(map[string]int),
	}
	if s.bubble {
		s.Timeout = time.Minute
	}
	web := &http.Server{
		Handler: handler, ErrorLog: log.New(out, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if conn, ok := c.(*Conn); ok {
				ctx = context.WithValue(ctx, linkKey{}, conn.link)
			}
			return ctx
		},
	}
	listener := s.Network.Listen()
	var served sync.WaitGroup
	served.Go(func() { _ = web.Serve(listener) })
	t.Cleanup(func() {
		s.end(web)
		served.Wait()
		out.end()
	})
	return s
}

// inBubble reports whether the caller runs in a synctest bubble. Wait is the
// only thing in the standard library that tells.
func inBubble() (yes bool) {
	defer func() { yes = recover() == nil }()
	synctest.Wait()
	return
}

// end ends everything without waiting for anybody: links may be stalled.
func (s *Server) end(web *http.Server) {
	s.Network.Refuse(true)
	s.Network.Cut()
	ctx, cancel := context.WithTimeout(context.Background(), shutdownBudget)
	defer cancel()
	if err := s.Hub.Shutdown(ctx); err != nil {
		s.t.Errorf("parleytest: the hub did not shut down within %v, hooks, handlers or a Store still run: %v", shutdownBudget, err)
	}
	_ = web.Close()
	for _, c := range s.everybody() {
		<-c.done
	}
}

// HTTPClient returns a client for the other routes of the service, and for the
// Go client of package client:
//
//	c, err := client.Connect(ctx, srv.URL, client.Options{HTTPClient: srv.HTTPClient(parleytest.User("kim"))})
//
// Every host is this server. Of the options, User, Identity, IP and Header count.
func (s *Server) HTTPClient(options ...Option) *http.Client {
	o := collect(options)
	return &http.Client{Transport: withHeader{o.header, s.transport(&o, nil)}}
}

// Links returns the live links that were dialled for a user, by [User] or
// [Identity], the newest last; for "" those of anonymous clients.
func (s *Server) Links(userID string) []*Link {
	return slices.DeleteFunc(s.Network.Links(), func(l *Link) bool { return l.identity.ID != userID })
}

// transport makes connections of the identity in o; link, if it is not nil, is set to the last one.
func (s *Server) transport(o *dialOptions, link **Link) *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true, // an idle connection would be one of the Links
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := s.Network.dial(ctx, o.ip, o.identity)
			if err != nil {
				return nil, err
			}
			if link != nil {
				*link = c.link
			}
			return c, nil
		},
	}
}

// withHeader adds headers to every request.
type withHeader struct {
	header http.Header
	next   http.RoundTripper
}

func (h withHeader) RoundTrip(r *http.Request) (*http.Response, error) {
	if len(h.header) > 0 {
		r = r.Clone(r.Context())
		for key, values := range h.header {
			r.Header[key] = append(r.Header[key], values...)
		}
	}
	return h.next.RoundTrip(r)
}

// Connect connects a client and returns when it has been greeted. A refusal fails the test.
//
// The messages "connected" and "inbox", with which every connection begins, are
// in [Client.Connected] and [Client.Inbox] and need not be expected.
func (s *Server) Connect(options ...Option) *Client {
	s.t.Helper()
	return s.connect(collect(options))
}

func (s *Server) connect(o dialOptions) *Client {
	s.t.Helper()
	c, resp, err := s.dial(o)
	if err != nil {
		s.t.Fatalf("parleytest: %s could not connect: %s", c.label, refusal(resp, err))
	}
	c.greeted()
	return c
}

// ExpectRefused fails the test unless the handshake is refused with this HTTP
// status. It returns the text of the refusal.
func (s *Server) ExpectRefused(status int, options ...Option) string {
	s.t.Helper()
	c, resp, err := s.dial(collect(options))
	switch {
	case err == nil:
		s.t.Fatalf("parleytest: %s: expected a refusal with status %d, but was let in", c.label, status)
	case resp == nil || resp.StatusCode != status:
		s.t.Fatalf("parleytest: %s: expected a refusal with status %d, got %s", c.label, status, refusal(resp, err))
	}
	return body(resp)
}

// dial makes the handshake and, if it succeeds, starts to read.
func (s *Server) dial(o dialOptions) (*Client, *http.Response, error) {
	c := newClient(s, o)
	ctx, cancel := context.WithTimeout(context.Background(), s.Timeout)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, s.URL, &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: s.transport(&o, &c.link)},
		HTTPHeader:   o.header,
		Subprotocols: o.protocols(),
	})
	if err != nil {
		return c, resp, err
	}
	c.start(ws)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = append(s.clients, c)
	return c, resp, nil
}

func refusal(resp *http.Response, err error) string {
	if resp == nil {
		return err.Error()
	}
	return fmt.Sprintf("status %d: %s", resp.StatusCode, body(resp))
}

// body reads what the WebSocket library has kept of a refusal.
func body(resp *http.Response) string {
	p, _ := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(p))
}

// label names a client in failures.
func (s *Server) label(user string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.labels[user]++
	n := s.labels[user]
	if user == "" {
		user = "anonymous"
	}
	if n > 1 {
		return fmt.Sprintf("%s#%d", user, n)
	}
	return user
}

func (s *Server) everybody() []*Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.clients)
}

// Pair connects two users, "kim" and "sam", and has both join the room. They
// do not see system and presence messages. The options count for both.
func (s *Server) Pair(room string, options ...Option) (kim, sam *Client) {
	s.t.Helper()
	connect := func(user string) *Client {
		s.t.Helper()
		c := s.Connect(slices.Concat([]Option{User(user), Ignore("system", "presence")}, options)...)
		c.Join(room)
		return c
	}
	return connect("kim"), connect("sam")
}

// testLog writes to the log of a test, as long as there is one.
type testLog struct {
	t testing.TB

	mu    sync.Mutex // guards the fields below
	ended bool
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return len(p), nil // writing to it would panic
	}
	return l.t.Output().Write(p)
}

func (l *testLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}
