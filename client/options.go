package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Options configure a Client. The zero value works. They are read once, by [New].
//
// The handlers are called one at a time, in order, those of the rooms too, in a
// goroutine of the client's own; see the package documentation. Their ctx ends at Close.
type Options struct {
	// Token gets the credentials, and is asked again before every attempt to
	// connect. They travel in the Authorization header. Empty: none are sent. An error leads to another attempt
	// later, unless it wraps ErrUnauthorized.
	Token func(ctx context.Context) (string, error)
	// Header is sent with every handshake. HeaderFunc is asked before every
	// attempt for more; its errors are treated like those of Token.
	Header     http.Header
	HeaderFunc func(ctx context.Context) (http.Header, error)

	// Dial makes the network connections, for tests, tunnels and the like. Default: net.Dialer, or
	// through the proxy of the environment.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// HTTPClient makes the handshake, instead of one that uses Dial. It must speak HTTP/1.1. Redirects are not
	// followed unless it has a CheckRedirect: the next server would get the session.
	HTTPClient *http.Client

	// BackoffMin and BackoffMax bound the wait before another attempt: a
	// random time up to BackoffMin * 2^n, at most BackoffMax. The n-th failure in a
	// row counts; 30 s of connection start the count anew. Default 500 ms and 20 s.
	BackoffMin, BackoffMax time.Duration
	// Timeout is how long a request waits for its answer, over reconnects.
	// Default 2 minutes, which is also how long the server knows the ids of
	// messages: with more, a message sent again late can appear twice.
	Timeout time.Duration
	// Queue is how many requests may wait for the connection, or for their room. Default 100.
	Queue int
	// Buffer and BufferBytes are how much may wait for the handlers. With more, nothing is
	// taken until they have caught up; then the client comes back and
	// resumes where they are. Default 4096 events and 16 MiB.
	Buffer, BufferBytes int
	// ReadLimit is the largest message taken from the server, in bytes; a larger one
	// ends the connection. Default 16 MiB.
	ReadLimit int64

	// Inbox and Broadcast are where an earlier client of the same user was
	// (Client.InboxPosition, Client.BroadcastPosition): what was missed since is
	// handed out, or a gap is told. The server is told that the user has the inbox up to there.
	// Default: the newest of the inbox, nothing of the broadcast.
	Inbox, Broadcast Position

	// Joined are the handlers of rooms that the application makes the client a member of (Room.Join and Room.AddUser of the
	// server). OnHistory is the first call; Client.Room knows the room, and Client.Join takes it over. After a
	// reconnect it is joined again, with Joined.Username, if Authorize of the server lets the user. Joined.Position is not used.
	Joined JoinOptions

	// OnState is called after every change of the state. Where Buffer is full, only the newest change counts.
	OnState func(ctx context.Context, c *Client, s StateChange)
	// OnConnected is called after every connect, the first and the later ones.
	OnConnected func(ctx context.Context, c *Client, id Identity)
	// OnPrivate and OnNotification get new ones, and after a reconnect those that were missed.
	OnPrivate      func(ctx context.Context, c *Client, m Private)
	OnNotification func(ctx context.Context, c *Client, m Notification)
	// OnInbox gets the newest kept ones, with their state: on the first connect without a position, and after a gap.
	OnInbox func(ctx context.Context, c *Client, m Inbox)
	// OnInboxGap and OnInboxRecovered say after a reconnect whether
	// something is missing that cannot be had again.
	OnInboxGap       func(ctx context.Context, c *Client, g Gap)
	OnInboxRecovered func(ctx context.Context, c *Client, r Recovered)
	// OnInboxState is called before OnInboxRecovered: what was marked meanwhile, also of
	// messages that were handed out long ago. Where OnInbox is called, that says it.
	OnInboxState func(ctx context.Context, c *Client, s InboxState)
	// OnMarked is called when entries of the inbox were marked on any device of the
	// user, this one too, or by the application, in the order in which it comes here; what is older than what was told is left out.
	OnMarked func(ctx context.Context, c *Client, m Marked)
	// OnUnread is called when the number of unread entries of the inbox is known first, and when it has
	// changed, after the handler of the message that it came with. What expires is not told: the next change counts it.
	OnUnread func(ctx context.Context, c *Client, s ReadState)
	// OnBroadcast gets those of others, OnBroadcastHistory the newest kept
	// ones after a gap.
	OnBroadcast        func(ctx context.Context, c *Client, m Broadcast)
	OnBroadcastHistory func(ctx context.Context, c *Client, m []Broadcast)
	// OnBroadcastGap and OnBroadcastRecovered are as those of the inbox. If the
	// server keeps no broadcasts, none of the two is called.
	OnBroadcastGap       func(ctx context.Context, c *Client, g Gap)
	OnBroadcastRecovered func(ctx context.Context, c *Client, r Recovered)
	// OnSignal gets signals to the user.
	OnSignal func(ctx context.Context, c *Client, m Signal)
	// OnBye is called when the server is about to close.
	OnBye func(ctx context.Context, c *Client, m Bye)
	// OnError gets what belongs to no call: errors of the server without a
	// request, CodeBadMessage, CodeSlow. Each is a *parley.Error.
	OnError func(ctx context.Context, c *Client, err error)

	jitter func() float64 // in [0, 1); tests seed it
	proxy  func(*http.Request) (*url.URL, error)
}

// JoinOptions are those of one room. The zero value works. The handlers are
// called as those of Options are, none of them after the room was left.
type JoinOptions struct {
	// Username counts only for anonymous users. Default: the server makes one up.
	Username string
	// Position is where an earlier client was (Room.Position): what was missed
	// since is handed out, or a gap is told. Default: the newest history.
	Position Position

	// OnMessage gets new ones, and after a reconnect those that were missed; each once and in order.
	OnMessage func(ctx context.Context, r *Room, m Message)
	// OnHistory gets the newest messages: on joining without a position, and after a gap.
	OnHistory func(ctx context.Context, r *Room, h History)
	// OnGap is called after a reconnect if messages are missing that cannot be
	// had again, and OnRecovered if not, or when a hole was filled.
	OnGap       func(ctx context.Context, r *Room, g Gap)
	OnRecovered func(ctx context.Context, r *Room, c Recovered)
	// OnSystem gets texts such as "kim joined".
	OnSystem func(ctx context.Context, r *Room, text string)
	// OnPresence is called after Room.Members and Room.Count changed.
	OnPresence func(ctx context.Context, r *Room, p Presence)
	// OnSignal gets signals of other members.
	OnSignal func(ctx context.Context, r *Room, s Signal)
	// OnRefused is the last call for a room that was joined, and that the server no longer lets the user
	// join after a reconnect. err is a *parley.Error.
	OnRefused func(ctx context.Context, r *Room, err error)
	// OnLeft is the last call for a room in which the application has ended the membership: Room.RemoveUser and Room.Leave of
	// the server. reason is for the user, and may be empty. The client does not join again by itself; a Join, also in OnLeft, is a new one.
	OnLeft func(ctx context.Context, r *Room, reason string)
}

// setDefaults fills zero fields and reports what cannot work.
func (o *Options) setDefaults(rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	switch u.Scheme {
	case "ws", "wss", "http", "https":
	default:
		return fmt.Errorf("client: URL %q: the scheme must be ws, wss, http or https", rawURL)
	}
	if u.Host == "" {
		return fmt.Errorf("client: URL %q has no host", rawURL)
	}
	if o.HTTPClient != nil && o.Dial != nil {
		return errors.New("client: Options.Dial would not be used: make it that of the transport of Options.HTTPClient")
	}
	if o.Dial == nil {
		o.Dial, o.proxy = new(net.Dialer).DialContext, http.ProxyFromEnvironment
	}
	or(&o.BackoffMin, 500*time.Millisecond)
	or(&o.BackoffMax, 20*time.Second)
	or(&o.Timeout, 2*time.Minute)
	or(&o.Queue, 100)
	or(&o.Buffer, 4096)
	or(&o.BufferBytes, 16<<20)
	or(&o.ReadLimit, 16<<20)
	if o.jitter == nil {
		o.jitter = rand.Float64
	}
	for _, v := range []struct {
		name string
		ok   bool
	}{
		{"BackoffMin (more than 0)", o.BackoffMin > 0},
		{"BackoffMax (at least BackoffMin)", o.BackoffMax >= o.BackoffMin},
		{"Timeout (more than 0)", o.Timeout > 0},
		{"Queue (at least 1)", o.Queue > 0},
		{"Buffer (at least 1)", o.Buffer > 0},
		{"BufferBytes (at least 1)", o.BufferBytes > 0},
		{"ReadLimit (at least 1)", o.ReadLimit > 0},
	} {
		if !v.ok {
			return fmt.Errorf("client: Options.%s is out of range", v.name)
		}
	}
	return nil
}

func or[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// httpClient returns what makes one handshake, and whose connection ends with
// ctx. http.Transport does not end its dials with the request, because others could
// use the connection; nobody else could use ours.
func (o *Options) httpClient(ctx context.Context) *http.Client {
	var h http.Client
	if o.HTTPClient != nil {
		h = *o.HTTPClient
	} else {
		var http1 http.Protocols // an upgrade is not possible over HTTP/2
		http1.SetHTTP1(true)
		h.Transport = &http.Transport{
			Proxy: o.proxy, Protocols: &http1,
			DisableKeepAlives: true, // a refused handshake leaves no connection behind
			DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
				conn, err := o.Dial(ctx, network, addr)
				if err == nil {
					context.AfterFunc(ctx, func() { _ = conn.Close() })
				}
				return conn, err
			},
		}
	}
	if h.CheckRedirect == nil {
		h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return &h
}
