package parley

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// BenchmarkFanOut is the hub's share of a message to 1,000 connections: no
// socket, no JSON of the payload. One operation is one message.
func BenchmarkFanOut(b *testing.B) {
	const members = 1000
	for _, batch := range []int{1, 16} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			var r roster
			settle := crowd(&r, members)
			frames := make([]*frame, batch)
			for i := range frames {
				frames[i] = textFrame('x', 200)
			}
			b.ReportAllocs()
			start := time.Now()
			for b.Loop() {
				r.fanOut(frames)
				settle()
			}
			perDelivery := float64(time.Since(start).Nanoseconds()) / float64(b.N) / float64(members*batch)
			b.ReportMetric(perDelivery, "ns/delivery")
		})
	}
}

// BenchmarkRoomSendSmall is a message of the application to a room of 10,
// with history.
func BenchmarkRoomSendSmall(b *testing.B) {
	h := newHub(b, Options{})
	var members []*direct
	for range 10 {
		d := attach(b, h, directOptions{discard: true})
		d.do(b, joinR)
		members = append(members, d)
	}
	room, payload := h.Room("r"), map[string]string{"text": "hello"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := room.Send(context.Background(), payload); err != nil {
			b.Fatal(err)
		}
		for _, d := range members {
			d.settle()
		}
	}
}

// BenchmarkJoin is a join and a leave of a room with 100 messages and 100 members.
func BenchmarkJoin(b *testing.B) {
	h := newHub(b, Options{RateLimit: -1, Room: func(string) RoomConfig { return RoomConfig{AnnounceLimit: -1} }})
	for range 100 {
		attach(b, h, directOptions{v1: true, discard: true}).do(b, joinR)
	}
	for i := range 100 {
		if _, err := h.Room("r").Send(context.Background(), i); err != nil {
			b.Fatal(err)
		}
	}
	d := attach(b, h, directOptions{v1: true, discard: true})
	join, leave := []byte(joinR), []byte(`{"type":"leave"}`)
	b.ReportAllocs()
	for b.Loop() {
		d.handle(join)
		d.handle(leave)
		d.settle()
	}
}
