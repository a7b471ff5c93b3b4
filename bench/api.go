package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
)

// apiFailed starts the answer to a request that failed.
const apiFailed = "failed:"

// listenAPI takes lines "<id> <room> <content>" on a free loopback port and
// lets the application send each, in a goroutine of its own as an HTTP handler
// would. The answer is the id, when that has returned.
func listenAPI(s sender) (net.Listener, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			go serveAPI(conn, s)
		}
	}()
	return l, nil
}

func serveAPI(conn net.Conn, s sender) {
	defer conn.Close()
	var requests sync.WaitGroup
	defer requests.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	answer := func(b []byte) { conn.Write(b) } // who asked notices if it fails
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := bytes.SplitN(bytes.Clone(lines.Bytes()), []byte(" "), 3)
		if len(fields) != 3 {
			answer(fmt.Appendf(nil, "%s %q is no request\n", apiFailed, lines.Text()))
			continue
		}
		requests.Go(func() {
			if err := s.Send(ctx, string(fields[1]), fields[2]); err != nil {
				answer(fmt.Appendf(nil, "%s %s\n", apiFailed, strconv.Quote(err.Error())))
				return
			}
			answer(append(bytes.Clone(fields[0]), '\n'))
		})
	}
}
