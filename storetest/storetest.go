// Package storetest checks implementations of [parley.Store] and
// [parley.Broker] against their contracts. Every sentence of a contract is a
// subtest of its own, so that the name of a failing one says what is missing.
//
// A store kept in memory, whose time is that of a testing/synctest bubble:
//
//	func TestStore(t *testing.T) {
//		cfg := storetest.Config{Bubble: synctest.Test}
//		cfg.Run(t, func(t *testing.T) parley.Store { return mystore.New() })
//	}
//
// A store on a real server, with two clients as two nodes:
//
//	func TestStore(t *testing.T) {
//		cfg := storetest.Config{
//			Peer: func(t *testing.T, _ parley.Store) parley.Store { return connect(t) },
//			Wipe: func(t *testing.T, _ parley.Store) { flush(t) },
//		}
//		cfg.Run(t, func(t *testing.T) parley.Store { return connect(t) })
//	}
//
// Topics, users and keys get a random prefix in every subtest, so what earlier
// subtests and runs left in a server does not matter. Only [parley.Store.Overdue]
// is about all topics: the suite puts off for a day whatever it finds there, so do
// not run it on a server that is in use, and not twice at a time on the same one.
package storetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/fnv"
	mathrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// Config says how to test. The zero value tests a store or broker that is its
// own peer, in real time.
//
// Some subtests let time pass, some 10 units each. With Bubble or Sleep time is
// taken to be free: then subtests run that need minutes of it, which are skipped otherwise.
type Config struct {
	// Bubble runs each subtest in a time of its own: synctest.Test, for
	// implementations without real I/O. Nil: real time.
	Bubble func(t *testing.T, f func(t *testing.T))
	// Sleep lets time pass for the store. Set it if the store's clock is
	// turned by hand, like that of a simulated server. Default time.Sleep.
	Sleep func(d time.Duration)
	// Unit is the step in which the tests count time: ages, TTLs, times to receive and leases
	// are 10 units, and must be kept to within 2. A log whose entries have all expired
	// must keep its bounds for 500 units more. Default 50 ms; a server that
	// counts in seconds needs one second.
	Unit time.Duration

	// Peer returns another node's Store with the same data as s. Nil: s serves
	// both nodes, which is right for a Store within one process.
	Peer func(t *testing.T, s parley.Store) parley.Store
	// Wipe makes the logs of all topics that have an age bound disappear, in
	// the way in which that happens to this Store: the server is emptied, or the
	// logs are dropped for disuse. Nil: the subtests of losing a log are skipped.
	Wipe func(t *testing.T, s parley.Store)

	// PeerBroker returns another node's Broker connected to b. Nil: b serves
	// both nodes, which is right for a Broker within one process, and only
	// for one that hands payloads to the publishing node too.
	PeerBroker func(t *testing.T, b parley.Broker) parley.Broker

	// Interrupt breaks the connection by which b receives, so that payloads may be lost, and returns when it is
	// broken; b has to come back by itself, within 10 s, and to call deliver(nil). Set it for Brokers that know of losses.
	// Nil: the subtests of that are skipped.
	Interrupt func(t *testing.T, b parley.Broker)

	// Seed repeats a run of the random subtests; a failing one prints it. 0 draws one.
	Seed uint64
}

// Run checks a Store in real time, with one node. See [Config.Run].
func Run(t *testing.T, newStore func(t *testing.T) parley.Store) {
	t.Helper()
	Config{}.Run(t, newStore)
}

// RunBroker checks a Broker in real time, with one node. See [Config.RunBroker].
func RunBroker(t *testing.T, newBroker func(t *testing.T) parley.Broker) {
	t.Helper()
	Config{}.RunBroker(t, newBroker)
}

// Run checks the Stores that newStore returns. It is called once in each
// subtest, with the subtest's t, on which it may register a Cleanup. It may
// return the same Store every time, unless Bubble is set. For a Store that is a
// [parley.AppendPublisher], too, there are subtests of what it publishes; others skip them.
func (c Config) Run(t *testing.T, newStore func(t *testing.T) parley.Store) {
	t.Helper()
	c = c.withDefaults()
	for _, tc := range slices.Concat(storeCases(), publishCases) {
		t.Run(tc.name, func(t *testing.T) {
			if why := c.lacks(tc); why != "" {
				t.Skip(why)
			}
			c.Bubble(t, func(t *testing.T) { tc.run(c.newEnv(t, t, tc.name, newStore(t))) })
		})
	}
}

func (c Config) withDefaults() Config {
	if c.Bubble == nil {
		c.Bubble = func(t *testing.T, f func(t *testing.T)) { f(t) }
	} else if c.Sleep == nil {
		c.Sleep = time.Sleep
	}
	if c.Unit == 0 {
		c.Unit = 50 * time.Millisecond
	}
	for c.Seed == 0 {
		c.Seed = mathrand.Uint64()
	}
	return c
}

// storeCase is one subtest. Its name cites the contract.
type storeCase struct {
	name  string
	run   func(e *env)
	needs need
}

// need is what a subtest asks of a Config.
type need int

const (
	nothing      need = iota
	freeTime          // minutes or days go by
	wiping            // logs get lost
	interrupting      // connections are lost
)

// lacks says what tc needs and c does not offer.
func (c Config) lacks(tc storeCase) string {
	switch {
	case tc.needs == freeTime && !c.free():
		return "takes minutes of real time: set Config.Bubble or Config.Sleep"
	case tc.needs == wiping && c.Wipe == nil:
		return "set Config.Wipe"
	}
	return ""
}

func storeCases() []storeCase {
	return slices.Concat(appendCases, readCases, retentionCases, keyCases, unreadCases, ttlCases,
		markCases, markedCases, truncatedCases, overdueCases, audienceCases, presenceCases,
		topicCases, contextCases, headCases, versionCases, statusCases, statusTimeCases, statusModelCases, concurrencyCases, raceCases, modelCases, markModelCases)
}

// env is what a subtest of a Store works with.
type env struct {
	testing.TB
	cfg    Config
	rng    *mathrand.Rand
	store  parley.Store // one node
	peer   parley.Store // another one
	wipe   func()       // for subtests that need wiping
	prefix string
	topics int
}

// newEnv takes failures to tb, which need not be t: that is how the suite's own tests see it fail.
func (c Config) newEnv(t *testing.T, tb testing.TB, name string, s parley.Store) *env {
	peer := s
	if c.Peer != nil {
		peer = c.Peer(t, s)
	}
	record := newRecord(tb)
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	e := &env{
		TB: tb, cfg: c,
		rng:    mathrand.New(mathrand.NewPCG(c.Seed, h.Sum64())),
		store:  &witness{Store: s, record: record},
		peer:   &witness{Store: peer, record: record},
		prefix: rand.Text()[:8],
	}
	e.wipe = func() { c.Wipe(t, s) }
	return e
}

// topic returns the name of a topic that was never used.
func (e *env) topic() string {
	e.topics++
	return fmt.Sprintf("room/%s-%d", e.prefix, e.topics)
}

// nodes are the Stores of both nodes, with names for failure messages.
func (e *env) nodes() map[string]parley.Store {
	return map[string]parley.Store{"the node that wrote": e.store, "the other node": e.peer}
}

// free reports whether time costs nothing.
func (c Config) free() bool { return c.Sleep != nil }

func (c Config) units(n float64) time.Duration { return time.Duration(n * float64(c.Unit)) }

func (e *env) sleep(units float64) { e.sleepFor(e.cfg.units(units)) }

func (e *env) sleepFor(d time.Duration) {
	if e.cfg.Sleep != nil {
		e.cfg.Sleep(d)
		return
	}
	time.Sleep(d)
}

// lifetime is the age or lease of what a subtest watches die, in units.
const lifetime = 10

// fresh skips the subtest if more than the lifetime, less a unit, of real time has gone by since
// start: then something may rightly have expired that was to be found alive.
func (e *env) fresh(start time.Time) {
	e.Helper()
	if time.Since(start) > e.cfg.units(lifetime-1) {
		e.Skip("the machine was too slow to see anything alive: raise Config.Unit")
	}
}

func (e *env) append(topic string, keep parley.Retention, entries ...parley.Entry) (epoch string, sent []parley.Entry) {
	e.Helper()
	log, err := e.store.Append(context.Background(), topic, keep, entries)
	require.NoErrorf(e, err, "Append to %q", topic)
	return log.Epoch, entries
}

func (e *env) read(s parley.Store, topic string, q parley.Query) parley.Page {
	e.Helper()
	page, err := s.Read(context.Background(), topic, q)
	require.NoErrorf(e, err, "Read of %q", topic)
	return page
}

// everything is the query for all entries that are kept.
var everything = parley.Query{Forward: true, Limit: 100_000}

func (e *env) all(topic string) parley.Page {
	e.Helper()
	return e.read(e.store, topic, everything)
}

// keep is a Retention by number only.
func keep(messages int) parley.Retention { return parley.Retention{Messages: messages} }

// aged is a Retention by number and by the lifetime.
func (e *env) aged(messages int) parley.Retention {
	return parley.Retention{Messages: messages, Age: e.cfg.units(lifetime)}
}

// message returns an entry that differs for every n.
func message(n int) parley.Entry {
	return parley.Entry{Time: int64(1_700_000_000_000 + n), Data: fmt.Appendf(nil, `{"n":%d}`, n)}
}

// messages returns message(from) to message(to).
func messages(from, to int) []parley.Entry {
	var list []parley.Entry
	for n := from; n <= to; n++ {
		list = append(list, message(n))
	}
	return list
}

// offsets lists the offsets of entries.
func offsets(entries []parley.Entry) []int64 {
	list := []int64{}
	for _, entry := range entries {
		list = append(list, entry.Offset)
	}
	return list
}

// span lists the offsets from a to b.
func span(a, b int64) []int64 {
	list := []int64{}
	for ; a <= b; a++ {
		list = append(list, a)
	}
	return list
}

// bodies lists the data of entries.
func bodies(entries []parley.Entry) []string {
	list := []string{}
	for _, entry := range entries {
		list = append(list, string(entry.Data))
	}
	return list
}

// same expects a log to hold the messages from one to another, and shows the
// first difference only: a whole log is too long to read.
func (e *env) same(from, to int, got []parley.Entry, why string) {
	e.Helper()
	for i, entry := range got {
		want := message(from + i)
		if from+i > to || string(entry.Data) != string(want.Data) || entry.Time != want.Time {
			require.FailNowf(e, why, "entry %d of %d has offset %d and is %.100s of time %d; want the messages %d to %d, here %s of time %d",
				i, len(got), entry.Offset, entry.Data, entry.Time, from, to, want.Data, want.Time)
		}
	}
	require.Lenf(e, got, max(0, to-from+1), "%s: entries are missing at the end", why)
}
