// Command bench measures parley against other servers: one command, one table.
//
// Every server and every load is a process of its own, pinned to a core of its
// own. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

// config is what the flags say.
type config struct {
	kinds    []kind
	mode     string
	conns    int
	size     int
	senders  int
	idle     int
	bigConns int
	rooms    int // of the scenarios with many rooms, on a Redis
	stallTo  int // bytes of a message in the stalled scenario
	parallel int
	limit    int
	rounds   int
	retries  int
	time     time.Duration
	stuck    time.Duration
	stall    time.Duration
	only     string
	profiles string
	v1       bool
	big      bool
	redis    bool
	quick    bool
	check    bool
	pin      bool
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			os.Exit(2)
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	// The kinds of child process, see startChild and runLoad.
	if len(args) > 0 && args[0] == "serve" {
		set := flag.NewFlagSet("bench serve", flag.ContinueOnError)
		name := set.String("kind", kinds[0].name, "which server")
		redis := set.String("redis", "", "address of the Redis of a server that uses one")
		if err := set.Parse(args[1:]); err != nil {
			return err
		}
		return serve(*name, *redis, os.Stdin, os.Stdout)
	}
	if len(args) > 0 && args[0] == "redis" {
		return redisProcess(os.Stdin, os.Stdout)
	}
	if len(args) > 0 && args[0] == "load" {
		return load(os.Stdin, os.Stdout)
	}
	cfg, err := parseFlags(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return compare(ctx, cfg, strings.Join(args, " "), os.Stdout)
}

// quickFlags make everything happen once, in less than ten seconds.
var quickFlags = map[string]string{
	"conns": "50", "idle": "200", "big-conns": "300", "rounds": "1", "time": "100ms", "limit": "3000",
	"stuck": "1s", "stall": "1s", "retries": "0",
}

// checkFlags are more and shorter rounds: what slows a machine down comes and
// goes within seconds, and a median of seven ratios stands three bad ones.
var checkFlags = map[string]string{"rounds": "7", "time": "1s"}

// redisFlags are what -redis means for the others.
var (
	redisFlags      = map[string]string{"conns": "200", "time": "2s"}
	redisQuickFlags = map[string]string{
		"conns": "20", "rooms": "5", "rounds": "1", "time": "100ms", "limit": "300", "retries": "0",
	}
	redisCheckFlags = map[string]string{"conns": "200", "rounds": "5", "time": "1s"}
)

func parseFlags(args []string) (config, error) {
	var c config
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	names := set.String("kinds", "", "servers to compare, separated by commas (default all)")
	set.StringVar(&c.mode, "mode", "both", "what is sent: broadcast, room or both")
	set.StringVar(&c.only, "only", "", "run only the scenarios whose name contains this")
	set.IntVar(&c.conns, "conns", 1000, "receiving connections")
	set.IntVar(&c.size, "size", 128, "bytes of JSON content in a message, at least 32")
	set.IntVar(&c.senders, "senders", 1, "sending connections, in turn")
	set.IntVar(&c.idle, "idle", 5000, "connections in the idle scenario")
	set.IntVar(&c.bigConns, "big-conns", 15000, "connections in the big scenario")
	set.IntVar(&c.rooms, "rooms", 50, "rooms of the scenarios of -redis that have many")
	set.IntVar(&c.stallTo, "stall-size", 16<<10, "bytes of content in the stalled scenario")
	set.IntVar(&c.parallel, "parallel", 64, "handshakes and joins on their way at once")
	set.IntVar(&c.limit, "limit", 100_000, "messages per run at most")
	set.IntVar(&c.rounds, "rounds", 3, "runs of each scenario; the table shows medians")
	set.IntVar(&c.retries, "retries", 2, "repeats of a run during which other processes used the machine")
	set.DurationVar(&c.time, "time", 3*time.Second, "measured time of a run")
	set.DurationVar(&c.stuck, "stuck", 5*time.Second, "time without any delivery after which a run is given up")
	set.DurationVar(&c.stall, "stall", 20*time.Second, "time a server has to close a stalled connection")
	set.StringVar(&c.profiles, "profile", "", "write CPU and allocation profiles of every server process to this directory")
	set.BoolVar(&c.v1, "v1", false, "clients offer the subprotocol parley.v1")
	set.BoolVar(&c.big, "big", false, "only: one big room, one broadcast, shutdown without cooperation")
	set.BoolVar(&c.redis, "redis", false, "only: two nodes on a redis-server, which is started, against those of centrifuge")
	set.BoolVar(&c.quick, "quick", false, "everything once with tiny counts; the numbers mean nothing")
	set.BoolVar(&c.check, "check", false, "everything, and fail if a target is missed")
	set.BoolVar(&c.pin, "pin", true, "pin server and load to a core each, where possible")
	if err := set.Parse(args); err != nil {
		return c, err
	}
	var given []string
	set.Visit(func(f *flag.Flag) { given = append(given, f.Name) })
	for name, value := range c.presets() {
		if !slices.Contains(given, name) {
			set.Set(name, value)
		}
	}
	return c, c.validate(set, *names)
}

// presets are the flags that -redis, -quick and -check set, if they are not given.
func (c *config) presets() map[string]string {
	switch {
	case c.redis && c.quick:
		return redisQuickFlags
	case c.redis && c.check:
		return redisCheckFlags
	case c.redis:
		return redisFlags
	case c.quick:
		return quickFlags
	case c.check:
		return checkFlags
	}
	return nil
}

func (c *config) validate(set *flag.FlagSet, names string) error {
	if err := c.pickKinds(names); err != nil {
		return err
	}
	switch {
	case set.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", set.Arg(0))
	case c.mode != "broadcast" && c.mode != "room" && c.mode != "both":
		return fmt.Errorf("-mode is %q: broadcast, room or both is needed", c.mode)
	case min(c.conns, c.idle, c.bigConns, c.rooms, c.senders, c.parallel, c.limit, c.rounds) < 1:
		return errors.New("every count must be at least 1")
	case min(c.size, c.stallTo) < 32:
		return errors.New("-size and -stall-size must be at least 32, because each message carries its number")
	case c.redis && c.big:
		return errors.New("-redis and -big both say what the only thing is to be measured")
	case c.redis && c.conns%(nodesOfKind*c.rooms) != 0:
		return fmt.Errorf("with -redis, -conns must be a multiple of %d, so that each node has equally many in each of -rooms", nodesOfKind*c.rooms)
	case c.quick && c.check:
		return errors.New("-quick has numbers that mean nothing, there is nothing to -check")
	}
	if c.redis {
		return c.enoughFiles(c.conns)
	}
	most := max(c.conns, c.idle+warmConnections)
	if c.big || c.check || c.quick {
		most = max(most, c.bigConns)
	}
	return c.enoughFiles(most)
}

// pickKinds takes the kinds with these names, or all that suit the scenarios.
func (c *config) pickKinds(names string) error {
	for _, k := range kinds {
		if names == "" && k.redis == c.redis {
			c.kinds = append(c.kinds, k)
		}
	}
	if names == "" {
		return nil
	}
	for name := range strings.SplitSeq(names, ",") {
		k, err := findKind(name)
		if err != nil {
			return err
		}
		if k.redis != c.redis {
			return fmt.Errorf("%s is not for this: the servers whose names end in -redis, and no others, are for the flag -redis", name)
		}
		c.kinds = append(c.kinds, k)
	}
	return nil
}

func (c *config) enoughFiles(most int) error {
	const others = 100 // descriptors that are no connections
	if limit := openFilesLimit(); limit > 0 && most+c.senders+others > limit {
		return fmt.Errorf("%d connections need more descriptors than the %d a process may have: raise it with ulimit -n", most, limit)
	}
	return nil
}
