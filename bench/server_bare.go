package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// bareServer is the least that a broadcasting WebSocket server can do: for
// every message one frame is built, and a loop writes it to one connection
// after the other. It knows no rooms, no limits and no slow readers: one
// client that stops reading stops everybody. What it costs is what the write
// system calls cost, and that is what it is for.
type bareServer struct {
	open atomic.Int64 // how many conns; apart, so that it can be read while a write blocks

	mu    sync.Mutex // guards the fields below, and is held while writing
	conns []*bareConn
	ids   int
}

type bareConn struct {
	net.Conn
	index int // in conns; guarded by mu
}

func newBareServer(string) (benchServer, error) { return &bareServer{}, nil }

func (s *bareServer) Connections() int { return int(s.open.Load()) }

func (s *bareServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if key == "" {
		http.Error(w, "a WebSocket handshake is needed", http.StatusUpgradeRequired)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// A goroutine of its own, so that what net/http holds for the request is freed.
	go s.serve(&bareConn{Conn: conn}, key)
}

func (s *bareServer) serve(c *bareConn, key string) {
	defer c.Close()
	accept := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	b := fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(accept[:]))
	s.mu.Lock()
	s.ids++
	hello := fmt.Sprintf(`{"type":"connected","clientId":"bare-%021d"}`, s.ids)
	c.index = len(s.conns)
	s.conns = append(s.conns, c)
	s.open.Add(1)
	_, err := c.Write(appendFrame(b, opText, []byte(hello), false))
	s.mu.Unlock()
	defer s.remove(c)
	if err == nil {
		s.read(c)
	}
}

func (s *bareServer) remove(c *bareConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.conns[len(s.conns)-1]
	s.conns[c.index], last.index = last, c.index
	s.conns = s.conns[:len(s.conns)-1]
	s.open.Add(-1)
}

// read handles the frames of one client until it closes or errs.
func (s *bareServer) read(c *bareConn) {
	buf := make([]byte, 0, 512)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, make([]byte, cap(buf))...)[:len(buf)]
		}
		n, err := c.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return
		}
		buf = buf[:len(buf)+n]
		rest := buf
		for {
			op, payload, size, err := parseFrame(rest, true)
			if err != nil || op == opClose {
				return
			}
			if size == 0 {
				break
			}
			if op == opText {
				s.broadcast(c, payload)
			}
			rest = rest[size:]
		}
		buf = buf[:copy(buf[:len(rest)], rest)]
	}
}

// broadcast sends what parley would send, to the byte count: one shared frame
// with the message of the client in the envelope of the server.
func (s *bareServer) broadcast(from *bareConn, in []byte) {
	_, message, ok := bytes.Cut(in, []byte(`"message":`))
	if !ok {
		return
	}
	out := append([]byte(`{"type":"broadcast","senderId":"bare-000000000000000000001","message":`), message...)
	frame := appendFrame(make([]byte, 0, len(out)+10), opText, out, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if c != from {
			c.Write(frame) // a failed one is removed by its reader
		}
	}
}

// Shutdown closes every connection without waiting for anybody.
func (s *bareServer) Shutdown(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Write(appendFrame(nil, opClose, []byte{0x03, 0xE9}, false)) // 1001
		c.Close()
	}
	return nil
}
