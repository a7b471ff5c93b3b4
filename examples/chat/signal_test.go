//go:build unix

package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/examples/internal/wstest"
)

const runMain = "CHAT_TEST_RUNS_MAIN"

// TestMain lets the test program be the chat, to send signals to.
func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// startProcess runs the chat on a free port and returns its URL.
func startProcess(t *testing.T) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), runMain+"=1", "PORT=0", "HOST=127.0.0.1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	_, url, ok := strings.Cut(strings.TrimSpace(line), "open ")
	require.True(t, ok, line)
	return cmd, url
}

// F36: on SIGTERM the clients are told to come back later, and the process ends in order.
func TestTermination(t *testing.T) {
	cmd, url := startProcess(t)
	kim := wstest.Dial(t, url+"realtime", wstest.V1(token("kim")))
	plain := wstest.Dial(t, url+"realtime")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.EqualValues(t, 4000, kim.Next("bye")["code"])
	assert.Equal(t, 4000, kim.Ended())
	assert.Equal(t, 4000, plain.Ended())
	assert.NoError(t, cmd.Wait(), "exit code 0")
}

// F37: a second signal ends the process at once, whatever it waits for.
func TestSecondSignal(t *testing.T) {
	cmd, url := startProcess(t)
	kim := wstest.Dial(t, url+"realtime", wstest.V1(token("kim")))
	// A request that never becomes complete makes an orderly end take seconds.
	slow, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(url, "http://"), "/"))
	require.NoError(t, err)
	defer slow.Close()
	_, err = slow.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n"))
	require.NoError(t, err)

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	kim.Next("bye") // the first signal was noticed
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit, "it ended in order")
	assert.Equal(t, 1, exit.ExitCode())
}
