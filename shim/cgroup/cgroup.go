// Package cgroup is the host's account of one sandbox and the limits that the host
// holds it to. All processes of a sandbox (its kernel, its gofer, its stubs) are in
// one cgroup, which runsc makes and removes; this package reads it and changes its
// limits, on cgroup v1, v2 and a mixture. Which of them it is, the host decides: a
// driver's flag or the form of a path say nothing about it.
//
// A Group is a value and safe for concurrent use, but updates must come one by one.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Group is a sandbox's cgroup.
type Group struct {
	unified string            // the folder, on v2
	folders map[string]string // the folder of each controller, on v1
}

// Unified tells that the group is one of cgroup v2.
func (g Group) Unified() bool { return g.folders == nil }

// path of a controller's file. Without the controller there is no such file.
func (g Group) path(file string) (string, error) {
	if g.Unified() {
		return filepath.Join(g.unified, file), nil
	}
	controller, _, _ := strings.Cut(file, ".")
	folder, ok := g.folders[controller]
	if !ok {
		return "", fmt.Errorf("%s: no %s controller: %w", file, controller, os.ErrNotExist)
	}
	return filepath.Join(folder, file), nil
}

func (g Group) read(file string) (string, error) {
	path, err := g.path(file)
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}

func (g Group) write(file, value string) error {
	path, err := g.path(file)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0) // never creates: only the kernel makes these files
	if err != nil {
		return err
	}
	_, err = f.WriteString(value + "\n") // without it, an empty value would not be written
	return errors.Join(err, f.Close())
}

// ErrShared means that a process is in the caller's own cgroup, so that nothing there
// is about that process alone.
var ErrShared = errors.New("the sandbox has no cgroup of its own")

// Of finds the group of a process. It must be asked while the process lives.
func Of(pid int) (Group, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Group{}, fmt.Errorf("find cgroup: %w", err)
	}
	membership, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return Group{}, fmt.Errorf("find cgroup: %w", err)
	}
	mounts, err := hierarchies()
	if err != nil {
		return Group{}, fmt.Errorf("find cgroup: %w", err)
	}
	g, err := find(string(membership), string(own), mounts)
	if err != nil {
		return Group{}, fmt.Errorf("find cgroup of process %d: %w", pid, err)
	}
	return g, nil
}

// find prefers the memory controller of v1: where there is one, v2 has none. What a
// process shares with the caller (own) is not part of its group.
func find(membership, own string, mounts []hierarchy) (Group, error) {
	theirs, ours := parseMembership(membership), parseMembership(own)
	v1 := theirs["memory"] != ""
	g := Group{}
	if v1 {
		g.folders = make(map[string]string)
	}
	for controller, path := range theirs {
		if v1 == (controller == "") {
			continue
		}
		if path == ours[controller] {
			if controller == "" || controller == "memory" {
				return Group{}, ErrShared
			}
			continue
		}
		folder, err := mountpoint(mounts, path, controller)
		switch {
		case err == nil && v1:
			g.folders[controller] = folder
		case err == nil:
			g.unified = folder
		case controller == "" || controller == "memory":
			return Group{}, err
		}
	}
	if g.unified == "" && !v1 {
		return Group{}, errNoMount
	}
	return g, nil
}

// parseMembership gives the path for each controller of v1, and under "" that of v2.
func parseMembership(text string) map[string]string {
	paths := make(map[string]string)
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 || fields[1] == "" && fields[0] != "0" {
			continue
		}
		for controller := range strings.SplitSeq(fields[1], ",") {
			paths[controller] = fields[2]
		}
	}
	return paths
}

// OOMKills is how many processes of the group the kernel has killed because the
// group had reached its memory limit.
func (g Group) OOMKills() (int, error) {
	file := "memory.oom_control"
	if g.Unified() {
		file = "memory.events"
	}
	text, err := g.read(file)
	if err != nil {
		return 0, fmt.Errorf("count OOM kills: %w", err)
	}
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		if key, value, _ := strings.Cut(s.Text(), " "); key == "oom_kill" {
			return strconv.Atoi(value)
		}
	}
	return 0, fmt.Errorf("count OOM kills: no oom_kill in %s", file)
}

// DieTogether makes the kernel kill the whole sandbox rather than one process of it
// where it can (cgroup v2). The sandbox's kernel and its stubs share their memory,
// so none of them is of use without the others.
func (g Group) DieTogether() error {
	if !g.Unified() {
		return nil
	}
	return g.write("memory.oom.group", "1")
}
