package census

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"brig/internal/census"
)

// classes are the programs that brig consists of or drives.
var classes = []string{
	"brigd", "brig", "brig-cni", "brig-files", "brig-idle", "containerd", "containerd-shim-brig-v1", "containerd-shim-runc-v2",
	"ctr", "runc", "runsc", "gvisor_sentry",
}

func processes(c Census) error {
	all, err := census.Processes()
	for _, p := range all {
		if slices.Contains(classes, p.Class()) {
			c.add("process", p.Class(), strconv.Itoa(p.PID), strings.Join(p.Args, " "))
		}
	}
	return err
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
	all, err := census.Mounts()
	for _, m := range all {
		// /run/netns is made a mount point by whoever first makes a named
		// namespace, and stays for the next one: iproute2's convention.
		if m.Path != "/run/netns" {
			c.add("mount", m.Path, m.Kind)
		}
	}
	return err
}

// cgroupOwners begin the names of the cgroups that brig's nodes, and containers in the
// containerd namespaces of tests, make; others' come and go with what else the machine
// does. A namespace's own group stays for the next container, as with every runtime.
var cgroupOwners = regexp.MustCompile(`/(brig[^/]*(/|$)|(bench|default|e2e|k8s\.io)/.)`)

// namespaceGroups are the parents of some of those.
var namespaceGroups = regexp.MustCompile(`/(bench|default|e2e|k8s\.io)$`)

func cgroups(c Census) error {
	return census.Cgroups(func(path string) bool {
		switch {
		case cgroupOwners.MatchString(path):
			c.add("cgroup", path)
		case namespaceGroups.MatchString(path):
		case strings.Count(path, "/") > 1:
			return false // with v1 a hierarchy, with v2 somebody else's
		}
		return true
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
