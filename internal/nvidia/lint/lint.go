// Package lint says what is wrong with CDI specifications of NVIDIA's GPUs where gVisor
// runs the containers. It reads them as container runtimes do, with CDI's own library, and
// looks whether what they name is there. It changes and runs nothing.
//
// No finding of this package refuses: brig's shim puts right what it can of a specification
// and refuses the rest when somebody asks for it by name. Other runtimes do neither.
package lint

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tags.cncf.io/container-device-interface/pkg/cdi"
	specs "tags.cncf.io/container-device-interface/specs-go"

	"brig/internal/nvidia"
)

// file is one specification.
type file struct {
	path string
	// rank of its folder: of two folders that name one device, the later one counts.
	rank int
	spec *cdi.Spec
}

// Specs looks at all in n's folders, in the order of their paths.
func Specs(n nvidia.Node) []nvidia.Finding {
	var found []nvidia.Finding
	var files []file
	for rank, dir := range n.SpecDirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			found = append(found, nvidia.Finding{Subject: dir, Problem: err.Error(), Remedy: "make it a folder of specifications, or take it from gpu.spec_dirs"})
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".json" && ext != ".yaml" {
				continue
			}
			path := filepath.Join(dir, e.Name())
			spec, err := cdi.ReadSpec(path, rank)
			if err != nil {
				found = append(found, nvidia.Finding{Subject: path, Problem: "it is no CDI specification: " + oneLine(err), Remedy: "generate it anew, or remove it"})
			} else if spec != nil && aboutGPUs(spec) {
				files = append(files, file{path, rank, spec})
			}
		}
	}
	for _, f := range files {
		found = append(found, f.check(n)...)
	}
	return append(found, conflicts(files)...)
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// aboutGPUs tells whether a specification is of NVIDIA's, or of somebody's who gives out
// the same devices.
func aboutGPUs(s *cdi.Spec) bool {
	if s.GetVendor() == "nvidia.com" {
		return true
	}
	for e := range edits(s) {
		if slices.ContainsFunc(e.DeviceNodes, func(d *specs.DeviceNode) bool { return strings.HasPrefix(d.Path, "/dev/nvidia") }) {
			return true
		}
	}
	return false
}

// edits of a specification: those of all its devices, and of each.
func edits(s *cdi.Spec) func(func(*specs.ContainerEdits) bool) {
	return func(yield func(*specs.ContainerEdits) bool) {
		if !yield(&s.ContainerEdits) {
			return
		}
		for i := range s.Devices {
			if !yield(&s.Devices[i].ContainerEdits) {
				return
			}
		}
	}
}

// conflicts are names that two files of one folder have: CDI then knows neither.
func conflicts(files []file) (found []nvidia.Finding) {
	type name struct {
		rank int
		name string
	}
	owners := map[name][]string{}
	for _, f := range files {
		for _, d := range f.spec.Devices {
			n := name{f.rank, f.spec.Kind + "=" + d.Name}
			owners[n] = append(owners[n], f.path)
		}
	}
	// One line for each pair of files, however many devices they share.
	shared := map[string]name{}
	for n, paths := range owners {
		if len(paths) < 2 {
			continue
		}
		slices.Sort(paths)
		key := strings.Join(paths, " and ")
		if known, ok := shared[key]; !ok || n.name < known.name {
			shared[key] = n
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(shared), cmp.Compare) {
		first, others, _ := strings.Cut(key, " and ")
		found = append(found, nvidia.Finding{
			Subject: first, Problem: fmt.Sprintf("%s has %s too, so that nobody can have it by that name", others, shared[key].name), Remedy: "remove one of them",
		})
	}
	return found
}
