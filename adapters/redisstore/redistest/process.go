package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long servers get for what they do in a fraction of it.
const patience = 3 * time.Minute

// look is the shell script that looks after a server: when its own input
// ends, as it does when the test binary ends for whatever reason, it kills the server. Until
// then it does not collect the server's exit, so the process id stays its own.
const look = `
log=$1; shift
"$@" >"$log" 2>&1 </dev/null & pid=$!
echo $pid
read -r end
kill -9 $pid 2>/dev/null
wait $pid
`

// process is a running redis-server or sentinel.
type process struct {
	pid  int
	end  io.Closer     // the input of the shell
	done chan struct{} // closed when the shell has ended
}

// errPortTaken says that somebody else has the port.
var errPortTaken = errors.New("redistest: the port is taken")

// run starts the server with its configuration file, and waits until it answers on port.
func run(dir, conf string, port int, more ...string) (*process, error) {
	log := filepath.Join(dir, conf+".log")
	args := append([]string{"-c", look, "sh", log, program(), filepath.Join(dir, conf)}, more...)
	shell := exec.Command("/bin/sh", args...)
	shell.Dir = dir
	in, err := shell.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	if err := shell.Start(); err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	line, readErr := bufio.NewReader(out).ReadString('\n')
	p := &process{end: in, done: make(chan struct{})}
	go func() {
		_ = shell.Wait() // it tells how the server ended: by a signal
		close(p.done)
	}()
	if p.pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		p.kill()
		return nil, fmt.Errorf("redistest: the shell did not start: %w", errors.Join(readErr, err))
	}
	if err := p.ready(log, port); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// ready waits until the server answers, and it is this one.
func (p *process) ready(log string, port int) error {
	mine := fmt.Sprintf("process_id:%d\r\n", p.pid)
	for start := time.Now(); time.Since(start) < patience; time.Sleep(5 * time.Millisecond) {
		if strings.Contains(info(port), mine) {
			return nil
		}
		text, _ := os.ReadFile(log)
		if strings.Contains(string(text), "Address already in use") {
			return errPortTaken
		}
		if strings.Contains(string(text), "*** FATAL") {
			break
		}
	}
	text, _ := os.ReadFile(log)
	return fmt.Errorf("redistest: the server did not get ready; its log:\n%s", text)
}

// info returns the answer of whatever server there is to INFO, or "" while it loads its data.
func info(port int) string {
	conn, err := net.DialTimeout("tcp", address(port), time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second)) // what fails, the read tells
	_, _ = conn.Write([]byte("PING\r\nINFO server\r\nQUIT\r\n"))
	answer, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "+PONG") {
		return ""
	}
	return string(answer)
}

// kill ends the process as kill -9 does, and waits for it.
func (p *process) kill() {
	_ = p.end.Close()
	<-p.done
}

// pause stops the process by SIGSTOP, and waits until it stands still.
func (p *process) pause() error {
	if err := syscall.Kill(p.pid, syscall.SIGSTOP); err != nil {
		return err
	}
	for start := time.Now(); time.Since(start) < patience; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		if err != nil { // not Linux: a signal takes no time worth waiting for
			return nil
		}
		if _, state, ok := strings.Cut(string(stat), ") "); ok && state[0] == 'T' {
			return nil
		}
	}
	return errors.New("the process does not stop")
}

// resume ends pause.
func (p *process) resume() error { return syscall.Kill(p.pid, syscall.SIGCONT) }

// given are the ports of this process so far. A server that was killed may want its own again.
var given sync.Map

// freePort finds a port that is free, and whose port for the bus of a Cluster is, too. Both are
// below those that the system gives to outgoing connections: one of these could take the port of
// a killed server, or connect to itself there.
func freePort() int {
	for {
		port := 10_000 + rand.IntN(busDistance)
		if _, taken := given.LoadOrStore(port, true); !taken && free(port) && free(port+busDistance) {
			return port
		}
	}
}

// busDistance is how far the port of the bus of a Cluster is from that for clients.
const busDistance = 10_000

func free(port int) bool {
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// program is the path of the server, or "".
func program() string {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// Installed reports whether there is a server to start.
func Installed() bool { return program() != "" }

// need ends the test if there is no server.
func need(t testing.TB) {
	t.Helper()
	if Installed() {
		return
	}
	const missing = "NO REDIS SERVER: neither redis-server nor valkey-server is in PATH; install the package redis-server to run this test"
	if slices.Contains(strings.Split(os.Getenv("PARLEY_REQUIRE"), ","), "redis") {
		t.Fatalf("%s (PARLEY_REQUIRE=%s needs it)", missing, os.Getenv("PARLEY_REQUIRE"))
	}
	t.Skip(missing)
}
