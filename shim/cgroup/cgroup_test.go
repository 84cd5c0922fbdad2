package cgroup

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	const (
		v1     = "25 30 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n26 30 0:23 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n"
		v2     = "27 30 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
		hybrid = v1 + "27 30 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		nested = "26 30 0:23 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	)
	memory := map[string]string{"memory": "/sys/fs/cgroup/memory/brig/a"}
	both := map[string]string{"memory": "/sys/fs/cgroup/memory/brig/a", "cpu": "/sys/fs/cgroup/cpu/brig/a", "cpuacct": "/sys/fs/cgroup/cpu/brig/a"}
	for _, c := range []struct {
		name, membership, own, mounts string
		want                          Group
		err                           error
	}{
		{"v1", "4:memory:/brig/a\n3:cpu,cpuacct:/brig/a\n", "4:memory:/\n3:cpu,cpuacct:/\n", v1, Group{folders: both}, nil},
		{"v1, processor shared", "4:memory:/brig/a\n3:cpu,cpuacct:/\n", "4:memory:/\n3:cpu,cpuacct:/\n", v1, Group{folders: memory}, nil},
		{"v1, shared", "4:memory:/brig\n", "4:memory:/brig\n", v1, Group{}, ErrShared},
		{"hybrid", "4:memory:/brig/a\n0::/b\n", "0::/\n", hybrid, Group{folders: memory}, nil},
		{"a controller that nobody mounts", "4:memory:/brig/a\n5:pids:/brig/a\n", "", v1, Group{folders: memory}, nil},
		{"v2", "0::/brig/a:b\n", "0::/brig\n", v2, Group{unified: "/sys/fs/cgroup/brig/a:b"}, nil},
		{"v2, shared", "0::/system.slice/containerd.service\n", "0::/system.slice/containerd.service\n", v2, Group{}, ErrShared},
		{"in a container", "4:memory:/docker/abc/brig/a\n", "", nested, Group{folders: memory}, nil},
		{"out of sight", "4:memory:/else\n", "", nested, Group{}, errNoMount},
		{"nothing", "", "", "", Group{}, errNoMount},
	} {
		t.Run(c.name, func(t *testing.T) {
			mounts, err := parseHierarchies(strings.NewReader("20 1 0:9 / /a rw - overlay overlay rw\n" + c.mounts))
			if err != nil {
				t.Fatal(err)
			}
			got, err := find(c.membership, c.own, mounts)
			if got.unified != c.want.unified || !maps.Equal(got.folders, c.want.folders) || !errors.Is(err, c.err) {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, c.want, c.err)
			}
		})
	}
}

// fake is a group of plain files, on v1 with all controllers in one folder.
func fake(t *testing.T, unified bool, files map[string]string) Group {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if unified {
		return Group{unified: dir}
	}
	return Group{folders: map[string]string{"memory": dir, "cpu": dir, "cpuacct": dir, "cpuset": dir, "blkio": dir}}
}

func TestOOMKills(t *testing.T) {
	v1 := fake(t, false, map[string]string{"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"})
	if n, err := v1.OOMKills(); n != 2 || err != nil {
		t.Errorf("v1: %d, %v; want 2", n, err)
	}
	v2 := fake(t, true, map[string]string{"memory.events": "low 0\nhigh 0\nmax 9\noom 3\noom_kill 1\noom_group_kill 1\n"})
	if n, err := v2.OOMKills(); n != 1 || err != nil {
		t.Errorf("v2: %d, %v; want 1", n, err)
	}
	if _, err := fake(t, true, nil).OOMKills(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a group that is gone: %v", err)
	}
}

func TestOfThisProcess(t *testing.T) {
	if _, err := Of(os.Getpid()); !errors.Is(err, ErrShared) {
		t.Errorf("this process's group is shared with itself: %v", err)
	}
}
