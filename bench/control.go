package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	_ "net/http/pprof" // on the control address only
	"net/url"
	"runtime"
	"runtime/debug"
	"time"
)

// serverStats is what a server process says of itself.
type serverStats struct {
	CPU         time.Duration // user and system, since its start
	RSS         int64         // bytes
	Connections int
	Goroutines  int
	Mallocs     uint64 // objects allocated since its start
	TotalAlloc  uint64 // bytes allocated since its start
}

// shutdownResult is the answer to a request to shut down.
type shutdownResult struct {
	Took  time.Duration
	Error string
}

// controlHandler is the second HTTP server of a server process. It is apart
// from the measured one, so that asking does not open a measured connection.
//
//	GET  /live               serverStats without the two that stop the world
//	GET  /stats?gc=1         serverStats; with gc after giving free memory back
//	POST /shutdown?budget=5s Shutdown of the server, shutdownResult
//	GET  /debug/pprof/       profiles
func controlHandler(s benchServer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/debug/pprof/", http.DefaultServeMux)
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, liveStats(s))
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("gc") != "" {
			// The first collection only moves what sync.Pools hold to their victims.
			runtime.GC()
			debug.FreeOSMemory()
		}
		stats := liveStats(s)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		stats.Mallocs, stats.TotalAlloc = m.Mallocs, m.TotalAlloc
		writeJSON(w, stats)
	})
	mux.HandleFunc("POST /shutdown", func(w http.ResponseWriter, r *http.Request) {
		budget, err := time.ParseDuration(r.FormValue("budget"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), budget)
		defer cancel()
		begin := time.Now()
		err = s.Shutdown(ctx)
		result := shutdownResult{Took: time.Since(begin)}
		if err != nil {
			result.Error = err.Error()
		}
		writeJSON(w, result)
	})
	return mux
}

func liveStats(s benchServer) serverStats {
	return serverStats{
		CPU: cpuTime(), RSS: residentBytes(), Connections: s.Connections(), Goroutines: runtime.NumGoroutine(),
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // the reader will notice if it fails
}

// control asks a server process about itself.
type control struct {
	address string
	client  http.Client
}

func newControl(address string) *control {
	// Longer than any budget to shut down, and an end to waiting for a server that hangs.
	return &control{address: address, client: http.Client{Timeout: 30 * time.Second}}
}

func (c *control) live() (serverStats, error) {
	var s serverStats
	return s, c.ask(http.MethodGet, "/live", &s)
}

func (c *control) stats() (serverStats, error) {
	var s serverStats
	return s, c.ask(http.MethodGet, "/stats", &s)
}

func (c *control) statsAfterGC() (serverStats, error) {
	var s serverStats
	return s, c.ask(http.MethodGet, "/stats?gc=1", &s)
}

func (c *control) shutdown(budget time.Duration) (shutdownResult, error) {
	var s shutdownResult
	return s, c.ask(http.MethodPost, "/shutdown?budget="+url.QueryEscape(budget.String()), &s)
}

func (c *control) ask(method, path string, answer any) error {
	req, err := http.NewRequest(method, "http://"+c.address+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, body)
	}
	return json.Unmarshal(body, answer)
}
