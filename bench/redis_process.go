package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

var errNoRedis = errors.New("redis-server is not on the PATH: install it (Debian: apt-get install redis-server), or measure without -redis")

// redisServer is a redis-server of our own that keeps nothing on disk.
type redisServer struct {
	address string
	cmd     *exec.Cmd
}

// startRedis starts one on a free loopback port and returns when it answers.
func startRedis() (*redisServer, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNoRedis
	}
	for attempt := 1; ; attempt++ {
		r, err := tryRedis(path)
		if err == nil || attempt == 5 { // somebody else may have taken the port in between
			return r, err
		}
	}
}

func tryRedis(path string) (*redisServer, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	l.Close()
	var output strings.Builder
	cmd := exec.Command(path, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", os.TempDir())
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := &redisServer{address, cmd}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		// The number of the process, because another Redis might answer at this port.
		info, err := redisCommand(address, "INFO server")
		if err == nil && strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", cmd.Process.Pid)) {
			return r, nil
		}
		if time.Now().After(deadline) || err == nil {
			r.stop()
			return nil, fmt.Errorf("redis-server did not start: %w\n%s", err, output.String())
		}
	}
}

func (r *redisServer) stop() {
	r.cmd.Process.Kill() // it has nothing to save
	r.cmd.Wait()
}

// redisProcess is the main function of a process that has a redis-server
// until stdin ends, so that a parent that dies takes it with it.
func redisProcess(stdin io.Reader, stdout io.Writer) error {
	r, err := startRedis()
	if err != nil {
		return err
	}
	defer r.stop()
	if err := json.NewEncoder(stdout).Encode(addresses{Server: r.address}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	return err
}

// redisCommand sends a command without spaces in its arguments, and returns the answer, a status or a string.
func redisCommand(address, command string) (string, error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
		return "", err
	}
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	switch {
	case strings.HasPrefix(line, "+"):
		return line[1:], nil
	case strings.HasPrefix(line, "$"):
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return "", fmt.Errorf("redis answers %q to %s", line, command)
		}
		b := make([]byte, n)
		_, err = io.ReadFull(in, b)
		return string(b), err
	}
	return "", fmt.Errorf("redis answers %q to %s", line, command)
}

// redisCPU is what a Redis has used, user and system.
func redisCPU(address string) (time.Duration, error) {
	info, err := redisCommand(address, "INFO cpu")
	if err != nil {
		return 0, err
	}
	var used time.Duration
	found := 0
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name != "used_cpu_sys" && name != "used_cpu_user" {
			continue
		}
		d, err := time.ParseDuration(value + "s")
		if err != nil {
			return 0, fmt.Errorf("redis tells %s as %q", name, value)
		}
		used += d
		found++
	}
	if found != 2 {
		return 0, fmt.Errorf("redis does not tell its CPU time: %q", info)
	}
	return used, nil
}
