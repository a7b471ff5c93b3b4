package integration

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

// F13: for 4 s nothing comes from Redis, and nobody is told. Everything that was sent meanwhile arrives.
func TestRedisIsABlackHole(t *testing.T) {
	t.Parallel()
	for _, pubsub := range []bool{true, false} {
		t.Run(map[bool]string{true: "pub-sub alone", false: "everything"}[pubsub], func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			proxy := redistest.NewProxy(t, server.Addr)
			far, near := overRedis(t, redisAt(t, proxy.Addr)), overRedis(t, redisAt(t, server.Addr))
			store := far
			if pubsub {
				store = near // the backplane brings nothing, the Store is well
			}
			a, b := startNode(t, "a", store, far), startNode(t, "b", near, near)
			lee, kim := watch(a, "lee"), watch(b, "kim")
			s := speak(b, "b", 20*time.Millisecond)
			s.more(10)
			proxy.BlackHole()
			<-time.After(4 * time.Second) // the hole is there for so long, at least
			s.more(50)
			last := s.all()[len(s.all())-1]
			if pubsub {
				lee.knows(last.at) // from the Store, while the hole is still there
			}
			proxy.Resume()
			s.more(10)
			s.end()
			require.Zero(t, s.failed(), "that node was well")
			epoch, log := logOf(t, near)
			kept(t, epoch, log, s)
			lee.sawAll(log)
			kim.sawAll(log)
			a.ready()
		})
	}
}

// F14, F66: a Redis that keeps nothing dies again and again. Everybody is told that the log is another one, and nobody
// is shown messages of two.
func TestRedisIsKilledAndKeepsNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	nodes, speakers := pairOver(t, server)
	_, ears := chatOn(nodes)
	for range kills(t, 20) {
		killWhileTheySpeak(server, speakers)
	}
	epoch, log := settle(t, nodes, ears, speakers)
	require.Less(t, len(log), speakers[0].acked(), "it was killed, and kept nothing")
	for _, s := range speakers {
		for _, m := range s.all() {
			if m.err == nil && m.at.epoch == epoch {
				require.Contains(t, log, line{m.at.offset, m.text})
			}
		}
	}
	for _, e := range ears {
		require.NotEmpty(t, e.story().resets, "%s was told", e.name)
	}
}

// F14: a Redis that writes everything down dies again and again. What was acknowledged is there, once, and everybody has it.
func TestRedisIsKilledAndKeepsAll(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	nodes, speakers := pairOver(t, server)
	chatters, ears := chatOn(nodes)
	for range kills(t, 20) {
		killWhileTheySpeak(server, speakers)
	}
	_, log := settle(t, nodes, ears, speakers)
	texts := []string{}
	for _, l := range log {
		texts = append(texts, l.Text)
	}
	slices.Sort(texts)
	require.Len(t, slices.Compact(slices.Clone(texts)), len(texts), "something is there twice")
	for _, s := range speakers {
		for _, m := range s.all() {
			if m.err == nil {
				_, found := slices.BinarySearch(texts, m.text)
				require.True(t, found, "%q was acknowledged at %v", m.text, m.at)
			}
		}
	}
	// Redis does not tell whether it has lost something, so each time there is a gap, of which clients are told. They show the newest
	// messages from there on, and get all others as well when they ask for them.
	for _, c := range chatters {
		same(t, log, c.wholeLog(), "what "+c.name+" can load")
	}
}

// pairOver starts two nodes over one Redis, and somebody who speaks on each.
func pairOver(t *testing.T, server *redistest.Server) (nodes []*node, speakers []*speaker) {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		store := overRedis(t, redisAt(t, server.Addr))
		nodes = append(nodes, startNode(t, name, store, store))
	}
	for _, n := range nodes {
		speakers = append(speakers, speak(n, n.name, 5*time.Millisecond))
	}
	return nodes, speakers
}

// watchAll has somebody watch on each node.
func watchAll(nodes []*node) (watchers []*watcher) {
	for _, n := range nodes {
		watchers = append(watchers, watch(n, "on "+n.name))
	}
	return watchers
}

// chatOn has somebody on each node who comes back when the connection is closed.
func chatOn(nodes []*node) (chatters []*chatter, ears []*ear) {
	for _, n := range nodes {
		c := chat(n.t, newFront(n.addr), "on "+n.name)
		chatters, ears = append(chatters, c), append(ears, c.ear)
	}
	return chatters, ears
}

func earsOf(watchers []*watcher) (ears []*ear) {
	for _, w := range watchers {
		ears = append(ears, w.ear)
	}
	return ears
}

func killWhileTheySpeak(server *redistest.Server, speakers []*speaker) {
	for _, s := range speakers {
		s.more(8)
	}
	server.Kill()
	server.Restart()
	for _, s := range speakers {
		s.more(8)
	}
}

// settle ends the speaking, waits until everybody has everything, and returns the log. All must show the same, whatever was lost.
func settle(t *testing.T, nodes []*node, ears []*ear, speakers []*speaker) (epoch string, log []line) {
	t.Helper()
	for _, s := range speakers {
		s.end()
		for _, m := range s.all() {
			if m.err != nil {
				require.ErrorIs(t, m.err, parley.ErrStore)
			}
		}
	}
	for _, n := range nodes {
		n.ready()
	}
	nodes[0].say("the end")
	epoch, log = logOf(t, nodes[0].store)
	agreed(t, epoch, log, ears...)
	return epoch, log
}

// F15: Redis stands still for 10 s, or longer. Nobody waits for its end, connections stay, and everything catches up.
func TestRedisStandsStill(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	nodes, speakers := pairOver(t, server)
	watchers := watchAll(nodes)
	speakers[0].more(20)
	server.Stop()
	stopped := time.Now()
	for i, n := range nodes {
		speakers[i].fails(1) // by its own deadline: the standstill ends after that
		n.red()
		watchers[i].stays()
	}
	<-time.After(10*time.Second - time.Since(stopped))
	server.Cont()
	for i, n := range nodes {
		n.ready()
		speakers[i].more(20)
		speakers[i].end()
	}
	epoch, log := logOf(t, nodes[0].store)
	kept(t, epoch, log, speakers...)
	for _, w := range watchers {
		w.sawAll(log)
	}
}

// F16, F66: the primary is killed, and Sentinel makes the replica the primary. Delivery goes on by itself. What was acknowledged and
// not yet replicated is lost, and everybody is told.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	servers := redistest.StartSentinel(t, 1)
	var nodes []*node
	for _, name := range []string{"a", "b"} {
		store := overRedis(t, servers.Client())
		nodes = append(nodes, startNode(t, name, store, store))
	}
	watchers := watchAll(nodes)
	speakers := []*speaker{speak(nodes[0], "a", 5*time.Millisecond), speak(nodes[1], "b", 5*time.Millisecond)}
	for _, s := range speakers {
		s.more(50)
	}
	old, replica := servers.Primary(), servers.Servers[1]
	// For a moment the replica stands still and has no connection: what is acknowledged now is on the primary alone.
	replica.Stop()
	require.EqualValues(t, 1, old.Client().ClientKillByFilter(t.Context(), "type", "replica").Val())
	speakers[0].more(10)
	old.Kill()
	replica.Cont()
	killed := time.Now()
	epoch := watchers[0].end().epoch
	for i, w := range watchers {
		other := speakers[1-i]
		await(t, func() bool {
			s, acked := w.story(), other.all()
			return slices.ContainsFunc(acked, func(m sent) bool { return m.err == nil && m.at.epoch != epoch && s.said[m.at] == m.text })
		}, "%s to hear of %s again", w.name, other.name)
	}
	t.Logf("delivery between the nodes went on %v after the primary was killed (Sentinels take it for dead after 2 s)", time.Since(killed).Round(10*time.Millisecond))
	for _, s := range speakers {
		s.more(20)
	}
	_, log := settle(t, nodes, earsOf(watchers), speakers)
	lost := 0
	for _, s := range speakers {
		for _, m := range s.all() {
			if m.err == nil && !slices.ContainsFunc(log, func(l line) bool { return l.Text == m.text }) {
				lost++
				require.Equal(t, epoch, m.at.epoch, "%q was acknowledged by the new primary", m.text)
			}
		}
	}
	require.GreaterOrEqual(t, lost, 10)
	t.Logf("%d messages that were acknowledged were lost with the primary", lost)
	for _, w := range watchers {
		require.NotEmpty(t, w.story().resets, "%s was told", w.name)
	}

	// Somebody who was away with the position of the last message that was acknowledged before.
	var last place
	for _, m := range speakers[0].all() {
		if m.at.epoch == epoch {
			last = m.at
		}
	}
	w := resumeAt(nodes[1], "away", last)
	require.Equal(t, new(false), w.next("history").Recovered)
}

// F17: a Redis that only reads: sends fail and say why, the node is not ready, and all goes on afterwards.
func TestRedisRefusesToWrite(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name         string
		refuse, heal []any
		advice       string
	}{
		{"out of memory", []any{"config", "set", "maxmemory-policy", "noeviction", "maxmemory", "1mb"}, []any{"config", "set", "maxmemory", "0"}, "out of memory"},
		{"too few replicas", []any{"config", "set", "min-replicas-to-write", "1"}, []any{"config", "set", "min-replicas-to-write", "0"}, "replicas"},
		{"replica", []any{"replicaof", "127.0.0.1", "9"}, []any{"replicaof", "no", "one"}, "replica"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			admin := server.Client()
			nodes, speakers := pairOver(t, server)
			watchers := watchAll(nodes)
			speakers[0].more(10)
			require.NoError(t, admin.Do(t.Context(), tc.refuse...).Err())
			for i, n := range nodes {
				speakers[i].fails(1)
				all := speakers[i].all()
				err := all[len(all)-1].err
				require.ErrorIs(t, err, parley.ErrStore)
				require.ErrorContains(t, err, tc.advice)
				n.red()
				watchers[i].stays()
			}
			// Joins and reading go on. What a client sends is refused, with a code that says to try again.
			late := watch(nodes[1], "late")
			late.say(`{"type":"message","room":%q,"content":"hello","id":"m"}`, lobby)
			require.Equal(t, "unavailable", late.next("error").Code)
			require.NoError(t, admin.Do(t.Context(), tc.heal...).Err())
			for i, n := range nodes {
				n.ready()
				speakers[i].more(10)
			}
			_, log := settle(t, nodes, earsOf(append(watchers, late)), speakers)
			for _, s := range speakers {
				for _, m := range s.all() {
					if m.err == nil {
						require.Contains(t, log, line{m.at.offset, m.text})
					}
				}
			}
		})
	}
}
