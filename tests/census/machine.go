package census

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// classes are the programs that brig consists of or drives.
var classes = []string{
	"brigd", "brig", "brig-cni", "brig-files", "brig-idle", "containerd", "containerd-shim-brig-v1", "containerd-shim-runc-v2",
	"ctr", "runc", "runsc", "gvisor_sentry",
}

func processes(c Census) error {
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range found {
		// A process that ends meanwhile has neither; a zombie has no exe.
		exe, _ := os.Readlink(filepath.Join(dir, "exe"))
		class := filepath.Base(strings.TrimSuffix(exe, " (deleted)"))
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if slices.Contains(classes, class) && len(cmdline) > 0 {
			args := strings.TrimRight(strings.ReplaceAll(string(cmdline), "\x00", " "), " ")
			c.add("process", class, filepath.Base(dir), args)
		}
	}
	return nil
}

// reapTime is how long what brig-cni removes in the background may take.
const reapTime = 5 * time.Second

// awaitReapers waits for those that are about to end; one that does not is counted.
func awaitReapers() {
	for end := time.Now().Add(reapTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		now := Census{}
		if processes(now) != nil || !strings.Contains(now.String(), " brig-cni reap ") {
			return
		}
	}
}

func mounts(c Census) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// 36 35 98:0 /root /mount/point options … - type source options
		fields := strings.Fields(lines.Text())
		dash := slices.Index(fields, "-")
		if dash < 5 || dash+1 >= len(fields) {
			continue
		}
		// /run/netns is made a mount point by whoever first makes a named
		// namespace, and stays for the next one: iproute2's convention.
		if fields[4] != "/run/netns" {
			c.add("mount", fields[4], fields[dash+1])
		}
	}
	return lines.Err()
}

// cgroupOwners begin the names of the cgroups that brig's nodes, and containers in the
// containerd namespaces of tests, make; others' come and go with what else the machine
// does. A namespace's own group stays for the next container, as with every runtime.
var cgroupOwners = regexp.MustCompile(`/(brig[^/]*(/|$)|(bench|default|e2e|k8s\.io)/.)`)

// namespaceGroups are the parents of some of those.
var namespaceGroups = regexp.MustCompile(`/(bench|default|e2e|k8s\.io)$`)

func cgroups(c Census) error {
	const root = "/sys/fs/cgroup"
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		}
		rel := strings.TrimPrefix(path, root)
		switch {
		case cgroupOwners.MatchString(rel):
			c.add("cgroup", rel)
		case namespaceGroups.MatchString(rel):
		case strings.Count(rel, "/") > 1:
			return fs.SkipDir // with v1 a hierarchy, with v2 somebody else's
		}
		return nil
	})
}

// places are paths that brig, containerd, runsc or a test could make.
var places = []string{
	"/etc/brig", "/etc/cni", "/etc/cni/*", "/etc/containerd", "/etc/systemd/system/brig*",
	"/opt/containerd", "/opt/cni", "/run/brig*", "/run/brig*/*", "/run/containerd", "/run/containerd/*", "/run/containerd/s/*", "/run/runsc*", "/run/runc*",
	"/run/shim*", "/tmp/brig*", "/tmp/runsc*", "/tmp/containerd-*", "/tmp/ctd-*", "/tmp/shim-*", "/usr/local/bin/brig*",
	"/usr/local/bin/containerd-shim-brig*", "/usr/local/libexec/brig*", "/usr/local/share/brig*",
	"/var/lib/brig*", "/var/lib/cni", "/var/lib/containerd", "/var/run/runsc*", "/dev/shm/*",
}

func files(c Census) error {
	patterns := places
	if tmp := os.TempDir(); tmp != "/tmp" {
		patterns = append(slices.Clone(places), filepath.Join(tmp, "brig*"))
	}
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, path := range found {
			c.add("file", path)
		}
	}
	return nil
}
