package parley

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// writeChunk is how many bytes of small frames are joined into one write.
	// 16 KiB amortise a 10 us syscall over a hundred 128-byte messages, and
	// are all the memory that a stalled connection can hold on to for it.
	writeChunk = 16 << 10
	// writeSlice is the largest single write. At 2 KB/s, the slowest link
	// worth keeping, it takes one ping interval.
	writeSlice = 64 << 10
	// keepQueue is the largest queue capacity an idle connection keeps: 512
	// bytes that only connections pay for which had a burst. Smaller, and every burst allocates.
	keepQueue = 64
	// signalShare is the part of the queue from which signals with the same
	// key replace each other, and of which twice as much drops them.
	signalShare = 4
	// roomyShare is the part of the queue that may be in use when a client gets
	// what it has asked for, which takes up to half of the queue.
	roomyShare = 4
	// signalReach is how far back an older signal is looked for: a search
	// under the lock of a shard must be short.
	signalReach = 256
)

type pushed uint8

const (
	pushOK     pushed = iota
	pushClosed        // the connection ends; nothing was queued
	pushFull          // this push overflowed the queue: the caller must end the connection
)

type outboxState uint8

const (
	outboxOpen   outboxState = iota
	outboxFull               // a push overflowed it: only the close frame is still taken
	outboxClosed             // the close frame is queued or written, or the socket is gone
)

// outbox is the only way for bytes to a socket. Frames are queued by any
// goroutine without blocking; a goroutine that lives only as long as there is
// something to write joins all queued frames into as few writes as possible.
// After a close frame nothing is queued or written any more.
type outbox struct {
	conn    net.Conn
	limit   int // bytes that may be queued, the ones being written included
	deflate bool
	stats   *counters
	drain   func() // o.run, made once: a go statement with it does not allocate
	owner   *Conn  // ended when the socket fails: its reader may be busy elsewhere

	mu       sync.Mutex // guards the fields below; nothing else is locked while it is held
	queue    []*frame
	writing  []*frame // the batch being written
	spare    []*frame // the other of the two buffers, while no drain uses it
	size     int      // bytes in queue and in the batch being written
	draining bool
	mute     bool // nothing is written before greet
	state    outboxState
	discard  bool          // what is queued before the close frame is not to be written
	drains   uint32        // started: one that lasts shows who is behind
	writes   uint32        // finished writes: shows the heartbeat that there is progress
	done     chan struct{} // made by wait, closed at the end of the drain
	roomy    chan struct{} // made by awaitRoom, closed when there is
}

func (o *outbox) init(conn net.Conn, limit int, deflate bool, stats *counters) {
	o.conn, o.limit, o.deflate, o.stats = conn, limit, deflate, stats
	o.drain = o.run
}

// push queues those of frames that are meant for c, all or none of them
// unless they overflow, and counts in each frame what became of it: only the
// goroutine that the frames belong to may call it. It never blocks.
func (o *outbox) push(c *Conn, frames []*frame) pushed { return o.put(c, frames, true) }

// put is push for any goroutine if count is false.
func (o *outbox) put(c *Conn, frames []*frame, count bool) pushed {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != outboxOpen {
		return pushClosed
	}
	for i, f := range frames {
		if !f.isFor(c) {
			continue
		}
		if f.key != "" && o.size > o.limit/signalShare {
			o.putSignal(f, count)
			continue
		}
		if o.size+len(f.wire) > o.limit && o.size > 0 {
			if count {
				dropAll(c, frames[i:])
			}
			o.owner.lost(Drop{Messages: countFor(c, frames[i:])})
			o.state = outboxFull
			return pushFull
		}
		o.queue = append(o.queue, f)
		o.size += len(f.wire)
		if count {
			f.delivered++
		}
	}
	o.startLocked()
	return pushOK
}

// dropAll counts frames that c does not get any more.
func dropAll(c *Conn, frames []*frame) {
	for _, f := range frames {
		if f.isFor(c) {
			f.dropped++
		}
	}
}

// putSignal queues a signal on a connection that lags: it replaces the newest
// one with the same key, and gives way if there is none and the queue is half full.
func (o *outbox) putSignal(f *frame, count bool) {
	replaces := -1
	for i := len(o.queue) - 1; i >= max(0, len(o.queue)-signalReach); i-- {
		if o.queue[i].key == f.key {
			replaces = i
			break
		}
	}
	switch {
	case replaces >= 0:
		o.size += len(f.wire) - len(o.queue[replaces].wire)
		o.queue[replaces] = f
		o.stats.signalsReplaced.Add(1)
		o.owner.lost(Drop{Replaced: 1})
	case o.size+len(f.wire) > o.limit*2/signalShare:
		o.stats.signalsDropped.Add(1)
		o.owner.lost(Drop{Signals: 1})
		if count {
			f.dropped++
		}
		return
	default:
		o.queue = append(o.queue, f)
		o.size += len(f.wire)
	}
	if count {
		f.delivered++
	}
}

// greet writes f before everything that was queued already.
func (o *outbox) greet(f *frame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mute = false
	if o.state == outboxOpen {
		o.queue = slices.Insert(o.queue, 0, f)
		o.size += len(f.wire)
		o.stats.delivered.Add(1)
	}
	o.startLocked()
}

func (o *outbox) startLocked() {
	if !o.draining && len(o.queue) > 0 && (!o.mute || o.state == outboxClosed) {
		o.draining = true
		o.drains++
		go o.drain() // ends when the queue is empty or the socket fails
	}
}

// finish queues a close frame, unless it is nil, as the last one. With
// discard, it takes the place of everything not yet being written.
func (o *outbox) finish(f *frame, discard bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state == outboxClosed {
		return
	}
	o.state, o.discard = outboxClosed, discard
	if discard || o.mute {
		if discard {
			o.owner.lost(Drop{Messages: countFor(nil, o.queue)})
		}
		for _, old := range o.queue {
			o.size -= len(old.wire)
		}
		clear(o.queue)
		o.queue = o.queue[:0]
	}
	if f != nil {
		o.queue = append(o.queue, f)
		o.size += len(f.wire)
		o.startLocked()
	}
}

// awaitRoom waits until there is room for a history: a client that asks for more
// than its link carries gets it at the pace of the link. It is for the reading goroutine; the error is that of ctx.
func (o *outbox) awaitRoom(ctx context.Context) error {
	o.mu.Lock()
	if o.size <= o.limit/roomyShare || o.state != outboxOpen {
		o.mu.Unlock()
		return nil
	}
	if o.roomy == nil {
		o.roomy = make(chan struct{})
	}
	roomy := o.roomy
	o.mu.Unlock()
	return wait(ctx, roomy)
}

// wait blocks until everything queued is written or the socket failed; the
// caller has set a write deadline. Nothing can be queued afterwards.
func (o *outbox) wait() {
	o.mu.Lock()
	o.state = outboxClosed
	if !o.draining {
		o.mu.Unlock()
		return
	}
	if o.done == nil {
		o.done = make(chan struct{})
	}
	done := o.done
	o.mu.Unlock()
	<-done
}

// run writes batches until the queue is empty.
func (o *outbox) run() {
	o.mu.Lock()
	for len(o.queue) > 0 {
		batch := o.queue
		o.queue, o.spare, o.writing = o.spare[:0], nil, batch
		o.mu.Unlock()
		err := o.write(batch)
		o.mu.Lock()
		clear(batch)
		o.spare, o.writing = batch[:0], nil
		if err != nil {
			o.state = outboxClosed
			clear(o.queue)
			o.queue, o.size = o.queue[:0], 0
			if o.owner != nil {
				go o.owner.finish(CloseAbnormal, nil) // not under the lock
			}
		}
	}
	o.draining = false
	if cap(o.spare) > keepQueue {
		o.spare = nil
	}
	if cap(o.queue) > keepQueue {
		o.queue = nil
	}
	if o.done != nil {
		close(o.done)
		o.done = nil
	}
	o.mu.Unlock()
}

// write writes a batch in chunks. On an error the socket is closed, which
// wakes the reader, and the rest is gone.
func (o *outbox) write(batch []*frame) error {
	for len(batch) > 0 {
		n, size, err := o.writeChunk(batch)
		if err != nil {
			_ = o.conn.Close()
			return err
		}
		batch = batch[n:]
		if o.wrote(size, batch) {
			return nil
		}
	}
	return nil
}

// wrote accounts for a finished write. It reports whether the rest of the
// batch must not be written any more, because the connection is being closed for its slowness.
func (o *outbox) wrote(size int, rest []*frame) (stop bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size -= size
	o.writes++
	if o.roomy != nil && o.size <= o.limit/roomyShare {
		close(o.roomy)
		o.roomy = nil
	}
	if !o.discard {
		return false
	}
	// The close frame is not among them: finish put it into the queue.
	o.owner.lost(Drop{Messages: countFor(nil, rest)})
	for _, f := range rest {
		o.size -= len(f.wire)
	}
	return true
}

var chunks = sync.Pool{New: func() any { return new([writeChunk]byte) }}

// writeChunk writes the first frame alone, or as many frames as fit into a
// chunk. It returns how many, and their accounted size.
func (o *outbox) writeChunk(batch []*frame) (n, size int, err error) {
	first := batch[0].bytes(o.deflate)
	size = len(batch[0].wire)
	if len(batch) == 1 || len(first)+len(batch[1].bytes(o.deflate)) > writeChunk {
		err = o.writeLarge(first)
		o.stats.wrote(1, len(first))
		return 1, size, err
	}
	buf := chunks.Get().(*[writeChunk]byte)
	at := copy(buf[:], first)
	for n = 1; n < len(batch); n++ {
		b := batch[n].bytes(o.deflate)
		if at+len(b) > writeChunk {
			break
		}
		at += copy(buf[at:], b)
		size += len(batch[n].wire)
	}
	_, err = o.conn.Write(buf[:at])
	chunks.Put(buf)
	o.stats.wrote(n, at)
	return n, size, err
}

// writeLarge writes one frame, in slices if it is large: each counts as
// progress, so that who reads slowly but steadily is not taken for stalled.
func (o *outbox) writeLarge(p []byte) error {
	for len(p) > writeSlice {
		if _, err := o.conn.Write(p[:writeSlice]); err != nil {
			return err
		}
		p = p[writeSlice:]
		o.mu.Lock()
		o.writes++
		o.mu.Unlock()
	}
	_, err := o.conn.Write(p)
	return err
}

// progress returns the number of finished writes and whether one is under way.
func (o *outbox) progress() (writes uint32, draining bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writes, o.draining
}

// queued returns the bytes that wait, for tests and statistics.
func (o *outbox) queued() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size
}

// deadlineIn is the moment after which closing no longer waits.
func deadlineIn(d time.Duration) time.Time { return time.Now().Add(d) }
