package parley

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/coder/websocket"
)

const (
	// readBuffer is what an idle connection pays for reading ahead; a longer
	// message is read past it, straight into its own buffer.
	readBuffer = 512
	// controlBuffer holds the largest control frame (RFC 6455, section 5.5), so that
	// the WebSocket library hands over whole frames only.
	controlBuffer = 2 + 125
)

// upgradeWriter is the http.ResponseWriter that the WebSocket library sees. It
// keeps its own headers and writes the 101 response itself, past all
// middleware: a gzip or logging wrapper that can be unwrapped (http.ResponseController)
// does no harm, and the library gets our socket instead of the network connection.
type upgradeWriter struct {
	outer  http.ResponseWriter
	header http.Header
	status int
	wrap   func(net.Conn, []byte) *socket
	taken  bool // the network connection is ours, w must not be used any more
}

func (u *upgradeWriter) Header() http.Header { return u.header }

// WriteHeader keeps a 101 for Hijack and passes refusals on. What comes
// after a 101 is that Hijack failed: upgrade knows more about it.
func (u *upgradeWriter) WriteHeader(status int) {
	if u.status == http.StatusSwitchingProtocols {
		return
	}
	u.status = status
	if status != http.StatusSwitchingProtocols {
		for key, values := range u.header {
			u.outer.Header()[key] = values
		}
		u.outer.WriteHeader(status)
	}
}

func (u *upgradeWriter) Write(p []byte) (int, error) {
	if u.status == http.StatusSwitchingProtocols {
		return 0, http.ErrHijacked
	}
	return u.outer.Write(p)
}

// Hijack takes over the network connection, answers the handshake on it, and
// returns the socket with buffers as small as they can be.
func (u *upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(u.outer).Hijack()
	if err != nil {
		return nil, nil, err
	}
	u.taken = true
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	if _, err := conn.Write(u.response()); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	sock := u.wrap(conn, slices.Clone(early))
	return sock, bufio.NewReadWriter(
		bufio.NewReaderSize(sock, readBuffer),
		bufio.NewWriterSize(sock, controlBuffer),
	), nil
}

// response builds the 101. Of the headers that middleware has set only
// cookies are kept: the others describe a body.
func (u *upgradeWriter) response() []byte {
	var b strings.Builder
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	header := u.header.Clone()
	if cookies := u.outer.Header().Values("Set-Cookie"); len(cookies) > 0 {
		header["Set-Cookie"] = cookies
	}
	// Writing to a strings.Builder does not fail.
	_ = header.Write(&b)
	b.WriteString("\r\n")
	return []byte(b.String())
}

// handshake returns r with no more subprotocols than there are. The library keeps the
// chosen one as a part of the client's header, and so all of that: tokens, sessions, and whatever else was sent.
func handshake(r *http.Request) *http.Request {
	const name = "Sec-Websocket-Protocol"
	chosen := ""
	for _, line := range r.Header[name] {
		for entry := range strings.SplitSeq(line, ",") {
			if entry = strings.TrimSpace(entry); strings.EqualFold(entry, subprotocolV1) {
				chosen = strings.Clone(entry)
			}
		}
	}
	only := *r
	only.Header = maps.Clone(r.Header)
	delete(only.Header, name)
	if chosen != "" {
		only.Header.Set(name, chosen)
	}
	return &only
}

// upgrade answers the handshake. On an error the refusal was written.
func (h *Hub) upgrade(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	c := &Conn{hub: h}
	u := &upgradeWriter{outer: w, header: make(http.Header), wrap: func(conn net.Conn, early []byte) *socket {
		c.sock = socket{
			Conn: conn, out: &c.out, early: early,
			assemblyTimeout: h.opts.AssemblyTimeout, closeTimeout: h.opts.CloseTimeout,
		}
		return &c.sock
	}}
	mode := websocket.CompressionDisabled
	if h.opts.Compression {
		mode = websocket.CompressionNoContextTakeover
	}
	var err error
	c.ws, err = websocket.Accept(u, handshake(r), &websocket.AcceptOptions{
		Subprotocols:       []string{subprotocolV1},
		InsecureSkipVerify: true, // checkOrigin was stricter
		CompressionMode:    mode,
		OnPingReceived:     c.controlReceived,
		OnPongReceived:     c.pongReceived,
	})
	if err != nil {
		switch {
		case u.status != http.StatusSwitchingProtocols || u.taken:
		case errors.Is(err, http.ErrNotSupported):
			http.Error(w, "WebSocket needs HTTP/1.1 and a ResponseWriter that can be hijacked or unwrapped", http.StatusNotImplemented)
		default:
			http.Error(w, "the connection could not be taken over", http.StatusInternalServerError)
		}
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	c.v1 = c.ws.Subprotocol() != "" // the only one there is, in whatever case the client wrote it
	c.ws.SetReadLimit(-1)           // read enforces the limit itself, to say why
	c.out.init(c.sock.Conn, h.opts.QueueSize, u.header.Get("Sec-WebSocket-Extensions") != "", &h.stats)
	c.out.owner, c.out.mute = c, true
	return c, nil
}
