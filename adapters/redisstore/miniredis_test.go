package redisstore_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/storetest"
)

// simulated is a server whose clock is turned by hand.
type simulated struct {
	*miniredis.Miniredis
	now time.Time
}

func simulate(t testing.TB) *simulated {
	s := &simulated{Miniredis: miniredis.RunT(t), now: time.UnixMilli(1_700_000_000_000)}
	s.SetTime(s.now)
	return s
}

func (s *simulated) sleep(d time.Duration) {
	s.now = s.now.Add(d)
	s.SetTime(s.now)
	s.FastForward(d)
}

// On a simulated server time is free: weeks of ages, leases and windows pass.
func TestStoreOnMiniredis(t *testing.T) {
	t.Parallel()
	server := simulate(t)
	cfg := storetest.Config{
		Sleep: server.sleep,
		Peer:  func(t *testing.T, _ parley.Store) parley.Store { return newPatient(t, server.Addr()) },
		Wipe:  func(*testing.T, parley.Store) { server.FlushAll() },
	}
	cfg.Run(t, func(t *testing.T) parley.Store { return newPatient(t, server.Addr()) })
}
