package integration

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// need finds a program, or skips the test if PARLEY_REQUIRE does not forbid it.
func need(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if slices.Contains(strings.Split(os.Getenv("PARLEY_REQUIRE"), ","), name) {
		t.Fatalf("%s is not installed, and PARLEY_REQUIRE=%s needs it", name, os.Getenv("PARLEY_REQUIRE"))
	}
	t.Skipf("SKIPPED: %s is not installed; this test did not run", name)
	return ""
}

// built are the programs that tests have built, each a function that returns its path or fails.
var built struct {
	sync.Map
	dir string // where they are until all tests have ended
}

// buildExample returns a program of the examples module. It is built once.
func buildExample(t *testing.T, name string) string {
	t.Helper()
	once, _ := built.LoadOrStore(name, sync.OnceValues(func() (string, error) {
		binary := filepath.Join(built.dir, name)
		build := exec.Command("go", "build", "-o", binary, "./"+name)
		build.Dir = filepath.Join("..", "examples")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build of %s: %w\n%s", name, err, out)
		}
		return binary, nil
	}))
	binary, err := once.(func() (string, error))()
	require.NoError(t, err)
	return binary
}

// program is a running example.
type program struct {
	url  string
	port string
	cmd  *exec.Cmd
}

var urlPattern = regexp.MustCompile(`http://[^\s"]+`)

// start runs a program on a port ("0": a free one) and waits until it says its
// URL. environment is added to that of the test.
func start(t *testing.T, binary, port string, environment ...string) *program {
	t.Helper()
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), "PORT="+port, "HOST=127.0.0.1")
	cmd.Env = append(cmd.Env, environment...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	p := &program{cmd: cmd}
	t.Cleanup(p.kill)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if p.url = urlPattern.FindString(lines.Text()); p.url != "" {
			break
		}
	}
	require.NotEmpty(t, p.url, "the program did not say its URL")
	go func() {
		for lines.Scan() { // so that it never blocks on its output; ends with the program
		}
	}()
	u, err := url.Parse(p.url)
	require.NoError(t, err)
	p.port = u.Port()
	return p
}

// stop ends the program as a deploy does, and waits for its end.
func (p *program) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait(), "exit after SIGTERM")
}

func (p *program) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

func quote(s string) string { return fmt.Sprintf("%q", s) }
