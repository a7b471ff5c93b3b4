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

// Server is a Redis server of a test's own.
type Server struct {
	// Addr is its host and port. It stays the same over Restart.
	Addr string

	t       testing.TB
	dir     string
	port    int
	process *process // nil while it is killed
}

// Start starts a server that ends with the test. args are settings in the form of the command line, such as
// "--appendonly", "yes"; they replace those that are set here.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	need(t)
	s := &Server{t: t, dir: t.TempDir()}
	for range 20 {
		s.port = freePort()
		s.Addr = address(s.port)
		settings := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %q\nsave \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n%s", s.port, s.dir, lines(args))
		if err := os.WriteFile(filepath.Join(s.dir, "redis"), []byte(settings), 0o600); err != nil {
			t.Fatalf("redistest: %v", err)
		}
		err := s.start()
		if errors.Is(err, errPortTaken) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.end)
		return s
	}
	t.Fatal("redistest: found no free port")
	return nil
}

// lines turns arguments of the command line into lines of a configuration file, which
// the server can change by itself, as it does when a Sentinel makes it a replica.
func lines(args []string) string {
	var b strings.Builder
	for _, arg := range args {
		if name, ok := strings.CutPrefix(arg, "--"); ok {
			b.WriteString("\n" + name)
		} else {
			fmt.Fprintf(&b, " %q", arg)
		}
	}
	return b.String() + "\n"
}

func (s *Server) start() (err error) {
	s.process, err = run(s.dir, "redis", s.port)
	return err
}

func (s *Server) end() {
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// Client returns a new client, with the options that are its defaults. It is closed when the test ends.
func (s *Server) Client() *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.Addr})
	s.t.Cleanup(func() { _ = c.Close() }) // the test may have closed it
	return c
}

// Kill ends the server as kill -9 does. What was not saved is lost.
func (s *Server) Kill() { s.end() }

// Restart starts the server again at the same address, after it was killed if it still runs. It returns
// when the server answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.end()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := s.start()
		if err == nil {
			return
		}
		if !errors.Is(err, errPortTaken) || time.Since(start) > patience {
			s.t.Fatal(err)
		}
	}
}

// Stop makes the server stand still, by SIGSTOP: connections stay open, and nothing is answered.
func (s *Server) Stop() {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatal("redistest: Stop of a server that was killed")
	}
	if err := s.process.pause(); err != nil {
		s.t.Fatalf("redistest: Stop: %v", err)
	}
}

// Cont ends Stop.
func (s *Server) Cont() {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatal("redistest: Cont of a server that was killed")
	}
	if err := s.process.resume(); err != nil {
		s.t.Fatalf("redistest: Cont: %v", err)
	}
}

// Wipe removes all data, by FLUSHALL.
func (s *Server) Wipe() {
	s.t.Helper()
	s.command("flushall")
}

// command runs a command on a connection of its own and returns the answer.
func (s *Server) command(args ...any) any {
	s.t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr, PoolSize: 1})
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := c.Do(ctx, args...).Result()
	if err != nil {
		s.t.Fatalf("redistest: %v at %s: %v", args, s.Addr, err)
	}
	return answer
}
