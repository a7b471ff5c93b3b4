package parley

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rawClient is a WebSocket client that sends what it is told to, down to
// single bytes. Writing is queued, so that a test need not care whether the
// server reads.
type rawClient struct {
	t    *testing.T
	conn net.Conn
	id   string
	out  chan []byte
	in   chan rawFrame
	done chan struct{} // closed when reading ended
	pong atomic.Bool   // answer pings
	gate chan struct{} // reading goes on after it is closed
}

type rawFrame struct {
	first   byte // fin, reserved bits and opcode
	payload []byte
	at      time.Time
}

const (
	opContinuation = 0x0
	opBinary       = 0x2
	opPong         = 0xa
)

// rawHead returns the header of a client frame with a masking key of zeros.
func rawHead(first byte, length uint64) []byte {
	switch {
	case length <= 125:
		return []byte{first, 0x80 | byte(length), 0, 0, 0, 0}
	case length <= 0xffff:
		return append(binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, uint16(length)), 0, 0, 0, 0)
	default:
		return append(binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, length), 0, 0, 0, 0)
	}
}

func rawBytes(first byte, payload string) []byte {
	return append(rawHead(first, uint64(len(payload))), payload...)
}

func rawText(payload string) []byte { return rawBytes(bitFin|opText, payload) }

func rawClose(code CloseCode, reason string) []byte {
	return rawBytes(bitFin|opClose, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

// request returns an upgrade request; headers replace or extend the usual ones.
func request(headers ...string) string {
	all := map[string]string{
		"Host": "parley.test", "Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
	}
	for i := 0; i < len(headers); i += 2 {
		all[headers[i]] = headers[i+1]
	}
	var b strings.Builder
	b.WriteString("GET /realtime HTTP/1.1\r\n")
	for key, value := range all {
		if value != "" {
			b.WriteString(key + ": " + value + "\r\n")
		}
	}
	return b.String() + "\r\n"
}

// exchange sends bytes on a new connection and returns the response. The
// connection is closed at the end of the test.
func (s *server) exchange(sent string) (*http.Response, net.Conn, *bufio.Reader) {
	s.t.Helper()
	conn, err := s.listener.dial(context.Background())
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, sent)
	require.NoError(s.t, err)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(s.t, err)
	return resp, conn, r
}

// status sends a request and returns the status and body of its refusal.
func (s *server) status(sent string) (int, string, http.Header) {
	s.t.Helper()
	resp, conn, _ := s.exchange(sent)
	body, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	require.NoError(s.t, conn.Close())
	return resp.StatusCode, strings.TrimSpace(string(body)), resp.Header
}

// raw connects a rawClient and returns it after "connected".
func (s *server) raw(headers ...string) *rawClient {
	s.t.Helper()
	c := s.rawUnread(headers...)
	c.readOn()
	c.id = c.expect("connected").str("clientId")
	return c
}

// rawUnread connects a rawClient that does not read before readOn.
func (s *server) rawUnread(headers ...string) *rawClient {
	s.t.Helper()
	resp, conn, r := s.exchange(request(headers...))
	require.Equal(s.t, http.StatusSwitchingProtocols, resp.StatusCode)
	return newRawClient(s.t, conn, r)
}

func newRawClient(t *testing.T, conn net.Conn, r *bufio.Reader) *rawClient {
	c := &rawClient{
		t: t, conn: conn, out: make(chan []byte, 1<<14), in: make(chan rawFrame, 1<<14),
		done: make(chan struct{}), gate: make(chan struct{}),
	}
	c.pong.Store(true)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for p := range c.out {
			_, _ = conn.Write(p) // after an error the rest is dropped
		}
	}()
	go c.readFrames(r)
	t.Cleanup(func() {
		_ = conn.Close()
		select {
		case <-c.gate:
		default:
			close(c.gate)
		}
		<-c.done
		close(c.out)
		<-written
	})
	return c
}

func (c *rawClient) readOn() { close(c.gate) }

func (c *rawClient) readFrames(r *bufio.Reader) {
	defer close(c.done)
	<-c.gate
	for {
		f, err := readRawFrame(r)
		if err != nil {
			return
		}
		f.at = time.Now()
		if f.first == bitFin|opPing && c.pong.Load() {
			c.write(rawBytes(bitFin|opPong, string(f.payload)))
		}
		c.in <- f
	}
}

func readRawFrame(r *bufio.Reader) (rawFrame, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return rawFrame{}, err
	}
	f := rawFrame{first: head[0]}
	length := uint64(head[1])
	var err error
	switch length {
	case 126:
		_, err = io.ReadFull(r, head[:2])
		length = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		_, err = io.ReadFull(r, head[:])
		length = binary.BigEndian.Uint64(head[:])
	}
	if err != nil {
		return rawFrame{}, err
	}
	f.payload = make([]byte, length)
	_, err = io.ReadFull(r, f.payload)
	return f, err
}

// write queues bytes.
func (c *rawClient) write(p []byte) { c.out <- p }

// text queues a text message.
func (c *rawClient) text(payload string) { c.write(rawText(payload)) }

// frame returns the next frame.
func (c *rawClient) frame() rawFrame {
	c.t.Helper()
	timeout := time.NewTimer(time.Hour)
	defer timeout.Stop()
	select {
	case f := <-c.in:
		return f
	case <-c.done:
		select {
		case f := <-c.in:
			return f
		default:
		}
		require.FailNow(c.t, "connection ended")
	case <-timeout.C:
		require.FailNow(c.t, "no frame")
	}
	return rawFrame{}
}

// next returns the next text message; control frames before it are dropped,
// except a close frame, which fails.
func (c *rawClient) next() message {
	c.t.Helper()
	for {
		f := c.frame()
		switch f.first & 0x0f {
		case opText:
			var m message
			require.NoError(c.t, json.Unmarshal(f.payload, &m))
			return m
		case opClose:
			require.FailNow(c.t, "closed", "%q", f.payload)
		}
	}
}

// expect returns the next text message, which must be of this type.
func (c *rawClient) expect(typ string) message {
	c.t.Helper()
	m := c.next()
	require.Equal(c.t, typ, m.str("type"), "%v", m)
	return m
}

// expectError returns the next text message, which must be this error.
func (c *rawClient) expectError(code Code) message {
	c.t.Helper()
	m := c.expect("error")
	require.Equal(c.t, string(code), m.str("code"), "%v", m)
	return m
}

// closeFrame drops frames until the close frame, and returns code and reason;
// CloseAbnormal means that the connection ended without one.
func (c *rawClient) closeFrame() (CloseCode, string) {
	c.t.Helper()
	timeout := time.NewTimer(time.Hour)
	defer timeout.Stop()
	for {
		var f rawFrame
		select {
		case f = <-c.in:
		case <-timeout.C:
			require.FailNow(c.t, "not closed")
		case <-c.done:
			select {
			case f = <-c.in:
			default:
				return CloseAbnormal, ""
			}
		}
		if f.first == bitFin|opClose {
			require.GreaterOrEqual(c.t, len(f.payload), 2)
			return CloseCode(binary.BigEndian.Uint16(f.payload)), string(f.payload[2:])
		}
	}
}

// expectClosed asserts the code of the close frame and that the server then
// ends the connection, with nothing in between.
func (c *rawClient) expectClosed(code CloseCode) {
	c.t.Helper()
	got, reason := c.closeFrame()
	require.Equal(c.t, code, got, reason)
	c.expectEnd()
}

// expectEnd asserts that the connection ends and nothing more comes.
func (c *rawClient) expectEnd() {
	c.t.Helper()
	timeout := time.NewTimer(time.Hour)
	defer timeout.Stop()
	select {
	case <-c.done:
	case <-timeout.C:
		require.FailNow(c.t, "the socket was not closed")
	}
	select {
	case f := <-c.in:
		require.FailNow(c.t, "something came after the end", "%x %q", f.first, f.payload)
	default:
	}
}

// bystanders connects two clients and returns a function that has them
// exchange messages: whatever else happened, they must not notice.
func (s *server) bystanders() func() {
	s.t.Helper()
	kim, lee := s.plain(), s.plain()
	n := 0
	exchange := func() {
		s.t.Helper()
		n++
		for _, pair := range [][2]*client{{kim, lee}, {lee, kim}} {
			pair[0].send(map[string]any{"type": "private", "targetId": pair[1].id, "message": n})
			m := pair[1].expect("private")
			require.Equal(s.t, pair[0].id, m.str("senderId"))
			require.EqualValues(s.t, n, m.num("message"))
		}
	}
	exchange()
	return exchange
}
