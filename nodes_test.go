package parley

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// threeNodes starts hubs named n0 to n2, and waits until they know each other.
func threeNodes(t *testing.T, opts Options) (nodes [3]*server, broker *faultyBroker) {
	t.Helper()
	broker = newFaultyBroker()
	opts.Broker = broker
	if opts.Store == nil {
		opts.Store = NewMemoryStore()
	}
	for i := range nodes {
		opts.NodeName = fmt.Sprintf("n%d", i)
		nodes[i] = serve(t, opts)
	}
	time.Sleep(2 * nodeBeat)
	for _, n := range nodes {
		require.NoError(t, n.Ready())
		require.NoError(t, n.Healthy())
		require.Equal(t, 2, n.Stats().Nodes)
	}
	return nodes, broker
}

// S8: a kick reaches every node, and after it nothing is sent to the user anywhere.
func TestDisconnectUserOnAllNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, _ := threeNodes(t, Options{})
		var kims []*client
		for _, n := range nodes {
			kims = append(kims, n.connect(dialOptions{user: "kim"}), n.connect(dialOptions{user: "kim"}))
		}
		lee := nodes[2].connect(dialOptions{user: "lee"})
		began := time.Now()
		count, err := nodes[0].DisconnectUser(t.Context(), "kim", "banned")
		require.NoError(t, err)
		require.Equal(t, 6, count)
		require.Less(t, time.Since(began), time.Second)
		_, err = nodes[1].Notify(t.Context(), "kim", "after")
		require.NoError(t, err)
		_, err = nodes[1].Broadcast(t.Context(), "after")
		require.NoError(t, err)
		for _, c := range kims {
			require.Equal(t, CloseDisconnected, c.closeCode())
			c.expectNone()
		}
		lee.expect("broadcast")
	})
}

// S8, F13: the bound of a kick when the Broker brings nothing: it is an error that says who did not answer, and
// the other nodes learn of it from the Store.
func TestDisconnectUserWithoutTheBroker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, broker := threeNodes(t, Options{})
		here, there := nodes[0].connect(dialOptions{user: "kim"}), nodes[2].connect(dialOptions{user: "kim"})
		broker.set(lost)
		began := time.Now()
		ended := make(chan time.Duration)
		go func() {
			<-there.done
			ended <- time.Since(began)
		}()
		count, err := nodes[0].DisconnectUser(t.Context(), "kim", "banned")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "no answer of n1, n2")
		require.Equal(t, 1, count)
		require.Equal(t, CloseDisconnected, here.closeCode())
		require.LessOrEqual(t, <-ended, bound)
		require.Equal(t, CloseDisconnected, there.closeCode())
	})
}

// A command that is asked again, because its answer was lost, is carried out once: who was let in again meanwhile stays.
func TestCommandsAreCarriedOutOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, broker := threeNodes(t, Options{})
		kim := nodes[1].connect(dialOptions{user: "kim"})
		var dropped atomic.Int32
		broker.set(func(p []byte) [][]byte {
			if strings.Contains(string(p), `"answer"`) && dropped.Add(1) <= 2 {
				return nil
			}
			return [][]byte{p, p}
		})
		again := make(chan *client)
		go func() {
			<-kim.done
			again <- nodes[1].connect(dialOptions{user: "kim"})
		}()
		count, err := nodes[0].DisconnectUser(t.Context(), "kim", "")
		require.NoError(t, err)
		require.Equal(t, 1, count)
		require.NotZero(t, dropped.Load())
		back := <-again
		time.Sleep(time.Minute)
		_, err = nodes[0].Notify(t.Context(), "kim", "still here")
		require.NoError(t, err)
		back.expect("notification")
	})
}

// A Store that is down: what the Broker reaches is done, and the error says that the rest is not.
func TestDisconnectUserWithoutTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := &downStore{MemoryStore: NewMemoryStore()}
		nodes, _ := threeNodes(t, Options{Store: store})
		here, there := nodes[0].connect(dialOptions{user: "kim"}), nodes[2].connect(dialOptions{user: "kim"})
		store.down.Store(true)
		_, err := nodes[0].DisconnectUser(t.Context(), "kim", "")
		require.ErrorIs(t, err, ErrStore)
		require.Equal(t, CloseDisconnected, here.closeCode())
		require.Equal(t, CloseDisconnected, there.closeCode())
	})
}

// F23: a node that has died is missed until its lease is over, and then forgotten.
func TestNodesThatDie(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, _ := threeNodes(t, Options{})
		infos, err := nodes[1].Nodes(t.Context())
		require.NoError(t, err)
		require.Len(t, infos, 3)
		for i, n := range infos {
			require.Equal(t, fmt.Sprintf("n%d", i), n.Name)
		}
		ghost := Member{UserID: "ghost", Name: "n3"}
		require.NoError(t, nodes[0].opts.Store.Enter(t.Context(), topicNodes, "ghost", []Member{ghost}, nodeLease))
		infos, err = nodes[0].Nodes(t.Context())
		require.ErrorContains(t, err, "no answer of n3")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Len(t, infos, 3)
		time.Sleep(nodeLease + peerMemory + 2*nodeBeat)
		infos, err = nodes[0].Nodes(t.Context())
		require.NoError(t, err)
		require.Len(t, infos, 3)
	})
}

func TestConnectionsOfAUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, _ := threeNodes(t, Options{})
		one, two := nodes[0].connect(dialOptions{user: "kim"}), nodes[2].connect(dialOptions{user: "kim"})
		two.join("tea", "kim")
		two.join("coffee", "kim")
		conns, err := nodes[1].Connections(t.Context(), "kim")
		require.NoError(t, err)
		require.Equal(t, []ConnInfo{
			{ClientID: one.id, UserID: "kim", Node: "n0", Rooms: []string{}},
			{ClientID: two.id, UserID: "kim", Node: "n2", Rooms: []string{"tea", "coffee"}},
		}, conns)
		conns, err = nodes[1].Connections(t.Context(), "nobody")
		require.NoError(t, err)
		require.Empty(t, conns)
	})
}

// Rooms joined and left by the server, on whichever node the user is.
func TestAddAndRemoveUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, _ := threeNodes(t, Options{})
		one, two := nodes[1].connect(dialOptions{user: "kim", v1: true}), nodes[2].connect(dialOptions{user: "kim"})
		one.expect("inbox")
		tea := nodes[0].Room("tea")
		count, err := tea.AddUser(t.Context(), "kim")
		require.NoError(t, err)
		require.Equal(t, 2, count)
		_, err = tea.Send(t.Context(), "hi")
		require.NoError(t, err)
		require.Equal(t, "hi", one.skipTo("message")["content"])
		require.Equal(t, "hi", two.skipTo("message")["content"])
		time.Sleep(time.Second)
		one.drain()
		two.drain()
		count, err = tea.RemoveUser(t.Context(), "kim", "this is for members")
		require.NoError(t, err)
		require.Equal(t, 2, count)
		left := one.expect("left")
		require.Equal(t, "tea", left.str("room"))
		require.Equal(t, "this is for members", left.str("reason"))
		_, err = tea.Send(t.Context(), "again")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		one.expectNone()
		two.expectNone()
		count, err = tea.RemoveUser(t.Context(), "kim", "")
		require.NoError(t, err)
		require.Zero(t, count)
		_, err = nodes[0].Room("").AddUser(t.Context(), "kim")
		require.ErrorIs(t, err, ErrInvalidName)
	})
}

// The last of many quick calls for the same user and room holds on every node.
func TestAddAndRemoveInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, _ := threeNodes(t, Options{})
		nodes[2].connect(dialOptions{user: "kim"})
		for i := range 20 {
			room := nodes[0].Room(fmt.Sprint("r", i))
			_, err := room.AddUser(t.Context(), "kim")
			require.NoError(t, err)
			if i%2 == 0 {
				_, err = room.RemoveUser(t.Context(), "kim", "")
				require.NoError(t, err)
			}
		}
		conns, err := nodes[1].Connections(t.Context(), "kim")
		require.NoError(t, err)
		require.Len(t, conns[0].Rooms, 10)
	})
}

// A private message to the client id of an anonymous connection on another node.
func TestPrivateToAClientOfAnotherNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes, _ := threeNodes(t, Options{})
		from, to := nodes[0].plain(), nodes[2].plain()
		from.send(map[string]any{"type": "private", "id": "1", "targetId": to.id, "message": "psst"})
		require.Equal(t, "1", from.expect("ack").str("id"))
		m := to.expect("private")
		require.Equal(t, "psst", m["message"])
		require.Equal(t, from.id, m.str("senderId"))
		r, err := nodes[1].Private(t.Context(), to.id, "from the application")
		require.NoError(t, err)
		require.Equal(t, 1, r.Delivered)
		to.expect("private")
	})
}

// F16, centrifugo#1189: a Broker that is connected and brings nothing makes the node not ready, is made to connect anew, and is compared with
// the Store more often; what comes meanwhile comes late, and nobody waits for it.
func TestSilentBroker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker := &resettableBroker{faultyBroker: newFaultyBroker()}
		opts := Options{Store: NewMemoryStore(), Broker: broker, SyncInterval: time.Minute}
		a, b := serve(t, opts), serve(t, opts)
		kim := teaMember(t, b, "kim")
		require.NoError(t, b.Ready())
		broker.set(lost)
		time.Sleep(3 * nodeBeat)
		require.ErrorIs(t, b.Ready(), errSilent)
		require.NoError(t, b.Healthy())
		say(t, a, 1)
		began := time.Now()
		require.EqualValues(t, 1, kim.expect("message").num("offset"))
		require.LessOrEqual(t, time.Since(began), deafSync+2*patience)
		time.Sleep(time.Minute)
		resets := broker.resets.Load()
		require.GreaterOrEqual(t, resets, int32(2*3), "of both nodes")
		require.LessOrEqual(t, resets, int32(2*7))
		broker.set(nil)
		time.Sleep(3 * nodeBeat)
		require.NoError(t, b.Ready())
		say(t, a, 2)
		expectOffsets(t, kim, 2, 2)
	})
}

// A Broker whose Publish hangs holds up no topic for long (F15).
func TestStuckBroker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker := &stuckBroker{faultyBroker: newFaultyBroker()}
		opts := Options{Store: NewMemoryStore(), Broker: broker}
		a, b := serve(t, opts), serve(t, opts)
		kim := teaMember(t, b, "kim")
		broker.stuck.Store(true)
		time.Sleep(4 * nodeBeat)
		require.Error(t, a.Ready())
		began := time.Now()
		for n := int64(1); n <= 50; n++ {
			_, err := a.Room("tea").Send(t.Context(), fmt.Sprint(n))
			require.NoError(t, err)
		}
		require.Less(t, time.Since(began), time.Second)
		for n := int64(1); n <= 50; n++ {
			require.Equal(t, n, kim.expect("message").num("offset"))
		}
		require.Less(t, time.Since(began), bound)
		broker.stuck.Store(false)
		time.Sleep(5 * nodeBeat)
		require.NoError(t, a.Ready())
	})
}

// A Store that never returns, against its contract, is what a restart is for.
func TestHealthy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := make(chan struct{})
		store := newHookStore()
		hang := &hangingStore{hookStore: store, gate: gate}
		s := serve(t, Options{Store: hang})
		time.Sleep(nodeBeat)
		require.NoError(t, s.Ready())
		require.NoError(t, s.Healthy())
		hang.hangs.Store(true)
		time.Sleep(2 * time.Minute)
		require.ErrorIs(t, s.Healthy(), errNotHealthy)
		close(gate)
		time.Sleep(3 * nodeBeat)
		require.NoError(t, s.Healthy())
		require.NoError(t, s.Shutdown(t.Context()))
		require.ErrorIs(t, s.Ready(), ErrClosed)
		require.ErrorIs(t, s.Healthy(), ErrClosed)
	})
}

// F72, S38: what an older or newer node sends, or somebody else, is counted and logged once; keys that are not known are ignored.
func TestPacketsOfOtherVersions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker := newFaultyBroker()
		var log logBuffer
		opts := Options{Store: NewMemoryStore(), Broker: broker, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		a, b := serve(t, opts), serve(t, opts)
		kim := teaMember(t, b, "kim")
		say(t, a, 1)
		expectOffsets(t, kim, 1, 1)
		publish := func(topic, payload string) {
			require.NoError(t, broker.Publish(t.Context(), topic, []byte(payload)))
		}
		for range 100 {
			publish(roomPrefix+"tea", `{"v":2,"node":"new","frames":[1]}`)
			publish(topicControl, `{"v":0,"ask":{"id":"x","op":"disconnect","user":"kim"}}`)
			publish(nodePrefix+b.node, `{"v":7,"answer":{"id":"x"}}`)
		}
		require.EqualValues(t, 300, b.Stats().BrokerGarbage)
		require.Equal(t, 2, strings.Count(log.String(), "none of ours"), "once by each node")
		kim.expectNone()
		// What a node of the next release of the same version may add.
		page, err := opts.Store.Read(t.Context(), roomPrefix+"tea", Query{})
		require.NoError(t, err)
		entries := []Entry{{Data: []byte(`{"type":"message","room":"tea","content":"2"}`)}}
		_, err = opts.Store.Append(t.Context(), roomPrefix+"tea", Retention{Messages: 10}, entries)
		require.NoError(t, err)
		publish(roomPrefix+"tea", fmt.Sprintf(`{"v":1,"node":"new","color":"red","messages":[{"shape":[1],"epoch":%q,"offset":2,"data":%s}]}`, page.Epoch, entries[0].Data))
		expectOffsets(t, kim, 2, 2)
		publish(topicControl, `{"v":1,"node":"new","ask":{"id":"y","node":"new","op":"paint"}}`)
		time.Sleep(time.Second)
		require.EqualValues(t, 300, b.Stats().BrokerGarbage)
	})
}

// A Broker without a Store would give each node logs of its own.
func TestBrokerNeedsAStore(t *testing.T) {
	_, err := New(Options{Authenticator: AllowAnonymous, Broker: NewMemoryBroker()})
	require.ErrorContains(t, err, "Options.Store")
	_, err = New(Options{Authenticator: AllowAnonymous, NodeName: strings.Repeat("n", 65)})
	require.ErrorContains(t, err, "NodeName")
}

// resettableBroker counts the calls of Reset.
type resettableBroker struct {
	*faultyBroker
	resets atomic.Int32
}

func (b *resettableBroker) Reset() { b.resets.Add(1) }

// stuckBroker publishes nothing until ctx ends, while it is stuck.
type stuckBroker struct {
	*faultyBroker
	stuck atomic.Bool
}

func (b *stuckBroker) Publish(ctx context.Context, topic string, payload []byte) error {
	if b.stuck.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return b.faultyBroker.Publish(ctx, topic, payload)
}

// hangingStore does not return from Enter while it hangs.
type hangingStore struct {
	*hookStore
	hangs atomic.Bool
	gate  chan struct{}
}

func (s *hangingStore) Enter(ctx context.Context, topic, node string, members []Member, lease time.Duration) error {
	if s.hangs.Load() {
		<-s.gate
	}
	return s.hookStore.Enter(ctx, topic, node, members, lease)
}
