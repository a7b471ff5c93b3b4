package client

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

func TestAttackOffer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		gate := make(chan struct{})
		defer close(gate)
		start(t, f.network, "", Options{OnNotification: func(ctx context.Context, _ *Client, _ Notification) { <-gate }})
		p := f.welcome("kim", `,"receipts":true`)
		p.inbox(1, 1, `,"unread":1,"version":1`)
		require.EqualValues(t, 1, p.expect("received")["offset"])
		p.send(note(2))
		p.send(note(3)) // its handler has not even been called
		p.expectNone()
		p.cut()
		p = f.accept()
		require.NotContains(t, p.protocols, "parley.inbox.3.ZQ", "by P8.6 this is a receipt for 3: Undelivered is never called")
	})
}

func TestAttackPoison(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, err := parley.New(parley.Options{Authenticator: parley.AllowAnonymous})
		require.NoError(t, err)
		_ = json.RawMessage{}
		_ = h
		synctest.Wait()
		require.NoError(t, h.Shutdown(t.Context()))
		_ = time.Second
	})
}
