package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"brig/internal/netns"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/census"

	"connectrpc.com/connect"
)

// Stop removes the node's sandboxes, ends brigd in order and looks for what is
// left; that is an error, and is then cleared away. A node that was killed is
// only cleared away.
func (n *Node) Stop() error {
	var errs []error
	if n.running() {
		errs = append(errs, n.removeSandboxes(), n.Terminate(), n.left())
	}
	if n.running() {
		errs = append(errs, n.Kill())
	}
	return errors.Join(append(errs, n.clear())...)
}

func (n *Node) removeSandboxes() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := n.Sandboxes.List(ctx, connect.NewRequest(&brigv1.ListRequest{All: true}))
	if err != nil {
		return fmt.Errorf("list sandboxes: %w", err)
	}
	var errs []error
	for _, s := range list.Msg.GetSandboxes() {
		_, err := n.Sandboxes.Remove(ctx, connect.NewRequest(&brigv1.RemoveRequest{Sandbox: s.GetId(), Force: true}))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// mine tells whether a line of a census is this node's: its directory, or a name
// derived from the node's, is in it.
func (n *Node) mine(line string) bool {
	if line == "file "+n.Dir {
		return false // it is for its caller to remove
	}
	return strings.Contains(line, n.Dir) || n.name() != "" && strings.Contains(line, "brig-"+n.name())
}

func (n *Node) name() string {
	c, err := n.Config()
	if err != nil {
		return ""
	}
	return c.Node
}

// left waits for everything of this node to go and reports what stays.
func (n *Node) left() error {
	var lines []string
	for deadline := time.Now().Add(census.Patience); ; time.Sleep(100 * time.Millisecond) {
		now, err := census.Take()
		if err != nil {
			return err
		}
		lines = lines[:0]
		for line := range now {
			if n.mine(line) {
				lines = append(lines, line)
			}
		}
		if len(lines) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("brigd ended in order and left:\n  %s", strings.Join(lines, "\n  "))
		}
	}
}

// clear takes away whatever is left of the node, by the names it derives.
func (n *Node) clear() error {
	name := n.name()
	for range 3 { // a shim may start a process meanwhile
		for _, pid := range n.pids() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(50 * time.Millisecond)
	}
	c, errConfig := n.Config()
	for _, dir := range []string{n.Dir, c.RunDir} {
		if dir != "" {
			unmountBelow(dir)
		}
	}
	if errConfig == nil && name != "" {
		sandboxes, _ := filepath.Glob(c.JournalDir("sb-*"))
		for _, dir := range sandboxes {
			_ = netns.Delete(filepath.Base(dir))
		}
		n.clearNetwork(c.TransitName(), c.HostLink(), c.HostTable())
		_ = os.RemoveAll(c.RunDir)
		removeCgroups(c.CgroupParent())
	}
	return os.RemoveAll(n.Dir)
}

// pids are the processes that name the node's directories in their command line
// or run directory, and brig-cni's and the sandboxes' below them.
func (n *Node) pids() []int {
	var pids []int
	found, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range found {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
		text := string(cmdline) + "\x00" + string(environ)
		ours := strings.Contains(text, n.Dir+"/") || n.name() != "" && strings.Contains(text, "/run/brig-"+n.name()+"/")
		if ours && pid != os.Getpid() && pid != os.Getppid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

func unmountBelow(dir string) {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	lines := strings.Split(string(data), "\n")
	for i := len(lines) - 1; i >= 0; i-- { // youngest first
		if fields := strings.Fields(lines[i]); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			_ = syscall.Unmount(fields[4], syscall.MNT_DETACH)
		}
	}
}

func (n *Node) clearNetwork(transit, link, table string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = netns.Delete(transit)
	_ = n.Command(ctx, "ip", "link", "delete", link).Run()
	_ = n.Command(ctx, "nft", "delete", "table", "inet", table).Run()
}

// removeCgroups deletes a node's cgroups, deepest first; files in them do not
// count.
func removeCgroups(parent string) {
	for _, pattern := range []string{"/sys/fs/cgroup" + parent, "/sys/fs/cgroup/*" + parent} {
		roots, _ := filepath.Glob(pattern)
		for _, root := range roots {
			children, _ := filepath.Glob(root + "/*")
			for _, child := range children {
				_ = syscall.Rmdir(child) // a file stays
			}
			_ = syscall.Rmdir(root)
		}
	}
}
