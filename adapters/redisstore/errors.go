package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrClosed is wrapped by every error of a Store after Close.
var ErrClosed = errors.New("redisstore: the Store is closed")

// background is for commands, which keep the context they are made with; the one of the pipeline counts.
var background = context.Background()

var errTimeout = errors.New("redisstore: Redis has not answered within Options.Timeout: is it running, reachable and not overloaded?")

func ended(err error) error { return fmt.Errorf("redisstore: no answer of Redis yet: %w", err) }

// explain says what to do about an error of Redis or of the client.
func explain(err error) error {
	advice := ""
	switch text := err.Error(); {
	case errors.Is(err, redis.ErrClosed):
		advice = "the client was closed; close the hub and the Store first"
	case redis.IsOOMError(err) || strings.Contains(text, "OOM command not allowed"):
		advice = "Redis is out of memory and stores nothing; raise maxmemory or keep less (Retention)"
	case redis.IsReadOnlyError(err) || strings.Contains(text, "READONLY"):
		advice = "this server is a replica; connect to the primary, by Sentinel (redis.NewFailoverClient) or Cluster if it may change"
	case strings.HasPrefix(text, "MISCONF"):
		advice = "Redis cannot save to disk and refuses to write; look at its log and its disk"
	case strings.HasPrefix(text, "NOREPLICAS"):
		advice = "Redis has too few replicas to write (min-replicas-to-write)"
	case redis.IsAuthError(err):
		advice = "check the user name and password of the client"
	case redis.IsPermissionError(err):
		advice = "the user of the client needs the rights that the package documentation lists"
	case redis.IsLoadingError(err):
		advice = "Redis is still loading its data; it will answer soon"
	case redis.IsClusterDownError(err), redis.IsMasterDownError(err):
		advice = "a part of the Cluster has no working primary"
	case redis.IsMaxClientsError(err):
		advice = "raise maxclients, or lower PoolSize of the clients"
	case strings.Contains(text, "WRONGTYPE"):
		advice = "another application uses keys of this Store; give it an Options.Prefix of its own"
	case strings.Contains(text, "unknown command"):
		advice = "the server must be Redis 6.2 or later, or Valkey, and no command renamed"
	default:
		var lost net.Error
		if errors.As(err, &lost) && lost.Timeout() {
			advice = "Redis is slow, stopped or out of reach"
		}
	}
	if advice == "" {
		return fmt.Errorf("redisstore: %w", err)
	}
	return fmt.Errorf("redisstore: %s: %w", advice, err)
}

// warnOfEviction tells once if Redis may remove keys of its own accord. It is no failure if that cannot be found out.
func (s *Store) warnOfEviction() {
	ctx, cancel := context.WithTimeout(background, time.Second)
	defer cancel()
	info, err := s.client.Info(ctx, "memory").Result()
	if err != nil {
		return
	}
	for line := range strings.Lines(info) {
		policy, ok := strings.CutPrefix(strings.TrimSpace(line), "maxmemory_policy:")
		if ok && policy != "noeviction" && !strings.Contains(info, "maxmemory:0\r\n") {
			s.opts.Logger.Warn("redisstore: Redis removes logs and presence of its own accord when memory runs out; set maxmemory-policy to noeviction", "policy", policy)
		}
	}
}
