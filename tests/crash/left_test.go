package crash

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// settleTime is how long what should go may take.
const settleTime = 10 * time.Second

// settle waits until nothing is left of a container or pod, or with an empty id of all
// the node's, and is an error that lists what stays.
func (n *node) settle(id string) error {
	for deadline := time.Now().Add(settleTime); ; time.Sleep(20 * time.Millisecond) {
		left := n.left(id)
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
		}
	}
}

func wantNothingLeft(t *testing.T, n *node, id string) {
	t.Helper()
	if err := n.settle(id); err != nil {
		t.Error(err)
	}
}

// left lists what there is of a container or pod.
func (n *node) left(id string) (lines []string) {
	for pid, cmdline := range n.processes(id) {
		if n.containerd == nil || pid != n.containerd.Process.Pid {
			lines = append(lines, fmt.Sprintf("process %d %s", pid, cmdline))
		}
	}
	for _, path := range n.mounts(id) {
		lines = append(lines, "mount "+path)
	}
	for _, path := range n.cgroups(id) {
		lines = append(lines, "cgroup "+path)
	}
	for kind, pattern := range map[string]string{
		"bundle":        n.dir + "/state/io.containerd.runtime.v2.task/*/*",
		"pod's bundle":  n.dir + "/state/io.containerd.sandbox.controller.v1.shim/*/*",
		"work folder":   n.dir + "/persist/io.containerd.runtime.v2.task/*/*",
		"runsc's state": n.runDir() + "/r/*/*",
		"claim":         n.runDir() + "/claims/*",
	} {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			if strings.Contains(path, id) {
				lines = append(lines, kind+" "+path)
			}
		}
	}
	for _, path := range n.sockets(id) {
		lines = append(lines, "socket "+path)
	}
	slices.Sort(lines)
	return lines
}

// sockets of shims, which containerd names by a hash.
func (n *node) sockets(id string) (lines []string) {
	paths, _ := filepath.Glob(n.dir + "/s/*")
	for _, path := range paths {
		owner := "nobody known"
		n.ids.Range(func(known, in any) bool {
			namespace, ok := in.(string)
			if !ok {
				namespace = n.namespace()
			}
			sum := sha256.Sum256([]byte(filepath.Join(n.dir, "containerd.sock", namespace, known.(string))))
			if filepath.Base(path) == hex.EncodeToString(sum[:]) {
				owner = known.(string)
			}
			return true
		})
		if id == "" || owner == id {
			lines = append(lines, path+" of "+owner)
		}
	}
	return lines
}

// processes are the node's that have id in their command line; all of the node's for
// an empty id.
func (n *node) processes(id string) map[int]string {
	found := map[int]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		text := string(cmdline)
		if id == "" {
			environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
			text += "\x00" + string(environ)
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid != os.Getpid() && (strings.Contains(text, n.dir+"/") || strings.Contains(text, n.runDir()+"/")) && strings.Contains(text, id) {
			found[pid] = strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return found
}

// mounts are below the node's directories, the youngest first.
func (n *node) mounts(id string) (paths []string) {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(data)) {
		path := strings.Fields(line)[4]
		mine := strings.HasPrefix(path, n.dir+"/") || strings.HasPrefix(path, n.runDir()+"/")
		if mine && strings.Contains(path, id) && filepath.Base(path) != "null-netns" { // runsc's, one for a node
			paths = append([]string{path}, paths...)
		}
	}
	return paths
}

// cgroups are the sandboxes' in every hierarchy, the deepest first.
func (n *node) cgroups(id string) (paths []string) {
	for _, parent := range n.cgroupParents() {
		for _, below := range []string{"/*/*", "/*"} {
			found, _ := filepath.Glob(parent + below)
			for _, path := range found {
				if fi, err := os.Stat(path); err == nil && fi.IsDir() && strings.Contains(path, id) {
					paths = append(paths, path)
				}
			}
		}
	}
	return paths
}

func (n *node) cgroupParents() []string {
	v1, _ := filepath.Glob("/sys/fs/cgroup/*/" + n.namespace())
	v2, _ := filepath.Glob("/sys/fs/cgroup/" + n.namespace())
	return append(v1, v2...)
}
