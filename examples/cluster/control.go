package main

import (
	"embed"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/netip"

	"github.com/parley-go/parley"
	chat "github.com/parley-go/parley/examples/chat/web"
	"github.com/parley-go/parley/examples/internal/site"
)

//go:embed web
var files embed.FS

// handler is what the browser talks to: the page and the panel are the parent's, the chat itself is the nodes'.
func (c *cluster) handler() http.Handler {
	page, err := fs.Sub(files, "web")
	if err != nil {
		panic(err) // the name is right
	}
	nodes := c.proxy.handler()
	look := http.StripPrefix("/chat", site.Files(chat.Files))
	mux := http.NewServeMux()
	mux.Handle("GET /", site.Files(page))
	mux.Handle("GET /chat/css/", look)
	mux.Handle("GET /chat/js/", look)
	mux.Handle("GET /chat/icon.svg", look)
	mux.Handle("GET /parley.js", parley.ClientJS())
	mux.Handle("GET /realtime", nodes)
	mux.Handle("GET /nodes", nodes)
	mux.HandleFunc("GET /cluster", c.status)
	mux.HandleFunc("POST /cluster/{node}/kill", c.killNode)
	return site.Headers(http.NewCrossOriginProtection().Handler(mux))
}

// status is what the panel of the page shows.
func (c *cluster) status(w http.ResponseWriter, r *http.Request) {
	views := make([]view, 0, len(c.workers))
	for _, each := range c.workers {
		views = append(views, each.view())
	}
	writeJSON(w, http.StatusOK, map[string]any{"engine": c.engine.name, "mayKill": mayKill(r), "nodes": views})
}

// killNode kills a process of this machine, so it must be somebody who sits at it who asks. Pages of other sites cannot, by
// http.CrossOriginProtection, and neither can one whose name was made to point here.
func (c *cluster) killNode(w http.ResponseWriter, r *http.Request) {
	if !mayKill(r) {
		http.Error(w, "only from the machine on which the nodes run, at http://localhost", http.StatusForbidden)
		return
	}
	switch err := c.kill(r.PathValue("node")); {
	case errors.Is(err, errNoNode):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusConflict)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// mayKill reports whether a request came from this machine, and was meant for it.
func mayKill(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
