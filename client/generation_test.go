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

// centrifuge-go PR 150: a handler is slow, and what an ended connection had
// brought for it is handed out when the next ones have replayed already. No
// message comes twice, none is left out, and the position never moves back.
func TestReplaysOfSeveralConnections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, parley.Options{})
		var j journal
		c := connect(t, s.network, "kim", Options{})
		gate := make(chan struct{})
		var last atomic.Int64
		room := j.room()
		room.OnMessage = func(_ context.Context, r *Room, m Message) {
			<-gate
			require.Equal(t, last.Load()+1, m.Position.Offset)
			require.GreaterOrEqual(t, r.Position().Offset, m.Position.Offset)
			last.Store(m.Position.Offset)
		}
		_, err := c.Join(t.Context(), "lobby", room)
		require.NoError(t, err)
		for i := range 5 {
			for n := range 4 { // live, and while nobody is connected
				if n == 2 {
					s.cut()
				}
				s.publish("lobby", 4*i+n)
			}
			time.Sleep(30 * time.Second)
			synctest.Wait()
		}
		require.Len(t, s.attempts(), 6)
		close(gate)
		time.Sleep(time.Minute)
		require.Equal(t, int64(20), last.Load())
	})
}
