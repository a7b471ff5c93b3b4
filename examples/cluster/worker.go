package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// probeEvery is how often a node is asked whether it is ready.
	probeEvery = 250 * time.Millisecond
	// probeTimeout is how long it may take to answer.
	probeTimeout = time.Second
	// unhealthy is how many answers in a row must be missing or bad before a node is killed, and started again. Starting
	// again is what an orchestrator does, too; it must not be done to a node that is merely slow.
	unhealthy = 12
)

// worker looks after a node.
type worker struct {
	name   string
	config nodeConfig
	log    *slog.Logger

	mu      sync.Mutex // guards the fields below
	process *os.Process
	now     view
}

// state is how a node is, for the page.
type state string

const (
	stateStarting state = "starting"
	stateReady    state = "ready"
	stateUnready  state = "unready" // it runs, but should get no new clients: see view.Problem
	stateDown     state = "down"
)

// view is what is known of a node.
type view struct {
	Name        string `json:"name"`
	State       state  `json:"state"`
	PID         int    `json:"pid,omitempty"`
	Connections int    `json:"connections"`
	Restarts    int    `json:"restarts"`
	Problem     string `json:"problem,omitempty"`
	BackIn      int64  `json:"backIn,omitempty"` // ms until it is started again, when it is down

	addr   string // where it listens
	backAt time.Time
}

func (v view) ready() bool { return v.State == stateReady }

// runs reports whether the node takes connections, be it ready or not.
func (v view) runs() bool { return v.addr != "" }

func (w *worker) view() view {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.now
	v.Name = w.name
	v.State = cmp.Or(v.State, stateStarting)
	if v.State == stateDown {
		v.BackIn = max(0, time.Until(v.backAt).Milliseconds())
	}
	return v
}

func (w *worker) set(change func(v *view)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.now)
}

func (w *worker) kill() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.process == nil {
		return errNotHere
	}
	return w.process.Kill()
}

// run runs the node until ctx ends.
func (w *worker) run(ctx context.Context, restart time.Duration) {
	for {
		err := w.once(ctx)
		if ctx.Err() != nil {
			return
		}
		w.log.Warn("the node died", "how", err, "back in", restart)
		w.set(func(v *view) {
			*v = view{State: stateDown, Restarts: v.Restarts, backAt: time.Now().Add(restart)}
		})
		select {
		case <-time.After(restart):
		case <-ctx.Done():
			return
		}
		w.set(func(v *view) { *v = view{State: stateStarting, Restarts: v.Restarts + 1} })
	}
}

// once runs one process, and returns when it has ended.
func (w *worker) once(ctx context.Context) error {
	c, err := startChild(ctx, roleNode, w.config)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.process, w.now.PID = c.Process, c.Process.Pid
	w.mu.Unlock()

	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	// The node's first and only line is its address.
	if line, err := bufio.NewReader(c.out).ReadString('\n'); err == nil {
		addr := strings.TrimSpace(line)
		w.set(func(v *view) { v.addr = addr })
		watch.Go(func() { w.watch(watching, addr) })
	}
	err = c.Wait()
	stop()
	watch.Wait()
	w.mu.Lock()
	w.process, w.now.addr = nil, ""
	w.mu.Unlock()
	if err == nil {
		err = errors.New("it ended without being told to")
	}
	return err
}

// watch asks a process how it is until ctx ends.
func (w *worker) watch(ctx context.Context, addr string) {
	client := &http.Client{Timeout: probeTimeout, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	bad := 0
	for {
		answer, err := ready(ctx, client, addr)
		if ctx.Err() != nil {
			return
		}
		w.set(func(v *view) {
			switch {
			case err != nil:
				v.State, v.Problem = stateUnready, "it does not answer"
			case answer.Problem != "":
				v.State, v.Problem, v.Connections = stateUnready, answer.Problem, answer.Connections
			default:
				v.State, v.Problem, v.Connections = stateReady, "", answer.Connections
			}
		})
		if bad++; err == nil && healthy(ctx, client, addr) {
			bad = 0
		}
		if bad >= unhealthy {
			w.log.Warn("the node is not healthy: it is killed")
			_ = w.kill() // an error says that it has ended by itself
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func ready(ctx context.Context, client *http.Client, addr string) (answer report, err error) {
	response, err := get(ctx, client, "http://"+addr+"/ready")
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	return answer, json.NewDecoder(response.Body).Decode(&answer)
}

func healthy(ctx context.Context, client *http.Client, addr string) bool {
	response, err := get(ctx, client, "http://"+addr+"/healthz")
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func get(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(r)
}
