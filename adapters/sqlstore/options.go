package sqlstore

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"
)

// Options configure a Store. Only Dialect is needed.
type Options struct {
	// Dialect is that of the database. There is no default.
	Dialect Dialect
	// TablePrefix starts the names of all tables and indexes: a lower-case letter
	// or underscore, then lower-case letters, digits and underscores, at most 30 altogether.
	// Default "parley_". Stores with different prefixes share nothing.
	TablePrefix string
	// Logger gets failures of the background work. Default slog.Default().
	Logger *slog.Logger

	// Timeout is how long one transaction may take before it is given up, and its
	// writes fail. Default 10 s.
	Timeout time.Duration
	// BatchRows is how many entries, marks, users and so on go into one
	// transaction at most; a single write that is larger goes alone. Default 1000.
	BatchRows int
	// BatchBytes is how much data of entries goes into one transaction at most; a
	// single write that is larger goes alone. Default 4 MiB.
	BatchBytes int

	// CleanInterval is how often the background job looks for rows that are no
	// longer kept, give or take a quarter. Default 10 s; negative: never, if
	// another node does it.
	CleanInterval time.Duration
	// CleanRows is how many rows the job deletes in one transaction at most; it
	// waits between two of them as long as the first one took. Default 500.
	CleanRows int

	// RelayInterval is how often Relay looks for what was enqueued. Default 200 ms.
	RelayInterval time.Duration
}

var prefixes = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,29}$`)

// withDefaults fills in the defaults and checks the rest.
func (o Options) withDefaults() (Options, error) {
	if o.Dialect != SQLite && o.Dialect != PostgreSQL {
		return o, errors.New("sqlstore: set Options.Dialect to SQLite or PostgreSQL")
	}
	if o.TablePrefix == "" {
		o.TablePrefix = "parley_"
	}
	if !prefixes.MatchString(o.TablePrefix) {
		return o, fmt.Errorf("sqlstore: Options.TablePrefix %q: want up to 30 of a-z, 0-9 and _, no digit first", o.TablePrefix)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Timeout < 0 || o.BatchRows < 0 || o.BatchBytes < 0 || o.CleanRows < 0 || o.RelayInterval < 0 {
		return o, errors.New("sqlstore: Options.Timeout, BatchRows, BatchBytes, CleanRows or RelayInterval is negative: leave them 0 for the default")
	}
	orElse(&o.Timeout, 10*time.Second)
	orElse(&o.BatchRows, 1000)
	orElse(&o.BatchBytes, 4<<20)
	orElse(&o.CleanRows, 500)
	orElse(&o.RelayInterval, 200*time.Millisecond)
	if o.CleanInterval == 0 {
		o.CleanInterval = 10 * time.Second
	}
	return o, nil
}

func orElse[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
