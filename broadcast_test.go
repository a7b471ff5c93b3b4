package parley

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The sender of a broadcast does not get it; its other connections do.
func TestBroadcastOfAClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{ClientBroadcast: true})
		kim, kim2, lee := attach(t, h, directOptions{user: "kim"}), attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{})
		got := kim.say(t, `{"type":"broadcast","message":[1],"id":"1"}`)
		require.Equal(t, []message{{"type": "ack", "id": "1"}}, got, "no position without a history")
		for _, d := range []*direct{kim2, lee} {
			require.Equal(t, message{"type": "broadcast", "senderId": "kim", "message": []any{1.0}}, requireOne(t, d, "broadcast"))
		}
	})
}

func TestBroadcastOfTheApplication(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		r, err := h.Broadcast(t.Context(), "x")
		require.NoError(t, err)
		require.Equal(t, Result{}, r, "nobody is there")
		var all []*direct
		for i := range 300 { // more than a shard
			all = append(all, attach(t, h, directOptions{v1: i%2 == 0}))
		}
		r, err = h.Broadcast(t.Context(), "x")
		require.NoError(t, err)
		require.Equal(t, Result{Delivered: 300}, r)
		n, err := h.NotifyAll(t.Context(), "y")
		require.NoError(t, err)
		require.Equal(t, Result{Delivered: 300}, n)
		for _, d := range all {
			got := d.wire.messages(t)
			require.Len(t, got, 2)
			require.Equal(t, message{"type": "broadcast", "senderId": "", "message": "x"}, got[0])
			require.Equal(t, "notification", got[1].str("type"))
			require.Equal(t, "y", got[1]["data"])
			require.NotContains(t, got[1], "offset")
		}
		require.EqualValues(t, 300*3, h.Stats().Delivered, "the greetings, too")
		all[0].end(CloseAbnormal, "")
		elapse(0)
		r, err = h.Broadcast(t.Context(), "x")
		require.NoError(t, err)
		require.Equal(t, 299, r.Delivered)
	})
}

// With BroadcastHistory broadcasts have positions, and "connected" says where
// they stand (P4.7).
func TestBroadcastHistory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{ClientBroadcast: true, BroadcastHistory: Retention{Messages: 10}})
		early := attach(t, h, directOptions{v1: true})
		require.Zero(t, early.hello[0].num("offset"))
		epoch := early.hello[0].str("epoch")
		require.NotEmpty(t, epoch)
		for n := range int64(3) {
			r, err := h.Broadcast(t.Context(), n, WithID(fmt.Sprint(n)))
			require.NoError(t, err)
			require.Equal(t, Result{Delivered: 1, Stored: true, Epoch: epoch, Offset: n + 1}, r)
			require.Equal(t, n+1, requireOne(t, early, "broadcast").num("offset"))
		}
		r, err := h.Broadcast(t.Context(), 2, WithID("2"))
		require.NoError(t, err)
		require.True(t, r.Duplicate)
		late := attach(t, h, directOptions{})
		require.EqualValues(t, 3, late.hello[0].num("offset"))
		require.Equal(t, epoch, late.hello[0].str("epoch"))
		ack := late.say(t, `{"type":"broadcast","message":1,"id":"1"}`)[0]
		require.EqualValues(t, 4, ack.num("offset"))
		require.EqualValues(t, 4, requireOne(t, early, "broadcast").num("offset"))
		require.Empty(t, late.wire.messages(t))
	})
}

// Whoever connects while broadcasts are underway gets all of them after the
// position in its "connected", once.
func TestConnectingRacesBroadcasts(t *testing.T) {
	runs := explore(t, func(t *testing.T, choose func(int) int) {
		turns := newTurns()
		store := newHookStore()
		h := newHub(t, Options{Store: store, BroadcastHistory: Retention{Messages: 10}})
		stop := func(name string) func() { turns.await(name); return func() { turns.await(name + " done") } }
		reads := 0
		store.onRead = func(_ context.Context, _ string, _ Query, next func() (Page, error)) (Page, error) {
			reads++
			defer stop(fmt.Sprint("read ", reads))()
			return next()
		}
		store.onAppend = func(_ context.Context, _ string, _ []Entry, next func() (Log, error)) (Log, error) {
			defer stop("append")()
			return next()
		}
		s := &stage{hub: h, store: store, turns: turns}
		send := func() {
			_, err := h.Broadcast(t.Context(), 1)
			require.NoError(t, err)
		}
		s.actor("app", send, send)
		var d *direct
		s.actor("client", func() { d = attach(t, h, directOptions{}) })
		s.play(choose)
		send()
		got := append(d.hello, d.wire.messages(t)...)
		offset := got[0].num("offset")
		require.Equal(t, "connected", got[0].str("type"))
		for _, m := range got[1:] {
			offset++
			require.Equal(t, offset, m.num("offset"))
		}
		require.EqualValues(t, 3, offset)
	})
	t.Logf("%d orders", runs)
	require.Greater(t, runs, 50)
}

// P5.2: signals go to the other v1 connections only, are not kept, and a lagging
// receiver gets the newest.
func TestSignals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		kim, kim2 := attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{user: "kim", v1: true})
		lee, plain := attach(t, h, directOptions{user: "lee", v1: true}), attach(t, h, directOptions{user: "plain"})
		all := []*direct{kim, kim2, lee, plain}
		for _, d := range all {
			d.do(t, joinR)
		}
		elapse(presenceTick)
		for _, d := range all {
			d.wire.messages(t)
		}
		require.Equal(t, []message{{"type": "ack", "id": "1"}}, kim.say(t, `{"type":"signal","name":"typing","data":{"on":true},"id":"1"}`))
		want := message{"type": "signal", "room": "r", "senderId": "kim", "username": "kim", "name": "typing", "data": map[string]any{"on": true}}
		require.Equal(t, want, requireOne(t, lee, "signal"))
		require.Equal(t, want, requireOne(t, kim2, "signal"))
		require.Empty(t, plain.wire.messages(t))

		plain.do(t, `{"type":"signal","name":"n"}`) // may send all the same
		require.Nil(t, requireOne(t, lee, "signal")["data"])
		for _, d := range all {
			d.wire.messages(t)
		}

		want = message{"type": "signal", "senderId": "kim", "name": "n", "data": 1.0}
		for _, target := range []string{"kim", kim2.ID()} {
			kim.do(t, map[string]any{"type": "signal", "targetId": target, "name": "n", "data": 1})
			require.Equal(t, want, requireOne(t, kim2, "signal"))
		}
		for _, target := range []string{"plain", plain.ID(), kim.ID(), "ghost"} {
			got := kim.say(t, map[string]any{"type": "signal", "targetId": target, "name": "n", "id": "1"})
			require.Equal(t, []message{{"type": "ack", "id": "1"}}, got, "no telling who is there")
		}
		for _, d := range all {
			require.Empty(t, d.wire.messages(t))
		}
		require.Empty(t, inboxOf(t, h, "kim").entries())
		history, err := h.Room("r").History(t.Context(), 0, 0)
		require.NoError(t, err)
		require.Empty(t, history.Messages)
	})
}

// A client that cannot keep up gets the newest state of each signal, and loses nothing else.
func TestSignalsToASlowClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const queue = 16 << 10
		s := serve(t, Options{MaxMessageSize: queue / 4, QueueSize: queue, RateLimit: -1, PingInterval: time.Hour})
		fast := s.v1()
		fast.join("r", "fast")
		slow, _, err := s.tryDial(dialOptions{v1: true})
		require.NoError(t, err)
		slow.send(joinR) // and reads nothing so far
		synctest.Wait()
		payload := strings.Repeat("x", 200)
		for n := range 200 {
			for _, name := range []string{"cursor", "typing"} {
				fast.send(map[string]any{"type": "signal", "name": name, "data": fmt.Sprint(n, payload)})
			}
		}
		fast.send(`{"type":"message","content":"end"}`)
		fast.skipTo("message")
		require.Positive(t, s.Stats().SignalsReplaced)
		slow.read()
		newest := make(map[string]string)
		for m := slow.next(); m.str("type") != "message"; m = slow.next() {
			if m.str("type") == "signal" {
				newest[m.str("name")] = m.str("data")
			}
		}
		want := fmt.Sprint(199, payload)
		require.Equal(t, map[string]string{"cursor": want, "typing": want}, newest)
		require.Zero(t, s.Stats().ClosedSlow)
	})
}
