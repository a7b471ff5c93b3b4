package sqlstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore"
	"github.com/parley-go/parley/adapters/sqlstore/pgtest"
	"github.com/parley-go/parley/storetest"
)

// Two nodes on one database. Logs get lost by being dropped for disuse.
func TestStore(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		if raceDetector && strings.HasSuffix(t.Name(), "SQLite_in_memory") {
			t.Skip("takes minutes with the race detector, and differs from SQLite on a file by nothing that is ours")
		}
		cfg := storetest.Config{
			Sleep: w.sleep,
			Peer:  func(t *testing.T, _ parley.Store) parley.Store { return w.node(t) },
			Wipe: func(t *testing.T, s parley.Store) {
				w.sleep(3 * time.Hour)
				require.NoError(t, s.(*sqlstore.Store).Clean(t.Context()))
			},
		}
		cfg.Run(t, func(t *testing.T) parley.Store {
			if raceDetector && w.dialect == sqlstore.SQLite && strings.Contains(t.Name(), "/Model/") && pgtest.Installed() {
				t.Skip("takes a minute with the race detector, which slows SQLite down more than anything else, and runs on PostgreSQL")
			}
			return w.node(t)
		})
	})
}
