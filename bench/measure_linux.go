package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what this process has used, user and system.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// machineBusy is the CPU time that the whole machine has used, in the coarse
// ticks in which the kernel tells it.
func machineBusy() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	var ticks int64
	for i, field := range bytes.Fields(line) {
		// cpu user nice system idle iowait irq softirq steal; the guest fields after them are part of user
		if i >= 1 && i <= 8 && i != 4 && i != 5 {
			n, _ := strconv.ParseInt(string(field), 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ, 100 on every architecture Go has
}

// residentBytes is the memory of this process that is in RAM. Kernel memory
// of its sockets is not part of it.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}

// openFilesLimit is how many descriptors a process may have.
func openFilesLimit() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return int(min(l.Max, 1<<30)) // the Go runtime raises the soft limit to the hard one
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return runtime.GOOS
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
}

func memory() string {
	b, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(b)) {
		if kb, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(kb), " kB"))
			return fmt.Sprintf("%.1f GiB", float64(n)/(1<<20))
		}
	}
	return "unknown"
}

// pinnable returns two cores this process may use, or why there are none.
func pinnable() (server, load int, problem string) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return 0, 0, err.Error()
	}
	var cores []int
	for i := 0; i < 1024 && len(cores) < 2; i++ {
		if allowed.IsSet(i) {
			cores = append(cores, i)
		}
	}
	if len(cores) < 2 {
		return 0, 0, "there is only one core"
	}
	return cores[0], cores[1], ""
}

// startPinned starts cmd on one core. The child inherits the core from the
// thread that forks it, so all its threads have it from the first instruction
// on, and its Go runtime sets GOMAXPROCS to 1. A negative core is any.
func startPinned(cmd *exec.Cmd, core int) error {
	if core < 0 {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	one.Set(core)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	err := cmd.Start()
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}
