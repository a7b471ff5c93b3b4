package parleytest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"
)

// dialled returns a new link whose server end was accepted by l.
func dialled(t *testing.T, n *Network, l net.Listener) *Link {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	c, err := n.Dial(context.Background(), "tcp", "anything:1")
	require.NoError(t, err)
	link := c.(*Conn).Link()
	require.Same(t, link.Server(), <-accepted)
	require.Same(t, link.Client(), c)
	return link
}

func TestDialWithoutServer(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		n := NewNetwork()
		_, err := n.Dial(context.Background(), "tcp", "parley.test:80")
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.EqualError(t, err, "dial tcp 127.0.0.1:80: connection refused")
		l := n.Listen()
		dialled(t, n, l).Cut()
		n.Refuse(true)
		_, err = n.Dial(context.Background(), "tcp", "parley.test:80")
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		n.Refuse(false)
		dialled(t, n, l).Cut()
		require.NoError(t, l.Close())
		require.NoError(t, l.Close())
		_, err = l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = n.Dial(context.Background(), "tcp", "parley.test:80")
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.Empty(t, n.Links())
	})
}

// A restarted server, and two at once: the newest gets the connections.
func TestListenAgain(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		n := NewNetwork()
		first := n.Listen()
		a := dialled(t, n, first)
		second := n.Listen()
		b := dialled(t, n, second)
		require.NoError(t, second.Close())
		c := dialled(t, n, first)
		require.Equal(t, []*Link{a, b, c}, n.Links())
		write(t, b.Client(), "still there")
		read(t, b.Server(), "still there")
		n.Cut()
		require.Empty(t, n.Links())
		require.ErrorIs(t, readError(b.Client()), syscall.ECONNRESET)
	})
}

// A dial that nobody accepts ends with its context, or with the listener.
func TestDialWaits(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		l := n.Listen()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := n.Dial(ctx, "tcp", "")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var netErr net.Error
		require.ErrorAs(t, err, &netErr)
		require.True(t, netErr.Timeout())
		time.AfterFunc(time.Second, func() { _ = l.Close() })
		_, err = n.Dial(context.Background(), "tcp", "")
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.Empty(t, n.Links())
	})
}

func TestOnDial(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		l := n.Listen()
		refusal := errors.New("no route to host")
		var seen []int
		n.OnDial(func(ctx context.Context, link *Link) error {
			seen = append(seen, link.Number())
			switch link.Number() {
			case 1:
				return refusal
			case 2:
				<-ctx.Done() // cannot be reached
				return ctx.Err()
			case 3:
				time.Sleep(time.Minute) // takes its time
			case 4:
				link.CutAfter(2, ToClient)
			}
			return nil
		})
		_, err := n.Dial(context.Background(), "tcp", "")
		require.ErrorIs(t, err, refusal)
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err = n.Dial(ctx, "tcp", "")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		dialled(t, n, l).Cut()
		require.Equal(t, time.Second+time.Minute, time.Since(start))
		link := dialled(t, n, l)
		require.ErrorIs(t, func() error { _, err := link.Server().Write([]byte("abc")); return err }(), syscall.ECONNRESET)
		read(t, link.Client(), "ab")
		n.OnDial(nil)
		dialled(t, n, l).Cut()
		require.Equal(t, []int{1, 2, 3, 4}, seen)
		require.Empty(t, n.Links())
	})
}

// The hook may use the Network: no lock is held.
func TestOnDialMayCall(t *testing.T) {
	n := NewNetwork()
	l := n.Listen()
	n.OnDial(func(_ context.Context, link *Link) error {
		require.Equal(t, []*Link{link}, n.Links())
		n.OnDial(nil)
		n.Refuse(true)
		n.Cut()
		n.Refuse(false)
		return nil
	})
	link := dialled(t, n, l)
	require.ErrorIs(t, readError(link.Client()), syscall.ECONNRESET)
}

// Links forgets a link when both of its ends are over, in whatever way.
func TestLinksEnd(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		l := n.Listen()
		for name, end := range map[string]func(*Link){
			"client first": func(l *Link) { _ = l.Client().Close(); _ = l.Server().Close() },
			"server first": func(l *Link) { _ = l.Server().Close(); _ = l.Client().Close() },
			"reset": func(l *Link) {
				write(t, l.Server(), "unread")
				_ = l.Client().Close()
			},
			"vanished": func(l *Link) { l.VanishServer(); _ = l.Client().Close() },
			"later": func(l *Link) {
				l.Slow(1)
				write(t, l.Client(), "0123456789")
				_ = l.Client().Close()
				time.Sleep(time.Minute)
				_ = l.Server().Close()
			},
			"cut after": func(l *Link) {
				l.CutAfter(1, ToServer)
				_, _ = l.Client().Write([]byte("xy"))
			},
		} {
			link := dialled(t, n, l)
			require.Equal(t, []*Link{link}, n.Links(), name)
			require.True(t, link.Alive())
			end(link)
			require.Empty(t, n.Links(), name)
			require.False(t, link.Alive())
		}
	})
}

// A real HTTP server and client work over it, keep-alives and uploads included.
func TestHTTPOverNetwork(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		n := NewNetwork()
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(body)
		})}
		var served sync.WaitGroup
		listener := n.Listen()
		served.Go(func() { _ = server.Serve(listener) })
		transport := &http.Transport{DialContext: n.Dial}
		client := http.Client{Transport: transport}
		body := make([]byte, 300_000)
		for i := range body {
			body[i] = byte(i * i)
		}
		for range 3 {
			req, err := http.NewRequest("POST", "http://parley.test/", bytes.NewReader(body))
			require.NoError(t, err)
			resp, err := client.Do(req)
			require.NoError(t, err)
			got, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, body, got)
		}
		require.LessOrEqual(t, len(n.Links()), 3)
		transport.CloseIdleConnections()
		require.NoError(t, server.Close())
		served.Wait()
	})
}
