package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// heard is what a server says.
type heard struct {
	Type, ClientID, Session, Room, UserID, Epoch, Code, ID string
	Resumed, Recovered                                     *bool
	Offset                                                 int64
	Content, Data, Message                                 json.RawMessage
	Messages                                               []heard
	Joined, Left                                           []parley.Member
}

func (h heard) text() (text string) {
	for _, body := range []json.RawMessage{h.Content, h.Data, h.Message} {
		if len(body) > 0 && json.Unmarshal(body, &text) == nil {
			return text
		}
	}
	return ""
}

// textOf returns the text of an entry of a log.
func textOf(t *testing.T, data json.RawMessage) string {
	t.Helper()
	var h heard
	require.NoError(t, json.Unmarshal(data, &h))
	return h.text()
}

// watcher is a connection that does nothing but listen, to every frame: it neither drops what comes twice nor
// asks for what is missing, and it does not come back.
type watcher struct {
	*ear
	conn   *websocket.Conn
	done   chan struct{} // closed when the connection has ended
	reason error         // why it has

	mu     sync.Mutex // guards others
	others []heard    // all frames that are no messages
}

// watch connects a watcher and has it join the lobby.
func watch(n *node, user string) *watcher {
	n.t.Helper()
	w := listenAs(n, user)
	w.say(`{"type":"join","room":%q,"id":"j"}`, lobby)
	w.next("history")
	return w
}

// listenAs connects a watcher that joins no room.
func listenAs(n *node, user string) *watcher {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	conn, err := dialAs(ctx, n.addr, user)
	require.NoError(n.t, err)
	w := &watcher{ear: newEar(n.t, user+" on "+n.name), conn: conn, done: make(chan struct{})}
	go w.listen()
	n.t.Cleanup(func() {
		_ = conn.CloseNow()
		<-w.done
	})
	w.next("connected")
	return w
}

func dialAs(ctx context.Context, addr, user string, entries ...string) (*websocket.Conn, error) {
	conn, _, err := websocket.Dial(ctx, "ws://"+addr, &websocket.DialOptions{
		HTTPHeader: http.Header{userHeader: {user}}, Subprotocols: append([]string{"parley.v1"}, entries...),
	})
	if err == nil {
		conn.SetReadLimit(16 << 20)
	}
	return conn, err
}

func (w *watcher) listen() {
	defer close(w.done)
	for {
		_, text, err := w.conn.Read(context.Background())
		if err != nil {
			w.reason = err
			return
		}
		var h heard
		if err := json.Unmarshal(text, &h); err != nil {
			w.note(func(s *story) { s.wrong = append(s.wrong, string(text)) })
		}
		w.hear(h)
	}
}

func (w *watcher) hear(h heard) {
	at := place{h.Epoch, h.Offset}
	w.note(func(s *story) {
		switch {
		case h.Room != lobby:
		case h.Type == "history":
			if h.Recovered != nil && !*h.Recovered {
				s.resets = append(s.resets, h.Code)
			}
			lines := []line{}
			for _, m := range h.Messages {
				lines = append(lines, line{m.Offset, m.text()})
			}
			s.page(at, lines)
		case h.Type == "message":
			s.message(at, h.text())
		case h.Type == "presence":
			for _, m := range h.Joined {
				s.came = append(s.came, m.UserID)
			}
			for _, m := range h.Left {
				s.left = append(s.left, m.UserID)
			}
		case h.Type == "system" && strings.HasSuffix(h.text(), " left"):
			s.left = append(s.left, h.text())
		}
	})
	if h.Type != "message" {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.others = append(w.others, h)
	}
}

func (w *watcher) say(format string, args ...any) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	require.NoError(w.t, w.conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, format, args...)))
}

// next waits for the first frame of a type that is no message, and returns it.
func (w *watcher) next(typ string) (found heard) {
	w.t.Helper()
	await(w.t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		i := slices.IndexFunc(w.others, func(h heard) bool { return h.Type == typ })
		if i >= 0 {
			found = w.others[i]
		}
		return i >= 0
	}, "%s to be told %s", w.name, typ)
	return found
}

// stays asserts that the connection is the one of the beginning, and works.
func (w *watcher) stays() {
	w.t.Helper()
	id := fmt.Sprint("p", time.Now().UnixNano())
	w.say(`{"type":"ping","id":%q}`, id)
	await(w.t, func() bool {
		select {
		case <-w.done:
			require.FailNow(w.t, "the connection of "+w.name+" has ended", "%v", w.reason)
		default:
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.ContainsFunc(w.others, func(h heard) bool { return h.Type == "pong" && h.ID == id })
	}, "a pong for %s", w.name)
}
