package lint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	specs "tags.cncf.io/container-device-interface/specs-go"

	"brig/internal/nvidia"
)

// generate is how a specification is made that gVisor can use.
const generate = "generate it anew: nvidia-ctk cdi generate --feature-flag=disable-ipc-discoverer --nvidia-cdi-hook-path=/usr/local/libexec/brig/nvidia-cdi-hook"

// check of one file: one finding of a kind, by the first that shows it.
func (f file) check(n nvidia.Node) (found []nvidia.Finding) {
	seen := map[string]bool{}
	bad := func(kind, problem, remedy string) {
		if !seen[kind] {
			seen[kind] = true
			found = append(found, nvidia.Finding{Subject: f.path, Problem: problem, Remedy: remedy})
		}
	}
	driver, errDriver := nvidia.Driver(n.Proc)
	for e := range edits(f.spec) {
		for _, h := range e.Hooks {
			checkHook(n, h, bad)
		}
		for _, m := range e.Mounts {
			checkMount(m, bad)
			if v, ok := ofVersion(m.HostPath); ok && errDriver == nil && !v.Equal(driver) {
				bad("stale", fmt.Sprintf("it has %s, and the kernel module is %s", m.HostPath, driver), generate)
			}
		}
		for _, d := range e.DeviceNodes {
			if strings.HasPrefix(d.Path, "/dev/nvidia-caps/") {
				bad("mig", fmt.Sprintf("it has %s for a MIG device, and gVisor has no MIG", d.Path), "ask for whole GPUs, and switch MIG off: nvidia-smi -mig 0")
			}
		}
	}
	return found
}

type report func(kind, problem, remedy string)

// hookMode are programs that set a GPU up in another way, which no container can have
// beside CDI.
var hookMode = []string{"nvidia-container-runtime-hook", "nvidia-container-toolkit", "nvidia-container-cli"}

// checkHook: runsc runs createContainer hooks alone, and knows NVIDIA's by the end of their
// path.
func checkHook(n nvidia.Node, h *specs.Hook, bad report) {
	switch base := filepath.Base(h.Path); {
	case slices.Contains(hookMode, base):
		bad("mix", fmt.Sprintf("its hook %s is of NVIDIA's other way to set up GPUs, and the two exclude each other", h.Path), "keep one of them; brig wants CDI: "+generate)
	case base == "nvidia-ctk":
		bad("ctk", fmt.Sprintf("its hook is %s, which fails under gVisor: the path must end in /nvidia-cdi-hook", h.Path), generate)
	case base != "nvidia-cdi-hook":
		bad("hook", fmt.Sprintf("nothing is known of its hook %s", h.Path), generate)
	case h.HookName != "createContainer":
		bad("when", fmt.Sprintf("gVisor runs no %s hook for it", h.HookName), generate)
	case !exists(h.Path):
		bad("gone", fmt.Sprintf("its hook %s does not exist", h.Path), "install it, or "+generate)
	case slices.Contains(h.Args, "update-ldcache"):
		if v, old := oldToolkit(n.DriverRoot, h.Path); old {
			bad("toolkit", fmt.Sprintf("its hook %s is of NVIDIA's toolkit %s, whose update-ldcache fails under gVisor", h.Path, v), "install version 1.20.1 or later, or "+generate)
		}
	}
}

// sockets of NVIDIA's daemons, at any place.
var sockets = []string{"/nvidia-persistenced/socket", "/nvidia-fabricmanager/socket", "/nvidia-mps"}

func checkMount(m *specs.Mount, bad report) {
	for _, s := range sockets {
		if strings.HasSuffix(m.HostPath, s) || strings.Contains(m.HostPath, s+"/") {
			bad("socket", fmt.Sprintf("it mounts the socket %s, which gVisor cannot open", m.HostPath), generate)
			return
		}
	}
	if !exists(m.HostPath) {
		bad("missing", fmt.Sprintf("it mounts %s, which does not exist", m.HostPath), generate)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

var ofDriver = regexp.MustCompile(`\.so\.([0-9]{3,4}\.[0-9]+(\.[0-9]+)?)$`)

// ofVersion is the driver's version that the name of one of its libraries ends in.
func ofVersion(path string) (nvidia.Version, bool) {
	m := ofDriver.FindStringSubmatch(path)
	if m == nil {
		return nvidia.Version{}, false
	}
	v, err := nvidia.ParseVersion(m[1])
	return v, err == nil
}
