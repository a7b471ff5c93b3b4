package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/natsstore"
	"github.com/parley-go/parley/adapters/natsstore/natstest"
	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

// book keeps a whole log. It may be used concurrently.
type book struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *book) count(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.all.String(), what)
}

// strange are payloads that no node of this version sends. Each is ignored as a whole.
var strange = map[string]string{
	"nothing":                  ``,
	"text":                     `garbage`,
	"binary":                   "\x00\xff\xfe\x01",
	"another application":      `{"type":"order","id":7}`,
	"no object":                `[1,2,3]`,
	"null":                     `null`,
	"torn":                     `{"v":1,"node":"n","messages":[{"epoch":"E","off`,
	"an older version (F72)":   `{"v":0,"node":"n","messages":[{"data":{"type":"message","content":"strange"}}]}`,
	"a newer version (F72)":    `{"v":2,"node":"n","messages":[{"data":{"type":"message","content":"strange"}}]}`,
	"types of a newer version": `{"v":1,"node":{"id":"n"},"messages":{"data":{"type":"message","content":"strange"}}}`,
	"no data":                  `{"v":1,"node":"n","messages":[{"epoch":"E","offset":1}]}`,
	"no object as data":        `{"v":1,"node":"n","messages":[{"data":"strange"}]}`,
	"half a position":          `{"v":1,"node":"n","messages":[{"offset":1,"data":{"type":"message","content":"strange"}}]}`,
	"a bad position":           `{"v":1,"node":"n","messages":[{"epoch":"E","offset":-1,"data":{"type":"message","content":"strange"}}]}`,
	"bad positions before it":  "1 2 x E\n" + `{"v":1,"node":"n","messages":[{"data":{"type":"message","content":"strange"}}]}`,
	"too few positions":        "1 2 3,4 E\n" + `{"v":1,"node":"n","messages":[{"data":{"type":"message","content":"strange"}}]}`,
	"very much":                `{"v":1,"junk":"` + strings.Repeat("x", 2<<20),
}

// F72, S38: strange payloads in the channels of the nodes are counted, logged once, and do nothing. Packets of versions to come are read
// as far as they are known; what they tell and is stored comes from the Store.
func TestStrangePayloads(t *testing.T) {
	t.Parallel()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		client := redisAt(t, server.Addr)
		a, b := overRedis(t, client), overRedis(t, redisAt(t, server.Addr))
		garbageIn(t, a, b, a, b, func(payload string) {
			require.EqualValues(t, 2, client.Publish(t.Context(), "parley:{t/"+topicLobby+"}:live", payload).Val(), "both nodes listen")
		})
	})
	t.Run("nats", func(t *testing.T) {
		t.Parallel()
		server := natstest.Start(t)
		store := inSQLite(t)
		a, b := overNATS(t, server.URL, natsstore.Options{}), overNATS(t, server.URL, natsstore.Options{})
		conn := server.Conn(t)
		garbageIn(t, store, store, a, b, func(payload string) {
			// What is not in an envelope of the adapter does not even come to the hub.
			if len(payload) < 1<<20 {
				require.NoError(t, conn.Publish("parley."+topicLobby, []byte(payload)))
			}
			require.NoError(t, b.Publish(t.Context(), topicLobby, []byte(payload)))
		})
		require.NoError(t, conn.Flush())
		await(t, func() bool { return a.Stats().Garbage >= int64(len(strange)-1) }, "the adapter to have counted them")
	})
}

func garbageIn(t *testing.T, storeA, storeB parley.Store, brokerA, brokerB parley.Broker, publish func(string)) {
	var log book
	written := func(o *parley.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) }
	a, b := startNode(t, "a", storeA, brokerA, written), startNode(t, "b", storeB, brokerB, written)
	lee, kim := watch(a, "lee"), watch(b, "kim")
	at := a.say("first")
	lee.knows(at)
	kim.knows(at)
	for _, payload := range strange {
		publish(payload)
	}
	// A message that pretends to be in the log is not shown, nor does it silence the topic.
	publish(fmt.Sprintf(`{"v":1,"node":"n","messages":[{"epoch":%q,"offset":1000,"data":{"type":"message","content":"strange"}}]}`, at.epoch))
	counted := uint64(len(strange) + 1)
	for _, n := range []*node{a, b} {
		await(t, func() bool { return n.hub.Stats().BrokerGarbage >= counted }, "%s to count what is strange", n.name)
		require.Equal(t, counted, n.hub.Stats().BrokerGarbage)
	}
	require.Equal(t, 2, log.count("none of ours"), "each node logs it once")

	// Stored by a node of another version, which tells of it in a packet with keys that are new.
	at = appendLine(t, storeB, "from a newer node")
	publish(fmt.Sprintf(`{"v":1,"node":"n","colour":"blue","since":[1],"messages":[{"epoch":%q,"offset":%d,"flags":{"x":1},"data":%s}]}`,
		at.epoch, at.offset, lineData("from a newer node")))
	lee.knows(at)
	kim.knows(at)
	// And one that cannot be read: the Store has it.
	at = appendLine(t, storeB, "in a packet of version 2")
	publish(fmt.Sprintf(`{"v":2,"node":"n","messages":[{"epoch":%q,"offset":%d,"data":%s}]}`, at.epoch, at.offset, lineData("nonsense")))
	lee.knows(at)
	kim.knows(at)
	b.say("last")
	_, all := logOf(t, storeA)
	require.Len(t, all, 4)
	for _, w := range []*watcher{lee, kim} {
		w.sawAll(all)
		w.stays()
	}
	a.ready()
}

func lineData(text string) []byte {
	data, _ := json.Marshal(map[string]any{"type": "message", "room": lobby, "userId": "n", "username": "n", "content": text, "timestamp": 1}) // it is plain
	return data
}

// appendLine stores a message in the lobby as another node does.
func appendLine(t *testing.T, store parley.Store, text string) place {
	t.Helper()
	entries := []parley.Entry{{Data: lineData(text), Time: 1}}
	log, err := store.Append(t.Context(), topicLobby, parley.Retention{Messages: 20_000}, entries)
	require.NoError(t, err)
	return place{log.Epoch, entries[0].Offset}
}

// S38: another application has keys with names of ours. Calls for this topic fail, and say why; everything else goes on.
func TestKeysOfAnotherApplication(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redisAt(t, server.Addr)
	store := overRedis(t, client)
	n := startNode(t, "a", store, store)
	ctx := t.Context()
	require.NoError(t, client.Set(ctx, "chat:room:lobby:users", "theirs", 0).Err())
	for _, part := range []string{"log", "messages", "info"} {
		key := "parley:{t/room/taken}:" + part
		require.NoError(t, client.Set(ctx, key, "theirs", 0).Err())
		_, err := n.hub.Room("taken").Send(ctx, "hello")
		require.ErrorIs(t, err, parley.ErrStore, part)
		require.ErrorContains(t, err, "another application", part)
		n.say("to the lobby")
		require.Equal(t, "theirs", client.Get(ctx, key).Val(), "it is not ours to change")
		require.NoError(t, client.Del(ctx, key).Err())
	}
	result, err := n.hub.Room("taken").Send(ctx, "hello")
	require.NoError(t, err)
	require.EqualValues(t, 1, result.Offset, "what failed was not stored")
	require.Equal(t, "theirs", client.Get(ctx, "chat:room:lobby:users").Val())
	n.ready()
}
