package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// config tests the memory store and what is made of it in these tests.
func config() Config {
	return Config{Bubble: bubbletest.Test, Wipe: func(t *testing.T, s parley.Store) {
		// After the grace, writes to another topic look after the disused ones.
		time.Sleep(3 * time.Hour)
		for range 1000 {
			_, err := s.Append(context.Background(), "filler", keep(1), messages(1, 1))
			require.NoError(t, err)
		}
	}}
}

// recorder takes failures without failing the test around it.
type recorder struct {
	testing.TB

	mu       sync.Mutex // guards failures
	failures []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

// FailNow ends the goroutine that the subtest runs on.
func (r *recorder) FailNow() {
	r.Errorf("stopped")
	panic(errStopped)
}

func (r *recorder) Logf(string, ...any) {}

var errStopped = errors.New("stopped by FailNow")

// failuresOf runs f in a bubble and returns its failures.
func failuresOf(t *testing.T, f func(t *testing.T, r *recorder)) []string {
	t.Helper()
	var r *recorder
	bubbletest.Test(t, func(t *testing.T) {
		r = &recorder{TB: t}
		defer func() {
			if p := recover(); p != nil && p != errStopped {
				panic(p)
			}
		}()
		f(t, r)
	})
	return r.failures
}

// runStoreCase runs one subtest against s as Run does.
func runStoreCase(t *testing.T, name string, newStore func() parley.Store) []string {
	t.Helper()
	cases := slices.Concat(storeCases(), publishCases)
	i := slices.IndexFunc(cases, func(tc storeCase) bool { return tc.name == name })
	require.GreaterOrEqualf(t, i, 0, "no subtest has the name %q", name)
	c := config().withDefaults()
	return failuresOf(t, func(t *testing.T, r *recorder) {
		cases[i].run(c.newEnv(t, r, name, newStore()))
	})
}

func runBrokerCase(t *testing.T, name string, newBroker func() parley.Broker) []string {
	t.Helper()
	i := slices.IndexFunc(brokerCases, func(tc brokerCase) bool { return tc.name == name })
	require.GreaterOrEqualf(t, i, 0, "no subtest has the name %q", name)
	c := config().withDefaults()
	return failuresOf(t, func(t *testing.T, r *recorder) {
		brokerCases[i].run(c.newBrokerEnv(t, r, newBroker()))
	})
}

// The suite passes a right store, also through the wrapper and the recorder with
// which the broken ones are made and seen.
func TestMemoryStorePasses(t *testing.T) {
	config().Run(t, func(*testing.T) parley.Store { return parley.NewMemoryStore() })
	for _, tc := range storeCases() {
		got := runStoreCase(t, tc.name, func() parley.Store { return &broken{Store: parley.NewMemoryStore()} })
		require.Empty(t, got, tc.name)
	}
}

func TestMemoryBrokerPasses(t *testing.T) {
	config().RunBroker(t, func(*testing.T) parley.Broker { return parley.NewMemoryBroker() })
	for _, tc := range brokerCases {
		got := runBrokerCase(t, tc.name, func() parley.Broker { return &brokenBroker{Broker: parley.NewMemoryBroker()} })
		require.Empty(t, got, tc.name)
	}
}

// Every broken store fails the subtest whose name says what is broken.
func TestBrokenStoresAreCaught(t *testing.T) {
	for _, m := range slices.Concat(brokenLogs, brokenReads, brokenKeys, brokenRooms,
		brokenCounts, brokenMarks, brokenTimers, brokenAudiences, brokenRaces, brokenHeads, brokenVersions, brokenStatuses) {
		t.Run(m.flaw, func(t *testing.T) {
			failures := runStoreCase(t, m.caughtBy, func() parley.Store {
				b := &broken{Store: parley.NewMemoryStore()}
				m.breakIt(b)
				return b
			})
			require.NotEmptyf(t, failures, "a store that %s passed %q", m.flaw, m.caughtBy)
			t.Logf("%s", failures[0])
		})
	}
}

// Each subtest of the read state, of what is overdue, of audiences, heads and who is online sees at least one flaw.
func TestNoCaseIsIdle(t *testing.T) {
	caught := map[string]bool{}
	for _, m := range slices.Concat(brokenCounts, brokenMarks, brokenTimers, brokenAudiences, brokenRaces, brokenHeads, brokenVersions, brokenStatuses) {
		caught[m.caughtBy] = true
	}
	for _, tc := range slices.Concat(unreadCases, ttlCases, markCases, markedCases, truncatedCases, overdueCases,
		audienceCases, raceCases, markModelCases, headCases, versionCases, statusCases, statusTimeCases, statusModelCases) {
		require.Truef(t, caught[tc.name], "no broken store is to be caught by %q", tc.name)
	}
}

func TestBrokenBrokersAreCaught(t *testing.T) {
	for _, m := range brokenBrokers {
		t.Run(m.flaw, func(t *testing.T) {
			failures := runBrokerCase(t, m.caughtBy, func() parley.Broker {
				b := &brokenBroker{Broker: parley.NewMemoryBroker()}
				m.breakIt(b)
				return b
			})
			require.NotEmptyf(t, failures, "a broker that %s passed %q", m.flaw, m.caughtBy)
			t.Logf("%s", failures[0])
		})
	}
}

// brokenEnv makes the test binary run the suite on broken implementations; see TestRunFails.
const brokenEnv = "PARLEY_STORETEST_BROKEN"

// Run and RunBroker report what they find to the test that called them. As
// that makes it fail, it runs in a process of its own.
func TestRunFails(t *testing.T) {
	if os.Getenv(brokenEnv) != "" {
		Run(t, func(*testing.T) parley.Store {
			b := &broken{Store: parley.NewMemoryStore()}
			b.append = func(s parley.Store, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
				slices.Reverse(entries)
				return s.Append(ctx, topic, keep, entries)
			}
			return b
		})
		RunBroker(t, func(*testing.T) parley.Broker {
			return &brokenBroker{Broker: parley.NewMemoryBroker(), publish: func(parley.Broker, context.Context, string, []byte) error {
				return errors.New("broken")
			}}
		})
		return
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "-test.v", "-test.run", "^TestRunFails$/^(Append|Broker)$/^(adds|offsets|Publish|hands)")
	cmd.Env = append(os.Environ(), brokenEnv+"=1")
	out, err := cmd.CombinedOutput()
	require.Error(t, err, "the suite passed broken implementations:\n%s", out)
	for _, name := range []string{
		"Append/adds_to_the_end,_a_batch_in_its_order", "Broker/Publish_without_subscriptions_is_no_error",
	} {
		require.Contains(t, string(out), "--- FAIL: TestRunFails/"+name)
	}
	require.Contains(t, string(out), "--- PASS: TestRunFails/Append/offsets", "what is not broken passes")
}

// A subtest that cannot run says what it needs.
func TestSkips(t *testing.T) {
	c := Config{}.withDefaults()
	require.Contains(t, c.lacks(storeCase{needs: freeTime}), "Config.Sleep")
	require.Contains(t, c.lacks(storeCase{needs: wiping}), "Config.Wipe")
	require.Empty(t, c.lacks(storeCase{}))
	full := config().withDefaults()
	for _, tc := range slices.Concat(storeCases(), publishCases) {
		require.Empty(t, full.lacks(tc), tc.name)
	}
}

// The names are paths for go test -run, and each is there once.
func TestNames(t *testing.T) {
	var names []string
	for _, tc := range storeCases() {
		names = append(names, tc.name)
	}
	for _, tc := range publishCases {
		names = append(names, tc.name)
	}
	for _, tc := range allBrokerCases() {
		names = append(names, "of brokers: "+tc.name)
	}
	for _, name := range names {
		require.Equal(t, 1, strings.Count(name, "/"), name)
	}
	slices.Sort(names)
	require.Equal(t, names, slices.Compact(slices.Clone(names)))
}
