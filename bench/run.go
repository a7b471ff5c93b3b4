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
	if c.check {
		return check(out, all)
	}
	return nil
}

// runner runs one process of a server and one of a load at a time.
type runner struct {
	config
	serverCore, loadCore int
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
	server, err := b.startServer(ctx, k)
	if err != nil {
		return measured{}, fmt.Errorf("starting the server: %w", err)
	}
	defer server.stop()
	s.spec.addresses, s.spec.Spin = server.addresses, b.loadCore >= 0
	if b.profiles == "" {
		return b.runLoad(ctx, s.spec)
	}
	name := fmt.Sprintf("%s-%s-%d", k.name, strings.NewReplacer(" ", "-", ",", "").Replace(s.name), round+1)
	file := filepath.Join(b.profiles, name)
	var profile sync.WaitGroup
	var cpuErr error
	profile.Go(func() { // for about as long as the run lasts
		seconds := max(1, int(b.time.Seconds()*1.25+1))
		cpuErr = saveProfile(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", server.Control, seconds), file+".cpu.pprof")
	})
	m, err := b.runLoad(ctx, s.spec)
	profile.Wait()
	allocsErr := saveProfile(ctx, "http://"+server.Control+"/debug/pprof/allocs", file+".allocs.pprof")
	if err := errors.Join(cpuErr, allocsErr); err != nil {
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

func (b *runner) startServer(ctx context.Context, k kind) (*serverProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "serve", "-kind", k.name)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
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
