package main

import (
	"context"
	"net/http"

	"github.com/parley-go/parley"
)

// parleyServer is a hub as its defaults make it, but for the two options
// without which a load could not run against it: broadcasts are allowed to
// clients, and their rate is not limited.
type parleyServer struct{ hub *parley.Hub }

func newParleyServer(string) (benchServer, error) {
	hub, err := parley.New(parley.Options{
		Authenticator:   parley.AllowAnonymous,
		ClientBroadcast: true,
		RateLimit:       -1,
	})
	if err != nil {
		return nil, err
	}
	return &parleyServer{hub}, nil
}

func (s *parleyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.hub.ServeHTTP(w, r) }

func (s *parleyServer) Connections() int { return s.hub.Stats().Connections }

func (s *parleyServer) Shutdown(ctx context.Context) error { return s.hub.Shutdown(ctx) }
