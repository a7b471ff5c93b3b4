package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// resultKey names a row of the table.
type resultKey struct{ scenario, kind string }

type results map[resultKey][]measured

// compare runs every scenario against every server and writes the table.
func compare(ctx context.Context, c config, args string, out io.Writer) error {
	serverCore, loadCore := -1, -1
	pinning := "not pinned, as asked"
	if c.pin {
		s, l, problem := pinnable()
		if problem == "" {
			serverCore, loadCore = s, l
			pinning = fmt.Sprintf("server on core %d, load on core %d", s, l)
		} else {
			pinning = "not pinned: " + problem
			fmt.Fprintln(os.Stderr, "bench:", pinning)
		}
	}
	b := &runner{config: c, serverCore: serverCore, loadCore: loadCore}
	if c.redis {
		redis, err := b.startRedis(ctx)
		if err != nil {
			return err
		}
		defer redis.stop()
		b.redisAddress = redis.Server
	}
	scenarios := c.scenarios()
	all := results{}
	for round := range c.rounds {
		order := slices.Clone(c.kinds)
		if round%2 == 1 { // what slows a machine down for a while must not always hit the same server
			slices.Reverse(order)
		}
		for _, s := range scenarios {
			for _, k := range order {
				if s.rounds > 0 && round >= s.rounds || s.spec.Room && !k.rooms {
					continue
				}
				fmt.Fprintf(os.Stderr, "round %d of %d: %s: %s\n", round+1, c.rounds, s.name, k.name)
				m, err := b.measureUndisturbed(ctx, k, s, round)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", s.name, k.name, err)
				}
				key := resultKey{s.name, k.name}
				all[key] = append(all[key], m)
			}
		}
	}
	writeHeader(out, c, args, pinning)
	writeTable(out, c, scenarios, all)
	if c.redis {
		writeRatios(out, scenarios, all)
	}
	if c.check {
		return check(out, c.targets(), all)
	}
	return nil
}

// runner runs one server, or the nodes of one, and one load at a time.
type runner struct {
	config
	serverCore, loadCore int
	redisAddress         string // of the one that all nodes use, which is a process on the servers' core
}

// measureUndisturbed repeats a run while other processes take part of the
// machine, as often as the flags allow, and returns the run they took least from.
func (b *runner) measureUndisturbed(ctx context.Context, k kind, s scenario, round int) (measured, error) {
	best, err := b.measure(ctx, k, s, round)
	for range b.retries {
		if err != nil || best.Values[othersBusy] <= tolerable {
			break
		}
		fmt.Fprintf(os.Stderr, "again: others used %.0f %% of a core\n", best.Values[othersBusy])
		var m measured
		if m, err = b.measure(ctx, k, s, round); m.Values[othersBusy] < best.Values[othersBusy] {
			best = m
		}
	}
	return best, err
}

// runTime is more than any scenario takes.
const runTime = 5 * time.Minute

func (b *runner) measure(ctx context.Context, k kind, s scenario, round int) (measured, error) {
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	servers, err := b.startServers(ctx, k)
	for _, server := range servers {
		defer server.stop()
		s.spec.Nodes = append(s.spec.Nodes, server.addresses)
	}
	if err != nil {
		return measured{}, fmt.Errorf("starting the server: %w", err)
	}
	s.spec.addresses, s.spec.Spin = servers[0].addresses, b.loadCore >= 0
	s.spec.Dialect, s.spec.Redis = k.dialect, b.redisAddress
	if b.profiles == "" {
		return b.runLoad(ctx, s.spec)
	}
	name := fmt.Sprintf("%s-%s-%d", k.name, strings.NewReplacer(" ", "-", ",", "").Replace(s.name), round+1)
	return b.runProfiled(ctx, s.spec, filepath.Join(b.profiles, name))
}

// runProfiled runs a load and saves profiles of all servers to files whose names start with file.
func (b *runner) runProfiled(ctx context.Context, spec loadSpec, file string) (measured, error) {
	var profiles sync.WaitGroup
	problems := make([]error, 2*len(spec.Nodes))
	names := make([]string, len(spec.Nodes))
	for i, server := range spec.Nodes {
		names[i] = file
		if len(spec.Nodes) > 1 {
			names[i] += fmt.Sprintf("-node%d", i+1)
		}
		profiles.Go(func() { // for about as long as the run lasts
			seconds := max(1, int(b.time.Seconds()*1.25+1))
			url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", server.Control, seconds)
			problems[2*i] = saveProfile(ctx, url, names[i]+".cpu.pprof")
		})
	}
	m, err := b.runLoad(ctx, spec)
	profiles.Wait()
	for i, server := range spec.Nodes {
		problems[2*i+1] = saveProfile(ctx, "http://"+server.Control+"/debug/pprof/allocs", names[i]+".allocs.pprof")
	}
	if err := errors.Join(problems...); err != nil {
		fmt.Fprintln(os.Stderr, "bench: profile:", err)
	}
	return m, err
}

// serverProcess is a child that serves until its stdin is closed.
type serverProcess struct {
	addresses
	cmd   *exec.Cmd
	stdin io.Closer
}

// nodesOfKind is how many processes a server of a sort is that is made of several.
const nodesOfKind = 2

// startServers starts the nodes of a server, or the only one. Those that were
// started are returned with an error, too.
func (b *runner) startServers(ctx context.Context, k kind) ([]*serverProcess, error) {
	args := []string{"serve", "-kind", k.name}
	n := 1
	if k.redis {
		n = nodesOfKind
		args = append(args, "-redis", b.redisAddress)
		if _, err := redisCommand(b.redisAddress, "FLUSHALL"); err != nil {
			return nil, err
		}
	}
	var servers []*serverProcess
	for range n {
		s, err := b.startChild(ctx, args...)
		if err != nil {
			return servers, err
		}
		servers = append(servers, s)
	}
	return servers, nil
}

// startRedis starts a redis-server on the core of the servers, or on any.
func (b *runner) startRedis(ctx context.Context) (*serverProcess, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, errNoRedis
	}
	return b.startChild(ctx, "redis")
}

// startChild starts this program once more, on the core of the servers, and waits for its addresses.
func (b *runner) startChild(ctx context.Context, args ...string) (*serverProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	cmd.Cancel, cmd.WaitDelay = stdin.Close, patience // so that it can end what it has started
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := startPinned(cmd, b.serverCore); err != nil {
		return nil, err
	}
	p := &serverProcess{cmd: cmd, stdin: stdin}
	if err := json.NewDecoder(stdout).Decode(&p.addresses); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *serverProcess) stop() {
	p.stdin.Close()
	p.cmd.Wait() // how it ends says nothing: its work is done
}

func (b *runner) runLoad(ctx context.Context, spec loadSpec) (measured, error) {
	var m measured
	self, err := os.Executable()
	if err != nil {
		return m, err
	}
	in, err := json.Marshal(spec)
	if err != nil {
		return m, err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, self, "load")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, os.Stderr
	if err := startPinned(cmd, b.loadCore); err != nil {
		return m, err
	}
	if err := cmd.Wait(); err != nil {
		return m, fmt.Errorf("load: %w", err)
	}
	return m, json.Unmarshal(out.Bytes(), &m)
}

// saveProfile stores what a server process answers to url.
func saveProfile(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, resp.Body)
	return err
}
