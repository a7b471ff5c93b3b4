package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// stopBudget is how long stopping may take altogether. Orchestrators kill a
// process some time after SIGTERM (Docker after 10 s); this is safely below.
const stopBudget = 5 * time.Second

// Hub is what Run needs of a *parley.Hub.
type Hub interface {
	Shutdown(ctx context.Context) error
}

// Run serves h at HOST:PORT until the process gets SIGINT or SIGTERM, then
// stops in order. A second signal ends the process at once. HOST is 127.0.0.1
// unless the environment says otherwise, because a program that someone just
// tries out should not be open to the network; PORT is 8080, and 0 picks a
// free one. The address is printed to out.
func Run(out io.Writer, name string, h http.Handler, hub Hub) error {
	host := cmp.Or(os.Getenv("HOST"), "127.0.0.1")
	port := cmp.Or(os.Getenv("PORT"), "8080")
	ln, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return fmt.Errorf("%w (set PORT and HOST to choose another address)", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2) // a second one must not get lost while the first is dealt with
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		<-signals
		stop()
		<-signals
		os.Exit(1)
	}()
	for _, url := range urls(ln.Addr()) {
		fmt.Fprintf(out, "%s: open %s\n", name, url)
	}
	return Serve(ctx, ln, h, hub)
}

// Serve serves h on ln until ctx ends. Then it stops the hub first, so that
// clients are told to come back later and by when, and after it the server,
// which lets requests that are under way finish. http.Server alone would not
// know of the WebSocket connections: they were taken over from it.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, hub Hub) error {
	srv := &http.Server{
		Handler: h,
		// Without it, a client that sends its header a byte at a time holds a
		// connection for ever.
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	served := make(chan error, 1) // room for the result, so that the goroutine ends even if nobody looks
	go func() { served <- srv.Serve(ln) }()

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	budget, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopBudget)
	defer cancel()
	err := hub.Shutdown(budget)
	if srv.Shutdown(budget) != nil {
		// The budget is spent. What is left, often a connection that a browser
		// opened in advance and never used, is cut, which is no failure.
		err = errors.Join(err, srv.Close())
	}
	return err
}

// urls returns where a server that listens at addr can be reached, for a
// person to click on.
func urls(addr net.Addr) []string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return []string{"http://" + addr.String() + "/"}
	}
	port := fmt.Sprint(tcp.Port)
	all := []string{"http://" + net.JoinHostPort("localhost", port) + "/"}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return all // not worth failing for: the page is there all the same
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			all = append(all, "http://"+net.JoinHostPort(n.IP.String(), port)+"/")
		}
	}
	return all
}
