package parley

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// countingStore counts the reads of histories; the bounds alone are not counted.
func countingStore() (*hookStore, *atomic.Int64) {
	var reads atomic.Int64
	s := newHookStore()
	s.onRead = func(_ context.Context, _ string, q Query, next func() (Page, error)) (Page, error) {
		if q.Limit > 0 {
			reads.Add(1)
		}
		return next()
	}
	return s, &reads
}

// F38, F39: a storm of reconnects reads the Store per room, not per client, while
// people chat. Everybody gets exactly what was missed.
func TestReconnectStormSharesReads(t *testing.T) {
	const clients, rooms, spread = 1000, 2, 5 * time.Second
	bubble(t, func(t *testing.T) {
		store, reads := countingStore()
		h := newHub(t, Options{Store: store, RateLimit: -1})
		ctx := t.Context()
		room := func(i int) string { return fmt.Sprint("room", i%rooms) }
		for i := range rooms * 20 {
			_, err := h.Room(room(i)).Send(ctx, i)
			require.NoError(t, err)
		}
		epoch := make([]string, rooms)
		for i := range rooms {
			p, err := store.Read(ctx, roomPrefix+room(i), Query{})
			require.NoError(t, err)
			epoch[i] = p.Epoch
		}
		reads.Store(0)
		rng := rand.New(rand.NewPCG(1, 2))
		at := make([]time.Duration, clients)
		for i := range at {
			at[i] = time.Duration(rng.Int64N(int64(spread)))
		}
		all, offset := make([]*direct, clients), make([]int, clients)
		for i := range clients {
			offset[i] = 10 + rng.IntN(5) // of 20: some were away a little longer
			all[i] = attach(t, h, directOptions{v1: true})
			go func() {
				time.Sleep(at[i])
				all[i].do(t, fmt.Sprintf(`{"type":"join","room":%q,"epoch":%q,"offset":%d}`, room(i), epoch[i%rooms], offset[i]))
			}()
		}
		elapse(spread / 2)
		for i := range rooms {
			_, err := h.Room(room(i)).Send(ctx, "meanwhile")
			require.NoError(t, err)
		}
		elapse(spread)
		for i, d := range all {
			got := d.wire.messages(t)
			history := ofType(got, "history")[0]
			require.Equal(t, true, history["recovered"])
			require.Equal(t, 21-offset[i], len(history.entries())+len(ofType(got, "message")))
		}
		// Per room: in each second, and after the message, at most one for each of the five offsets.
		require.LessOrEqual(t, reads.Load(), int64(rooms*5*(int(spread/recentLife)+2)))
		t.Logf("%d clients, %d rooms: %d reads", clients, rooms, reads.Load())
	})
}

// A join never uses what was read before a message that it would miss.
func TestSharedReadIsNeverStale(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, reads := countingStore()
		h := newHub(t, Options{Store: store})
		first := attach(t, h, directOptions{v1: true})
		first.do(t, joinR)
		for i := range 20 {
			_, err := h.Room("r").Send(t.Context(), i)
			require.NoError(t, err)
			d := attach(t, h, directOptions{v1: true})
			history := ofType(d.say(t, joinR), "history")[0]
			require.EqualValues(t, i+1, history.num("offset"))
			require.Len(t, history.entries(), i+1)
		}
		require.EqualValues(t, 21, reads.Load())
		for range 20 {
			d := attach(t, h, directOptions{v1: true})
			require.Len(t, ofType(d.say(t, joinR), "history")[0].entries(), 20)
		}
		require.EqualValues(t, 21, reads.Load(), "nothing has happened since")
	})
}

// F67: a client that was on a node which is ahead of this one is answered by the Store.
func TestResumeOnANodeThatLags(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := newHookStore()
		ahead, behind := newHub(t, Options{Store: shared}), newHub(t, Options{Store: shared}) // no Broker: the lag never ends
		here := attach(t, behind, directOptions{v1: true})
		here.do(t, joinR)
		attach(t, behind, directOptions{v1: true}).do(t, joinR)
		for i := range 3 {
			_, err := ahead.Room("r").Send(t.Context(), i)
			require.NoError(t, err)
		}
		mover := attach(t, ahead, directOptions{v1: true})
		epoch := ofType(mover.say(t, joinR), "history")[0].str("epoch")
		moved := attach(t, behind, directOptions{v1: true})
		got := ofType(moved.say(t, fmt.Sprintf(`{"type":"join","room":"r","epoch":%q,"offset":3}`, epoch)), "history")[0]
		require.Equal(t, true, got["recovered"], "%v", got)
		require.Empty(t, got.entries())
	})
}

// F67: what the application's Join repeats is never older than what the member has got already.
func TestSharedReadIsNotBehindTheMember(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := newHookStore()
		ahead, behind := newHub(t, Options{Store: shared}), newHub(t, Options{Store: shared}) // no Broker: the lag never ends
		var first []*direct
		for range 2 {
			d := attach(t, behind, directOptions{v1: true})
			d.do(t, joinR)
			first = append(first, d)
		}
		defer behind.lookup(roomPrefix + "r").release()
		for _, d := range first {
			require.NoError(t, behind.Room("r").Leave(t.Context(), d.Conn))
		}
		for i := range 3 {
			_, err := ahead.Room("r").Send(t.Context(), i)
			require.NoError(t, err)
		}
		mover := attach(t, ahead, directOptions{v1: true})
		epoch := ofType(mover.say(t, joinR), "history")[0].str("epoch")
		member := attach(t, behind, directOptions{v1: true})
		require.EqualValues(t, 3, member.joinAt(t, epoch, 3).num("offset"))
		require.NoError(t, behind.Room("r").Join(t.Context(), member.Conn))
		member.settle()
		again := ofType(member.wire.messages(t), "history")
		require.Len(t, again, 1)
		require.EqualValues(t, 3, again[0].num("offset"))
	})
}

// F9, F39: a Store that hangs is not asked by everybody at once; who waits too long is
// told to try again, and other rooms are not held up.
func TestReadsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		h := newHub(t, Options{Store: store})
		gate := newBarrier()
		var running, most atomic.Int64
		store.onRead = func(ctx context.Context, topic string, _ Query, next func() (Page, error)) (Page, error) {
			if topic == roomPrefix+"fine" {
				return next()
			}
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			select {
			case <-gate.gate:
				return next()
			case <-ctx.Done():
				return Page{}, ctx.Err()
			}
		}
		waiting := make([]*direct, 100)
		for i := range waiting {
			waiting[i] = attach(t, h, directOptions{v1: true})
			go waiting[i].do(t, `{"type":"join","id":"j","room":"r"}`)
		}
		synctest.Wait()
		fine := attach(t, h, directOptions{v1: true})
		require.Len(t, ofType(fine.say(t, `{"type":"join","room":"fine"}`), "history"), 1)
		elapse(h.opts.StoreTimeout)
		for _, d := range waiting {
			require.Equal(t, "unavailable", ofType(d.wire.messages(t), "error")[0].str("code"))
		}
		require.EqualValues(t, topicReads, most.Load())
		gate.open()
	})
}

// What is kept for others goes away by itself.
func TestSharedReadIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		for range 2 {
			attach(t, h, directOptions{v1: true}).do(t, joinR)
		}
		topic := h.lookup(roomPrefix + "r")
		defer topic.release()
		kept := func() *tail {
			topic.recent.mu.Lock()
			defer topic.recent.mu.Unlock()
			return topic.recent.last
		}
		require.NotNil(t, kept())
		elapse(recentLife)
		require.Nil(t, kept())
	})
}
