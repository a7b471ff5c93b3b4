package redisstore_test

import (
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
	"github.com/parley-go/parley/storetest"
)

// patience is for what takes a moment, or, on a machine that is busy, longer.
const patience = 3 * time.Minute

func newStore(t testing.TB, client redis.UniversalClient) *redisstore.Store {
	t.Helper()
	s, err := redisstore.New(client, redisstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestStore(t *testing.T) {
	t.Parallel()
	var backends []backend
	for range 4 {
		server := redistest.Start(t)
		backends = append(backends, backend{[]string{server.Addr}, server.Wipe})
	}
	runStore(t, backends)
}

// newPatient returns a Store that waits longer for its servers than any machine is slow. With several
// addresses they are those of a Cluster.
func newPatient(t *testing.T, addrs ...string) *redisstore.Store {
	t.Helper()
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: addrs, DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience})
	t.Cleanup(func() { _ = client.Close() })
	s, err := redisstore.New(client, redisstore.Options{Timeout: patience})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// backend is what a Store runs on.
type backend struct {
	addrs []string
	wipe  func()
}

// runStore runs the suite. Its subtests are in each other's way on one backend, so as many run at a time as there are of
// these: most of them wait for times to pass, which are long enough for a machine that is busy.
func runStore(t *testing.T, backends []backend) {
	free := make(chan backend, len(backends))
	for _, b := range backends {
		free <- b
	}
	var used sync.Map // the backend of each Store
	of := func(s parley.Store) backend {
		b, _ := used.Load(s)
		return b.(backend)
	}
	cfg := storetest.Config{
		Unit: 200 * time.Millisecond,
		Peer: func(t *testing.T, s parley.Store) parley.Store { return newPatient(t, of(s).addrs...) },
		Wipe: func(_ *testing.T, s parley.Store) { of(s).wipe() },
	}
	cfg.Run(t, func(t *testing.T) parley.Store {
		t.Parallel()
		b := <-free
		t.Cleanup(func() { free <- b })
		s := newPatient(t, b.addrs...)
		used.Store(s, b)
		return s
	})
}
