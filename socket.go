package parley

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// socket is the net.Conn that the WebSocket library works on. Reading goes
// through to the network, what the library writes (control frames, each in
// one Write) joins the outbox.
type socket struct {
	net.Conn
	out             *outbox
	early           []byte // bytes that arrived together with the handshake
	assemblyTimeout time.Duration
	closeTimeout    time.Duration

	alive atomic.Bool // a byte was read since the heartbeat looked last

	// A message is being read; used by the reading goroutine only. The
	// deadline is armed when a message did not come in one piece, so that the
	// usual one costs no timer.
	assembling, armed bool
	// err ended the reading; used by the reading goroutine only. The library
	// and its decompressor may make another error of it, or the end of a message.
	err error

	mu     sync.Mutex // guards the deadlines of the connection and ending
	ending bool
}

// Read reads from the network.
func (s *socket) Read(p []byte) (int, error) {
	if len(s.early) > 0 {
		n := copy(p, s.early)
		s.early = s.early[n:]
		return n, nil
	}
	if s.assembling && !s.armed {
		s.armed = true
		s.setReadDeadline(deadlineIn(s.assemblyTimeout))
	}
	n, err := s.Conn.Read(p)
	if n > 0 {
		if !s.alive.Load() {
			s.alive.Store(true)
		}
		return n, nil // an error comes again with the next Read
	}
	s.err = err
	return 0, err
}

// Write queues one control frame of the WebSocket library.
func (s *socket) Write(p []byte) (int, error) {
	f := &frame{wire: append([]byte(nil), p...), head: 2}
	if p[0]&0x0f == opClose {
		if len(p) > 4 && !utf8.Valid(p[4:]) {
			// The library echoes whatever reason the peer gave.
			f = closeFrame(CloseInvalidUTF8, "text is not UTF-8")
		}
		s.out.finish(f, false)
		return len(p), nil
	}
	if s.out.push(nil, []*frame{f}) == pushFull {
		// The peer floods pings and does not read the answers.
		_ = s.Conn.Close()
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

// Close closes the network connection after what is queued was written, or
// after the close timeout. Without this the last frames, the close frame
// among them, would be lost.
func (s *socket) Close() error {
	s.startEnding(s.closeTimeout)
	s.out.wait()
	return s.Conn.Close()
}

// startEnding limits everything that still happens on the connection, once.
func (s *socket) startEnding(timeout time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending {
		s.ending = true
		_ = s.SetDeadline(deadlineIn(timeout))
	}
}

// hurry gives an ending connection no more than the close timeout from now on.
func (s *socket) hurry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.SetDeadline(deadlineIn(s.closeTimeout))
}

// assembled ends the reading of a message.
func (s *socket) assembled() {
	s.assembling = false
	if s.armed {
		s.armed = false
		s.setReadDeadline(time.Time{})
	}
}

func (s *socket) setReadDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending {
		_ = s.SetReadDeadline(t)
	}
}
