package parley

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// requireAlternating asserts that of everybody it is told in turns that they
// joined and left, and returns who has joined last.
func requireAlternating(t *testing.T, all []message) (present map[string]bool) {
	t.Helper()
	present = make(map[string]bool)
	for _, m := range ofType(all, "system") {
		name, what, _ := strings.Cut(m.str("content"), " ")
		require.Equal(t, what == "left", present[name], "%v", m)
		present[name] = what == "joined"
	}
	return present
}

// F30, "quick join-leave-join" (centrifuge#608): the client, the application
// and the end of the connection work against each other. What the connection,
// the room and the presence say agrees afterwards, and what was told makes sense.
func TestJoinsAndLeavesRace(t *testing.T) {
	source := random(t)
	for range 15 {
		seeds := [3]uint64{source.Uint64(), source.Uint64(), source.Uint64()}
		bubble(t, func(t *testing.T) {
			var hooks atomic.Int32
			h := newHub(t, Options{RateLimit: -1, Hooks: Hooks{
				Join:  func(context.Context, *Conn, *Room) { hooks.Add(1) },
				Leave: func(*Conn, *Room) { hooks.Add(-1) },
			}})
			watcher := attach(t, h, directOptions{user: "watcher"})
			watcher.do(t, joinR)
			conns := make([]*direct, 6)
			for i := range conns {
				conns[i] = attach(t, h, directOptions{user: fmt.Sprint("user", i/2), v1: i%2 == 0, discard: true})
			}
			var wg sync.WaitGroup
			for i, c := range conns {
				r := rand.New(rand.NewPCG(seeds[0], uint64(i)))
				wg.Go(func() { // the client
					for range 40 {
						if !c.handle([]byte([]string{joinR, `{"type":"leave"}`, `{"type":"message","content":1}`}[r.IntN(3)])) {
							return
						}
					}
					if r.IntN(3) == 0 {
						c.end(CloseNormal, "")
					}
				})
				s := rand.New(rand.NewPCG(seeds[1], uint64(i)))
				wg.Go(func() { // the application
					for range 40 {
						if s.IntN(2) == 0 {
							_ = h.Room("r").Join(t.Context(), c.Conn)
						} else {
							_ = h.Room("r").Leave(t.Context(), c.Conn)
						}
					}
				})
			}
			wg.Wait()
			elapse(h.opts.LeaveGrace + 2*presenceTick)
			members := map[string]int{"watcher": 1}
			in := 1
			for _, c := range conns {
				if len(c.Rooms()) == 1 {
					require.False(t, c.ended.Load(), "a ghost")
					members[c.UserID()]++
					in++
				}
			}
			room := h.lookup(roomPrefix + "r")
			defer room.release()
			require.EqualValues(t, in, room.roster.count.Load())
			require.Len(t, room.roster.conns(), in)
			require.Len(t, room.room.users, len(members))
			for id, n := range members {
				require.Equal(t, n, room.room.users[id].conns)
			}
			require.EqualValues(t, in, hooks.Load(), "Join hooks less Leave hooks")
			for name, present := range requireAlternating(t, watcher.wire.messages(t)) {
				require.Equal(t, members[name] > 0, present, "%s", name)
			}
		})
	}
}

// P3.5: who is told what, in which order.
func TestSystemMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Room: func(string) RoomConfig { return RoomConfig{AnnounceLimit: 2} }})
		kim, lee, ada := attach(t, h, directOptions{}), attach(t, h, directOptions{}), attach(t, h, directOptions{})
		join := func(d *direct, name string) []message {
			return d.say(t, map[string]any{"type": "join", "room": "r", "username": name, "id": "1"})
		}
		got := join(kim, "kim")
		require.Len(t, got, 3)
		for i, typ := range []string{"history", "system", "ack"} {
			require.Equal(t, typ, got[i].str("type"))
		}
		require.Equal(t, message{"type": "system", "room": "r", "content": "kim joined"}, got[1])
		join(lee, "lee")
		require.Equal(t, "lee joined", kim.wire.messages(t)[0].str("content"))
		require.Empty(t, ofType(join(ada, "ada"), "system"), "three are above the limit")
		require.Empty(t, kim.wire.messages(t))

		lee.wire.messages(t)
		require.Empty(t, ofType(lee.say(t, `{"type":"leave"}`), "system"), "who has left is not told")
		require.Equal(t, "lee left", kim.wire.messages(t)[0].str("content"), "two are not")
		history, err := h.Room("r").History(t.Context(), 0, 0)
		require.NoError(t, err)
		require.Empty(t, history.Messages, "not kept")
	})
}

// A user is told to have joined by the join that succeeds, and to have left
// although the last join of a further device failed.
func TestSystemMessagesAndFailingJoins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		h := newHub(t, Options{Store: store})
		watcher := attach(t, h, directOptions{user: "watcher"})
		watcher.do(t, joinR)
		device := func() *direct { return attach(t, h, directOptions{user: "kim", v1: true}) }
		fail := func(d *direct, while func()) {
			gate := newBarrier()
			store.onRead = func(context.Context, string, Query, func() (Page, error)) (Page, error) {
				gate.pass()
				return Page{}, errors.New("down")
			}
			go d.do(t, joinR)
			synctest.Wait()
			store.onRead = nil
			while()
			gate.open()
			synctest.Wait()
		}
		first, second, third := device(), device(), device()
		fail(first, func() { second.do(t, joinR) })
		present := requireAlternating(t, watcher.wire.messages(t))
		require.True(t, present["kim"], "the second device is in")

		second.end(CloseAbnormal, "")
		elapse(recentLife)     // what the others read serves no longer
		fail(third, func() {}) // within the grace of the second
		elapse(h.opts.LeaveGrace)
		all := watcher.wire.messages(t)
		require.Len(t, ofType(all, "system"), 1)
		require.Equal(t, "kim left", all[0].str("content"))
	})
}

// A join waits for at most one part of a fan-out, and for none if all parts
// are full: nobody is kept out by a large room that is busy.
func TestJoinDuringAFanOut(t *testing.T) {
	var r roster
	crowd(&r, shardSize)
	busy := r.list()[0]
	busy.mu.Lock() // a fan-out is at work here
	joined := make(chan struct{})
	go func() {
		crowd(&r, shardSize+1)
		close(joined)
	}()
	<-joined
	require.Len(t, r.list(), 3)
	busy.mu.Unlock()
	require.Len(t, r.conns(), 2*shardSize+1)

	// What leaves makes room again, and parts are filled up.
	first := busy.subs[0]
	require.True(t, r.remove(first))
	require.False(t, r.remove(first))
	crowd(&r, shardSize)
	require.Len(t, r.list(), 3)
	require.EqualValues(t, 3*shardSize, r.count.Load())
}

// The fan-out reaches everybody, also while members come and go; who stays
// gets each frame once.
func TestFanOutWhileMembersComeAndGo(t *testing.T) {
	const stay, frames = 600, 100
	var r roster
	settle := crowd(&r, stay)
	members := r.conns()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			var guests roster
			crowd(&guests, 50)
			for _, c := range guests.conns() {
				m := &sub{conn: c}
				for range 10 {
					r.add(m)
					runtime.Gosched()
					r.remove(m)
					m = &sub{conn: c}
				}
			}
		})
	}
	for range frames {
		f := textFrame('x', 200)
		r.fanOut([]*frame{f})
		require.GreaterOrEqual(t, f.delivered, stay)
	}
	close(stop)
	wg.Wait()
	settle()
	require.EqualValues(t, stay, r.count.Load())
	for _, c := range members {
		require.EqualValues(t, frames, c.out.stats.writtenFrames.Load())
	}
}

// F46, F47, S25: rooms come and go by the hundred thousand, and nothing of
// them is left: no topic, no store entry, no memory.
func TestManyRooms(t *testing.T) {
	names := 100_000
	if raceEnabled {
		names = 10_000
	}
	bubble(t, func(t *testing.T) {
		store := NewMemoryStore()
		h := newHub(t, Options{Store: store, MaxRooms: 1000})
		c := attach(t, h, directOptions{v1: true, discard: true})
		heap := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		for from := 0; from < names; from += 1000 {
			for i := range 1000 {
				_, err := c.join(t.Context(), fmt.Sprint("room", from+i), joinRequest{name: "kim"})
				require.NoError(t, err)
			}
			if from%2000 == 0 {
				elapse(presenceTick) // the Store is told, too
				require.Equal(t, 1000, storedTopics(store))
			}
			for i := range 1000 {
				require.True(t, c.leaveFor(fmt.Sprint("room", from+i), ""))
			}
			elapse(presenceTick)
			require.Equal(t, 1, h.Stats().Topics)
		}
		require.Zero(t, storedTopics(store))
		require.Less(t, heap(), before+4<<20)
	})
}

// A room that somebody has only asked about does not stay either.
func TestRoomsAskedAbout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		for i := range 1000 {
			room := h.Room(fmt.Sprint("room", i))
			_, _, err := room.Members(t.Context(), 1)
			require.NoError(t, err)
			_, err = room.History(t.Context(), 0, 1)
			require.NoError(t, err)
			_, err = room.Send(t.Context(), i)
			require.NoError(t, err)
		}
		require.Equal(t, 1, h.Stats().Topics)
		elapse(time.Second)
	})
}

// F8: joins of one connection at the same time fail. It goes on, is in no room, and no hook hears of a leave without a join.
func TestJoinsFailTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		var joins, leaves atomic.Int32
		h := newHub(t, Options{Store: store, Hooks: Hooks{
			Join:  func(context.Context, *Conn, *Room) { joins.Add(1) },
			Leave: func(*Conn, *Room) { leaves.Add(1) },
		}})
		d := attach(t, h, directOptions{user: "kim", v1: true})
		gate := newBarrier()
		store.onRead = func(ctx context.Context, topic string, q Query, next func() (Page, error)) (Page, error) {
			if topic == roomPrefix+"r" {
				gate.pass()
				return Page{}, errors.New("down")
			}
			return next()
		}
		var done sync.WaitGroup
		for range 2 {
			done.Go(func() { _ = h.Room("r").Join(t.Context(), d.Conn) })
		}
		synctest.Wait()
		gate.open()
		done.Wait()
		synctest.Wait()
		require.Empty(t, d.Rooms())
		require.False(t, d.ended.Load(), "a join that fails does not end the connection")
		require.Zero(t, joins.Load())
		require.Zero(t, leaves.Load())
	})
}

// A join fails while another one has begun, and has not read yet: that one succeeds.
func TestJoinFailsBeforeAnotherReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, broker := newHookStore(), &slowSub{faultyBroker: newFaultyBroker(), d: 2 * time.Second}
		fails := true // reads of a room come one at a time here
		store.onRead = func(_ context.Context, topic string, _ Query, next func() (Page, error)) (Page, error) {
			if topic == roomPrefix+"r" && fails {
				fails = false
				return Page{}, errors.New("one read fails")
			}
			return next()
		}
		h := newHub(t, Options{Store: store, Broker: broker})
		d := attach(t, h, directOptions{user: "kim", v1: true})
		time.Sleep(5 * nodeBeat)
		broker.on.Store(true)
		errs := [2]error{errors.New("not called"), errors.New("not called")}
		var done sync.WaitGroup
		for i := range errs {
			done.Go(func() { errs[i] = h.Room("r").Join(t.Context(), d.Conn) })
			time.Sleep(time.Second)
		}
		done.Wait()
		require.ErrorIs(t, errs[0], ErrStore)
		require.NoError(t, errs[1])
		synctest.Wait()
		require.False(t, d.ended.Load())
		require.Equal(t, []string{"r"}, d.Rooms())
	})
}

// slowSub refuses subscriptions of rooms slowly.
type slowSub struct {
	*faultyBroker
	d  time.Duration
	on atomic.Bool
}

func (b *slowSub) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	if b.on.Load() && strings.HasPrefix(topic, roomPrefix) {
		time.Sleep(b.d)
		return nil, errors.New("refused")
	}
	return b.faultyBroker.Subscribe(ctx, topic, deliver)
}

// F9: many joins of one connection wait for a slow Store no longer than one, and not for longer than there is a connection.
func TestJoinsDoNotPileUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		h := newHub(t, Options{Store: store})
		d := attach(t, h, directOptions{user: "kim", v1: true})
		store.onRead = func(ctx context.Context, topic string, q Query, next func() (Page, error)) (Page, error) {
			if topic == roomPrefix+"r" {
				<-ctx.Done()
				return Page{}, ctx.Err()
			}
			return next()
		}
		var done sync.WaitGroup
		for range 10 {
			done.Go(func() { _ = h.Room("r").Join(context.Background(), d.Conn) })
		}
		synctest.Wait()
		began := time.Now()
		d.do(t, joinR)
		require.LessOrEqual(t, time.Since(began), 2*h.opts.StoreTimeout)
		done.Wait()
		began = time.Now()
		for range 10 {
			done.Go(func() { _ = h.Room("r").Join(context.Background(), d.Conn) })
		}
		synctest.Wait()
		d.end(CloseNormal, "")
		done.Wait()
		require.LessOrEqual(t, time.Since(began), h.opts.StoreTimeout)
	})
}

// F7: a call of the Store hangs in spite of its context. The client, who joins as well, is told.
func TestJoinBehindOneThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, gate := newHookStore(), newBarrier()
		var n atomic.Int32
		h := newHub(t, Options{Store: store})
		d := attach(t, h, directOptions{user: "kim", v1: true})
		store.onRead = func(ctx context.Context, topic string, q Query, next func() (Page, error)) (Page, error) {
			if topic == roomPrefix+"r" && n.Add(1) == 1 {
				gate.pass()
			}
			return next()
		}
		var done sync.WaitGroup
		done.Go(func() { _ = h.Room("r").Join(context.Background(), d.Conn) })
		synctest.Wait()
		began := time.Now()
		var took atomic.Int64
		done.Go(func() { d.do(t, joinR); took.Store(int64(time.Since(began)) + 1) })
		time.Sleep(time.Hour)
		got := took.Load()
		gate.open()
		done.Wait()
		require.NotZero(t, got, "the reader of the connection has waited for an hour")
	})
}
