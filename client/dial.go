package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/parley-go/parley"
)

const (
	protocolV1 = "parley.v1"
	maxEntry   = 512 // bytes of a subprotocol entry (P1.11)
	// sessionChars are those of a session (P1.8); others could not be sent.
	sessionChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)

// offer is what a client that comes back knows (P1.8, P1.10).
type offer struct {
	session          string
	inbox, broadcast Position
}

// protocols returns the subprotocols to offer. The server would ignore entries
// that are too long; without its position a topic starts at the newest, and a gap is told.
func (o offer) protocols() []string {
	all := []string{protocolV1}
	add := func(entry string) {
		if len(entry) <= maxEntry {
			all = append(all, entry)
		}
	}
	if o.session != "" && strings.Trim(o.session, sessionChars) == "" {
		add("parley.session." + o.session)
	}
	for name, at := range o.positions {
		if !at.IsZero() {
			add(fmt.Sprintf("parley.%s.%d.%s", name, at.Offset, base64.RawURLEncoding.EncodeToString([]byte(at.Epoch))))
		}
	}
	return all
}

func (o offer) positions(yield func(string, Position) bool) {
	_ = yield("inbox", o.inbox) && yield("broadcast", o.broadcast)
}

// dial asks for the credentials and makes the handshake.
func (c *Client) dial(k *conn) *ConnError {
	header, err := c.header(k.ctx)
	if err != nil {
		return abnormal(err)
	}
	c.mu.Lock()
	offer := offer{session: c.session, inbox: c.inbox.read, broadcast: c.all.read}
	c.mu.Unlock()
	ws, resp, err := websocket.Dial(k.ctx, c.url, &websocket.DialOptions{
		HTTPClient: c.opts.httpClient(k.ctx), HTTPHeader: header, Subprotocols: offer.protocols(),
		OnPingReceived: func(context.Context, []byte) bool {
			k.alive()
			return true
		},
	})
	switch {
	case err == nil && ws.Subprotocol() == "":
		_ = ws.CloseNow()
		return abnormal(errors.New("the server does not speak " + protocolV1))
	case err == nil:
		ws.SetReadLimit(c.opts.ReadLimit)
		k.ws = ws
		return nil
	case k.ctx.Err() != nil:
		return abnormal(context.Cause(k.ctx))
	case resp != nil && resp.StatusCode != http.StatusSwitchingProtocols:
		return refusal(resp)
	}
	return abnormal(err)
}

// header collects what goes into the handshake. The token travels in the
// header that is made for it: servers, proxies and their logs know it as a secret, and
// net/http keeps it from other hosts.
func (c *Client) header(ctx context.Context) (http.Header, error) {
	header := c.opts.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	if ask := c.opts.HeaderFunc; ask != nil {
		more, err := ask(ctx)
		if err != nil {
			return nil, fmt.Errorf("Options.HeaderFunc: %w", err)
		}
		for key, values := range more {
			header[http.CanonicalHeaderKey(key)] = values
		}
	}
	if ask := c.opts.Token; ask != nil {
		token, err := ask(ctx)
		if err != nil {
			return nil, fmt.Errorf("Options.Token: %w", err)
		}
		if token != "" {
			header.Set("Authorization", "Bearer "+token)
		}
	}
	return header, nil
}

// refusal describes a handshake that was answered with another status than 101.
func refusal(resp *http.Response) *ConnError {
	// The library has read a little of the body; more would say no more.
	body, _ := io.ReadAll(resp.Body)
	why := &ConnError{Status: resp.StatusCode, Code: parley.CloseAbnormal, Reason: strings.TrimSpace(string(body))}
	if resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests {
		why.retryAfter = parseRetryAfter(resp.Header)
	}
	return why
}

// parseRetryAfter reads a number of seconds or a date, which counts from the
// date of the answer: our clock may be wrong. 0 if there is nothing to read.
func parseRetryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, longest)
	}
	at, err := http.ParseTime(value)
	now, err2 := http.ParseTime(h.Get("Date"))
	if err != nil || err2 != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), longest)
}
