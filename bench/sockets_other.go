//go:build !linux

package main

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// sockets is the portable form of what sockets_linux.go does with epoll: a
// goroutine per connection hands its data to poll. It costs more per delivery,
// so that at full speed the load may be what limits the numbers.
type sockets struct {
	conns  []net.Conn
	paused []*sync.Mutex // held while its connection is not to be read
	data   chan chunk
}

type chunk struct {
	id   int
	data []byte
	err  error
	done chan struct{} // closed when the data may be overwritten
}

func newSockets() (*sockets, error) {
	// Unbuffered: poll takes the data before the reader goes on.
	return &sockets{data: make(chan chunk)}, nil
}

// open connects one more socket. Its receive buffer stays as it is: shrinking
// it after the handshake slows the connection down instead.
func (s *sockets) open(addr netip.AddrPort, _ bool) error {
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		return err
	}
	conn.(*net.TCPConn).SetLinger(0)
	id, paused := len(s.conns), new(sync.Mutex)
	s.conns, s.paused = append(s.conns, conn), append(s.paused, paused)
	go s.read(id, conn, paused)
	return nil
}

func (s *sockets) read(id int, conn net.Conn, paused *sync.Mutex) {
	buf := make([]byte, 16<<10)
	for {
		n, err := conn.Read(buf)
		done := make(chan struct{})
		s.data <- chunk{id, buf[:n], err, done}
		<-done
		if err != nil {
			return
		}
		paused.Lock()
		paused.Unlock() //nolint:staticcheck // waits until reading is wanted
	}
}

func (s *sockets) write(id int, b []byte) error {
	// A load that waited for a server that waits for the load would wait forever.
	s.conns[id].SetWriteDeadline(time.Now().Add(time.Second))
	_, err := s.conns[id].Write(b)
	return err
}

func (s *sockets) pause(id int) error  { s.paused[id].Lock(); return nil }
func (s *sockets) resume(id int) error { s.paused[id].Unlock(); return nil }
func (s *sockets) close(id int)        { s.conns[id].Close() }

func (s *sockets) poll(wait time.Duration, on func(id int, data []byte, err error)) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case c := <-s.data:
			if len(c.data) > 0 {
				on(c.id, c.data, nil)
			}
			if c.err != nil {
				on(c.id, nil, c.err)
			}
			close(c.done)
			timer.Reset(0) // take what is there already, then return
		case <-timer.C:
			return nil
		}
	}
}
