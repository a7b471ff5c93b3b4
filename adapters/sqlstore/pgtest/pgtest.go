// Package pgtest runs a PostgreSQL server for tests: that which is installed
// (as Debian and others install it, or in PATH), with its data in a temporary
// directory and a Unix socket for its only door. The settings are those of a server
// that means it: fsync is on.
package pgtest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience is how long a server may take to start.
const patience = 3 * time.Minute

var shared struct {
	sync.Mutex
	server *Server
	err    error
}

// Start returns the connection string of a new, empty database, for pgx and
// pq. It is on a server that the first call in a test binary starts, and that
// ends with the binary, however that ends.
//
// Without an installed server the test is skipped, or fails if the environment
// variable PARLEY_REQUIRE, a list with commas, names postgres.
func Start(t testing.TB) (dsn string) {
	t.Helper()
	bin := find(t)
	shared.Lock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = launch(bin)
	}
	server, err := shared.server, shared.err
	shared.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	return server.Database(t)
}

// Server is a server of a test's own, to be killed.
type Server struct {
	bin, dir string
	commands io.WriteCloser // to the shell that looks after the server
	done     chan struct{}  // closed when that has ended
	count    atomic.Int64   // of databases
}

// New starts a server that ends with the test. See Start for when there is none.
func New(t testing.TB) *Server {
	t.Helper()
	s, err := launch(find(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.commands.Close()
		<-s.done
	})
	return s
}

// Database creates an empty database and returns its connection string.
func (s *Server) Database(t testing.TB) (dsn string) {
	t.Helper()
	name := fmt.Sprint("test", s.count.Add(1))
	out, err := command(s.bin, s.dir, "psql", "-h", s.dir, "-U", "postgres", "-d", "postgres", "-qc", "CREATE DATABASE "+name).CombinedOutput()
	if err != nil {
		t.Fatalf("pgtest: CREATE DATABASE: %v\n%s", err, out)
	}
	return fmt.Sprintf("host=%s user=postgres dbname=%s sslmode=disable", s.dir, name)
}

// Kill ends all processes of the server at once, as kill -9 does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.command(t, "kill")
	s.wait(t, false)
}

// Restart starts the server again after Kill, and waits until it has recovered.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.command(t, "start")
	s.wait(t, true)
}

func (s *Server) command(t testing.TB, word string) {
	t.Helper()
	if _, err := fmt.Fprintln(s.commands, word); err != nil {
		t.Fatalf("pgtest: %s: %v", word, err)
	}
}

func (s *Server) wait(t testing.TB, up bool) {
	t.Helper()
	if err := s.await(up); err != nil {
		t.Fatal(err)
	}
}

// await waits until the server accepts connections, or does not.
func (s *Server) await(up bool) error {
	for start := time.Now(); time.Since(start) < patience; time.Sleep(20 * time.Millisecond) {
		if (command(s.bin, s.dir, "pg_isready", "-q", "-h", s.dir, "-U", "postgres").Run() == nil) == up {
			return nil
		}
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return fmt.Errorf("pgtest: the server did not get ready (up: %v) within %v; its log:\n%s", up, patience, log)
}

// look is the shell script that looks after a server: it obeys commands until
// they end, as they do when the test binary ends for whatever reason. Then it
// stops the server and removes its directory.
const look = `
# await waits until a process is gone, or in one of these states.
await() {
  while s=$(cat "/proc/$1/stat" 2>/dev/null); do
    s=${s##*) }
    case $2 in *${s%% *}*) return ;; esac
    sleep 0.01
  done
}
while read -r word; do
  case $word in
  start) "$0/postgres" -D "$1/data" -k "$1" -c listen_addresses= -c max_connections=200 >>"$1/log" 2>&1 </dev/null & pid=$! ;;
  kill)
    kill -STOP $pid; await $pid TZX # so that it starts no more of them
    all=$(cat /proc/$pid/task/$pid/children 2>/dev/null)
    kill -9 $pid $all; wait $pid
    for p in $all; do await $p ZX; done ;; # no server starts while one has the shared memory
  esac
done
kill -QUIT $pid; wait $pid
rm -rf "$1"
`

// launch makes a server and starts it.
func launch(bin string) (*Server, error) {
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	if err := give(dir); err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	out, err := command(bin, dir, "initdb", "-D", filepath.Join(dir, "data"), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync").CombinedOutput()
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("pgtest: initdb: %w\n%s", err, out)
	}
	shell := command(bin, dir, "/bin/sh", "-c", look, bin, dir)
	s := &Server{bin: bin, dir: dir, done: make(chan struct{})}
	if s.commands, err = shell.StdinPipe(); err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	if err := shell.Start(); err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	go func() {
		_ = shell.Wait()
		close(s.done)
	}()
	if _, err := fmt.Fprintln(s.commands, "start"); err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	return s, s.await(true)
}

// command prepares a program of the server, as the user postgres if this is
// root, for whom the server refuses to work.
func command(bin, dir, name string, args ...string) *exec.Cmd {
	if !filepath.IsAbs(name) {
		name = filepath.Join(bin, name)
	}
	c := exec.Command(name, args...)
	c.Dir, c.Env = dir, append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") }), "LC_ALL=C")
	if uid, gid, ok := postgres(); ok {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	}
	return c
}

// postgres returns the ids of the user postgres, if this is root.
func postgres() (uid, gid uint32, ok bool) {
	if os.Getuid() != 0 {
		return 0, 0, false
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, false
	}
	id, err1 := strconv.ParseUint(u.Uid, 10, 32)
	group, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return uint32(id), uint32(group), err1 == nil && err2 == nil
}

// give makes the directory that of the user who runs the server.
func give(dir string) error {
	uid, gid, ok := postgres()
	if !ok {
		return nil
	}
	return os.Chown(dir, int(uid), int(gid))
}

// Installed reports whether there is a server to start.
func Installed() bool { return installed() != "" }

// installed returns the directory of the newest server installed, or "".
func installed() string {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is right
	slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, string(bytes.TrimSpace(out)))
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
			return dir
		}
	}
	return ""
}

// find returns the directory of the newest server installed, or ends the test.
func find(t testing.TB) string {
	t.Helper()
	if dir := installed(); dir != "" {
		return dir
	}
	const missing = "NO POSTGRESQL SERVER: neither in /usr/lib/postgresql/*/bin nor in PATH; install the package postgresql to run this test"
	if slices.Contains(strings.Split(os.Getenv("PARLEY_REQUIRE"), ","), "postgres") {
		t.Fatalf("%s (PARLEY_REQUIRE=%s needs it)", missing, os.Getenv("PARLEY_REQUIRE"))
	}
	t.Skip(missing)
	return ""
}

// version is the number in /usr/lib/postgresql/15/bin.
func version(dir string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))) // 0 if it is none
	return n
}
