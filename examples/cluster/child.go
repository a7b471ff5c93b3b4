package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// All processes are this program. The variable says which part one plays; without it, the parent.
const (
	roleVariable = "PARLEY_CLUSTER_ROLE"
	roleNode     = "node"
	roleKeeper   = "keeper"
)

// endTime is how long a child gets to end in order: a little longer than it gives itself, see site.Serve.
const endTime = 6 * time.Second

// child is a process that the parent has started.
//
// Its standard input is a pipe: the configuration comes in, where no other user of the machine can read it, as they can
// arguments. Then nothing more comes until the child shall end. As the system closes the pipe of a parent that died, however
// it did, no child outlives its parent for long.
type child struct {
	*exec.Cmd
	out io.Reader
}

// startChild starts this program in a role. When ctx ends, the child is told, and killed if it takes too long.
func startChild(ctx context.Context, role string, config any) (*child, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("%w: cannot start further processes", err)
	}
	c := &child{Cmd: exec.CommandContext(ctx, self)}
	c.Env = append(os.Environ(), roleVariable+"="+role)
	c.Stderr = os.Stderr
	ownGroup(c.Cmd)
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	c.Cancel, c.WaitDelay = in.Close, endTime
	if c.out, err = c.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	if _, err := in.Write(text); err != nil {
		_ = c.Process.Kill()
		_ = c.Wait() // the reason is above
		return nil, fmt.Errorf("tell the %s its configuration: %w", role, err)
	}
	return c, nil
}

// instructions reads what a child was told. The channel is closed when it shall end.
func instructions(in io.Reader, config any) (end <-chan struct{}, err error) {
	if err := json.NewDecoder(in).Decode(config); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	done := make(chan struct{})
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, in)
		close(done)
	}()
	return done, nil
}
