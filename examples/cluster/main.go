// Command cluster is a chat on three processes behind a small reverse proxy, with a button that kills one of them.
//
//	go run ./examples/cluster
//
// It starts redis-server if there is one, else NATS within itself; README.md tells what to look at. Everything ends
// with it, and nothing is kept.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/parley-go/parley/examples/internal/site"
)

func main() {
	var err error
	switch os.Getenv(roleVariable) {
	case roleNode:
		err = runNode(os.Stdin, os.Stdout)
	case roleKeeper:
		err = runKeeper(os.Stdin)
	default:
		err = run(os.Args[1:], os.Stdout)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "parley cluster:", err)
		os.Exit(1)
	}
}

// settings are what the command line says.
type settings struct {
	addr    string
	engine  string
	nodes   int
	restart time.Duration
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	here := net.JoinHostPort(cmp.Or(os.Getenv("HOST"), "localhost"), cmp.Or(os.Getenv("PORT"), "8080"))
	flags.StringVar(&s.addr, "addr", here, "`address` of the chat; port 0 picks a free one")
	flags.StringVar(&s.engine, "engine", "", "what connects the nodes: redis or nats (default redis, if redis-server is installed)")
	flags.IntVar(&s.nodes, "nodes", 3, "how many nodes there are, 1 to 9")
	flags.DurationVar(&s.restart, "restart", 5*time.Second, "how long a node that died stays away")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("%q is not a flag: see -help", flags.Arg(0))
	case s.nodes < 1 || s.nodes > 9:
		return s, errors.New("-nodes must be from 1 to 9")
	case s.restart < 0:
		return s, errors.New("-restart must not be negative")
	}
	return s, nil
}

// run is the parent: it serves until a signal, and ends everything that it started.
func run(args []string, out io.Writer) (err error) {
	s, err := parse(args)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("%w (choose another address with -addr)", err)
	}
	defer ln.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		<-signals
		stop()
		<-signals
		os.Exit(1) // the other processes notice, and end by themselves
	}()

	engine, err := startEngine(ctx, s.engine)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.stop()) }()
	fmt.Fprintf(out, "parley cluster: %s\n", engine.about)
	c := newCluster(s, engine)
	c.start()
	if err := c.waitReady(ctx); err != nil {
		_ = c.Shutdown(ctx) // which has ended: at once
		return err
	}
	fmt.Fprintf(out, "parley cluster: %d nodes are ready, open %s\n", s.nodes, pageURL(ln.Addr()))
	return site.Serve(ctx, ln, c.handler(), c)
}

// pageURL is where this machine finds what listens at addr.
func pageURL(addr net.Addr) string {
	at := addr.String()
	if tcp, ok := addr.(*net.TCPAddr); ok && (tcp.IP.IsUnspecified() || tcp.IP.IsLoopback()) {
		at = fmt.Sprintf("localhost:%d", tcp.Port)
	}
	return "http://" + at + "/"
}
