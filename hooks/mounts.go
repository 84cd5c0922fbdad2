package hooks

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// daemons of NVIDIA's, by the folders of their sockets in /run.
var daemons = []string{"nvidia-persistenced", "nvidia-fabricmanager"}

// keepMounts drops sockets, and what is there twice: two GPUs bring the same libraries.
func (p *Plan) keepMounts() {
	var kept []specs.Mount
	for _, m := range p.Spec.Mounts {
		switch {
		case isSocket(m.Source) || isSocket(m.Destination):
			p.drop("mount %s", m.Destination)
		case !slices.ContainsFunc(kept, func(k specs.Mount) bool { return sameMount(k, m) }):
			kept = append(kept, m)
		}
	}
	p.Spec.Mounts = kept
}

// isSocket tells the sockets of NVIDIA's daemons, their folders, and that of its
// multi-process service. runsc's gofer does not stand a socket as a mount, and through one
// a sandbox would talk to a daemon of the host's.
func isSocket(file string) bool {
	file = path.Clean("/" + file)
	folder, name := path.Base(path.Dir(file)), path.Base(file)
	switch {
	case name == "socket" && slices.Contains(daemons, folder):
		return true
	case slices.Contains(daemons, name):
		return folder != "bin" && folder != "sbin" // where the daemon itself is
	}
	return strings.Contains(file+"/", "/nvidia-mps/") || strings.Contains(file+"/", "/run/nvidia/mps/")
}

func sameMount(a, b specs.Mount) bool {
	return a.Destination == b.Destination && a.Source == b.Source && a.Type == b.Type && slices.Equal(a.Options, b.Options) &&
		len(a.UIDMappings)+len(b.UIDMappings)+len(a.GIDMappings)+len(b.GIDMappings) == 0
}
