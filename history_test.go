package parley

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHistoryPages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Room: func(string) RoomConfig { return RoomConfig{History: Retention{Messages: 230}} }})
		fill(t, h, 250) // 21 to 250 are kept
		d := attach(t, h, directOptions{})
		d.say(t, joinR)
		for _, tt := range []struct {
			ask      string
			from, to int64
			more     bool
		}{
			{``, 151, 250, true},
			{`,"before":0,"limit":0`, 151, 250, true},
			{`,"limit":3`, 248, 250, true},
			{`,"limit":1000`, 151, 250, true},
			{`,"before":251`, 151, 250, true},
			{`,"before":9007199254740991`, 151, 250, true},
			{`,"before":151`, 51, 150, true},
			{`,"before":122`, 22, 121, true},
			{`,"before":121`, 21, 120, false},
			{`,"before":51`, 21, 50, false},
			{`,"before":23,"limit":1`, 22, 22, true},
			{`,"before":22`, 21, 21, false},
			{`,"before":21`, 1, 0, false},
			{`,"before":1`, 1, 0, false},
		} {
			got := d.say(t, `{"type":"history","id":"h","room":"r"`+tt.ask+`}`)
			require.Len(t, got, 1)
			m := got[0]
			require.Equal(t, "history", m.str("type"))
			require.Equal(t, "h", m.str("id"))
			require.Equal(t, "r", m.str("room"))
			require.EqualValues(t, 250, m.num("offset"))
			require.NotContains(t, m, "recovered")
			require.Equal(t, numbers(tt.from, tt.to), contents(m.entries()), tt.ask)
			require.Equal(t, tt.more, m["more"], tt.ask)
			for i, e := range m.entries() {
				require.Equal(t, tt.from+int64(i), e.num("offset"))
				require.Equal(t, m.str("epoch"), e.str("epoch"))
			}
		}
	})
}

// The application sees the same pages.
func TestRoomHistory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		kim := attach(t, h, directOptions{user: "kim", name: "Kim"})
		kim.do(t, joinR)
		kim.do(t, `{"type":"message","content":{"n":1}}`)
		fill(t, h, 2)
		got, err := h.Room("r").History(t.Context(), 0, 2)
		require.NoError(t, err)
		require.EqualValues(t, 3, got.Offset)
		require.NotEmpty(t, got.Epoch)
		require.True(t, got.More)
		require.Len(t, got.Messages, 2)
		require.Equal(t, `"2"`, string(got.Messages[1].Content))

		got, err = h.Room("r").History(t.Context(), got.Messages[0].Offset, 0)
		require.NoError(t, err)
		require.False(t, got.More)
		require.Len(t, got.Messages, 1)
		m := got.Messages[0]
		require.NotZero(t, m.Timestamp)
		m.Timestamp = 0
		require.Equal(t, HistoryMessage{Offset: 1, UserID: "kim", Username: "Kim", Content: []byte(`{"n":1}`)}, m)

		got, err = h.Room("empty").History(t.Context(), 0, 0)
		require.NoError(t, err)
		require.Zero(t, got.Offset)
		require.Empty(t, got.Messages)
	})
}

// P3.4: joining again repeats the history and tells nobody; the room becomes the default.
func TestJoiningAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		kim, lee := attach(t, h, directOptions{user: "kim", v1: true}), attach(t, h, directOptions{user: "lee", v1: true})
		lee.do(t, joinR)
		kim.do(t, joinR)
		kim.do(t, `{"type":"join","room":"other"}`)
		fill(t, h, 2)
		elapse(presenceTick)
		kim.wire.messages(t)
		lee.wire.messages(t)

		got := kim.say(t, `{"type":"join","room":"r","username":"somebody","id":"1"}`)
		require.Len(t, got, 3, "history, presence and ack: %v", got)
		require.Equal(t, numbers(1, 2), contents(got[0].entries()))
		require.NotNil(t, got[1]["members"])
		require.Equal(t, "ack", got[2].str("type"))
		require.Equal(t, []string{"other", "r"}, kim.Rooms())
		require.NoError(t, h.Room("r").Join(t.Context(), kim.Conn))
		require.Equal(t, numbers(1, 2), contents(ofType(kim.wire.messages(t), "history")[0].entries()))

		elapse(presenceTick)
		require.Empty(t, lee.wire.messages(t))
		_, count, err := h.Room("r").Members(t.Context(), 10)
		require.NoError(t, err)
		require.Equal(t, 2, count)
		kim.do(t, `{"type":"leave","room":"r"}`)
		require.Len(t, ofType(lee.wire.messages(t), "system"), 1, "one leave is enough")
		require.Equal(t, []string{"other"}, kim.Rooms())
	})
}

// F31: after the ack of a leave nothing of the room is delivered, however
// many messages are underway. The same after Room.Leave has returned.
func TestNoDeliveryAfterLeave(t *testing.T) {
	const rounds = 100
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Room: keepAll, RateLimit: -1, QueueSize: 1 << 30})
		d := attach(t, h, directOptions{v1: true})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		end := sync.OnceFunc(func() {
			close(stop)
			wg.Wait()
		})
		defer end()
		for p := range 3 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
						_, err := h.Room("r").Send(t.Context(), fmt.Sprintf("p%d %d", p, i))
						require.NoError(t, err)
					}
				}
			})
		}
		for i := range rounds {
			d.do(t, map[string]any{"type": "join", "room": "r", "id": "join"})
			if i%2 == 0 {
				d.do(t, `{"type":"leave","id":"left"}`)
			} else {
				require.NoError(t, h.Room("r").Leave(t.Context(), d.Conn))
				d.do(t, `{"type":"ping","id":"left"}`)
			}
		}
		end()
		left, leaves := false, 0
		for _, m := range d.wire.messages(t) {
			switch {
			case m.str("id") == "left":
				left = true
				leaves++
			case m.str("type") == "history":
				left = false
			default:
				require.False(t, left && m.str("room") == "r", "after the leave: %v", m)
			}
		}
		require.Equal(t, rounds, leaves)
	})
}
