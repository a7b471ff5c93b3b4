package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// keeper is the process that cleans up, also when the parent was killed and cannot: it owns the directory, and the
// Redis server, which is not ours and would know nothing of the end of the parent.
type keeper struct {
	Dir     string
	Program string // the Redis server; "" if there is none
}

func (k keeper) socket() string { return filepath.Join(k.Dir, "redis.sock") }
func (k keeper) log() string    { return filepath.Join(k.Dir, "redis.log") }

// start starts the process; stop ends it, and waits until all is gone.
func (k keeper) start() (stop func() error, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	c, err := startChild(ctx, roleKeeper, k)
	if err != nil {
		cancel()
		return nil, err
	}
	return func() error {
		cancel()
		if err := c.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("the keeper of %s: %w", k.Dir, err)
		}
		return nil
	}, nil
}

// runKeeper is the process.
func runKeeper(in io.Reader) error {
	var k keeper
	end, err := instructions(in, &k)
	if err != nil {
		return err
	}
	if k.Program != "" {
		err = k.runRedis(end)
	} else {
		<-end
	}
	return errors.Join(err, os.RemoveAll(k.Dir))
}

// runRedis runs the server until the end, and starts it again when it dies. It has forgotten everything then: clients are
// told so, and go on.
func (k keeper) runRedis(end <-chan struct{}) error {
	log, err := os.OpenFile(k.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	for {
		// No port: only this user gets to the socket, which lies in a directory of this user.
		cmd := exec.Command(k.Program, "--port", "0", "--unixsocket", k.socket(), "--unixsocketperm", "700",
			"--dir", k.Dir, "--save", "", "--appendonly", "no", "--maxmemory", "128mb", "--maxmemory-policy", "noeviction")
		cmd.Stdout, cmd.Stderr = log, log
		ownGroup(cmd)
		if err := cmd.Start(); err != nil {
			return err
		}
		died := make(chan error, 1)
		go func() { died <- cmd.Wait() }()
		select {
		case <-end:
			_ = cmd.Process.Kill() // there is nothing that it should save
			<-died
			return nil
		case err := <-died:
			fmt.Fprintln(os.Stderr, "parley cluster: redis-server ended and is started again:", err)
		}
		select {
		case <-end:
			return nil
		case <-time.After(time.Second):
		}
	}
}
