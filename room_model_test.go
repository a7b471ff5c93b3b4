package parley

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// roomModel is what docs/protocol.md says about who is in which room.
type roomModel struct {
	hub     *Hub
	rooms   []string
	conns   []*modelConn
	present map[string]map[string]*modelUser // by room and user id
}

type modelConn struct {
	*direct
	opts  directOptions
	rooms []string // the one joined last at the end
}

type modelUser struct {
	conns int
	until time.Time // end of the leave grace, while conns is 0
}

func (m *roomModel) connect(t *testing.T, i int) {
	o := m.conns[i].opts
	m.conns[i] = &modelConn{direct: attach(t, m.hub, o), opts: o}
}

func (m *roomModel) join(t *testing.T, c *modelConn, room string, server bool) {
	if server {
		require.NoError(t, m.hub.Room(room).Join(t.Context(), c.Conn))
	} else {
		c.do(t, map[string]any{"type": "join", "room": room})
	}
	if i := slices.Index(c.rooms, room); i >= 0 {
		c.rooms = append(slices.Delete(c.rooms, i, i+1), room)
		return
	}
	c.rooms = append(c.rooms, room)
	u := m.present[room][c.UserID()]
	if u == nil {
		u = &modelUser{}
		m.present[room][c.UserID()] = u
	}
	u.conns++
}

// leave leaves a room, or the one joined last if room is "".
func (m *roomModel) leave(t *testing.T, c *modelConn, room string, server bool) {
	message := map[string]any{"type": "leave"}
	if room == "" && len(c.rooms) > 0 {
		room = c.rooms[len(c.rooms)-1]
	} else if room != "" {
		message["room"] = room
	}
	member := slices.Contains(c.rooms, room)
	if server {
		err := m.hub.Room(room).Leave(t.Context(), c.Conn)
		require.Equal(t, member, err == nil, "%v", err)
	} else {
		c.do(t, message)
	}
	if member {
		c.rooms = slices.DeleteFunc(c.rooms, func(r string) bool { return r == room })
		m.exit(room, c.UserID(), 0)
	}
}

func (m *roomModel) die(c *modelConn, code CloseCode) {
	c.end(code, "")
	synctest.Wait()
	grace := 10 * time.Second
	if !c.v1 || code == CloseNormal || code >= CloseRefused {
		grace = 0
	}
	for _, room := range c.rooms {
		m.exit(room, c.UserID(), grace)
	}
}

func (m *roomModel) exit(room, user string, grace time.Duration) {
	u := m.present[room][user]
	u.conns--
	u.until = time.Now().Add(grace)
}

func (m *roomModel) check(t *testing.T) {
	t.Helper()
	synctest.Wait()
	for _, c := range m.conns {
		require.Equal(t, fmt.Sprint(c.rooms), fmt.Sprint(c.Rooms()))
	}
	for _, room := range m.rooms {
		maps.DeleteFunc(m.present[room], func(_ string, u *modelUser) bool {
			return u.conns == 0 && !time.Now().Before(u.until)
		})
		members, count, err := m.hub.Room(room).Members(t.Context(), 1000)
		require.NoError(t, err)
		require.Len(t, members, count)
		ids := make([]string, 0, count)
		for _, member := range members {
			ids = append(ids, member.UserID)
		}
		require.Equal(t, fmt.Sprint(sortedKeys(m.present[room])), fmt.Sprint(ids), "room %s", room)
	}
}

// step does something at random.
func (m *roomModel) step(t *testing.T, r *rand.Rand) {
	i := r.IntN(len(m.conns))
	c, room := m.conns[i], m.rooms[r.IntN(len(m.rooms))]
	switch what := r.IntN(1000); {
	case what < 470:
		m.join(t, c, room, what%4 == 0)
	case what < 700:
		m.leave(t, c, room, what%4 == 0)
	case what < 940:
		m.leave(t, c, "", false)
	case what < 980:
		m.die(c, []CloseCode{CloseAbnormal, CloseNormal, CloseDisconnected}[what%3])
		m.connect(t, i)
	default:
		elapse(time.Duration(r.Int64N(int64(3 * time.Second))))
	}
}

// F30, F46, P3.3, P3.6: whatever the order, there is no ghost in any room, and
// nothing is left when everybody has gone.
func TestRandomJoinsLeavesAndDeaths(t *testing.T) {
	const steps = 100_000
	source := random(t)
	bubble(t, func(t *testing.T) {
		store := NewMemoryStore()
		// Without system messages: they are the most work, and looked at elsewhere.
		silent := func(string) RoomConfig { return RoomConfig{AnnounceLimit: -1} }
		h := newHub(t, Options{Store: store, RateLimit: -1, Room: silent})
		m := &roomModel{hub: h, present: make(map[string]map[string]*modelUser)}
		for i := range 6 {
			room := fmt.Sprint("room", i)
			m.rooms = append(m.rooms, room)
			m.present[room] = make(map[string]*modelUser)
		}
		for i := range 16 {
			o := directOptions{v1: i%2 == 0, discard: true}
			if i < 9 {
				o.user = fmt.Sprint("user", i%3)
			}
			m.conns = append(m.conns, &modelConn{opts: o})
			m.connect(t, i)
		}
		for i := range steps {
			m.step(t, source)
			if i%200 == 0 {
				m.check(t)
			}
		}
		m.check(t)
		for _, c := range m.conns {
			m.die(c, CloseAbnormal)
		}
		elapse(presenceLease)
		require.Equal(t, 1, h.Stats().Topics, "the broadcast")
		require.Zero(t, h.Stats().Connections)
		require.Empty(t, h.conns)
		require.Zero(t, h.all.roster.count.Load())
		require.Zero(t, storedTopics(store))
	})
}

// storedTopics returns how many topics a MemoryStore knows.
func storedTopics(s *MemoryStore) int {
	n := 0
	for i := range s.shards {
		s.shards[i].mu.Lock()
		n += len(s.shards[i].topics.m)
		s.shards[i].mu.Unlock()
	}
	return n
}
