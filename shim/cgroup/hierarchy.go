package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hierarchy is a mount of cgroups.
type hierarchy struct {
	root, at    string   // what of it is mounted, and where
	controllers []string // of v1, among other options
	unified     bool     // it is v2's
}

// hierarchies of the host. Its other mounts are as many as there are sandboxes, and leave
// nothing behind here.
func hierarchies() ([]hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseHierarchies(f)
}

// longestMount bounds a line of mountinfo, in bytes.
const longestMount = 1 << 20

func parseHierarchies(mountinfo io.Reader) (all []hierarchy, err error) {
	lines := bufio.NewScanner(mountinfo)
	lines.Buffer(nil, longestMount)
	for lines.Scan() {
		if !bytes.Contains(lines.Bytes(), []byte(" - cgroup")) {
			continue
		}
		mount, super, _ := strings.Cut(lines.Text(), " - ")
		a, b := strings.Fields(mount), strings.Fields(super)
		if len(a) < 5 || len(b) < 3 {
			continue
		}
		all = append(all, hierarchy{root: a[3], at: a[4], controllers: strings.Split(b[2], ","), unified: b[0] == "cgroup2"})
	}
	return all, lines.Err()
}

// folder is where a path within the hierarchy is, if what is mounted has it.
func (h hierarchy) folder(path string) (string, bool) {
	rel, err := filepath.Rel(h.root, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return "", false
	}
	return filepath.Join(h.at, rel), true
}

var errNoMount = errors.New("no mount of the memory controller")

// mountpoint translates a path within a controller's hierarchy (of v2, if there is no
// controller) into one of the file system.
func mountpoint(mounts []hierarchy, path, controller string) (string, error) {
	for _, h := range mounts {
		if v2 := controller == "" && h.unified; !v2 && (h.unified || !slices.Contains(h.controllers, controller)) {
			continue
		}
		if folder, ok := h.folder(path); ok {
			return folder, nil
		}
	}
	return "", errNoMount
}
