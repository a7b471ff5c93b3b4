package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// sockets are the connections of a load process, named by numbers that count
// from 0 in the order of open. Everything happens in the goroutine that calls
// poll: one epoll set and one shared buffer cost the load a fraction of what a
// goroutine and a buffer per connection would, and the load must never be what
// a measurement of the server waits for.
type sockets struct {
	epoll  int
	fds    []int // -1 once closed
	events []unix.EpollEvent
	buf    []byte
}

// connectionsPerSource keeps every source address far below the number of
// ephemeral ports.
const connectionsPerSource = 4096

func newSockets() (*sockets, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &sockets{epoll: epoll, events: make([]unix.EpollEvent, 512), buf: make([]byte, 256<<10)}, nil
}

// open connects one more socket. A small receive buffer makes one that stops
// reading felt by the server after kilobytes instead of megabytes.
func (s *sockets) open(addr netip.AddrPort, smallBuffer bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	id := len(s.fds)
	s.fds = append(s.fds, fd)
	if smallBuffer {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
			return err
		}
	}
	// Without this option the bind below would use up a port for all destinations.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	source := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + id/connectionsPerSource)}}
	if err := unix.Bind(fd, source); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	// Closing sends a reset: thousands of sockets in TIME_WAIT would be in the way of the next run.
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}); err != nil {
		return fmt.Errorf("connect number %d: %w", id, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	return s.resume(id)
}

// write writes b whole. There is no waiting: a load that waits for the server
// to read while the server waits for the load to read would wait forever.
func (s *sockets) write(id int, b []byte) error {
	n, err := unix.Write(s.fds[id], b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// pause stops reading from a socket, resume begins again.
func (s *sockets) pause(id int) error {
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, s.fds[id], nil)
}

func (s *sockets) resume(id int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(id)}
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, s.fds[id], &event)
}

func (s *sockets) close(id int) {
	if s.fds[id] >= 0 {
		unix.Close(s.fds[id])
		s.fds[id] = -1
	}
}

// poll waits for data for at most the given time, rounded up to milliseconds,
// and hands over what has come. The data is valid during the call of on only.
// A connection that has ended is reported once, with the error.
func (s *sockets) poll(wait time.Duration, on func(id int, data []byte, err error)) error {
	ms := int((wait + time.Millisecond - 1) / time.Millisecond)
	n, err := unix.EpollWait(s.epoll, s.events, ms)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return err
	}
	for _, event := range s.events[:max(n, 0)] {
		s.read(int(event.Fd), on)
	}
	return nil
}

func (s *sockets) read(id int, on func(id int, data []byte, err error)) {
	for s.fds[id] >= 0 {
		n, err := unix.Read(s.fds[id], s.buf)
		switch {
		case n > 0:
			on(id, s.buf[:n], nil)
			if n < len(s.buf) {
				return // more would be told by the next epoll_wait
			}
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return
		default:
			if err == nil {
				err = io.EOF
			}
			s.close(id)
			on(id, nil, err)
		}
	}
}
