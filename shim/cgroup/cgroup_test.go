package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	const (
		v1     = "25 30 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n26 30 0:23 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n"
		v2     = "27 30 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
		hybrid = v1 + "27 30 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		nested = "26 30 0:23 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	)
	for _, c := range []struct {
		name, membership, mounts string
		want                     Group
		err                      error
	}{
		{"v1", "4:memory:/brig/a\n3:cpu,cpuacct:/brig/a\n", v1, Group{memory: "/sys/fs/cgroup/memory/brig/a"}, nil},
		{"hybrid", "4:memory:/brig/a\n0::/b\n", hybrid, Group{memory: "/sys/fs/cgroup/memory/brig/a"}, nil},
		{"v2", "0::/brig/a:b\n", v2, Group{memory: "/sys/fs/cgroup/brig/a:b", unified: true}, nil},
		{"in a container", "4:memory:/docker/abc/brig/a\n", nested, Group{memory: "/sys/fs/cgroup/memory/brig/a"}, nil},
		{"out of sight", "4:memory:/else\n", nested, Group{}, errNoMount},
		{"nothing", "", "", Group{unified: true}, errNoMount},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := find(c.membership, c.mounts); got != c.want || !errors.Is(err, c.err) {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, c.want, c.err)
			}
		})
	}
}

func TestOOMKills(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
		"memory.events":      "low 0\nhigh 0\nmax 9\noom 3\noom_kill 1\noom_group_kill 1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := (Group{memory: dir}).OOMKills(); n != 2 || err != nil {
		t.Errorf("v1: %d, %v; want 2", n, err)
	}
	if n, err := (Group{memory: dir, unified: true}).OOMKills(); n != 1 || err != nil {
		t.Errorf("v2: %d, %v; want 1", n, err)
	}
	if _, err := (Group{memory: dir + "/gone"}).OOMKills(); err == nil {
		t.Error("no error for a group that is gone")
	}
}

func TestOfThisProcess(t *testing.T) {
	g, err := Of(os.Getpid())
	if err != nil {
		t.Skip("requires a mounted memory controller:", err)
	}
	if _, err := os.Stat(g.memory); err != nil {
		t.Error(err)
	}
}
