package main

import (
	"testing"
	"time"
)

func TestWindowOfOne(t *testing.T) {
	w := newWindow(1, 2)
	if !w.open() || !w.empty() {
		t.Fatal("a new window is not open and empty")
	}
	seq := w.send(5)
	if w.open() || w.empty() {
		t.Fatal("a window of one is open with one message under way")
	}
	if d, err := w.arrived(seq, 7); d != 2 || err != nil {
		t.Fatalf("took %v, %v", d, err)
	}
	if w.open() {
		t.Fatal("open before the second receiver")
	}
	if _, err := w.arrived(seq, 9); err != nil || !w.open() || !w.empty() {
		t.Fatalf("not open after the last receiver: %v", err)
	}
	if _, err := w.arrived(seq, 9); err == nil {
		t.Fatal("a third arrival of two passed")
	}
}

func TestWindowSlides(t *testing.T) {
	w := newWindow(3, 1)
	for w.open() {
		w.send(0)
	}
	// The second one first: the window must wait for the oldest.
	for _, step := range []struct {
		seq  uint64
		open bool
	}{{1, false}, {0, true}, {2, true}} {
		if _, err := w.arrived(step.seq, time.Second); err != nil {
			t.Fatal(err)
		}
		if w.open() != step.open {
			t.Fatalf("open is %v after %d", w.open(), step.seq)
		}
	}
	if !w.empty() {
		t.Fatal("not empty at the end")
	}
	for w.open() { // the slots are used again
		w.send(0)
	}
	if w.next != 6 {
		t.Fatalf("%d messages sent in two windows of 3", w.next)
	}
}
