package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/integration/chatd"
)

// line is a message as a page shows it.
type line struct {
	Offset int64  `json:"offset"`
	Text   string `json:"text"`
}

// get reads from the server, beside the wire.
func get(t *testing.T, server *program, path string, into any) {
	t.Helper()
	resp, err := http.Get(server.url + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", body)
	require.NoError(t, json.Unmarshal(body, into))
}

// stored returns what the server has stored of a topic: "room/<name>",
// "user/<id>" or "all".
func stored(t *testing.T, server *program, topic string) []line {
	t.Helper()
	var records []chatd.Record
	get(t, server, "test/log/"+topic, &records)
	lines := []line{}
	for _, r := range records {
		var m struct{ Content, Data, Message string }
		require.NoError(t, json.Unmarshal(r.Data, &m))
		lines = append(lines, line{Offset: r.Offset, Text: m.Content + m.Data + m.Message})
	}
	return lines
}

// clients returns the client ids of a user's connections, as the server believes.
func clients(t *testing.T, server *program, user string) []string {
	t.Helper()
	var ids []string
	get(t, server, "test/clients/"+user, &ids)
	return ids
}

// traffic sends numbered messages to a room, to users and to everybody, as
// another part of the application does, each until it is stored.
type traffic struct {
	t      *testing.T
	server func() *program // the one that runs now
	users  []string
	sent   atomic.Int64
	stop   chan struct{}
	done   chan struct{}
	over   <-chan struct{} // closed with the test, which may have failed
}

func startTraffic(t *testing.T, server func() *program, users ...string) *traffic {
	tr := &traffic{t: t, server: server, users: users, stop: make(chan struct{}), done: make(chan struct{}), over: t.Context().Done()}
	go tr.run()
	t.Cleanup(tr.end)
	return tr
}

func (tr *traffic) run() {
	defer close(tr.done)
	// A burst would be over before anything can fail in it, and more than 1000 messages are not replayed.
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for n := 1; ; n++ {
		select {
		case <-tr.stop:
			return
		case <-pace.C:
		}
		tr.send("room/lobby", fmt.Sprint("server ", n))
		if n%4 == 0 {
			tr.send("all", fmt.Sprint("all ", n))
			for _, user := range tr.users {
				tr.send("user/"+user, fmt.Sprint(user, " ", n))
			}
		}
		tr.sent.Store(int64(n))
	}
}

// mark sends a last message to every topic, and waits until the pages have it:
// what was sent before has come by then, or never will.
func (tr *traffic) mark(visitors ...*visitor) {
	tr.t.Helper()
	for _, topic := range []string{"room/lobby", "all"} {
		tr.send(topic, "the end")
	}
	for _, user := range tr.users {
		tr.send("user/"+user, "the end")
	}
	for _, v := range visitors {
		lists := "[page.notes.shown, page.notes.broadcasts]"
		if v.user != "" {
			lists = "[page.notes.shown, page.notes.broadcasts, page.notes.inbox]"
		}
		v.wait(lists + `.every((list) => list.at(-1)?.text === "the end")`)
	}
}

// send repeats a message until the server has it. Where the outcome of an
// attempt is unknown, the key keeps it from being stored twice.
func (tr *traffic) send(topic, text string) {
	for {
		req, err := http.NewRequest(http.MethodPost, tr.server().url+"test/"+topic, strings.NewReader(text))
		if err != nil {
			tr.t.Error(err)
			return
		}
		req.Header.Set("Idempotency-Key", text)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tr.over:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// more waits until n more messages are in the room.
func (tr *traffic) more(n int64) {
	tr.t.Helper()
	goal := tr.sent.Load() + n
	for deadline := time.Now().Add(patience); tr.sent.Load() < goal; <-time.After(5 * time.Millisecond) {
		require.True(tr.t, time.Now().Before(deadline), "the server takes no messages")
	}
}

// end stops the traffic and waits until the message under way is stored. It may be called twice.
func (tr *traffic) end() {
	select {
	case <-tr.stop:
	default:
		close(tr.stop)
	}
	<-tr.done
}
