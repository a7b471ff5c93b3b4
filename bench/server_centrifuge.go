package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/centrifugal/centrifuge"
)

// centrifugeNode is a node of centrifuge with its Redis broker and presence
// manager, as its defaults and its example of a chat make it. What is kept of a
// channel, and what clients are told and promised, is what parley's rooms have
// by default: 100 messages for 24 hours, members with a lease, who comes and
// goes, who sent a message, and recovery by position.
type centrifugeNode struct {
	node   *centrifuge.Node
	broker *centrifuge.RedisBroker
	shard  *centrifuge.RedisShard
	http.Handler
}

const (
	centrifugeHistory = 100
	centrifugeTTL     = 24 * time.Hour
)

func newCentrifugeNode(redis string) (benchServer, error) {
	node, err := centrifuge.New(centrifuge.Config{
		LogLevel: centrifuge.LogLevelError,
		LogHandler: func(e centrifuge.LogEntry) {
			fmt.Fprintln(os.Stderr, "centrifuge:", e.Message, e.Fields)
		},
	})
	if err != nil {
		return nil, err
	}
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: redis})
	if err != nil {
		return nil, err
	}
	shards := []*centrifuge.RedisShard{shard}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: shards})
	if err != nil {
		return nil, err
	}
	node.SetBroker(broker)
	presence, err := centrifuge.NewRedisPresenceManager(node, centrifuge.RedisPresenceManagerConfig{Shards: shards})
	if err != nil {
		return nil, err
	}
	node.SetPresenceManager(presence)
	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		short := e.ClientID[:8]
		info := fmt.Appendf(nil, `{"name":"guest-%s"}`, short[:6])
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: short, Info: info}}, nil
	})
	node.OnConnect(serveCentrifugeClient)
	if err := node.Run(); err != nil {
		return nil, err
	}
	handler := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{ReadBufferSize: 1024, UseWriteBufferPool: true})
	return &centrifugeNode{node, broker, shard, handler}, nil
}

func serveCentrifugeClient(c *centrifuge.Client) {
	c.OnSubscribe(func(_ centrifuge.SubscribeEvent, reply centrifuge.SubscribeCallback) {
		reply(centrifuge.SubscribeReply{Options: centrifuge.SubscribeOptions{
			EnableRecovery: true, EmitPresence: true, EmitJoinLeave: true, PushJoinLeave: true,
		}}, nil)
	})
	c.OnPublish(func(e centrifuge.PublishEvent, reply centrifuge.PublishCallback) {
		if !c.IsSubscribed(e.Channel) {
			reply(centrifuge.PublishReply{}, centrifuge.ErrorPermissionDenied)
			return
		}
		reply(centrifuge.PublishReply{Options: centrifuge.PublishOptions{
			HistorySize: centrifugeHistory, HistoryTTL: centrifugeTTL, ClientInfo: e.ClientInfo,
		}}, nil)
	})
}

func (s *centrifugeNode) Send(_ context.Context, room string, content []byte) error {
	_, err := s.node.Publish(room, content, centrifuge.WithHistory(centrifugeHistory, centrifugeTTL))
	return err
}

func (s *centrifugeNode) Connections() int { return s.node.Hub().NumClients() }

func (s *centrifugeNode) Shutdown(ctx context.Context) error {
	err := errors.Join(s.node.Shutdown(ctx), s.broker.Close(ctx))
	s.shard.Close()
	return err
}
