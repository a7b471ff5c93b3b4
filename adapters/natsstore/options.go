package natsstore

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
)

// Options configure a Broker. The zero value is ready for use.
type Options struct {
	// Prefix starts all subjects: tokens of letters, digits, - and _, with dots between them, at most 64 bytes.
	// Default "parley". Brokers with different prefixes share nothing.
	Prefix string
	// Logger gets what is wrong with the connection and with what arrives. Default slog.Default().
	Logger *slog.Logger

	// Timeout is how long Publish waits for the server to confirm. While the server has been silent for longer than
	// that, Publish fails at once. Default 3 s.
	Timeout time.Duration
	// PendingMessages and PendingBytes are how much may wait for one subscription whose deliver is slow. Beyond
	// that all that waits is dropped, and deliver(nil) tells so. Default 10,000 and 16 MiB.
	PendingMessages int
	PendingBytes    int
}

var prefixes = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

// withDefaults fills in the defaults and checks the rest.
func (o Options) withDefaults() (Options, error) {
	if o.Prefix == "" {
		o.Prefix = "parley"
	}
	if len(o.Prefix) > 64 || !prefixes.MatchString(o.Prefix) {
		return o, fmt.Errorf("natsstore: Options.Prefix %q: want tokens of A-Z, a-z, 0-9, - and _, with dots between them, at most 64 bytes", o.Prefix)
	}
	if o.Timeout < 0 || o.PendingMessages < 0 || o.PendingBytes < 0 {
		return o, errors.New("natsstore: Options.Timeout, PendingMessages and PendingBytes must not be negative; 0 is the default")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Timeout == 0 {
		o.Timeout = 3 * time.Second
	}
	if o.PendingMessages == 0 {
		o.PendingMessages = 10_000
	}
	if o.PendingBytes == 0 {
		o.PendingBytes = 16 << 20
	}
	return o, nil
}

// Connect connects to NATS for a Broker. url may be several, with commas between them. It returns without an error
// also while no server can be reached, and goes on trying for ever; the Broker works from the first
// connection on. Of the defaults of nats.go it changes those that lose messages in silence:
//
//   - MaxReconnects(-1) and IgnoreAuthErrorAbort: the default gives up after 60 attempts, or at the second refusal of a password;
//   - RetryOnFailedConnect: a node that starts before its NATS server works all the same;
//   - PingInterval(5 s) and MaxPingsOutstanding(2): a server that has fallen silent is noticed within 15 s, not 6 minutes;
//   - ReconnectWait(250 ms), with up to 250 ms more at random (1 s with TLS);
//   - ReconnectBufSize(-1): a publish without a connection is an error, not something that may be sent later;
//   - FlusherTimeout(5 s) and ReconnectOnFlusherError: a write that is stuck ends the connection.
//
// opts come after these, and may change them, or add credentials, TLS and handlers. The application closes the
// connection when the hub and the Broker are done with it.
func Connect(url string, opts ...nats.Option) (*nats.Conn, error) {
	conn, err := nats.Connect(url, append([]nats.Option{
		nats.Name("parley"),
		nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.RetryOnFailedConnect(true),
		nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(2),
		nats.Timeout(5 * time.Second), nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.ReconnectBufSize(-1), nats.FlusherTimeout(5 * time.Second), nats.ReconnectOnFlusherError(),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("natsstore: connect: %w", err)
	}
	return conn, nil
}

// silence is how long a connection may take at most to notice that its server is silent, without a warning.
const silence = 30 * time.Second

// check says what is wrong with the settings of a connection: what must not be, and what had better not be.
func check(conn *nats.Conn) (warnings []string, err error) {
	if conn == nil {
		return nil, errors.New("natsstore: New needs a connection: see Connect")
	}
	o := &conn.Opts
	switch {
	case conn.IsClosed():
		return nil, errors.New("natsstore: the connection is closed")
	case !o.AllowReconnect || o.MaxReconnect >= 0:
		return nil, fmt.Errorf("natsstore: the connection gives up after %d attempts to reconnect: use natsstore.Connect, or nats.MaxReconnects(-1)", o.MaxReconnect)
	case o.NoEcho:
		return nil, errors.New("natsstore: the connection has nats.NoEcho, but a hub probes delivery by sending to itself: leave it out")
	}
	if d := o.PingInterval * time.Duration(o.MaxPingsOut+1); d > silence || d <= 0 {
		warnings = append(warnings, fmt.Sprintf("a silent server is noticed after %v: set nats.PingInterval(5*time.Second) and nats.MaxPingsOutstanding(2)", d))
	}
	if o.FlusherTimeout <= 0 || o.FlusherTimeout > silence {
		warnings = append(warnings, fmt.Sprintf("a write may be stuck for %v: set nats.FlusherTimeout(5*time.Second)", o.FlusherTimeout))
	}
	if !o.IgnoreAuthErrorAbort {
		warnings = append(warnings, "the connection gives up when its credentials are refused twice: set nats.IgnoreAuthErrorAbort()")
	}
	return warnings, nil
}
