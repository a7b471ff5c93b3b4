package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

// fake is a server whose every message the test writes, for what a hub never
// does, or not when a test wants it.
type fake struct {
	*network
	t     *testing.T
	peers chan *peer
	// refuse may answer a handshake; the test sets it before a client connects.
	refuse func(w http.ResponseWriter, r *http.Request) bool
	// dead servers do not answer when a client asks whether they live; set before they connect.
	dead atomic.Bool
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, peers: make(chan *peer, 16)}
	f.network = listen(t, http.HandlerFunc(f.serve))
	return f
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	if f.refuse != nil && f.refuse(w, r) {
		return
	}
	p := &peer{t: f.t, header: r.Header, in: make(chan map[string]any, 1024), done: make(chan struct{})}
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		p.protocols = append(p.protocols, strings.Split(line, ",")...)
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{protocolV1}})
	if err != nil {
		return
	}
	p.ws = ws
	go p.read(f.dead.Load())
	f.peers <- p
}

// peer is one connection at a fake.
type peer struct {
	t         *testing.T
	ws        *websocket.Conn
	header    http.Header
	protocols []string
	in        chan map[string]any
	done      chan struct{} // closed when reading has ended
	err       error         // of reading, set before done is closed
}

func (p *peer) read(dead bool) {
	defer close(p.done)
	defer func() { _ = p.ws.CloseNow() }()
	for {
		_, data, err := p.ws.Read(context.Background())
		if err != nil {
			p.err = err
			return
		}
		var m map[string]any
		if p.err = json.Unmarshal(data, &m); p.err != nil {
			return
		}
		if m["type"] == "ping" && m["id"] == nil && !dead {
			p.err = p.ws.Write(context.Background(), websocket.MessageText, []byte(`{"type":"pong","timestamp":1}`))
			continue
		}
		p.in <- m
	}
}

// accept waits for the next connection.
func (f *fake) accept() *peer {
	f.t.Helper()
	timeout := time.NewTimer(time.Hour)
	defer timeout.Stop()
	select {
	case p := <-f.peers:
		return p
	case <-timeout.C:
		require.FailNow(f.t, "nobody has connected")
		return nil
	}
}

// welcome waits for the next connection and greets it as this user. extra are further fields.
func (f *fake) welcome(user string, extra ...string) *peer {
	f.t.Helper()
	p := f.accept()
	p.greet(user, extra...)
	return p
}

func (p *peer) greet(user string, extra ...string) {
	p.t.Helper()
	p.sendf(`{"type":"connected","clientId":"c-%s","userId":"%s","pingInterval":30000%s}`, user, user, strings.Join(extra, ""))
}

// send sends a message.
func (p *peer) send(text string) {
	p.t.Helper()
	require.NoError(p.t, p.ws.Write(context.Background(), websocket.MessageText, []byte(text)))
}

func (p *peer) sendf(format string, args ...any) {
	p.t.Helper()
	p.send(fmt.Sprintf(format, args...))
}

// message sends a message of room "lobby", in epoch "e", whose content is its offset.
func (p *peer) message(offset int) {
	p.t.Helper()
	p.send(lobby(offset))
}

func lobby(offset int) string {
	return fmt.Sprintf(`{"type":"message","room":"lobby","userId":"u","username":"u","content":%d,"timestamp":1,"epoch":"e","offset":%d}`, offset, offset)
}

// history answers a join of room "lobby" with the messages from, from+1 ... to.
func (p *peer) history(from, to int, extra string) {
	p.t.Helper()
	var entries []string
	for offset := from; offset <= to; offset++ {
		entries = append(entries, lobby(offset))
	}
	p.sendf(`{"type":"history","room":"lobby","epoch":"e","offset":%d%s,"messages":[%s]}`, to, extra, strings.Join(entries, ","))
}

// expect returns the next message of the client, which must be of this type.
func (p *peer) expect(typ string) map[string]any {
	p.t.Helper()
	timeout := time.NewTimer(time.Hour)
	defer timeout.Stop()
	select {
	case m := <-p.in:
		require.Equal(p.t, typ, m["type"], "%v", m)
		return m
	case <-timeout.C:
		require.FailNow(p.t, "no message", "%s", typ)
		return nil
	}
}

// expectNone asserts that the client has sent nothing more.
func (p *peer) expectNone() {
	p.t.Helper()
	synctest.Wait()
	select {
	case m := <-p.in:
		require.FailNow(p.t, "unexpected message", "%v", m)
	default:
	}
}

// ack answers a message.
func (p *peer) ack(m map[string]any, extra string) {
	p.t.Helper()
	p.sendf(`{"type":"ack","id":"%s"%s}`, m["id"], extra)
}

// refuse answers a message with an error.
func (p *peer) refuse(m map[string]any, code parley.Code) {
	p.t.Helper()
	p.sendf(`{"type":"error","id":"%s","code":"%s","message":"no"}`, m["id"], code)
}

// join lets the client into room "lobby" with the messages from ... to, and returns what it asked for.
func (p *peer) join(from, to int, extra string) map[string]any {
	p.t.Helper()
	m := p.expect("join")
	p.history(from, to, extra)
	p.ack(m, "")
	return m
}

// cut ends the connection without a word.
func (p *peer) cut() { _ = p.ws.CloseNow() }

// close ends the connection with a close frame.
func (p *peer) close(code parley.CloseCode, reason string) {
	_ = p.ws.Close(websocket.StatusCode(code), reason)
}

// closed waits for the end of the connection and returns the code the client gave.
func (p *peer) closed() parley.CloseCode {
	p.t.Helper()
	timeout := time.NewTimer(time.Hour)
	defer timeout.Stop()
	select {
	case <-p.done:
	case <-timeout.C:
		require.FailNow(p.t, "the connection lives")
	}
	if code := websocket.CloseStatus(p.err); code != -1 {
		return parley.CloseCode(code)
	}
	return parley.CloseAbnormal
}
