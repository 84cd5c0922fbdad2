package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// unlimited is what cgroup v1 says, or more, where there is no limit.
const unlimited = 1 << 60

// Account is what the kernel counts of one cgroup.
type Account struct {
	// CPU is all that was used, in nanoseconds.
	CPU uint64
	// Memory is what is used now, in bytes, caches too.
	Memory uint64
}

// Reader reads the accounts of the cgroups below one, whatever the version of cgroups: it
// knows where they are mounted.
type Reader struct {
	cpu, memory string // folders of the parent
	unified     bool
}

// NewReader returns a reader of the cgroups below parent.
func NewReader(parent string) (Reader, error) { return readerOf("/proc/self/mountinfo", parent) }

func readerOf(mountinfo, parent string) (Reader, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return Reader{}, fmt.Errorf("look for cgroups: %w", err)
	}
	defer f.Close()
	var cpu, memory, all string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		where, what := strings.Fields(before), strings.Fields(after)
		if len(where) < 5 || len(what) < 3 {
			continue
		}
		options := strings.Split(what[2], ",")
		switch {
		case what[0] == "cgroup2":
			all = where[4]
		case what[0] == "cgroup" && slices.Contains(options, "cpuacct"):
			cpu = where[4]
		case what[0] == "cgroup" && slices.Contains(options, "memory"):
			memory = where[4]
		}
		if what[0] == "cgroup" && slices.Contains(options, "cpuacct") && slices.Contains(options, "memory") {
			memory = where[4]
		}
	}
	switch {
	case cpu != "" && memory != "":
		return Reader{cpu: filepath.Join(cpu, parent), memory: filepath.Join(memory, parent)}, nil
	case all != "":
		return Reader{cpu: filepath.Join(all, parent), memory: filepath.Join(all, parent), unified: true}, nil
	}
	return Reader{}, errors.New("look for cgroups: neither version 2 nor cpuacct and memory of version 1 are mounted")
}

// Account reads that of the cgroup name.
func (r Reader) Account(name string) (a Account, err error) {
	if r.unified {
		if a.CPU, err = field(filepath.Join(r.cpu, name, "cpu.stat"), "usage_usec"); err != nil {
			return a, err
		}
		a.CPU *= 1000
		a.Memory, err = number(filepath.Join(r.memory, name, "memory.current"))
		return a, err
	}
	if a.CPU, err = number(filepath.Join(r.cpu, name, "cpuacct.usage")); err != nil {
		return a, err
	}
	a.Memory, err = number(filepath.Join(r.memory, name, "memory.usage_in_bytes"))
	return a, err
}

// MemoryLimit reads that of the cgroup name, in bytes; 0: none.
func (r Reader) MemoryLimit(name string) (uint64, error) {
	file := "memory.limit_in_bytes"
	if r.unified {
		file = "memory.max"
	}
	text, err := os.ReadFile(filepath.Join(r.memory, name, file))
	if err != nil {
		return 0, fmt.Errorf("read a memory limit: %w", err)
	}
	if strings.TrimSpace(string(text)) == "max" {
		return 0, nil
	}
	limit, err := parse(string(text))
	if limit >= unlimited {
		return 0, err
	}
	return limit, err
}

func number(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read a cgroup: %w", err)
	}
	return parse(string(text))
}

func field(path, key string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read a cgroup: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key+" "); ok {
			return parse(value)
		}
	}
	return 0, fmt.Errorf("read a cgroup: %s has no %s", path, key)
}

func parse(text string) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read a cgroup: %w", err)
	}
	return n, nil
}
