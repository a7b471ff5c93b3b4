//go:build !linux

package main

import (
	"os/exec"
	"runtime"
	"time"
)

// What other systems do not tell is 0 here and left out of the table.

func cpuTime() time.Duration     { return 0 }
func machineBusy() time.Duration { return 0 }
func residentBytes() int64       { return 0 }
func openFilesLimit() int        { return 0 }
func kernel() string             { return runtime.GOOS }
func memory() string             { return "unknown" }

func pinnable() (server, load int, problem string) {
	return 0, 0, "only Linux lets a process choose its core"
}

func startPinned(cmd *exec.Cmd, _ int) error { return cmd.Start() }
