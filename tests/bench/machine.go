package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is what a reader needs to judge the figures.
type machine struct {
	Time       time.Time `json:"time"`
	Kernel     string    `json:"kernel"`
	CPU        string    `json:"cpu"`
	Cores      int       `json:"cores"`
	MemoryMiB  uint64    `json:"memory_mib"`
	Runsc      string    `json:"runsc"`
	Runc       string    `json:"runc"`
	Containerd string    `json:"containerd"`
	Brig       string    `json:"brig"`
	Cgroups    int       `json:"cgroups"`    // version
	CachedMiB  uint64    `json:"cached_mib"` // of files, at the start
	PageCache  string    `json:"page_cache"`
	Mode       string    `json:"mode"`
	Seed       uint64    `json:"seed"`
}

// warm is the state of the page cache.
const warm = "warm: a first round of everything is not counted"

func describeMachine(o options) (machine, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return machine{}, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return machine{}, err
	}
	m := machine{
		Time: time.Now().UTC().Truncate(time.Second), Kernel: unix.ByteSliceToString(uts.Release[:]),
		CPU: cpuModel(), Cores: runtime.NumCPU(), MemoryMiB: info.Totalram * uint64(info.Unit) >> 20,
		Cgroups: 1, PageCache: warm, Mode: o.mode.String(), Seed: o.seed,
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		m.Cgroups = 2
	}
	cached, err := meminfo("Cached")
	if err != nil {
		return machine{}, err
	}
	m.CachedMiB = uint64(cached) >> 20
	for _, program := range []struct {
		version *string
		name    string
	}{{&m.Runsc, "deps/runsc"}, {&m.Runc, "deps/runc"}, {&m.Containerd, "deps/containerd"}, {&m.Brig, "brigd"}} {
		out, err := exec.Command(filepath.Join(o.bin, program.name), "--version").Output()
		if err != nil {
			return machine{}, fmt.Errorf("version of %s: %w", program.name, err)
		}
		*program.version, _, _ = strings.Cut(string(out), "\n")
	}
	return m, nil
}

func cpuModel() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// String is the heading of a table.
func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores (%s), %d MiB, kernel %s, cgroup v%d\nbrig %s; %s; %s; %s\npage cache %s; %s run, seed %d",
		m.Time.Format(time.DateTime), m.Cores, m.CPU, m.MemoryMiB, m.Kernel, m.Cgroups, m.Brig, m.Runsc, m.Runc, m.Containerd, m.PageCache, m.Mode, m.Seed)
}

// meminfo is what the kernel says of its memory, in bytes.
func meminfo(what string) (int, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return kilobytes(string(data), what)
}

// kilobytes of a line such as "Pss:  12 kB", in bytes.
func kilobytes(text, what string) (int, error) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, what+":"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("the kernel tells no %s", what)
}
