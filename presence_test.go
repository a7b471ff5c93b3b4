package parley

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// crew is who a client believes to be in a room, by the rules of section 5.
type crew struct {
	room    string
	names   map[string]string // by user id; nil before the first snapshot
	count   int64
	changes int // messages with changes
}

func (p *crew) apply(all []message) {
	for _, m := range ofType(all, "presence") {
		if m.str("room") != p.room {
			continue
		}
		p.count = m.num("count")
		if members, ok := m["members"].([]any); ok {
			p.names = make(map[string]string) // P5.3
			p.add(members)
			continue
		}
		p.changes++
		left, _ := m["left"].([]any)
		for _, l := range left {
			id, _ := member(l)
			delete(p.names, id)
		}
		joined, _ := m["joined"].([]any)
		p.add(joined)
	}
}

func (p *crew) add(members []any) {
	for _, m := range members {
		id, name := member(m)
		p.names[id] = name
	}
}

func member(v any) (id, name string) {
	m := message(v.(map[string]any))
	return m.str("userId"), m.str("username")
}

// roll returns who is in a room according to the hub.
func roll(t *testing.T, h *Hub, room string) map[string]string {
	t.Helper()
	members, count, err := h.Room(room).Members(t.Context(), 1000)
	require.NoError(t, err)
	require.Len(t, members, count)
	names := make(map[string]string)
	for _, m := range members {
		names[m.UserID] = m.Name
	}
	return names
}

// requireTold asserts which system messages a connection got, and that it got
// a change of presence if and only if there are some.
func requireTold(t *testing.T, d *direct, want ...string) {
	t.Helper()
	elapse(presenceTick)
	all := d.wire.messages(t)
	var got []string
	for _, m := range ofType(all, "system") {
		got = append(got, m.str("content"))
	}
	require.Equal(t, want, got)
	require.Equal(t, len(want) > 0, len(ofType(all, "presence")) > 0, "%v", all)
}

// F32: several devices are one presence, which ends with the last of them.
func TestDevicesAreOnePresence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		watcher := attach(t, h, directOptions{user: "watcher", v1: true})
		watcher.do(t, joinR)
		requireTold(t, watcher, "watcher joined")
		var devices []*direct
		for range 3 {
			devices = append(devices, attach(t, h, directOptions{user: "kim"}))
		}
		devices[0].do(t, joinR)
		requireTold(t, watcher, "kim joined")
		devices[1].do(t, joinR)
		devices[2].do(t, joinR)
		requireTold(t, watcher)
		require.Equal(t, map[string]string{"watcher": "watcher", "kim": "kim"}, roll(t, h, "r"))
		devices[0].end(CloseAbnormal, "")
		devices[1].do(t, `{"type":"leave"}`)
		requireTold(t, watcher)
		devices[1].do(t, joinR)
		devices[2].end(CloseAbnormal, "")
		requireTold(t, watcher)
		devices[1].end(CloseAbnormal, "")
		requireTold(t, watcher, "kim left")
		require.Equal(t, map[string]string{"watcher": "watcher"}, roll(t, h, "r"))
	})
}

// P3.6: who ends how is gone when.
func TestLeaveGrace(t *testing.T) {
	for _, tt := range []struct {
		name  string
		v1    bool
		end   func(*direct)
		grace time.Duration
	}{
		{"v1, lost", true, func(d *direct) { d.end(CloseAbnormal, "") }, 10 * time.Second},
		{"v1, too slow", true, func(d *direct) { d.end(CloseSlow, "") }, 10 * time.Second},
		{"v1, expired", true, func(d *direct) { d.end(CloseExpired, "") }, 10 * time.Second},
		{"v1, normal end", true, func(d *direct) { d.end(CloseNormal, "") }, 0},
		{"v1, disconnected", true, func(d *direct) { d.hub.disconnect("kim", "") }, 0},
		{"v1, closed by the application for good", true, func(d *direct) { d.Close(4150, "") }, 0},
		{"v1, left", true, func(d *direct) { d.leaveFor("r", "") }, 0},
		{"plain, lost", false, func(d *direct) { d.end(CloseAbnormal, "") }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHub(t, Options{})
				watcher := attach(t, h, directOptions{user: "watcher", v1: true})
				watcher.do(t, joinR)
				d := attach(t, h, directOptions{user: "kim", v1: tt.v1})
				d.do(t, joinR)
				requireTold(t, watcher, "watcher joined", "kim joined")
				tt.end(d)
				if tt.grace > 0 {
					requireTold(t, watcher)
					require.Contains(t, roll(t, h, "r"), "kim")
					elapse(tt.grace - presenceTick - time.Nanosecond)
					require.Contains(t, roll(t, h, "r"), "kim")
					elapse(time.Nanosecond)
				}
				requireTold(t, watcher, "kim left")
				require.NotContains(t, roll(t, h, "r"), "kim")
				elapse(time.Hour)
				requireTold(t, watcher)
			})
		})
	}
}

func TestNoLeaveGrace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{LeaveGrace: -1})
		d := attach(t, h, directOptions{user: "kim", v1: true})
		d.do(t, joinR)
		d.end(CloseAbnormal, "")
		elapse(0)
		require.Empty(t, roll(t, h, "r"))
	})
}

// F69: a client that comes and goes within the grace does not flap, however often.
func TestRapidReconnectsDoNotFlap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		watcher := attach(t, h, directOptions{user: "watcher", v1: true})
		watcher.do(t, joinR)
		requireTold(t, watcher, "watcher joined")
		var d *direct
		for i := range 100 {
			d = attach(t, h, directOptions{user: "kim", v1: true})
			d.do(t, joinR)
			if i == 0 {
				requireTold(t, watcher, "kim joined")
			}
			elapse(time.Duration(i) * time.Millisecond)
			d.end(CloseAbnormal, "")
			elapse(time.Duration(i) * 95 * time.Millisecond) // up to 9.4 s
		}
		requireTold(t, watcher)
		elapse(10 * time.Second)
		requireTold(t, watcher, "kim left")
		require.Equal(t, 3, h.Stats().Topics, "broadcast, room and the inbox of the watcher")
	})
}

// S24: however many come and go, a room costs each member one message a tick.
func TestPresenceIsBatched(t *testing.T) {
	const rooms, ticks, crowd = 2, 8, 20
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{RateLimit: -1})
		var watchers []*direct
		for r := range rooms {
			w := attach(t, h, directOptions{v1: true})
			w.do(t, map[string]any{"type": "join", "room": fmt.Sprint(r)})
			watchers = append(watchers, w)
		}
		elapse(presenceTick)
		for _, w := range watchers {
			w.wire.messages(t)
		}
		for range ticks {
			for r := range rooms {
				for range crowd {
					d := attach(t, h, directOptions{discard: true})
					d.do(t, map[string]any{"type": "join", "room": fmt.Sprint(r)})
					d.do(t, `{"type":"leave"}`)
					d.do(t, map[string]any{"type": "join", "room": fmt.Sprint(r)})
				}
			}
			elapse(presenceTick)
		}
		for r, w := range watchers {
			p := crew{room: fmt.Sprint(r), names: map[string]string{w.UserID(): w.Name()}}
			p.apply(w.wire.messages(t))
			require.Equal(t, ticks, p.changes)
			require.EqualValues(t, ticks*crowd+1, p.count)
			require.Equal(t, roll(t, h, p.room), p.names)
		}
	})
}

// Snapshots and changes give every v1 client the truth as soon as nothing
// moves, whatever it was that moved: joins, leaves, deaths, other names.
func TestPresenceIsTheTruth(t *testing.T) {
	source := random(t)
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{RateLimit: -1})
		type seat struct {
			*direct
			crew
			opts directOptions
			in   bool
		}
		seats := make([]*seat, 12)
		for i := range seats {
			seats[i] = &seat{opts: directOptions{v1: i%3 > 0}}
			if i < 8 {
				// Two devices each, which do not even agree on the name.
				seats[i].opts.user, seats[i].opts.name = fmt.Sprint("user", i/2), fmt.Sprint("name", i)
			}
		}
		plain := 0
		for round := range 300 {
			for range source.IntN(6) {
				s := seats[source.IntN(len(seats))]
				switch {
				case s.direct == nil:
					s.direct = attach(t, h, s.opts)
				case !s.in:
					s.wire.messages(t) // of the last time it was in
					s.crew = crew{room: "r"}
					s.in = true
					s.do(t, map[string]any{"type": "join", "room": "r", "username": fmt.Sprint("guest", source.IntN(3))})
				case source.IntN(3) == 0:
					s.end(CloseAbnormal, "")
					s.direct, s.in = nil, false
				default:
					s.in = false
					s.do(t, `{"type":"leave"}`)
				}
				elapse(time.Duration(source.IntN(200)) * time.Millisecond)
			}
			if round%3 > 0 {
				continue
			}
			elapse(10*time.Second + 2*presenceTick)
			truth := roll(t, h, "r")
			for _, s := range seats {
				switch {
				case !s.in:
				case s.v1:
					s.apply(s.wire.messages(t))
					require.Equal(t, truth, s.names)
					require.EqualValues(t, len(truth), s.count)
				default:
					require.Empty(t, ofType(s.wire.messages(t), "presence"), "a plain client did not ask for it")
					plain++
				}
			}
		}
		require.Positive(t, plain)
	})
}

// Presence can be asked for, by plain clients, too.
func TestPresenceRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		kim, lee := attach(t, h, directOptions{user: "kim"}), attach(t, h, directOptions{user: "lee", name: "Lee"})
		kim.do(t, joinR)
		lee.do(t, joinR)
		elapse(presenceTick)
		kim.wire.messages(t)
		got := kim.say(t, `{"type":"presence","room":"r","id":"p"}`)
		require.Len(t, got, 1)
		require.Equal(t, "p", got[0].str("id"))
		p := crew{room: "r"}
		p.apply(got)
		require.True(t, maps.Equal(map[string]string{"kim": "kim", "lee": "Lee"}, p.names))
		require.EqualValues(t, 2, p.count)
		require.Zero(t, p.changes)
	})
}

// Section 5: a snapshot has at most 100 members, and above 1,000 users the
// changes are only counted.
func TestPresenceOfLargeRooms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		d := attach(t, h, directOptions{user: "kim", v1: true})
		d.do(t, joinR)
		elapse(presenceTick)
		d.wire.messages(t)
		room := h.lookup(roomPrefix + "r")
		defer room.release()
		come := func(from, to int) message {
			for i := from; i < to; i++ {
				room.room.enter(fmt.Sprint("user", i), "x")
			}
			elapse(presenceTick)
			got := d.wire.messages(t)
			require.Len(t, got, 1)
			return got[0]
		}
		m := come(0, presenceDetail-1)
		require.EqualValues(t, presenceDetail, m.num("count"))
		require.Len(t, m["joined"], presenceDetail-1)

		m = come(presenceDetail, presenceDetail+50)
		require.EqualValues(t, presenceDetail+50, m.num("count"))
		require.NotContains(t, m, "joined")
		require.NotContains(t, m, "left")

		snapshot := d.say(t, `{"type":"presence","room":"r","id":"p"}`)[0]
		require.Len(t, snapshot["members"], presenceRoster)
		require.EqualValues(t, presenceDetail+50, snapshot.num("count"))

		for i := range 60 {
			room.room.exit(fmt.Sprint("user", i), 0)
		}
		elapse(presenceTick)
		m = ofType(d.wire.messages(t), "presence")[0]
		require.EqualValues(t, presenceDetail-10, m.num("count"))
		require.Len(t, m["left"], 60)
		for i := 60; i < presenceDetail+50; i++ {
			if i != presenceDetail-1 { // nobody has this number
				room.room.exit(fmt.Sprint("user", i), 0)
			}
		}
		elapse(presenceTick)
		require.Len(t, room.room.users, 1)
	})
}
