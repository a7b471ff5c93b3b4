package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/redisstore"
	"github.com/redis/go-redis/v9"
)

// parleyNode is a hub as its defaults make it with a redisstore as Store and
// Broker, but for the rate of clients, which is not limited.
type parleyNode struct {
	hub    *parley.Hub
	store  *redisstore.Store
	client *redis.Client
}

func newParleyNode(address string) (benchServer, error) {
	client := redis.NewClient(&redis.Options{Addr: address})
	store, err := redisstore.New(client, redisstore.Options{})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	hub, err := parley.New(parley.Options{
		Authenticator: parley.AllowAnonymous,
		Store:         store,
		Broker:        store,
		RateLimit:     -1,
	})
	if err != nil {
		return nil, errors.Join(err, store.Close(), client.Close())
	}
	return &parleyNode{hub, store, client}, nil
}

func (s *parleyNode) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.hub.ServeHTTP(w, r) }

func (s *parleyNode) Send(ctx context.Context, room string, content []byte) error {
	_, err := s.hub.Room(room).Send(ctx, json.RawMessage(content))
	return err
}

func (s *parleyNode) Connections() int { return s.hub.Stats().Connections }

func (s *parleyNode) Shutdown(ctx context.Context) error {
	err := s.hub.Shutdown(ctx)
	if s.store == nil {
		return err // in tests
	}
	return errors.Join(err, s.store.Close(), s.client.Close())
}
