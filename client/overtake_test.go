package client

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/parley-go/parley"
	"github.com/stretchr/testify/require"
)

// P8.5: marks may come before what they mark, and before the inbox that has them.
func TestMarkOvertakes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		start(t, f.network, "", j.marks())
		p := f.welcome("kim")
		p.send(marked("read", "e", "[[1,1]]", 2, 5))
		p.send(marked("archived", "e", "[[2,2]]", 1, 7))
		j.expect(t)
		p.inbox(1, 2, `,"unread":2,"version":6,"read":[[1,1]]`) // has the first
		j.expect(t, "inbox 1:read 2:unread", "unread 2", "marked archived [{2 2}]", "unread 1")
		p.send(marked("read", "e", "[[2,4]]", 0, 8))
		p.send(marked("archived", "e", "[[4,6]]", 0, 9))
		p.send(marked("unread", "e", "[[6,6]]", 0, 10))
		j.take()
		for offset := 3; offset <= 7; offset++ {
			p.send(note(offset))
		}
		j.expect(t, "notification 3 read", "notification 4 archived", "notification 5 archived", "notification 6 unread", "notification 7 unread")
		// Of an inbox that is still to come, because the log was lost.
		p.send(marked("read", "e2", "[[1,1]]", 0, 3))
		j.expect(t)
		p.send(`{"type":"inbox","epoch":"e2","offset":1,"recovered":false,"code":"reset","messages":[],"unread":1,"version":2}`)
		j.expect(t, `gap "reset" after 7`, "inbox", "unread 1", "marked read [{1 1}]", "unread 0")
	})
}

// P8.5: of the marks of one entry that with the highest version counts, in whatever order they come.
func TestMarksOvertakeEachOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		c := start(t, f.network, "", j.marks())
		p := f.welcome("kim")
		p.inbox(1, 4, `,"unread":3,"version":5,"read":[[1,1]]`)
		j.expect(t, "inbox 1:read 2:unread 3:unread 4:unread", "unread 3")
		p.send(marked("unread", "e", "[[1,1]]", 4, 4)) // the inbox has it, and what came after it
		p.send(marked("archived", "e", "[[1,1]]", 2, 5))
		j.expect(t, "unread 2") // of equal versions the number that came last counts
		p.send(marked("unread", "e", "[[2,2],[6,6]]", 3, 9))
		p.send(marked("archived", "e", "[[4,4]]", 2, 11))
		j.expect(t, "marked unread [{2 2} {6 6}]", "unread 3", "marked archived [{4 4}]", "unread 2")
		p.send(marked("read", "e", "[[1,3],[4,4],[5,7]]", 0, 8))
		j.expect(t, "marked read [{1 1} {3 3} {5 5} {7 7}]")
		p.send(marked("read", "e", "[[2,2],[4,4]]", 0, 7))
		j.expect(t) // nothing of it is news
		// All of the state, told again in several messages of one version (P8.4).
		p.send(marked("unread", "e", "[[2,2]]", 2, 10))
		p.send(marked("read", "e", "[[1,1],[3,7]]", 2, 10))
		j.expect(t, "marked unread [{2 2}]", "marked read [{1 1} {3 3} {5 7}]")
		require.Equal(t, ReadState{2, 11}, c.ReadState())
		for offset := 5; offset <= 8; offset++ {
			p.send(note(offset))
		}
		j.expect(t, "notification 5 read", "notification 6 read", "notification 7 read", "notification 8 unread")
		p.send(marked("archived", "e", "[[2,8]]", 2, 6)) // also when what they mark has come
		j.expect(t, "marked archived [{8 8}]")
	})
}

// P8.5: an inbox may be ahead of its own position.
func TestInboxAheadOfItsPosition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		start(t, f.network, "", j.marks())
		p := f.welcome("kim")
		p.inbox(1, 1, `,"unread":1,"version":1`)
		j.take()
		p.send(`{"type":"inbox","epoch":"e2","offset":0,"recovered":false,"code":"reset","messages":[],"unread":1,"version":9,"read":[[1,2],[5,5]],"archived":[[4,4]]}`)
		j.expect(t, `gap "reset" after 1`, "inbox")
		p.send(marked("unread", "e2", "[[2,2]]", 2, 10))
		p.send(marked("unread", "e2", "[[5,5]]", 9, 8)) // the inbox has it
		j.expect(t, "marked unread [{2 2}]", "unread 2")
		for offset := 1; offset <= 6; offset++ {
			p.sendf(`{"type":"notification","data":%d,"timestamp":1,"epoch":"e2","offset":%d}`, offset, offset)
		}
		j.expect(t, "notification 1 read", "notification 2 unread", "notification 3 unread", "notification 4 archived",
			"notification 5 read", "notification 6 unread")
		// The next one says it anew.
		p.cut()
		p = f.welcome("kim")
		p.send(`{"type":"inbox","epoch":"e2","offset":6,"recovered":true,"messages":[],"unread":1,"version":12,"archived":[[7,8]]}`)
		p.send(`{"type":"notification","data":7,"timestamp":1,"epoch":"e2","offset":7}`)
		j.expect(t, "state at 6 read [] archived [{7 8}] truncated 0", "recovered 0", "unread 1", "notification 7 archived")
	})
}

// What comes later than all that is remembered can't be judged: the next inbox has it.
func TestMarkTooLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		start(t, f.network, "", j.marks())
		p := f.welcome("kim")
		p.inbox(1, 2, `,"unread":2,"version":10`)
		for i := range maxHeld + 5 {
			p.send(marked("read", "e", "[[1,1]]", 1, 21+i))
		}
		synctest.Wait()
		j.take()
		p.send(marked("read", "e", "[[2,2]]", 9, 10))
		p.send(marked("read", "e", "[[2,2]]", 9, 25)) // the last one that was forgotten
		j.expect(t, "marked read [{2 2}]")
		p.send(marked("archived", "e", "[[1,1]]", 9, 24))
		require.Equal(t, parley.CloseAbnormal, p.closed())
		j.expect(t)
	})
}

// The marks that wait for what they mark are not kept without a bound: the next inbox has them all.
func TestTooManyMarksOvertake(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		start(t, f.network, "", j.marks())
		p := f.welcome("kim")
		p.inbox(1, 1, `,"unread":1,"version":1`)
		mark := func(offset int) { p.send(marked("read", "e", fmt.Sprintf("[[%d,%d]]", offset, offset), 1, offset)) }
		for offset := 2; offset <= 2*maxHeld; offset++ { // they do not wait any more when it has come
			mark(offset)
			p.send(note(offset))
		}
		for i := range maxHeld {
			mark(2*maxHeld + 2 + i)
		}
		synctest.Wait()
		j.take()
		p.send(marked("read", "e", "[[1000,1000]]", 1, 1000))
		require.Equal(t, parley.CloseAbnormal, p.closed())
		p = f.welcome("kim")
		p.inbox(513, 514, `,"recovered":true,"unread":2,"version":1000,"read":[[514,514]]`)
		j.expect(t, "marked read [{1000 1000}]", "notification 513 unread", "notification 514 read",
			"state at 514 read [{514 514}] archived [] truncated 0", "recovered 2", "unread 2")
	})
}
