package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
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
}

func describeMachine(bin string) (machine, error) {
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
	}
	for _, program := range []struct {
		version *string
		name    string
	}{{&m.Runsc, "runsc"}, {&m.Runc, "runc"}, {&m.Containerd, "containerd"}} {
		out, err := exec.Command(bin+"/deps/"+program.name, "--version").Output()
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
	return fmt.Sprintf("%s, %d cores (%s), %d MiB, kernel %s\n%s; %s; %s", m.Time.Format(time.DateTime), m.Cores, m.CPU, m.MemoryMiB,
		m.Kernel, m.Runsc, m.Runc, m.Containerd)
}
