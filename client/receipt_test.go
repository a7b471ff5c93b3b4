package client

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

// receipt asserts what the client says it has received, and answers.
func (p *peer) receipt(epoch string, offset int) {
	p.t.Helper()
	m := p.expect("received")
	require.Equal(p.t, map[string]any{"type": "received", "id": m["id"], "epoch": epoch, "offset": float64(offset)}, m)
	p.ack(m, "")
}

// P8.6: at most once a second, for what the handlers have returned from.
func TestReceipts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		goOn := make(chan struct{})
		start(t, f.network, "", Options{OnNotification: func(context.Context, *Client, Notification) { <-goOn }})
		p := f.welcome("kim", `,"receipts":true`)
		p.expectNone()
		p.inbox(1, 2, "")
		began := time.Now()
		p.receipt("e", 2)
		p.send(note(3))
		p.send(note(4))
		p.send(note(5))
		time.Sleep(time.Minute)
		p.expectNone() // the handler has 3, and has not returned
		goOn <- struct{}{}
		p.receipt("e", 3)
		require.Equal(t, time.Minute, time.Since(began))
		goOn <- struct{}{}
		goOn <- struct{}{}
		p.expectNone()
		p.receipt("e", 5) // 4 and 5 in one
		require.Equal(t, time.Minute+time.Second, time.Since(began))
		time.Sleep(time.Minute)
		p.expectNone() // nothing more to tell

		// After a reconnect, too: the server may not know.
		p.cut()
		p = f.welcome("kim", `,"receipts":true`)
		p.expectNone()
		p.send(`{"type":"inbox","epoch":"e","offset":5,"recovered":true,"messages":[]}`)
		p.receipt("e", 5)
		// The log was lost: nothing is told of the old one, nor of what is no longer there.
		time.Sleep(time.Second)
		p.send(`{"type":"inbox","epoch":"e2","offset":9,"recovered":false,"code":"reset","messages":[]}`)
		p.receipt("e2", 9)
		time.Sleep(time.Second)
		p.send(`{"type":"inbox","epoch":"e2","offset":1,"recovered":false,"code":"ahead","messages":[]}`)
		p.receipt("e2", 1)
		// A server that does not want them any more.
		p.cut()
		p = f.welcome("kim")
		p.send(`{"type":"inbox","epoch":"e2","offset":3,"recovered":false,"code":"gone","messages":[]}`)
		time.Sleep(time.Minute)
		p.expectNone()
	})
}

// P8.6: a position that is offered is no receipt. After each connect the client says what its handlers have returned from, also if
// it had said so before: that may have been lost.
func TestReceiptsAfterReconnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		goOn := make(chan struct{})
		c := start(t, f.network, "", Options{
			Inbox:          Position{"e", 2}, // an earlier client was there
			OnNotification: func(context.Context, *Client, Notification) { <-goOn },
		})
		back := func(offset int) *peer {
			p := f.welcome("kim", `,"receipts":true`)
			p.sendf(`{"type":"inbox","epoch":"e","offset":%d,"recovered":true,"messages":[]}`, offset)
			return p
		}
		p := back(2)
		p.receipt("e", 2)
		p.send(note(3))
		p.send(note(4))
		goOn <- struct{}{} // 3
		p.expect("received")
		p.cut() // and nobody knows whether it arrived
		p = back(4)
		require.Contains(t, p.protocols, "parley.inbox.4.ZQ")
		p.receipt("e", 3) // the handler has 4, and has not returned
		time.Sleep(time.Minute)
		p.expectNone()
		p.cut()
		p = back(4)
		p.receipt("e", 3)
		goOn <- struct{}{}
		p.receipt("e", 4)
		p.cut()
		back(4).receipt("e", 4)
		require.Equal(t, Position{"e", 4}, c.InboxPosition())
	})
}

// A receipt that could not be stored is given again; one that is wrong is not.
func TestReceiptRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var failed atomic.Bool
		start(t, f.network, "", Options{OnError: func(context.Context, *Client, error) { failed.Store(true) }})
		p := f.welcome("kim", `,"receipts":true`)
		p.inbox(1, 1, "")
		p.refuse(p.expect("received"), parley.CodeUnavailable)
		p.receipt("e", 1)
		p.send(note(2))
		p.refuse(p.expect("received"), CodeAhead)
		time.Sleep(time.Minute)
		p.expectNone()
		require.False(t, failed.Load())
	})
}

// A client that ends leaves no timer behind, and its connection no answer that matters.
func TestReceiptAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c := start(t, f.network, "", Options{})
		p := f.welcome("kim", `,"receipts":true`)
		p.inbox(1, 1, "")
		p.expect("received") // not answered
		p.send(note(2))
		synctest.Wait()
		before := time.Now()
		c.Close()
		<-c.Done()
		require.Equal(t, parley.CloseNormal, p.closed())
		time.Sleep(time.Minute)
		p.expectNone()
		require.Equal(t, time.Minute, time.Since(before))
	})
}

// The hub hears of what was received, also if the handler is slow, and of nothing else.
func TestReceiptsReachTheHub(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var j journal
		opts := parley.Options{UndeliveredAfter: 5 * time.Second}
		opts.Hooks.Undelivered = func(_ context.Context, u parley.Undelivered) error {
			j.add("undelivered %s %d", u.UserID, u.Entry.Offset)
			return nil
		}
		s := serve(t, opts)
		kim := connect(t, s.network, "kim", Options{
			OnNotification: func(_ context.Context, _ *Client, m Notification) { time.Sleep(time.Second) },
		})
		for i := range 3 {
			_, err := s.hub.Notify(t.Context(), "kim", i)
			require.NoError(t, err)
		}
		time.Sleep(10 * time.Minute)
		j.expect(t)
		kim.Close()
		_, err := s.hub.Notify(t.Context(), "kim", 4)
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		j.expect(t, "undelivered kim 4")
	})
}
