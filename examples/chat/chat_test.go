package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/examples/internal/wstest"
)

type message = wstest.Message

// start serves a chat; it returns the URL of its realtime endpoint.
func start(t *testing.T) (c *chat, realtime string) {
	t.Helper()
	c, err := newChat()
	require.NoError(t, err)
	server := httptest.NewServer(c.handler)
	t.Cleanup(func() {
		assert.NoError(t, c.Shutdown(context.Background()))
		server.Close()
	})
	return c, server.URL + "/realtime"
}

// token is what the page sends for a guest of this name.
func token(name string) string { return fmt.Sprintf("%026d.%s", len(name), name) }

// A client that knows only the fixed shapes and has no account.
func TestPlainClient(t *testing.T) {
	_, url := start(t)
	kim, lee := wstest.Dial(t, url), wstest.Dial(t, url)
	assert.NotEmpty(t, kim.Hello["clientId"])

	kim.Send(message{"type": "join", "room": "lobby", "username": "kim"})
	assert.Empty(t, kim.Next("history")["messages"])
	assert.Equal(t, "kim joined", kim.Next("system")["content"])
	kim.Send(message{"type": "message", "content": "hello"})
	got := kim.Next("message")
	assert.Equal(t, "kim", got["username"])
	assert.Equal(t, "hello", got["content"])
	assert.NotZero(t, got["timestamp"])

	lee.Send(message{"type": "join", "room": "lobby", "username": "lee"})
	history := lee.Next("history")["messages"].([]any)
	require.Len(t, history, 1)
	assert.Equal(t, "hello", history[0].(map[string]any)["content"])
	assert.Equal(t, "lee joined", kim.Next("system")["content"])

	lee.Send(message{"type": "leave"})
	assert.Equal(t, "lee left", kim.Next("system")["content"])
}

func TestBroadcastGoesToTheOthers(t *testing.T) {
	_, url := start(t)
	kim, lee := wstest.Dial(t, url), wstest.Dial(t, url).Settle()
	kim.Send(message{"type": "broadcast", "id": "1", "message": "all hands"})
	assert.Equal(t, "ack", kim.Read()["type"], "the sender gets no copy")
	got := lee.Next("broadcast")
	assert.Equal(t, "all hands", got["message"])
	assert.Equal(t, kim.Hello["clientId"], got["senderId"])
}

func TestPrivateMessages(t *testing.T) {
	_, url := start(t)
	kim := wstest.Dial(t, url, wstest.V1(token("kim"))).Settle()
	phone := wstest.Dial(t, url, wstest.V1(token("kim"))).Settle()
	plain := wstest.Dial(t, url)
	assert.Equal(t, kim.Hello["userId"], phone.Hello["userId"], "the same secret is the same user")
	assert.Equal(t, "kim", kim.Hello["username"])

	plain.Send(message{"type": "private", "targetId": kim.Hello["userId"], "message": "psst"})
	for _, c := range []*wstest.Client{kim, phone} {
		got := c.Next("private")
		assert.Equal(t, "psst", got["message"])
		assert.Equal(t, plain.Hello["clientId"], got["senderId"])
	}
	kim.Send(message{"type": "private", "targetId": plain.Hello["clientId"], "message": "yes?"})
	got := plain.Next("private")
	assert.Equal(t, "yes?", got["message"])
	assert.Equal(t, kim.Hello["userId"], got["senderId"])

	plain.Send(message{"type": "private", "targetId": "nobody", "message": "?"})
	assert.Equal(t, "not_found", plain.Next("error")["code"])
}

func TestPresenceTypingAndPaging(t *testing.T) {
	_, url := start(t)
	kim := wstest.Dial(t, url, wstest.V1(token("kim")))
	kim.Send(message{"type": "join", "room": "lobby", "id": "j"})
	assert.Len(t, kim.Next("presence")["members"], 1)
	for i := range 5 {
		kim.Send(message{"type": "message", "room": "lobby", "content": i + 1})
	}
	kim.Send(message{"type": "history", "room": "lobby", "id": "h", "before": 5, "limit": 2})
	page := kim.Next("history")
	assert.Equal(t, "h", page["id"])
	assert.Equal(t, true, page["more"])
	messages := page["messages"].([]any)
	require.Len(t, messages, 2)
	assert.EqualValues(t, 3, messages[0].(map[string]any)["content"])
	assert.EqualValues(t, 4, messages[1].(map[string]any)["content"])

	lee := wstest.Dial(t, url, wstest.V1(token("lee4")))
	lee.Send(message{"type": "join", "room": "lobby"})
	lee.Next("presence")
	lee.Send(message{"type": "signal", "room": "lobby", "name": "typing", "data": true})
	signal := kim.Next("signal")
	assert.Equal(t, "typing", signal["name"])
	assert.Equal(t, "lee4", signal["username"])
}

// A history that is longer than the page that a join brings.
func TestLongHistory(t *testing.T) {
	c, url := start(t)
	for i := range 250 {
		_, err := c.hub.Room("lobby").Send(t.Context(), i)
		require.NoError(t, err)
	}
	kim := wstest.Dial(t, url, wstest.V1(token("kim")))
	kim.Send(message{"type": "join", "room": "lobby"})
	oldest := kim.Next("history")["messages"].([]any)[0].(map[string]any)["offset"]
	kim.Send(message{"type": "history", "room": "lobby", "id": "h", "before": oldest, "limit": 50})
	page := kim.Next("history")
	assert.Len(t, page["messages"], 50)
	assert.Equal(t, true, page["more"])
}

// Errors are answered and the connection lives on.
func TestRefusals(t *testing.T) {
	_, url := start(t)
	kim := wstest.Dial(t, url, wstest.V1(token("kim")))
	for name, each := range map[string]struct {
		send message
		code string
	}{
		"not a member":    {message{"type": "message", "room": "lobby", "content": "x"}, "not_member"},
		"unknown type":    {message{"type": "dance"}, "unknown_type"},
		"unknown method":  {message{"type": "call", "method": "dance"}, "unknown_method"},
		"too soon":        {message{"type": "call", "method": "remind", "data": message{"seconds": 0, "text": "x"}}, "invalid"},
		"too late":        {message{"type": "call", "method": "remind", "data": message{"seconds": 601, "text": "x"}}, "invalid"},
		"no text":         {message{"type": "call", "method": "remind", "data": message{"seconds": 1, "text": " "}}, "invalid"},
		"too much text":   {message{"type": "call", "method": "remind", "data": message{"seconds": 1, "text": strings.Repeat("é", 201)}}, "invalid"},
		"no data":         {message{"type": "call", "method": "remind"}, "invalid"},
		"data of a wrong": {message{"type": "call", "method": "remind", "data": message{"seconds": "1"}}, "bad_request"},
	} {
		each.send["id"] = name
		kim.Send(each.send)
		got := kim.Next("error")
		assert.Equal(t, name, got["id"])
		assert.Equal(t, each.code, got["code"], name)
		assert.NotEmpty(t, got["message"])
	}
	kim.Send(message{"type": "ping", "id": "p"})
	kim.Next("pong")
}

// The whole way of a reminder, with the real time that it takes, but in a
// bubble whose clock jumps.
func TestRemind(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c, err := newChat()
		require.NoError(t, err)
		over := wstest.Over(wstest.Serve(t, c.handler))
		defer func() { assert.NoError(t, c.Shutdown(context.Background())) }()
		kim := wstest.Dial(t, "http://memory/realtime", wstest.V1(token("kim")), over)
		phone := wstest.Dial(t, "http://memory/realtime", wstest.V1(token("kim")), over)
		plain := wstest.Dial(t, "http://memory/realtime", over)

		began := time.Now()
		for _, each := range []*wstest.Client{kim, plain} {
			each.Send(message{"type": "call", "id": "1", "method": "remind", "data": message{"seconds": 3, "text": "tea"}})
			reply := each.Next("reply")["data"].(map[string]any)
			assert.EqualValues(t, began.Add(3*time.Second).UnixMilli(), reply["dueAt"])
		}
		for _, each := range []*wstest.Client{kim, phone, plain} {
			data := each.Next("notification")["data"].(map[string]any)
			assert.Equal(t, 3*time.Second, time.Since(began))
			assert.Equal(t, "reminder", data["kind"])
			assert.Equal(t, "tea", data["text"])
		}
	})
}

// S34: the page cannot run what a stranger wrote.
func TestHeaders(t *testing.T) {
	_, realtime := start(t)
	base := strings.TrimSuffix(realtime, "realtime")
	for path, contentType := range map[string]string{
		"":             "text/html; charset=utf-8",
		"js/main.js":   "text/javascript; charset=utf-8",
		"css/base.css": "text/css; charset=utf-8",
		"icon.svg":     "image/svg+xml",
		"parley.js":    "text/javascript; charset=utf-8",
	} {
		response, err := http.Get(base + path)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.Equal(t, http.StatusOK, response.StatusCode, path)
		assert.NotEmpty(t, body, path)
		assert.Equal(t, contentType, response.Header.Get("Content-Type"), path)
		policy := response.Header.Get("Content-Security-Policy")
		for _, rule := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
			assert.Contains(t, policy, rule, path)
		}
		assert.NotContains(t, policy, "unsafe")
		assert.Equal(t, "nosniff", response.Header.Get("X-Content-Type-Options"), path)
		assert.Equal(t, "no-referrer", response.Header.Get("Referrer-Policy"), path)
	}
	for _, path := range []string{"css/", "js/", "nothing"} {
		response, err := http.Get(base + path)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.Equal(t, http.StatusNotFound, response.StatusCode, path)
	}
}

// S1: a page of another site cannot connect.
func TestForeignOrigin(t *testing.T) {
	_, url := start(t)
	assert.Equal(t, http.StatusForbidden, wstest.Refused(t, url, wstest.Header("Origin", "https://evil.example")))
	wstest.Dial(t, url, wstest.Header("Origin", strings.TrimSuffix(url, "/realtime")))
}
