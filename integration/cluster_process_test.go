package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
	"github.com/parley-go/parley/client"
	"github.com/parley-go/parley/integration/chatd"
)

// These variables make this program a node that tests kill: with the address of its Redis, and its name.
const (
	nodeRedis = "PARLEY_TEST_NODE"
	nodeName  = "PARLEY_TEST_NODE_NAME"
)

func init() {
	if addr := os.Getenv(nodeRedis); addr != "" {
		if err := runNode(addr, os.Getenv(nodeName)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// runNode serves until SIGTERM, then stops as an application does at a deploy: it has ten minutes for that, or until the second SIGTERM.
func runNode(addr, name string) error {
	store, err := redisstore.New(redis.NewClient(&redis.Options{Addr: addr}), redisstore.Options{})
	if err != nil {
		return err
	}
	hub, err := parley.New(nodeOptions(name, store, store, os.Stderr))
	if err != nil {
		return err
	}
	parley.On(hub, "hang", func(ctx context.Context, c *parley.Conn, _ struct{}) (struct{}, error) {
		if _, err := hub.Notify(ctx, c.UserID(), "it hangs"); err != nil {
			return struct{}{}, err
		}
		select {}
	})
	ln, err := chatd.Listen(os.Getenv("PORT"))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", hub)
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := hub.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	terms := make(chan os.Signal, 2)
	signal.Notify(terms, syscall.SIGTERM)
	served := make(chan error, 1) // room for the result, so that the goroutine ends even if nobody looks
	go func() { served <- srv.Serve(ln) }()
	fmt.Printf("http://%s/\n", ln.Addr())
	select {
	case err := <-served:
		return err
	case <-terms:
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	go func() { // ends with the process
		<-terms
		cancel()
	}()
	_ = ln.Close() // a front goes to others from now on
	err = hub.Shutdown(ctx)
	_ = srv.Close()
	if errors.Is(err, context.Canceled) {
		return nil // as it was told
	}
	return err
}

// nodeProcess is a node in a process of its own, which can be started again at its address.
type nodeProcess struct {
	t          *testing.T
	name, port string
	redis      string
	*program
}

func startProcess(t *testing.T, name string, server *redistest.Server) *nodeProcess {
	t.Helper()
	p := &nodeProcess{t: t, name: name, port: quietPort(t), redis: server.Addr}
	p.begin()
	return p
}

// begin starts the process and waits until the node is ready.
func (p *nodeProcess) begin() {
	p.t.Helper()
	self, err := os.Executable()
	require.NoError(p.t, err)
	p.program = start(p.t, self, p.port, nodeRedis+"="+p.redis, nodeName+"="+p.name)
	await(p.t, func() bool {
		resp, err := http.Get(p.url + "ready")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, "%s to be ready", p.name)
}

func (p *nodeProcess) addr() string { return "127.0.0.1:" + p.port }

// node returns what watchers need to connect.
func (p *nodeProcess) node() *node { return &node{t: p.t, name: p.name, addr: p.addr()} }

// talk has chatters send numbered messages, each at its own pace, until the returned function is called. It returns what was
// acknowledged: the client sends again what the end of a connection leaves open.
func talk(t *testing.T, chatters []*chatter, every time.Duration) (end func() map[place]string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	acked := make(chan map[place]string, len(chatters))
	for _, c := range chatters {
		go func() {
			mine := map[place]string{}
			defer func() { acked <- mine }()
			pace := time.NewTicker(every)
			defer pace.Stop()
			for i := 1; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-pace.C:
				}
				text := fmt.Sprint(c.user, " ", i)
				ack, err := c.room.Send(context.Background(), text) // ends with the client
				if err != nil {
					if ctx.Err() == nil {
						t.Errorf("%s: %v", text, err)
					}
					return
				}
				mine[placeOf(ack.Position)] = text
			}
		}()
	}
	return func() map[place]string {
		cancel()
		all := map[place]string{}
		for range chatters {
			for at, text := range <-acked {
				all[at] = text
			}
		}
		return all
	}
}

// delivered asserts that the log holds what was acknowledged, and everything once, and that all chatters have seen all of it
// from where they came in, without a gap, in order, once.
func delivered(t *testing.T, store parley.Store, acked map[place]string, ears ...*ear) {
	t.Helper()
	epoch, log := logOf(t, store)
	times := map[string]int{}
	for _, l := range log {
		times[l.Text]++
		require.Equal(t, 1, times[l.Text], "%q is in the log twice", l.Text)
	}
	for at, text := range acked {
		require.Equal(t, epoch, at.epoch)
		require.Equal(t, text, log[at.offset-1].Text)
	}
	for _, e := range ears {
		e.sawAll(log)
	}
}

// F23: a node is killed while people chat. Its clients resume on another one, with their sessions and positions. A member who does not
// come back vanishes when the lease of the node is over.
func TestNodeIsKilled(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	store := overRedis(t, redisAt(t, server.Addr))
	processes := []*nodeProcess{startProcess(t, "p0", server), startProcess(t, "p1", server), startProcess(t, "p2", server)}
	victim := processes[0]
	lee := watch(processes[1].node(), "lee")
	ghost := watch(victim.node(), "ghost")
	var chatters []*chatter
	var ears []*ear
	for i, name := range []string{"kim", "max", "eve"} {
		first := newFront(processes[i].addr(), processes[(i+1)%3].addr(), processes[(i+2)%3].addr())
		first.stay = true
		c := chat(t, first, name)
		chatters, ears = append(chatters, c), append(ears, c.ear)
	}
	end := talk(t, chatters, 10*time.Millisecond)
	await(t, func() bool { return chatters[0].end().offset > 60 && slices.Contains(lee.story().came, "ghost") }, "people to chat")
	victim.kill()
	<-ghost.done
	killed := time.Now()
	await(t, func() bool { return len(chatters[0].connects()) > 1 }, "kim to come back")
	at := chatters[1].end()
	await(t, func() bool { return chatters[0].end().offset > at.offset+60 }, "people to chat again")
	acked := end()
	require.Greater(t, len(acked), 120)
	delivered(t, store, acked, ears...)
	lee.stays()
	require.Empty(t, lee.story().wrong)
	ids := chatters[0].connects()
	require.True(t, ids[1].Resumed, "the session is good on all nodes")
	require.Equal(t, ids[0].ClientID, ids[1].ClientID)

	members := func() []parley.Member {
		all, _, err := store.Members(t.Context(), topicLobby, 100)
		require.NoError(t, err)
		return all
	}
	ghostly := func(m parley.Member) bool { return m.UserID == "ghost" }
	deadline := killed.Add(time.Minute + patience) // the lease is a minute
	for slices.ContainsFunc(members(), ghostly) || !slices.Contains(lee.story().left, "ghost") {
		require.True(t, time.Now().Before(deadline), "%v after the node was killed %v are in the room; lee was told that %q left",
			time.Since(killed), members(), lee.story().left)
		<-time.After(100 * time.Millisecond)
	}
	t.Logf("the member of the dead node was gone, and lee told, after %v", time.Since(killed).Round(time.Second))
	require.Len(t, members(), 4)
	require.NotContains(t, lee.story().left, "kim", "kim came back")
}

// F36: three nodes are stopped in order and started again, one after the other, while people chat. No message is lost or
// there twice, and nobody hears that somebody left who was back at once.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	store := overRedis(t, redisAt(t, server.Addr))
	var processes []*nodeProcess
	var addrs []string
	for i := range 3 {
		processes = append(processes, startProcess(t, fmt.Sprint("p", i), server))
		addrs = append(addrs, processes[i].addr())
	}
	people := newFront(addrs...)
	var chatters []*chatter
	var ears []*ear
	for i := range 6 {
		c := chat(t, people, fmt.Sprint("user", i))
		chatters, ears = append(chatters, c), append(ears, c.ear)
	}
	end := talk(t, chatters, 20*time.Millisecond)
	for _, p := range processes {
		goOn(t, chatters)
		p.stop(t)
		goOn(t, chatters)
		p.begin()
		goOn(t, chatters)
	}
	acked := end()
	delivered(t, store, acked, ears...)
	moved := 0
	for _, c := range chatters {
		moved += len(c.connects()) - 1
		for _, id := range c.connects()[1:] {
			require.True(t, id.Resumed, "%s: the session is good on all nodes", c.name)
		}
		require.Empty(t, c.story().left, "%s was told that they left, and they were back at once", c.name)
	}
	require.GreaterOrEqual(t, moved, 6, "everybody was on a node that was stopped")
}

// goOn waits until everybody has got some more messages, and so is back.
func goOn(t *testing.T, chatters []*chatter) {
	t.Helper()
	for _, c := range chatters {
		from := c.end().offset
		await(t, func() bool { return c.client.State() == client.StateConnected && c.end().offset > from+20 }, "%s to go on", c.name)
	}
}

// F37: a node that hangs in application code while it stops ends at the second SIGTERM.
func TestSecondSIGTERM(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "p", redistest.Start(t))
	w := watch(p.node(), "kim")
	w.say(`{"type":"call","id":"c","method":"hang","data":{}}`)
	w.next("notification")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	<-w.done
	w.next("bye")
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		require.FailNow(t, "it did not wait for the call", "%v", err)
	case <-time.After(2 * time.Second): // it would wait for ten minutes
	}
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-ended:
		require.NoError(t, err, "exit after the second SIGTERM")
	case <-time.After(patience):
		require.FailNow(t, "it does not end")
	}
}
