package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// MasterName is what the Sentinels call the servers they watch.
const MasterName = "parley"

// Sentinel is a primary with replicas, watched by three Sentinels, which find the primary dead after two seconds and
// then make a replica the primary.
type Sentinel struct {
	// Addrs are the addresses of the Sentinels.
	Addrs []string
	// Servers are the servers; the first one is the primary in the beginning.
	Servers []*Server

	t testing.TB
}

// StartSentinel starts a primary with replicas, of which there are one or more, and three Sentinels. It returns when the replicas have caught up and
// the Sentinels know of them and of each other. All end with the test. args are settings for the servers, as for [Start].
func StartSentinel(t testing.TB, replicas int, args ...string) *Sentinel {
	t.Helper()
	s := &Sentinel{t: t}
	primary := Start(t, args...)
	s.Servers = append(s.Servers, primary)
	for range replicas {
		more := []string{"--replicaof", "127.0.0.1", fmt.Sprint(primary.port)}
		s.Servers = append(s.Servers, Start(t, append(more, args...)...))
	}
	until(t, "the replicas to catch up", func() bool {
		for _, r := range s.Servers[1:] {
			if !strings.Contains(fmt.Sprint(r.command("info", "replication")), "master_link_status:up") {
				return false
			}
		}
		return true
	})
	for range 3 {
		s.Addrs = append(s.Addrs, startSentinel(t, primary.port))
	}
	for _, addr := range s.Addrs {
		until(t, "the Sentinels to find each other and the replicas", func() bool { return knows(addr, replicas) })
	}
	return s
}

// startSentinel starts one Sentinel and returns its address.
func startSentinel(t testing.TB, primary int) string {
	t.Helper()
	dir := t.TempDir()
	for range 20 {
		port := freePort()
		settings := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %q\n"+
			"sentinel monitor %[3]s 127.0.0.1 %[4]d 2\nsentinel down-after-milliseconds %[3]s 2000\n"+
			"sentinel failover-timeout %[3]s 3000\n", port, dir, MasterName, primary)
		if err := os.WriteFile(filepath.Join(dir, "sentinel"), []byte(settings), 0o600); err != nil {
			t.Fatalf("redistest: %v", err)
		}
		p, err := run(dir, "sentinel", port, "--sentinel")
		if errors.Is(err, errPortTaken) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.kill)
		return address(port)
	}
	t.Fatal("redistest: found no free port")
	return ""
}

// knows reports whether a Sentinel knows the two others and all replicas.
func knows(addr string, replicas int) bool {
	c := redis.NewSentinelClient(&redis.Options{Addr: addr})
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := c.Master(ctx, MasterName).Result()
	return err == nil && m["num-other-sentinels"] == "2" && m["num-slaves"] == fmt.Sprint(replicas) && m["flags"] == "master"
}

// Client returns a new client that follows the primary. It is closed when the test ends.
func (s *Sentinel) Client() *redis.Client {
	c := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: MasterName, SentinelAddrs: s.Addrs})
	s.t.Cleanup(func() { _ = c.Close() }) // the test may have closed it
	return c
}

// Primary returns the server that most of the Sentinels take for the primary.
func (s *Sentinel) Primary() *Server {
	votes := map[string]int{}
	for _, addr := range s.Addrs {
		c := redis.NewSentinelClient(&redis.Options{Addr: addr})
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		at, err := c.GetMasterAddrByName(ctx, MasterName).Result()
		cancel()
		_ = c.Close()
		if err == nil {
			votes[strings.Join(at, ":")]++
		}
	}
	for _, server := range s.Servers {
		if votes[server.Addr] >= 2 {
			return server
		}
	}
	return nil
}

// AwaitFailover waits until another server than old is the primary and says so itself, and returns it.
func (s *Sentinel) AwaitFailover(old *Server) *Server {
	s.t.Helper()
	var now *Server
	until(s.t, "a new primary", func() bool {
		now = s.Primary()
		return now != nil && now != old && strings.Contains(fmt.Sprint(now.command("info", "replication")), "role:master")
	})
	return now
}

// until waits for ok.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("redistest: waited %v for %s", patience, what)
		}
	}
}
