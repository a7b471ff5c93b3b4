package client

import "testing"

func TestAttackOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		start(t, f.network, "", j.marks())
		p := f.welcome("kim")
		p.inbox(1, 1, `,"unread":1,"version":1`)
		j.take()
		p.send(marked("unread", "e", "[[2,2]]", 2, 4)) // the newer one first: another node was quicker
		p.send(marked("read", "e", "[[2,2]]", 1, 3))
		j.take()
		p.send(note(2))
		j.expect(t, "notification 2 unread")
	})
}
func TestAttackStale(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var j journal
		start(t, f.network, "", j.marks())
		p := f.welcome("kim")
		p.inbox(1, 1, `,"unread":1,"version":5`)
		j.expect(t, "inbox 1:unread", "unread 1")
		p.send(marked("read", "e", "[[1,1]]", 0, 4)) // held while the inbox, which has it and the unread after it, was read
		j.expect(t)
	})
}
