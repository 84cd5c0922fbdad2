package e2e

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func owner(info fs.FileInfo) uint32 {
	if info == nil {
		return ^uint32(0)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}

// TestMounts: volumes, temporary filesystems and what a default spec mounts.
func TestMounts(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	volume := t.TempDir()
	below := filepath.Join(volume, "below")
	if err := errors.Join(
		os.WriteFile(filepath.Join(volume, "hosts"), []byte("192.0.2.1 elsewhere\n"), 0o644),
		os.Mkdir(below, 0o755), unix.Mount("none", below, "tmpfs", 0, ""),
	); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(below, unix.MNT_DETACH) })
	bind := func(source, destination, options string) []string {
		return []string{"--mount", "type=bind,src=" + source + ",dst=" + destination + ",options=" + options}
	}
	for _, c := range []struct {
		name        string
		flags       []string
		script      string
		out, failed string
	}{
		{"writable", bind(volume, "/v", "rbind:rw"), "echo a > /v/a && echo b > /v/below/b && cat /v/a /v/below/b", "a\nb\n", ""},
		{"ro", bind(volume, "/v", "rbind:ro"), "echo c > /v/c", "", "Read-only file system"},
		{"ro, below", bind(volume, "/v", "rbind:ro"), "echo c > /v/below/c", "", "Read-only file system"},
		{"rro", bind(volume, "/v", "rbind:rro"), "echo c > /v/below/c", "", "Read-only file system"},
		{"propagation", bind(volume, "/v", "rbind:rslave:rw"), "ls /v/below", "b\n", ""},
		{"a file", bind(filepath.Join(volume, "hosts"), "/etc/hosts", "bind:ro"), "cat /etc/hosts", "192.0.2.1 elsewhere\n", ""},
		{"a folder that the image lacks", bind(volume, "/not/there/yet", "rbind:rw"), "cat /not/there/yet/a", "a\n", ""},
		{"a temporary filesystem", []string{"--mount", "type=tmpfs,src=tmpfs,dst=/t,options=size=64k:mode=1777:noexec"},
			"stat -c %a /t && dd if=/dev/zero of=/t/x bs=1k count=100 2>/dev/null; wc -c < /t/x", "1777\n65536\n", ""},
		{"the default's", nil, "ls -d /proc/self /sys/kernel /dev/pts/ptmx /dev/null && df -k /dev/shm | awk 'END { print $2 }'",
			"/dev/null\n/dev/pts/ptmx\n/proc/self\n/sys/kernel\n65536\n", ""},
		{"/sys", nil, "mkdir /sys/x", "", "Read-only file system"},
		{"a read-only root", []string{"--read-only"}, "touch /x", "", "Read-only file system"},
		{"/tmp in it", []string{"--read-only"}, "touch /tmp/x", "", "Read-only file system"},
		{"what is writable on it", []string{"--read-only"}, "touch /dev/shm/x /run/x && echo yes", "yes\n", ""},
	} {
		name := "mounts-" + strings.NewReplacer(" ", "", ",", "", "/", "", "'", "").Replace(c.name)
		r := ctrRun(t, n.Node, c.flags, name, "sh", "-c", c.script)
		switch {
		case c.failed == "" && (r.Code != 0 || r.Stdout != c.out):
			t.Errorf("%s: want %q: %s", c.name, c.out, r)
		case c.failed != "" && (r.Code == 0 || !strings.Contains(r.Stderr, c.failed)):
			t.Errorf("%s: want %q: %s", c.name, c.failed, r)
		}
	}
}

// TestWritesAreKept: what commit, diff and cp of a stopped container build on.
func TestWritesAreKept(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	r := n.Ctr(t, ctrNamespace, "run", "--runtime", "io.containerd.brig.v1", ctrImage, "kept", "sh", "-c", "echo written > /file; cp /file /tmp; rm /bin/vi")
	t.Cleanup(func() { n.Ctr(t, ctrNamespace, "containers", "rm", "kept") })
	if r.Code != 0 {
		t.Fatal(r)
	}
	dir := t.TempDir()
	mounts := n.Ctr(t, ctrNamespace, "snapshots", "mounts", dir, "kept")
	fields := strings.Fields(mounts.Stdout) // mount -t overlay overlay DIR -o OPTIONS
	if len(fields) != 7 {
		t.Fatal(mounts)
	}
	if err := unix.Mount(fields[3], dir, fields[2], unix.MS_RDONLY, fields[6]); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	for _, file := range []string{"file", "tmp/file"} {
		if data, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(data) != "written\n" {
			t.Errorf("the snapshot has %q, %v in %s", data, err, file)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "bin/vi")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the snapshot has what was removed: %v", err)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".gvisor") {
			t.Errorf("runsc left %s in the snapshot: %v", e.Name(), err)
		}
	}
}

// TestMountsOfTheRoot: containerd's Go client gives any mounts for the root. Here an
// overlay, and a volume at a target in it.
func TestMountsOfTheRoot(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	lower, dirs := rootfsFolder(t), t.TempDir()
	upper, work, volume := filepath.Join(dirs, "upper"), filepath.Join(dirs, "work"), filepath.Join(dirs, "volume")
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755), os.Mkdir(volume, 0o755), os.Mkdir(filepath.Join(lower, "data"), 0o755)); err != nil {
		t.Fatal(err)
	}
	s := spec(t, "rootfs", "targets", func(*specs.Spec) {}, "sh", "-c", "echo a > /data/a && echo b > /b")
	status := clientRun(t, n.Node, s, "targets", []mount.Mount{
		{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + lower, "upperdir=" + upper, "workdir=" + work}},
		{Type: "bind", Source: volume, Target: "/data", Options: []string{"rbind", "rw"}},
	})
	if status != 0 {
		t.Errorf("status %d", status)
	}
	for _, file := range []string{filepath.Join(volume, "a"), filepath.Join(upper, "b")} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
}

// TestErofs: a lone image, which the shim mounts, and one under an overlay, where
// containerd does. createContainer hooks run either way.
func TestErofs(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	dir := t.TempDir()
	img, upper, work, hooked := filepath.Join(dir, "image"), filepath.Join(dir, "upper"), filepath.Join(dir, "work"), filepath.Join(dir, "hooked")
	if out, err := exec.CommandContext(t.Context(), "mkfs.erofs", img, rootfsFolder(t)).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs (of erofs-utils): %v\n%s", err, out)
	}
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
		t.Fatal(err)
	}
	layer := mount.Mount{Type: "erofs", Source: img, Options: []string{"ro", "loop"}}
	for name, mounts := range map[string][]mount.Mount{
		"erofs-lone": {layer},
		"erofs-under": {layer, {Type: "format/overlay", Source: "overlay",
			Options: []string{"lowerdir={{ mount 0 }}", "upperdir=" + upper, "workdir=" + work}}},
	} {
		s := spec(t, "rootfs", name, func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/touch", Args: []string{"touch", hooked + name}}}}
		}, "sh", "-c", "echo a > /file && cat /file")
		if status := clientRun(t, n.Node, s, name, mounts); status != 0 {
			t.Errorf("%s: status %d", name, status)
		}
		if _, err := os.Stat(hooked + name); err != nil {
			t.Errorf("%s: the hook did not run: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(upper, "file")); err != nil {
		t.Error(err)
	}
}
