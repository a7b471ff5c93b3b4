package redisstore

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"
)

// Options configure a Store. The zero value is good.
type Options struct {
	// Prefix starts the name of every key and channel: up to 100 letters, digits and
	// any of "_-.:/". Default "parley". Stores with different prefixes share nothing.
	Prefix string
	// Logger gets what needs somebody's attention but fails no call. Default slog.Default().
	Logger *slog.Logger
	// Timeout is how long a call waits at most for Redis, when its ctx allows more. Default 10 s. The
	// timeouts of the client for its connections hold besides; leave them at less than this.
	Timeout time.Duration
	// Durable says that no server loses anything that it has confirmed when it is started again: appendonly yes with
	// appendfsync always. Clients can resume then after a restart, even after a crash. A replica that takes over still gives every log another
	// epoch; but if it is then started again itself, logs that nobody has asked for in between keep theirs, and may lack their last messages in
	// silence. So leave it false where replicas take over. All nodes must have the same. Default false: after a restart every log has another epoch.
	Durable bool
}

var prefixes = regexp.MustCompile(`^[A-Za-z0-9_.:/-]{1,100}$`)

// withDefaults fills in the defaults and checks the rest.
func (o Options) withDefaults() (Options, error) {
	if o.Prefix == "" {
		o.Prefix = "parley"
	}
	if !prefixes.MatchString(o.Prefix) {
		return o, fmt.Errorf("redisstore: Options.Prefix %q: want up to 100 letters, digits and _ - . : /", o.Prefix)
	}
	if o.Timeout < 0 {
		return o, errors.New("redisstore: Options.Timeout is negative")
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, nil
}
