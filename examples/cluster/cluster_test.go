//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/client"
)

const (
	// patience is for what hangs. It is no assertion about speed.
	patience = 3 * time.Minute
	again    = 10 * time.Millisecond
	pace     = 25 * time.Millisecond // between two messages: below the rate that a client may have
	runMain  = "CLUSTER_TEST_RUNS_MAIN"
)

// TestMain lets the test program be the cluster, and each of its processes.
func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program is a running cluster.
type program struct {
	t   *testing.T
	cmd *exec.Cmd
	url string
	dir string // where it keeps its files
}

// engines are what there is to run on; Redis only if it is installed.
func engines(t *testing.T, f func(t *testing.T, engine string)) {
	for _, engine := range []string{"redis", "nats"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			if engine == "redis" {
				needRedis(t)
			}
			f(t, engine)
		})
	}
}

// needRedis skips a test if there is no Redis server, unless PARLEY_REQUIRE says that there must be one.
func needRedis(t *testing.T) {
	t.Helper()
	if redisProgram() != "" {
		return
	}
	const missing = "NO REDIS SERVER: neither redis-server nor valkey-server is in PATH; install redis-server to run this test"
	if slices.Contains(strings.Split(os.Getenv("PARLEY_REQUIRE"), ","), "redis") {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// launch starts the cluster on a free port, and waits until it is ready.
func launch(t *testing.T, engine string) *program {
	t.Helper()
	// A socket's path must be short; that of t.TempDir has the name of the test in it.
	dir, err := os.MkdirTemp("", "pc")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	p := &program{t: t, dir: dir}
	p.cmd = exec.Command(os.Args[0], "-addr=127.0.0.1:0", "-restart=1s", "-engine="+engine)
	p.cmd.Env = append(os.Environ(), runMain+"=1", "TMPDIR="+dir)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.end)
	lines := bufio.NewScanner(out)
	for p.url == "" && lines.Scan() {
		_, p.url, _ = strings.Cut(lines.Text(), "open ")
	}
	require.NotEmpty(t, p.url, "the cluster did not say its address")
	go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the program
	return p
}

// end ends the cluster if it still runs, and waits until nothing of it does.
func (p *program) end() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Signal(os.Interrupt) // an error says that it has ended
		_ = p.cmd.Wait()                       // how it ends is for another test
	}
	p.empty()
}

// until waits for a condition.
func (p *program) until(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); <-time.After(again) {
		require.True(p.t, time.Now().Before(deadline), "never: %s", what)
	}
}

// empty waits until the directory is, which is the last thing that happens.
func (p *program) empty() {
	p.t.Helper()
	p.until("the files are gone", func() bool {
		left, err := filepath.Glob(filepath.Join(p.dir, "*"))
		return err == nil && len(left) == 0
	})
}

func (p *program) nodes() (views []view) {
	p.t.Helper()
	response, err := http.Get(p.url + "cluster")
	require.NoError(p.t, err)
	defer response.Body.Close()
	var answer struct{ Nodes []view }
	require.NoError(p.t, json.NewDecoder(response.Body).Decode(&answer))
	return answer.Nodes
}

// kill kills a node, as the button does.
func (p *program) kill(name string) {
	p.t.Helper()
	response, err := http.Post(p.url+"cluster/"+name+"/kill", "", nil)
	require.NoError(p.t, err)
	require.NoError(p.t, response.Body.Close())
	require.Equal(p.t, http.StatusNoContent, response.StatusCode)
}

// restarted waits until all nodes are ready, and each has died this often, or more: on a machine that stands still one may be
// taken for dead.
func (p *program) restarted(times ...int) {
	p.t.Helper()
	p.until(fmt.Sprintf("restarts %v", times), func() bool {
		for i, v := range p.nodes() {
			if !v.ready() || v.Restarts < times[i] {
				return false
			}
		}
		return true
	})
}

// guy is a client that notes all it hears and sees.
type guy struct {
	*client.Client
	t    *testing.T
	name string
	room *client.Room

	mu    sync.Mutex // guards the fields below
	heard []string
	at    []client.Position
	gaps  []client.Gap
	nodes []string // where it was, one after the other
}

func (p *program) visit(name string) *guy {
	p.t.Helper()
	g := &guy{t: p.t, name: name}
	c, err := client.New(p.url+"realtime", client.Options{
		Token: func(context.Context) (string, error) { return fmt.Sprintf("%026d.%s", len(name), name), nil },
		OnConnected: func(ctx context.Context, c *client.Client, _ client.Identity) {
			node, err := client.Call[string](ctx, c, "node", nil)
			if err == nil { // else it is lost again
				g.mu.Lock()
				defer g.mu.Unlock()
				g.nodes = append(g.nodes, node)
			}
		},
	})
	require.NoError(p.t, err)
	g.Client = c
	p.t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	g.room, err = c.Join(ctx, "lobby", client.JoinOptions{
		OnMessage: func(_ context.Context, _ *client.Room, m client.Message) {
			var text string
			assert.NoError(p.t, m.Decode(&text))
			g.mu.Lock()
			defer g.mu.Unlock()
			g.heard, g.at = append(g.heard, text), append(g.at, m.Position)
		},
		OnGap: func(_ context.Context, _ *client.Room, gap client.Gap) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.gaps = append(g.gaps, gap)
		},
	})
	require.NoError(p.t, err)
	return g
}

// talk sends one message after the other until stop is closed, and returns how many.
func (g *guy) talk(stop <-chan struct{}) int {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return n
		case <-time.After(pace): // people, too, take their time
		}
		ctx, cancel := context.WithTimeout(g.t.Context(), patience)
		_, err := g.room.Send(ctx, fmt.Sprint(g.name, " ", n))
		cancel()
		if !assert.NoError(g.t, err, "%s, message %d", g.name, n) {
			return n
		}
	}
}

func (g *guy) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.heard)
}

// F23: the nodes are killed one by one while people talk on all of them. Everybody gets every message, once, in one order.
func TestNobodyMissesAnything(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		p := launch(t, engine)
		var all []*guy
		for i := range 6 {
			all = append(all, p.visit(fmt.Sprintf("guy%0*d", i+1, i)))
		}
		stop := make(chan struct{})
		sent := make([]int, len(all))
		var talking sync.WaitGroup
		for i, g := range all {
			talking.Go(func() { sent[i] = g.talk(stop) })
		}
		heardMore := func() {
			for _, g := range all {
				goal := g.count() + 50
				p.until(g.name+" hears more", func() bool { return g.count() >= goal })
			}
		}
		heardMore()
		for i, node := range []string{"node-1", "node-2", "node-3"} {
			p.kill(node)
			heardMore() // on the other two
			times := []int{0, 0, 0}
			for j := range i + 1 {
				times[j] = 1
			}
			p.restarted(times...)
			heardMore() // on all three
		}
		close(stop)
		talking.Wait()
		total := 0
		for _, n := range sent {
			total += n
		}
		moved := 0
		for _, g := range all {
			p.until(g.name+" has heard all", func() bool { return g.count() >= total })
			g.mu.Lock()
			g.check(all[0], all, sent)
			if len(slices.Compact(g.nodes)) > 1 {
				moved++
			}
			g.mu.Unlock()
		}
		assert.Len(t, all, moved, "each node was killed, so that everybody is on another one")
		t.Logf("%d messages", total)
	})
}

// check compares what the client heard with what was sent, and with what another one heard.
func (g *guy) check(first *guy, all []*guy, sent []int) {
	t := g.t
	assert.Empty(t, g.gaps, "%s was told of gaps", g.name)
	next := map[string]int{}
	for i, text := range g.heard {
		var who string
		var n int
		_, err := fmt.Sscan(text, &who, &n)
		require.NoError(t, err)
		require.Equal(t, next[who], n, "%s: message %d is %q", g.name, i, text)
		next[who]++
		require.EqualValues(t, i+1, g.at[i].Offset, "%s: the place of %q", g.name, text)
		require.Equal(t, g.at[0].Epoch, g.at[i].Epoch)
	}
	for i, each := range all {
		require.Equal(t, sent[i], next[each.name], "%s: messages of %s", g.name, each.name)
	}
	if g != first {
		first.mu.Lock()
		defer first.mu.Unlock()
		require.Equal(t, first.heard, g.heard, "%s and %s have heard the same", g.name, first.name)
	}
}

// alive reports whether there is a process of this id that has not ended.
func alive(pid int) bool {
	// Where nobody collects orphans, as in many containers, an ended one stays in the table, as Z.
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if _, rest, ok := strings.Cut(string(stat), ") "); err == nil && ok && rest[0] == 'Z' {
		return false
	}
	return syscall.Kill(pid, 0) == nil
}

// F36: Ctrl-C ends everything, in order.
func TestSignalEndsEverything(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		p := launch(t, engine)
		bye := make(chan client.Bye, 1)
		c, err := client.New(p.url+"realtime", client.Options{
			OnBye: func(_ context.Context, _ *client.Client, m client.Bye) { bye <- m },
		})
		require.NoError(t, err)
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		require.NoError(t, c.WaitConnected(ctx))
		nodes := p.nodes()
		require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
		assert.NoError(t, p.cmd.Wait(), "exit code 0")
		assert.EqualValues(t, 4000, (<-bye).Code)
		for _, v := range nodes {
			assert.False(t, alive(v.PID), "%s has outlived the parent", v.Name)
		}
		p.empty()
	})
}

// kill -9 of the parent ends the nodes and the engine, and removes the files.
func TestNoOrphans(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		p := launch(t, engine)
		nodes := p.nodes()
		require.Len(t, nodes, 3)
		require.NoError(t, p.cmd.Process.Kill())
		assert.Error(t, p.cmd.Wait())
		for _, v := range nodes {
			p.until(v.Name+" ends", func() bool { return !alive(v.PID) })
		}
		p.empty() // by the keeper, when the Redis server has ended
	})
}

// A node that hangs gets no new clients, and is killed and started again; those that it had go on elsewhere.
func TestNodeHangs(t *testing.T) {
	t.Parallel()
	p := launch(t, "nats")
	kim := p.visit("kim")
	p.until("the node is known", func() bool { return kim.last() != "" })
	name := kim.last()
	victim := slices.IndexFunc(p.nodes(), func(v view) bool { return v.Name == name })
	require.NoError(t, syscall.Kill(p.nodes()[victim].PID, syscall.SIGSTOP))
	p.until("the node is not ready", func() bool { return p.nodes()[victim].State == stateUnready })
	for i := range 4 {
		lee := p.visit(fmt.Sprint("lee", i))
		p.until("another node is known", func() bool { return lee.last() != "" })
		if p.nodes()[victim].Restarts == 0 { // else it may be there again, on a machine that is slow
			assert.NotEqual(t, name, lee.last())
		}
	}
	p.until("the node is started again", func() bool { return p.nodes()[victim].Restarts > 0 && p.nodes()[victim].ready() })
	p.until("kim is elsewhere", func() bool { return kim.last() != name })
}

// last returns the node that the client was on last.
func (g *guy) last() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.nodes) == 0 {
		return ""
	}
	return g.nodes[len(g.nodes)-1]
}

// F14: redis-server dies, and is started again, empty. Everybody is told, and the chat goes on.
func TestRedisDies(t *testing.T) {
	t.Parallel()
	needRedis(t)
	p := launch(t, "redis")
	kim, lee := p.visit("kim"), p.visit("lee")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := kim.room.Send(ctx, "before 0")
	require.NoError(t, err)
	p.until("lee hears it", func() bool { return lee.count() == 1 })

	sockets, err := filepath.Glob(filepath.Join(p.dir, "*", "redis.sock"))
	require.NoError(t, err)
	require.Len(t, sockets, 1)
	redis := newRedis(sockets[0])
	defer redis.Close()
	info, err := redis.InfoMap(ctx, "server").Result()
	require.NoError(t, err)
	pid, err := strconv.Atoi(info["Server"]["process_id"])
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))

	for i := 0; lee.count() < 2; i++ {
		_, err := kim.room.Send(ctx, fmt.Sprint("after ", i)) // it waits until Redis is back
		require.NoError(t, err)
		time.Sleep(pace)
	}
	for _, g := range []*guy{kim, lee} {
		p.until(g.name+" is told", func() bool {
			g.mu.Lock()
			defer g.mu.Unlock()
			return len(g.gaps) > 0
		})
		g.mu.Lock()
		assert.Equal(t, client.CodeReset, g.gaps[0].Code)
		g.mu.Unlock()
	}
}
