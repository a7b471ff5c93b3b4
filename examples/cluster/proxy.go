package main

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"sync/atomic"
	"time"
)

// proxy hands requests to the nodes in turn, WebSockets included.
type proxy struct {
	workers   []*worker
	transport http.RoundTripper
	next      atomic.Uint64
}

func newProxy(workers []*worker) *proxy {
	return &proxy{workers: workers, transport: &http.Transport{
		DialContext: (&net.Dialer{Timeout: time.Second}).DialContext,
		// A process that hangs takes connections all the same: the system does that for it.
		ResponseHeaderTimeout: 3 * time.Second,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       30 * time.Second,
		DisableCompression:    true,
	}}
}

func (p *proxy) handler() http.Handler {
	return &httputil.ReverseProxy{
		Transport: p,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetXForwarded() // what a client claims in these headers is gone
			r.Out.URL.Scheme = "http"
			// The Host stays that of the client: the hub compares the Origin with it.
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "no node can take this: "+err.Error(), http.StatusServiceUnavailable)
		},
		ErrorLog: log.New(io.Discard, "", 0), // that a dying node has broken off connections is no news here
	}
}

var errNobody = errors.New("all nodes are down, come back soon")

// RoundTrip gives a request to a node, and to another one when that fails. To do so twice does no harm: there are only
// GETs, also that with which a WebSocket begins.
func (p *proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	err := errNobody
	for _, addr := range p.order() {
		to := *r.URL
		to.Host = addr
		out := r.WithContext(r.Context()) // a RoundTripper must not change what it was given
		out.URL = &to
		response, failed := p.transport.RoundTrip(out)
		if failed == nil || r.Context().Err() != nil || r.Method != http.MethodGet {
			return response, failed
		}
		err = failed
	}
	return nil, err
}

// order returns the addresses of the nodes to try: those that are ready, beginning with another one each time, then those
// that at least run. What is known of a node is a little old, so none is left out.
func (p *proxy) order() []string {
	first := int(p.next.Add(1)-1) % len(p.workers)
	var ready, running []string
	for _, w := range slices.Concat(p.workers[first:], p.workers[:first]) {
		switch v := w.view(); {
		case v.runs() && v.ready():
			ready = append(ready, v.addr)
		case v.runs():
			running = append(running, v.addr)
		}
	}
	return append(ready, running...)
}
