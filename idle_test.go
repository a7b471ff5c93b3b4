package parley

import (
	"context"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// F48: an idle connection costs at most 25 KiB of heap and stack, its pipe and
// the client's half of it included. PARLEY_IDLE chooses how many there are: 100000 take
// 10 s and 2 GB. What real sockets cost is measured by bench.
func TestIdleAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector multiplies memory; make check runs the test without it, too")
	}
	connections := 5000
	if s := os.Getenv("PARLEY_IDLE"); s != "" {
		var err error
		connections, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	s := serve(t, Options{})
	clients := make([]*websocket.Conn, connections)
	before := inUse()
	for i := range clients {
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.listener.dial(ctx) }, DisableKeepAlives: true}
		ws, _, err := websocket.Dial(context.Background(), "ws://parley.test/", &websocket.DialOptions{
			HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{subprotocolV1},
		})
		require.NoError(t, err)
		_, _, err = ws.Read(context.Background()) // "connected"
		require.NoError(t, err)
		clients[i] = ws
	}
	each := (inUse() - before) / connections
	t.Logf("%d connections, %d bytes each", connections, each)
	require.Less(t, each, 25<<10)
	runtime.KeepAlive(clients)
	for _, ws := range clients {
		go func() { _ = ws.CloseNow() }()
	}
}

// inUse returns the bytes of live objects and of stacks.
func inUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}
