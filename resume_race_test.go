package parley

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// roamer is a client that comes and goes, and joins from where it was.
type roamer struct {
	*stage
	name      string
	conn      *direct // nil while it is away
	in        bool
	view      view
	recovered int  // how often it got what it had missed
	reset     int  // how often it was told to start anew
	lossless  bool // the Store loses nothing: being told to start anew is wrong
}

// read takes what has come.
func (c *roamer) read(t *testing.T) {
	if c.conn == nil {
		return
	}
	resets := c.view.resets
	c.view.recovered = nil
	c.view.apply(t, c.conn.wire.take(t))
	switch {
	case c.view.recovered == true:
		c.recovered++
	case c.view.recovered == false:
		require.False(t, c.lossless, "told of a loss that was none")
		c.reset += c.view.resets - resets
	}
}

// come connects if it is away, and joins with its position if it is out.
func (c *roamer) come(t *testing.T) {
	if c.conn == nil {
		c.conn = attach(t, c.hub, directOptions{user: c.name, v1: true})
	}
	if c.in {
		return
	}
	// All that was sent before has to be in the position.
	c.conn.settle()
	c.read(t)
	join := map[string]any{"type": "join", "room": "r"}
	if c.view.joined {
		join["epoch"], join["offset"] = c.view.epoch, c.view.offset
	}
	c.in = true
	c.conn.do(t, join)
}

func (c *roamer) leave(t *testing.T) {
	if c.in {
		c.in = false
		c.conn.do(t, `{"type":"leave"}`)
	}
}

// die loses the connection, and what was underway on it.
func (c *roamer) die(t *testing.T) {
	c.read(t)
	if c.conn != nil {
		c.conn.end(CloseAbnormal, "")
	}
	c.conn, c.in = nil, false
}

// again joins the joined room.
func (c *roamer) again(t *testing.T) {
	if c.in {
		c.conn.do(t, joinR)
	}
}

// F27, F66: publishers in bursts, clients that join, leave, die and come back
// with their position, and in some runs a Store that loses its log.
func TestResumeRacesLiveMessages(t *testing.T) {
	source := random(t)
	recovered, reset := 0, 0
	for run := range 100 {
		wiped := run%4 == 0
		bubble(t, func(t *testing.T) {
			s := newStage(t)
			s.all = true
			var clients []*roamer
			for i := range 4 {
				clients = append(clients, &roamer{stage: s, name: fmt.Sprint("user", i), view: view{room: "r"}, lossless: !wiped})
			}
			s.slow()
			for p := range 3 {
				var steps []func()
				for i := range 6 {
					steps = append(steps, s.publish(t, fmt.Sprintf("p%d %d", p, i)))
				}
				s.actor(fmt.Sprint("publisher", p), steps...)
			}
			for _, c := range clients {
				steps := []func(){func() { c.come(t) }}
				for range 8 {
					do := []func(*testing.T){c.come, c.come, c.come, c.leave, c.die, c.again}[source.IntN(6)]
					steps = append(steps, func() { do(t) })
				}
				s.actor(c.name, steps...)
			}
			if wiped {
				s.actor("wipe", s.store.wipe)
			}
			s.play(source.IntN)
			s.publish(t, "last 0")()
			log := s.log(t)
			if !wiped {
				require.Len(t, log, 3*6+1)
				requireFIFO(t, log)
			}
			for _, c := range clients {
				c.come(t)
				c.conn.settle()
				c.read(t)
				c.view.requireLog(t, log)
				recovered += c.recovered
				reset += c.reset
			}
		})
		if t.Failed() {
			t.Fatalf("run %d", run)
		}
	}
	t.Logf("resumed %d times with what was missed, %d times without", recovered, reset)
	require.Greater(t, recovered, 100, "or the test would not test resuming")
	require.Greater(t, reset, 5)
}
