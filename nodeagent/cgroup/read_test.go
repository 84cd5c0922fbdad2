package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes files below a folder, by their path.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "ROOT", root)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestAccounts(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  Account
		limit uint64
	}{
		{"version 1, beside an empty version 2", map[string]string{
			"mountinfo": "30 24 0:26 / ROOT/u rw - cgroup2 cgroup2 rw\n" +
				"31 24 0:27 / ROOT/c rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n32 24 0:28 / ROOT/m rw - cgroup cgroup rw,memory\n",
			"c/brig/sb/cpuacct.usage": "1234567890\n", "m/brig/sb/memory.usage_in_bytes": "4096\n",
			"m/brig/sb/memory.limit_in_bytes": "9223372036854771712\n",
		}, Account{CPU: 1234567890, Memory: 4096}, 0},
		{"version 1, one hierarchy", map[string]string{
			"mountinfo":               "31 24 0:27 / ROOT/c rw - cgroup cgroup rw,cpuacct,memory\n",
			"c/brig/sb/cpuacct.usage": "1\n", "c/brig/sb/memory.usage_in_bytes": "2\n", "c/brig/sb/memory.limit_in_bytes": "268435456\n",
		}, Account{CPU: 1, Memory: 2}, 256 << 20},
		{"version 2", map[string]string{
			"mountinfo":          "30 24 0:26 / ROOT rw - cgroup2 cgroup2 rw,nsdelegate\n",
			"brig/sb/cpu.stat":   "usage_usec 17\nuser_usec 9\n",
			"brig/sb/memory.max": "max\n", "brig/sb/memory.current": "8192\n",
		}, Account{CPU: 17000, Memory: 8192}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := readerOf(filepath.Join(tree(t, tc.files), "mountinfo"), "/brig")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := r.Account("sb"); err != nil || got != tc.want {
				t.Errorf("%+v, %v; want %+v", got, err, tc.want)
			}
			if got, err := r.MemoryLimit("sb"); err != nil || got != tc.limit {
				t.Errorf("limit %d, %v; want %d", got, err, tc.limit)
			}
			if a, err := r.Account("another"); err == nil {
				t.Errorf("an account of nobody: %+v", a)
			}
		})
	}
}
