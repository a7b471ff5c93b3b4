package redisstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-go/parley"
)

// Store is a [parley.Store], a [parley.Broker], a [parley.AppendPublisher] and a [parley.Resetter] in Redis. Give
// the same one to Options.Store and Options.Broker of the hub. All methods may be called concurrently.
type Store struct {
	client redis.UniversalClient
	opts   Options

	// once takes calls that must not be repeated when it is not known whether they have
	// taken place, again all others. That large reads wait in a line of their own keeps the writes fast.
	once, again *lines

	broker brokerState // see broker.go

	background sync.WaitGroup
	end        context.CancelFunc
	done       <-chan struct{} // closed by Close
	policy     sync.Once       // see warnOfEviction
	foreign    sync.Once       // for telling of another application's key
}

var (
	_ parley.Store           = (*Store)(nil)
	_ parley.AppendPublisher = (*Store)(nil)
)

// New returns a Store over client: a *redis.Client, also one of Sentinel, or a *redis.ClusterClient. It does not
// connect yet. client stays the caller's, who closes it after the Store.
func New(client redis.UniversalClient, opts Options) (*Store, error) {
	if client == nil {
		return nil, errors.New("redisstore: New needs a client")
	}
	if _, ok := client.(*redis.Ring); ok {
		return nil, errors.New("redisstore: a redis.Ring moves keys when a server fails, without their data; use a Cluster or Sentinel")
	}
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if waitsForEver(client) {
		opts.Logger.Warn("redisstore: the client has no ReadTimeout: a server that stands still holds its connections for ever; set one of a few seconds")
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Store{client: client, opts: opts, end: cancel, done: ctx.Done()}
	n := 1 // the more calls go together, the cheaper is each
	if _, ok := client.(*redis.ClusterClient); ok {
		n = 16 // each has the slots of one node or two, so that a node that hangs does not hold up the others
	}
	s.once, s.again = s.newLines(ctx, n, true), s.newLines(ctx, n, false)
	s.startBroker()
	return s, nil
}

// waitsForEver reports whether a client has neither a timeout for reading nor heeds contexts.
func waitsForEver(client redis.UniversalClient) bool {
	switch c := client.(type) {
	case *redis.Client:
		o := c.Options()
		return o.ReadTimeout <= 0 && !o.ContextTimeoutEnabled
	case *redis.ClusterClient:
		o := c.Options()
		return o.ReadTimeout <= 0 && !o.ContextTimeoutEnabled
	}
	return false
}

// Close ends what the Store runs in the background. Calls under way, and later ones, return an error that wraps
// ErrClosed. It waits for answers of Redis that are under way, but not long. It returns nil, and may be called repeatedly.
func (s *Store) Close() error {
	s.end()
	s.stopBroker()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.background.Wait() // the timeouts of the client bound it
	}()
	select {
	case <-ended:
	case <-time.After(closeWait):
	}
	return nil
}

// closeWait is how long Close waits for answers that are under way.
const closeWait = time.Second
