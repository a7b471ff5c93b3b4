package redisstore_test

import (
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
	server := redistest.Start(t)
	cfg := storetest.Config{
		Peer: func(t *testing.T, _ parley.Store) parley.Store { return newStore(t, server.Client()) },
		Wipe: func(t *testing.T, _ parley.Store) { server.Wipe() },
	}
	cfg.Run(t, func(t *testing.T) parley.Store { return newStore(t, server.Client()) })
}
